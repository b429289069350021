from __future__ import annotations

import errno
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from lrs_trio.errors import LrsError
from lrs_trio.storage.virtual.description import CartridgeGroup, Description, DriveGroup, Plan, generation_files
from lrs_trio.storage.virtual.state import Bay, Cartridge, State, StateFile, first_state
from lrs_trio.storage.virtual.tables import read_table
from lrs_trio.storage.virtual.timing import Generation
from tests.storage.virtual.shelf import DRIVE_1, DRIVE_2, MAIL_SLOT, SLOT_A, SLOT_B, A, B, C

PLAN = Plan(
    Description(
        slots=4,
        mail_slots=1,
        drives=(DriveGroup(generation="lto8", count=2),),
        cartridges=(CartridgeGroup(generation="lto8", count=3, capacity=100),),
    ),
    {"lto8": read_table(generation_files()["lto8"], Generation)},
)


def state() -> State:
    return first_state(PLAN)


def test_in_the_beginning_all_cartridges_are_in_slots() -> None:
    found = state()
    assert {address for address, barcode in found.places.items() if barcode} == {1001, 1002, 1003}
    assert sorted(found.places) == [0, MAIL_SLOT, DRIVE_1, DRIVE_2, 1001, 1002, 1003, 1004]
    assert found.cartridges[A] == Cartridge(model="LTO8", capacity=100)
    assert list(found.bays) == [DRIVE_1, DRIVE_2]


def test_a_wrong_cartridge_is_back_in_its_place_with_the_next_move() -> None:
    found = state()
    found.move(SLOT_A, DRIVE_1, instead=B)
    assert (found.places[DRIVE_1], found.inside(DRIVE_1), found.is_astray(B)) == (A, B, True)
    found.move(DRIVE_1, SLOT_A)
    assert found == state()


def test_home_is_where_it_came_from_or_the_first_free_slot() -> None:
    found = state()
    found.move(SLOT_A, DRIVE_1)
    assert found.home(DRIVE_1) == SLOT_A
    found.move(SLOT_B, SLOT_A)
    assert found.home(DRIVE_1) == SLOT_B
    found.move(1003, SLOT_B)
    found.move(DRIVE_1, MAIL_SLOT)
    found.move(MAIL_SLOT, DRIVE_1)
    assert found.home(DRIVE_1) == 1003


def test_what_is_deleted_stays_on_the_tape() -> None:
    cartridge = Cartridge(model="LTO8", capacity=100)
    assert cartridge.grown(30).used == 30
    assert cartridge.grown(30).grown(10).used == 30
    assert cartridge.grown(30).grown(10).grown(25).used == 45
    assert cartridge.grown(30).erased() == cartridge


def test_permission_bits_are_kept_from_the_first_read_only_mount_on() -> None:
    found = state()
    found.move(SLOT_A, DRIVE_1)
    found.mount(DRIVE_1, "/mnt/x", 0o775, protected=True, read_only=True)
    # As after a process that died before it could put them back.
    found.mount(DRIVE_1, "/mnt/x", 0o555, protected=False, read_only=True)
    assert found.cartridges[A].mode == 0o775
    assert found.cartridges[A].write_protected
    found.unmount(DRIVE_1)
    assert found.cartridges[A].mode is None
    assert found.bays[DRIVE_1] == Bay(source=SLOT_A)


def test_what_is_written_counts_for_the_mount_and_for_the_load() -> None:
    found = state()
    found.move(SLOT_A, DRIVE_1)
    found.mount(DRIVE_1, "/mnt/x", 0o775, protected=False, read_only=False)
    found.write(DRIVE_1, 30)
    found.write(DRIVE_1, 40)
    assert (found.bays[DRIVE_1].moved, found.bays[DRIVE_1].written) == (40, 40)
    found.unmount(DRIVE_1)
    assert (found.bays[DRIVE_1].moved, found.bays[DRIVE_1].written) == (40, 0)
    found.move(DRIVE_1, SLOT_A)
    assert found.bays[DRIVE_1] == Bay()


def test_an_operation_whose_cartridge_was_taken_out_by_somebody() -> None:
    with pytest.raises(LrsError, match="taken out") as caught:
        state().write(DRIVE_1, 30)
    assert caught.value.errno == errno.ENOMEDIUM


class Moves(RuleBasedStateMachine):
    """Cartridges that are moved as a robot can: none is ever lost or in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.state = state()

    @precondition(lambda self: None in self.state.places.values())
    @rule(data=st.data(), wrong=st.booleans())
    def move(self, data: st.DataObject, wrong: bool) -> None:
        full = [address for address, found in self.state.places.items() if found and not self.state.is_astray(found)]
        if not full:
            return
        source = data.draw(st.sampled_from(full))
        target = data.draw(st.sampled_from([address for address, found in self.state.places.items() if not found]))
        moving = self.state.places[source]
        others = [
            found
            for address, found in self.state.places.items()
            if address > 1000 and found and found != moving and not self.state.is_astray(found)
        ]
        instead = others[0] if wrong and others and target in self.state.bays else None
        self.state.move(source, target, instead=instead)

    @invariant()
    def nothing_is_lost(self) -> None:
        assert sorted(filter(None, self.state.places.values())) == [A, B, C]
        really = [self.state.inside(drive) for drive in self.state.bays if self.state.places[drive]]
        assert len(set(really)) == len(really)
        for address, bay in self.state.bays.items():
            if self.state.places[address] is None:
                assert bay == Bay()


TestMoves = Moves.TestCase
TestMoves.settings = settings(max_examples=20, stateful_step_count=12)


@given(
    cartridge=st.builds(Cartridge, model=st.just("LTO8"), capacity=st.integers(1)),
    bay=st.builds(Bay),
    full=st.sampled_from([None, A]),
)
def test_a_state_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, cartridge: Cartridge, bay: Bay, full: str | None
) -> None:
    file = StateFile(tmp_path_factory.mktemp("state"), durable=False)
    written = State({DRIVE_1: full}, {DRIVE_1: bay}, {A: cartridge})
    file.create(written)
    assert file.read() == written


def test_a_change_that_fails_changes_nothing(tmp_path: Path) -> None:
    file = StateFile(tmp_path, durable=True)
    file.create(state())
    with pytest.raises(KeyError), file.change() as changing:
        changing.places[SLOT_A] = changing.places.pop(9999)
    assert file.read() == state()
    with file.change() as changing:
        changing.move(SLOT_A, DRIVE_1)
    assert file.read().places[DRIVE_1] == A


@pytest.mark.parametrize("content", [None, "", "{", '{"places": 1}'])
def test_a_state_that_cannot_be_read(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "state.json").write_text(content)
    with pytest.raises(LrsError, match=f"{tmp_path}/state.json") as caught:
        StateFile(tmp_path, durable=False).read()
    assert caught.value.errno == errno.EIO
