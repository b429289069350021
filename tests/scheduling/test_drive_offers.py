"""What is kept of drives from pass to pass is what a look at all of them would find."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from lrs_trio.devices.drive import DriveTask
from lrs_trio.errors import LrsError
from lrs_trio.model import Medium, MediumStats, RequestKind, ResourceId
from lrs_trio.scheduling.drive_offers import OPEN_AT_ONCE, RENEWED_IN_TURN, DriveOffers
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
        self.untouched = True
        self.looks = 0

    def offer(self) -> DriveOffer:
        self.looks += 1
        refusal = None if self.serving else LrsError(5, "stuck")
        offer = drive(self.id.name, self.bound, serving=self.serving, slots=self.slots, refusal=refusal)
        offer.untouched = self.untouched
        return offer


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
    version, seen = -1, dict[ResourceId, tuple[ResourceId | None, bool]]()
    for _ in range(12):
        changed = random.sample(drives, random.randrange(4))
        for one in changed:
            others = [medium for other in drives if other is not one for medium in (other.bound, other.medium)]
            free = [medium for medium in tapes if medium is None or medium not in others]
            one.bound = random.choice(free)
            one.medium = random.choice([one.bound, one.bound, None, random.choice(free)])
            one.serving, one.slots = random.random() < 0.8, random.randrange(2)
        # A tape may be found in the one before it is seen to be in the other no more.
        for one in random.sample(changed, len(changed)):
            offers.touch(one.id)
        enough = random.randrange(5)
        offers.renew(tasks, enough)
        fresh, _ = kept(drives)
        fresh.renew(tasks, enough)
        assert facts(offers) == facts(fresh)
        essence = {one.id: (one.bound.id if one.bound else None, one.serving) for one in drives}
        news = [name for name in seen if essence[name] != seen[name]]
        assert set(offers.take_moved()) >= {home for name in news for home, _ in (seen[name], essence[name]) if home}
        if any(seen[name][1] and not essence[name][1] for name in news):
            assert offers.version != version or sum(serving for _, serving in essence.values()) >= enough
        version, seen = offers.version, essence
        for offer in random.sample(offers.offers, 2):
            # What a pass does with an offer is not there for the next one.
            offer.hold(tape(f"promised to {offer.device.name}"))
            offer.take(RequestKind.READ, 0)


def test_what_nobody_has_told_is_found_in_turn() -> None:
    drives = [FakeDrive(f"D{number:03}") for number in range(3 * RENEWED_IN_TURN)]
    for one in drives:
        one.slots = 0
    offers, tasks = kept(drives)
    offers.renew(tasks, 1)
    for one in drives:
        one.looks, one.serving = 0, False
    for number in range(3):
        assert sum(offer.serving for offer in offers.offers) == (3 - number) * RENEWED_IN_TURN
        offers.renew(tasks, 1)
    assert [one.looks for one in drives] == [1] * len(drives)


def test_drives_that_are_open_or_have_to_be_looked_at_in_every_pass_are() -> None:
    drives = [FakeDrive(f"D{number:03}") for number in range(3 * OPEN_AT_ONCE)]
    for one in drives:
        one.slots = 0
    for one in drives[-OPEN_AT_ONCE:]:
        one.slots = 1
    drives[OPEN_AT_ONCE].untouched = False
    offers, tasks = kept(drives)
    offers.renew(tasks, 1)
    for one in drives:
        one.looks = 0
    for _ in range(2):
        offers.renew(tasks, 1)
    assert [one.looks for one in drives[-OPEN_AT_ONCE:]] == [2] * OPEN_AT_ONCE
    assert drives[OPEN_AT_ONCE].looks == 2
    assert sum(one.looks for one in drives) == 2 * (OPEN_AT_ONCE + 1 + RENEWED_IN_TURN)


def test_a_medium_that_is_to_be_used_for_something_else_is_news() -> None:
    drives = [FakeDrive("D1"), FakeDrive("D2")]
    medium = drives[0].bound = drives[0].medium = tape("T1")
    offers, tasks = kept(drives)
    offers.renew(tasks, 1)
    assert (offers.take_moved(), offers.take_moved()) == ([medium.id], [])
    drives[0].bound = drives[0].medium = replace(medium, stats=MediumStats(nb_obj=1))
    offers.touch_media([medium.id])
    offers.renew(tasks, 1)
    assert offers.take_moved() == []
    drives[0].bound = drives[0].medium = replace(medium, get=False)
    offers.touch_media([medium.id, tape_id("T2")])
    offers.renew(tasks, 1)
    assert offers.take_moved() == [medium.id]


def test_a_drive_that_is_made_anew_is_another_one() -> None:
    drives = [FakeDrive("D1")]
    drives[0].bound = drives[0].medium = tape("T1")
    offers, tasks = kept(drives)
    offers.renew(tasks, 1)
    tasks[0] = cast(DriveTask, FakeDrive("D1"))
    offers.renew(tasks, 1)
    homes: dict[ResourceId, DriveOffer] = {}
    assert (offers.known.homes, offers.offers[0].medium, list(offers.in_drives)) == (homes, None, [])
