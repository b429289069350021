"""What is kept of drives from pass to pass is what a look at all of them would find."""

from __future__ import annotations

from random import Random
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from lrs_trio.devices.drive import DriveTask
from lrs_trio.errors import LrsError
from lrs_trio.model import Medium, RequestKind, ResourceId
from lrs_trio.scheduling.drive_offers import RENEWED_IN_TURN, DriveOffers
from lrs_trio.scheduling.library_offers import DriveOffer
from tests.fakes.stock import drive, tape, tape_id


class FakeDrive:
    """What `DriveOffers` sees of a drive: what it is bound to decides the offer, what is in it may have to leave."""

    def __init__(self, name: str) -> None:
        self.id = tape_id(name)
        self.bound: Medium | None = None
        self.medium: Medium | None = None
        self.serving = True
        self.slots = 1
        self.looks = 0

    def offer(self) -> DriveOffer:
        self.looks += 1
        refusal = None if self.serving else LrsError(5, "stuck")
        return drive(self.id.name, self.bound, serving=self.serving, slots=self.slots, refusal=refusal)


def kept(drives: list[FakeDrive]) -> tuple[DriveOffers, list[DriveTask]]:
    return DriveOffers(lambda task: cast(FakeDrive, task).offer()), cast(list[DriveTask], drives)


def facts(offers: DriveOffers) -> dict[str, Any]:
    """All that a pass begins with, without regard to any order but that of the drives."""
    return {
        "offers": [(o.device.name, o.medium, o.serving, o.slots, o.volume.free, o.untouched) for o in offers.offers],
        "homes": {name: offer.device for name, offer in offers.known.homes.items()},
        "usable": offers.known.usable,
        "leaving": offers.leaving,
        "in drives": set(offers.in_drives),
    }


@given(st.randoms(use_true_random=False))
def test_law_it_is_what_a_look_at_all_drives_would_find(random: Random) -> None:
    drives = [FakeDrive(f"D{number}") for number in range(4)]
    tapes: list[Medium | None] = [None, *(tape(f"T{number}", number) for number in range(12))]
    offers, tasks = kept(drives)
    version, seen = -1, None
    for _ in range(12):
        for one in random.sample(drives, random.randrange(4)):
            free = [medium for medium in tapes if medium is None or all(medium is not d.bound for d in drives)]
            one.bound = random.choice(free)
            one.medium = random.choice([one.bound, one.bound, None])
            one.serving, one.slots = random.random() < 0.8, random.randrange(2)
            offers.touch(one.id)
        offers.renew(tasks)
        fresh, _ = kept(drives)
        fresh.renew(tasks)
        assert facts(offers) == facts(fresh)
        essence = [(d.bound.id if d.bound else None, d.serving) for d in drives]
        if seen is not None and essence != seen:
            assert offers.version != version
        version, seen = offers.version, essence
        for offer in random.sample(offers.offers, 2):
            # What a pass does with an offer is not there for the next one.
            offer.hold(tape(f"promised to {offer.device.name}"))
            offer.take(RequestKind.READ, 0)


def test_what_nobody_has_told_is_found_in_turn() -> None:
    drives = [FakeDrive(f"D{number:03}") for number in range(3 * RENEWED_IN_TURN)]
    offers, tasks = kept(drives)
    offers.renew(tasks)
    for one in drives:
        one.looks, one.slots = 0, 0
    for number in range(3):
        assert sum(offer.slots for offer in offers.offers) == (3 - number) * RENEWED_IN_TURN
        offers.renew(tasks)
    assert [one.looks for one in drives] == [1] * len(drives)


def test_a_drive_that_is_made_anew_is_another_one() -> None:
    drives = [FakeDrive("D1")]
    drives[0].bound = drives[0].medium = tape("T1")
    offers, tasks = kept(drives)
    offers.renew(tasks)
    tasks[0] = cast(DriveTask, FakeDrive("D1"))
    offers.renew(tasks)
    homes: dict[ResourceId, DriveOffer] = {}
    assert (offers.known.homes, offers.offers[0].medium, list(offers.in_drives)) == (homes, None, [])
