"""The pass that asks the open drives what is in them comes to what a look at one line after the other comes to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrs_trio.model import FsType, ResourceId, SyncThresholds
from lrs_trio.scheduling.client import Client
from lrs_trio.scheduling.library_offers import DriveTake, Stock
from lrs_trio.scheduling.library_pass import LibraryPass
from lrs_trio.scheduling.library_turns import turns
from lrs_trio.scheduling.piles import class_of
from lrs_trio.scheduling.placement import Never, Placed, Waits
from lrs_trio.scheduling.queue import Line, RequestQueue
from lrs_trio.scheduling.queued_reads import QueuedReads
from lrs_trio.scheduling.requests import Allocation, FormatRequest, PlaceableRequest
from lrs_trio.scheduling.supply import Surroundings
from lrs_trio.wire.messages import Format, ReadAllocation, Request, WriteAllocation
from tests.fakes.outbox import RecordingOutbox
from tests.fakes.stock import drive, read, stock, tape, tape_id, write
from tests.fakes.tapes import tape_settings

NAMES = [f"t{number}" for number in range(9)]

CLIENT = Client(1, RecordingOutbox(lambda: 0.0), pid=1, uid=1)


class Pass(LibraryPass):
    """One whose drives are as their offers say, and that notes whose lines it looks at."""

    looked: int = 0

    def _is_stale(self, take: DriveTake) -> bool:
        return False

    def _is_open(self, line: Line) -> bool:
        self.looked += 1
        return super()._is_open(line)


class PlainPass(Pass):
    def turns(self) -> Iterator[PlaceableRequest | None]:
        for line, request in turns(self.queue, self._is_open, lambda: bool(self.stock.opened), self.queue.next_line):
            self._line = line
            yield request


@dataclass(frozen=True)
class Drawn:
    """What two passes are made of, each for itself, from one seed."""

    seed: int
    mixes: bool

    def made(self, kind: type[Pass]) -> Pass:
        random = Random(self.seed)
        have, queue = any_stock(random, mixes=self.mixes), any_queue(random)
        queue.sort_by({medium: class_of(shelved.medium) for medium, shelved in have.shelf.items()}, have.shelf)
        have.grouped = random.random() < 0.7
        have.wanted = QueuedReads(queue, have.drives)
        around = cast(Surroundings, SimpleNamespace(devices={}, held_by=lambda client: frozenset[ResourceId]()))
        return kind(have, queue, around, tape_settings(), 0, {}, ())


def any_stock(random: Random, *, mixes: bool) -> Stock:
    media = [tape(name, random.randrange(100), model=random.choice(["LTO8", "LTO8", "LTO9"])) for name in NAMES]
    random.shuffle(media)
    drives = []
    for number in range(random.randrange(1, 5)):
        model, medium = random.choice(["TD8", "TD9"]), media.pop() if random.random() < 0.8 else None
        busy, slots = random.random() < 0.4, random.choice([1, 2]) if mixes else 1
        more: dict[str, Any] = {"model": model, "busy": busy, "slots": slots, "mixes": mixes, "mounted": True}
        more |= {"located": random.random() < 0.1, "stays": random.random() < 0.1, "idle": random.random() < 0.9}
        drives.append(drive(f"d{number}", medium, **more))
    leaving = [media.pop()] if random.random() < 0.3 else []
    barred = [(f"d{number}", name) for number in range(4) for name in NAMES if random.random() < 0.05]
    return stock(drives, media, barred=barred, leaving=leaving)


def any_queue(random: Random) -> RequestQueue:
    queue = RequestQueue(keeps_heads=True)
    for serial in range(1, random.randrange(2, 25)):
        body = any_body(random)
        request = Request(serial, body, random.choice([0, 0, 0, 1]), random.choice([0, 0, 0, 3]))
        made: PlaceableRequest
        if isinstance(body, Format):
            made = FormatRequest(CLIENT, request, body, serial, 0.0)
        else:
            made = Allocation(CLIENT, request, body, serial, 0.0, SyncThresholds(1, 1, 1))
        queue.add(made)
    return queue


def any_body(random: Random) -> WriteAllocation | ReadAllocation | Format:
    drawn = random.random()
    if drawn < 0.7:
        names = random.sample(NAMES, random.choice([1, 1, 1, 2, 3]))
        return read(random.randint(1, len(names)), *names)
    if drawn < 0.85:
        return Format(tape_id(random.choice(NAMES)), FsType.LTFS, force=True)
    return write(*[random.randrange(60) for _ in range(random.choice([1, 1, 2]))])


def run(made: Pass) -> list[tuple[int, object]]:
    """What each of those who are looked at gets, or has done for it, in order."""
    told: list[tuple[int, object]] = []
    for request in made.turns():
        if request is None:
            continue
        outcome = made.decide(request)
        if isinstance(outcome, Placed):
            told.append((request.serial, [(take.device.name, take.medium.id.name) for take in outcome.takes]))
        elif isinstance(outcome, Waits) and (outcome.unload or outcome.fetch):
            told.append((request.serial, (outcome.unload, outcome.fetch)))
        if not isinstance(outcome, Never):
            made.apply(request, outcome)
        if not isinstance(outcome, Waits):
            made.queue.discard(request)
    return told


def left(made: Pass) -> list[object]:
    """What there is for others when the pass is over."""
    return [
        (drive.medium, drive.slots, drive.kinds, drive.idle, drive.stays, drive.volume.available)
        for drive in made.stock.drives
    ]


@pytest.mark.parametrize("mixes", [False, True])
@given(seed=st.integers(0, 2**32))
def test_law_it_comes_to_what_a_look_at_one_line_after_the_other_comes_to(mixes: bool, seed: int) -> None:
    """Those that it leaves out could only have kept what nobody else could use either."""
    drawn = Drawn(seed, mixes)
    made, plain = drawn.made(Pass), drawn.made(PlainPass)
    assert (run(made), left(made)) == (run(plain), left(plain))


def pass_over(have: Stock, bodies: Iterable[ReadAllocation | Format]) -> Pass:
    """A pass in which reads leave alone what others want to read."""
    queue = RequestQueue(keeps_heads=True)
    for serial, body in enumerate(bodies, 1):
        made: PlaceableRequest
        if isinstance(body, Format):
            made = FormatRequest(CLIENT, Request(serial, body), body, serial, 0.0)
        else:
            made = Allocation(CLIENT, Request(serial, body), body, serial, 0.0, SyncThresholds(1, 1, 1))
        queue.add(made)
    have.grouped, have.wanted = True, QueuedReads(queue, have.drives)
    queue.sort_by({medium: class_of(shelved.medium) for medium, shelved in have.shelf.items()}, have.shelf)
    around = cast(Surroundings, SimpleNamespace(devices={}, held_by=lambda client: frozenset[ResourceId]()))
    return Pass(have, queue, around, tape_settings(), 0, {}, ())


def crowd(tapes: int, busy: int, inside: str) -> Pass:
    """So many tapes with a read each, some of them in busy drives, and one drive that is open and has `inside`."""
    names = [f"t{number:04}" for number in range(tapes)]
    drives = [drive(f"d{number:04}", tape(name), busy=True) for number, name in enumerate(names[:busy])]
    drives.append(drive("open", tape(inside), mounted=True))
    have = stock(drives, [tape(name) for name in [*names[busy:], "wanted", "other"] if name != inside])
    return pass_over(have, [read(1, name) for name in [*names, "wanted"]])


@pytest.mark.parametrize(
    ("inside", "expected"),
    [("wanted", [(61, [("open", "wanted")])]), ("other", [(51, [("open", "t0050")])])],
    ids=["a tape that the last one wants", "a tape that nobody wants"],
)
def test_few_lines_are_looked_at_however_many_there_are(inside: str, expected: list[tuple[int, object]]) -> None:
    made = crowd(tapes=60, busy=50, inside=inside)
    assert run(made)[-1:] == expected
    assert made.looked <= 8


def test_what_a_read_leaves_to_others_is_there_for_a_format() -> None:
    have = stock([drive("d1", tape("t1"), mounted=True)], map(tape, ("t2", "t3")))
    made = pass_over(have, (read(1, "t2"), Format(tape_id("t3"), FsType.LTFS, force=True), read(1, "t1")))
    assert run(made) == [(2, [("d1", "t3")])]


def test_reads_of_one_of_several_are_left_out_as_well() -> None:
    have = stock([drive("d1", tape("t1"))], map(tape, ("t2", "t3", "t4")))
    made = pass_over(have, [*[read(1, "t2", "t3"), read(1, "t3", "t4")] * 20, read(1, "t1")])
    assert run(made) == [(41, [("d1", "t1")])]
    assert made.looked <= 10


def test_one_that_has_failed_in_a_drive_says_nothing_of_others_like_it() -> None:
    have = stock([drive("d1", tape("t1")), drive("d2")], map(tape, ("t2", "t3")), barred=[("d2", "t2")])
    made = pass_over(have, [read(1, "t2"), read(1, "t3"), read(1, "t1")])
    assert run(made) == [(2, [("d2", "t3")]), (3, [("d1", "t1")])]
