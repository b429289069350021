"""Which drive serves which kinds of requests: what is kept, what changes hands, and that the shares are kept."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lrs_trio.model import RequestKind, ResourceId
from lrs_trio.scheduling.dispatch import KINDS, Attempts, Suited, dedicate
from lrs_trio.scheduling.fair_share import Triple, shares
from lrs_trio.scheduling.library_offers import DriveOffer
from lrs_trio.scheduling.placement import ALL_KINDS
from lrs_trio.settings import FairShareSettings
from tests.fakes.stock import FORMAT, NOBODY, ONLY_FORMAT, ONLY_READ, ONLY_WRITE, READ, WRITE, drive, tape, tape_id

ANY = {"LTO8": FairShareSettings()}


def letters(
    drives: list[DriveOffer],
    queued: Triple,
    limits: dict[str, FairShareSettings] = ANY,
    suited: Suited | None = None,
) -> list[str]:
    """What each drive serves, as Phobos writes it, in the order of `drives`."""
    made = dedicate(drives, queued, limits, suited or {})
    return ["".join(kind.name[0] for kind in KINDS if kind in made[drive.device]) for drive in drives]


def fresh(count: int) -> list[DriveOffer]:
    return [drive(f"d{number}") for number in range(count)]


def test_of_many_drives_each_serves_one_kind() -> None:
    assert letters(fresh(4), (2, 1, 1)) == ["R", "R", "W", "F"]
    assert letters(fresh(3), (0, 5, 0)) == ["W", "W", "W"]


def test_few_drives_serve_several_kinds_each() -> None:
    assert letters(fresh(1), (1, 1, 1)) == ["RWF"]
    assert sorted("".join(letters(fresh(2), (5, 1, 1)))) == list("FRRW")
    assert "RWF" not in letters(fresh(2), (5, 1, 1))


def test_kinds_that_nobody_asks_for_are_in_nobodys_way_on_few_drives() -> None:
    assert letters(fresh(2), (1, 0, 0)) == ["RWF", "RWF"]


def test_nothing_changes_while_nothing_waits() -> None:
    drives = [drive("d0", dedicated=ONLY_READ), drive("d1", dedicated=NOBODY), drive("d2")]
    assert letters(drives, (0, 0, 0)) == ["R", "", "RWF"]


def test_drives_without_limits_serve_everybody() -> None:
    drives = [
        drive("d0", technology=None, dedicated=ONLY_READ),
        drive("d1", technology="LTO9", dedicated=NOBODY),
        *(drive(f"d{number}") for number in range(2, 5)),
    ]
    assert letters(drives, (1, 1, 1)) == ["RWF", "RWF", "R", "W", "F"]


def test_as_much_stays_as_can() -> None:
    drives = [drive(f"d{n}", dedicated=kinds) for n, kinds in enumerate([ONLY_WRITE, ONLY_READ, ONLY_READ, ONLY_READ])]
    assert letters(drives, (2, 2, 0)) == ["W", "R", "R", "W"]
    assert letters(drives, (3, 1, 0)) == ["W", "R", "R", "R"]
    assert letters(drives, (1, 0, 0)) == ["R", "R", "R", "R"]


def test_what_is_at_rest_changes_hands_before_what_is_at_work() -> None:
    drives = [
        drive("d0", tape("a"), dedicated=ONLY_READ, busy=True, kinds=ONLY_READ),
        drive("d1", tape("b"), dedicated=ONLY_READ),
        drive("d2", tape("c"), dedicated=ONLY_READ, busy=True, kinds=ONLY_READ),
        drive("d3", dedicated=ONLY_READ),
    ]
    assert letters(drives, (1, 1, 0)) == ["R", "W", "R", "W"]


def test_a_drive_goes_to_those_who_are_at_work_there() -> None:
    drives = [
        drive("d0", tape("a"), busy=True, kinds=ONLY_WRITE),
        drive("d1", tape("b"), busy=True, formatting=True),
        drive("d2", tape("c"), busy=True, kinds=ONLY_READ),
        drive("d3"),
    ]
    assert letters(drives, (2, 1, 1)) == ["W", "F", "R", "R"]


def test_a_drive_that_does_not_serve_keeps_what_it_has_and_does_not_count() -> None:
    drives = [drive("d0", serving=False, dedicated=ONLY_FORMAT), *(drive(f"d{n}") for n in range(1, 4))]
    assert letters(drives, (1, 1, 1)) == ["F", "R", "W", "F"]


def test_what_no_kind_may_have_belongs_to_nobody() -> None:
    limits = {"LTO8": FairShareSettings(max=(1, 1, 0))}
    assert letters(fresh(4), (5, 5, 5), limits) == ["R", "W", "", ""]
    assert letters(fresh(1), (1, 0, 0), {"LTO8": FairShareSettings(max=(0, 0, 0))}) == ["WF"]


def test_a_lowered_limit_is_kept() -> None:
    drives = [drive(f"d{number}", dedicated=ONLY_READ) for number in range(3)]
    assert letters(drives, (5, 0, 0), {"LTO8": FairShareSettings(max=(1, 9, 9))}) == ["R", "", ""]


# Other drives.


def suited(kind: RequestKind, *names: str) -> Suited:
    return {kind: tuple(map(tape_id, names))}


def test_drives_change_roles_for_one_that_only_others_suit() -> None:
    drives = [drive("d0", dedicated=ONLY_READ), drive("d1", dedicated=ONLY_WRITE), drive("d2", dedicated=NOBODY)]
    limits = {"LTO8": FairShareSettings(max=(1, 1, 1))}
    assert letters(drives, (1, 1, 0), limits) == ["R", "W", ""]
    assert letters(drives, (1, 1, 0), limits, suited(READ, "d2")) == ["", "W", "R"]
    assert letters(drives, (1, 1, 0), limits, suited(READ, "d1")) == ["W", "R", ""]
    assert letters(drives, (1, 1, 0), limits, suited(READ, "d0")) == ["R", "W", ""]


def test_roles_change_on_few_drives_too() -> None:
    drives = [drive("d0"), drive("d1", dedicated=ONLY_WRITE | ONLY_FORMAT)]
    limits = {"LTO8": FairShareSettings(max=(1, 2, 2))}
    assert letters(drives, (1, 0, 0), limits, suited(READ, "d1")) == ["WF", "RWF"]


def test_what_is_suited_and_theirs_is_not_given_away() -> None:
    roles = [ONLY_READ, ONLY_READ, ONLY_WRITE]
    drives = [drive(f"d{n}", dedicated=kinds) for n, kinds in enumerate(roles)]
    assert letters(drives, (2, 1, 0), ANY, suited(READ, "d0", "d2")) == ["R", "W", "R"]


def test_a_drive_at_work_is_not_given_away_for_another() -> None:
    drives = [drive("d0", tape("a"), dedicated=ONLY_READ, busy=True), drive("d1", dedicated=ONLY_WRITE), drive("d2")]
    limits = {"LTO8": FairShareSettings(max=(1, 1, 1))}
    assert letters(drives, (1, 1, 0), limits, suited(READ, "d1")) == ["R", "W", ""]


def test_drives_of_two_technologies_do_not_change_roles() -> None:
    drives = [drive(f"a{n}", dedicated=kinds) for n, kinds in enumerate([ONLY_READ, ONLY_WRITE, NOBODY])]
    drives += [drive(f"b{n}", technology="LTO9", dedicated=NOBODY) for n in range(3)]
    limits = {"LTO8": FairShareSettings(max=(1, 1, 1)), "LTO9": FairShareSettings(max=(0, 0, 0))}
    assert letters(drives, (1, 1, 0), limits, suited(READ, "b0")) == ["R", "W", "", "", "", ""]


# What is tried, and when again.


REST = [drive("d0", dedicated=ONLY_READ), drive("d1", dedicated=ONLY_WRITE)]


def test_one_kind_after_the_other_has_all_drives_once() -> None:
    tried = Attempts()
    waiting: dict[RequestKind, tuple[ResourceId, ...]] = {WRITE: (), READ: ()}
    seen = [(tried.go_on(waiting, REST, at_rest=True), tried.in_favour) for _ in range(4)]
    assert seen == [(True, WRITE), (True, READ), (True, None), (False, None)]
    tried.forget()
    assert tried.go_on(waiting, REST, at_rest=True)
    assert tried.in_favour is WRITE


def test_nobody_has_all_drives_while_anything_goes_on() -> None:
    tried = Attempts()
    assert not tried.go_on({WRITE: ()}, REST, at_rest=False)
    assert tried.go_on({WRITE: ()}, REST, at_rest=True)
    assert tried.go_on({WRITE: ()}, REST, at_rest=False)
    assert tried.in_favour is None


def test_what_was_in_vain_is_tried_again_in_another_world() -> None:
    tried = Attempts()
    for world, again in ((1, True), (1, False), (2, True)):
        tried.look(world)
        assert tried.go_on({READ: ()}, REST, at_rest=True) is again
        assert (tried.in_favour is READ) is again
        assert tried.go_on({READ: ()}, REST, at_rest=True) is again
        assert tried.in_favour is None


def test_other_drives_are_tried_before_more_of_them() -> None:
    tried = Attempts()
    waiting = {READ: (tape_id("d1"),), WRITE: (tape_id("d0"),)}
    assert tried.go_on(waiting, REST, at_rest=True)
    assert (tried.suited, tried.in_favour) == (waiting, None)
    assert tried.go_on(waiting, REST, at_rest=True)
    # One that has all drives is not to lose any of them to the others.
    assert (tried.suited, tried.in_favour) == (suited(READ, "d1"), READ)


def test_nobody_is_woken_for_an_exchange_while_there_is_nothing_to_give() -> None:
    tried = Attempts()
    waiting = {READ: (tape_id("d1"),)}
    busy = [drive("d0", tape("a"), dedicated=ONLY_READ, busy=True), REST[1]]
    assert not tried.go_on(waiting, busy, at_rest=False)
    # Whoever looks next does it.
    assert tried.suited == waiting
    assert tried.go_on(waiting, REST, at_rest=False)
    assert not tried.go_on(waiting, REST, at_rest=False)


dedications = st.sampled_from([ALL_KINDS, ONLY_READ, ONLY_WRITE, ONLY_FORMAT, ONLY_READ | ONLY_WRITE, NOBODY])
triples = st.tuples(*[st.integers(0, 9)] * 3)


wishes = st.dictionaries(st.sampled_from(KINDS), st.lists(st.integers(0, 8).map(lambda n: tape_id(f"d{n}"))))


@given(
    st.lists(st.tuples(dedications, st.sampled_from([READ, WRITE, FORMAT, None])), max_size=9), triples, triples, wishes
)
def test_law_every_kind_that_waits_has_its_share(
    drawn: list[tuple[frozenset[RequestKind], RequestKind | None]],
    queued: Triple,
    most: Triple,
    suited: dict[RequestKind, list[ResourceId]],
) -> None:
    drives = [
        drive(
            f"d{number}",
            dedicated=dedicated,
            busy=kind is not None,
            kinds=frozenset({kind} if kind is not None else {READ, WRITE}),
            formatting=kind is FORMAT,
        )
        for number, (dedicated, kind) in enumerate(drawn)
    ]
    limits = {"LTO8": FairShareSettings(max=most)}
    made = dedicate(drives, queued, limits, suited)
    assert set(made) == {drive.device for drive in drives}
    if not any(queued):
        return
    for kind, share, waiting in zip(KINDS, shares(len(drives), queued, (0, 0, 0), most), queued, strict=True):
        assert not waiting or sum(kind in kinds for kinds in made.values()) == share
    if len(drives) > 2:
        assert all(len(kinds) <= 1 for kinds in made.values())
    for offer in drives:
        offer.dedicated = made[offer.device]
    assert dedicate(drives, queued, limits, {}) == made
