"""Laws of placement where media come and go, against all that could have been done."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrs_trio.errors import LrsError
from lrs_trio.model import FsStatus, FsType, Medium, RequestKind, ResourceId
from lrs_trio.scheduling.library_offers import DriveOffer, DriveTake, Stock
from lrs_trio.scheduling.library_placement import place_format, place_read
from lrs_trio.scheduling.library_write import place_write
from lrs_trio.scheduling.placement import ALL_KINDS, Never, Outcome, Placed, Waits, may_write
from lrs_trio.wire.messages import Format, ReadAllocation, WriteAllocation, WriteMedium
from tests.fakes.stock import (
    FORMAT,
    NOBODY,
    ONLY_FORMAT,
    ONLY_READ,
    ONLY_WRITE,
    READ,
    WRITE,
    drive,
    read,
    settle,
    stock,
    tape,
    tape_id,
    wanted_by_reads,
    write,
)

Request = WriteAllocation | ReadAllocation | Format

NAMES = tuple("abcde")


def kind_of(request: Request) -> RequestKind:
    return {WriteAllocation: WRITE, ReadAllocation: READ, Format: FORMAT}[type(request)]


def decide(request: Request, have: Stock, excluded: frozenset[ResourceId] = frozenset()) -> Outcome:
    if isinstance(request, WriteAllocation):
        return place_write(request, have, excluded=excluded, first_fit=False, groupings=False)
    return place_read(request, have) if isinstance(request, ReadAllocation) else place_format(request, have)


# What is drawn. From a seed, because a stock has so many parts that drawing each by itself takes longer than all else.

seeds = st.integers(0, 2**32).map(Random)


def any_write(random: Random) -> WriteAllocation:
    parts = tuple(
        WriteMedium(random.randint(0, 150), random.choice([(), (), ("x",)]), random.random() < 0.2)
        for _ in range(random.choice([1, 1, 2, 2, 3]))
    )
    return replace(write(), media=parts, no_split=random.random() < 0.5)


def any_read(random: Random) -> ReadAllocation:
    names = random.sample(NAMES, random.randint(1, 4))
    return read(random.randint(1, min(len(names), 3)), *names)


def any_format(random: Random) -> Format:
    return Format(tape_id(random.choice(NAMES)), FsType.LTFS, force=random.random() < 0.7)


def any_request(random: Random) -> Request:
    kinds: list[Callable[[Random], Request]] = [any_write, any_write, any_read, any_read, any_format]
    return random.choice(kinds)(random)


def any_tapes(random: Random) -> list[Medium]:
    return [
        tape(
            name,
            random.choice([0, random.randint(1, 200), random.randint(100, 200)]),
            model=random.choice(["LTO8", "LTO8", "LTO9"]),
            fs_status=random.choice([FsStatus.USED, FsStatus.USED, FsStatus.EMPTY, FsStatus.BLANK]),
            tags=random.choice([(), ("x",)]),
        )
        for name in random.sample(NAMES, random.randint(2, 5))
    ]


def any_state(random: Random) -> dict[str, Any]:
    return {
        "serving": random.random() < 0.9,
        "idle": random.random() < 0.8,
        "slots": random.choice([0, 1, 1, 2]),
        "located": random.random() < 0.1,
        "stays": random.random() < 0.1,
        "dedicated": random.choice([*[ALL_KINDS] * 6, ONLY_READ, ONLY_WRITE, ONLY_FORMAT, NOBODY]),
    }


def any_stock(random: Random, *, at_rest: bool = False) -> Stock:
    """Up to three drives and five tapes, in any state; `at_rest` with nothing going on, and one owner for all."""
    media, drives = any_tapes(random), []
    for number in range(random.choice([0, 1, 2, 2, 3, 3, 3])):
        medium = media.pop() if media and random.random() < 0.6 else None
        more: dict[str, Any] = {} if at_rest else any_state(random)
        if medium is not None and random.random() < 0.3 and not at_rest:
            more["available"] = random.randint(0, medium.stats.phys_spc_free)
        model = random.choice(["TD8", "TD9", "TD9"])
        drives.append(drive(f"d{number}", medium, model=model, mounted=random.random() < 0.5, **more))
    elsewhere = {medium.id.name: LrsError(errno.EALREADY, "elsewhere") for medium in media if random.random() < 0.1}
    barred = [(f"d{number}", name) for number in range(3) for name in NAMES if random.random() < 0.07]
    return stock(drives, media, barred=barred, refused=elsewhere)


# All that could be done, by trying.


def suits(request: Request, part: int, medium: Medium) -> bool:
    """Whether `medium` is one for this part of the request, room aside."""
    if isinstance(request, WriteAllocation):
        return may_write(medium, request.media[part], request.library)
    if isinstance(request, ReadAllocation):
        return medium.id in request.media and medium.fs_status is not FsStatus.BLANK
    return medium.id == request.medium and (request.force or medium.fs_status is FsStatus.BLANK)


def parts_of(request: Request) -> int:
    return len(request.media) if isinstance(request, WriteAllocation) else getattr(request, "n_required", 1)


def least(request: Request, part: int, *, whole: bool) -> int:
    if not isinstance(request, WriteAllocation):
        return 0
    return max(request.media[part].size, 1) if whole else 1


Way = tuple[Medium, int, frozenset[DriveOffer]]
"""A medium, its room, and the drives that are used up for it."""


def ways_now(have: Stock, kind: RequestKind) -> list[Way]:
    ways: list[Way] = []
    for home in have.drives:
        medium = home.medium
        if medium is None or not home.serving or home.slots == 0 or not have.fits(medium, home):
            continue
        if kind is FORMAT and (not home.idle or home.stays or home.formatting):
            continue
        if kind is WRITE and home.located:
            continue
        if kind in home.dedicated or (home.idle and not home.dedicated):
            ways.append((medium, home.volume.available, frozenset({home})))
        elif home.idle:
            ways += [
                (medium, home.volume.available, frozenset({home, other}))
                for other in have.drives
                if other.serving and other.idle and other.slots and kind in other.dedicated
            ]
    for shelved in have.shelf.values():
        if shelved.refusal is None:
            ways += [
                (shelved.medium, shelved.medium.stats.phys_spc_free, frozenset({offer}))
                for offer in have.drives
                if offer.serving
                and offer.idle
                and offer.slots
                and not offer.stays
                and not offer.located
                and kind in offer.dedicated
                and have.fits(shelved.medium, offer)
            ]
    return ways


def ways_ever(have: Stock, excluded: frozenset[ResourceId] = frozenset()) -> list[Way]:
    """With nothing going on anywhere, and every medium on the shelf."""
    everywhere = [(d.medium, d.volume.free) for d in have.drives if d.medium is not None]
    everywhere += [(s.medium, s.medium.stats.phys_spc_free) for s in have.shelf.values() if s.refusal is None]
    return [
        (medium, room, frozenset({offer}))
        for medium, room in everywhere
        for offer in have.drives
        if offer.serving and offer.device not in excluded and have.fits(medium, offer)
    ]


def feasible(request: Request, ways: Sequence[Way], *, whole: bool) -> bool:
    def fill(part: int, media: frozenset[Medium], drives: frozenset[DriveOffer]) -> bool:
        return part == parts_of(request) or any(
            fill(part + 1, media | {medium}, drives | used)
            for medium, room, used in ways
            if medium not in media
            and not used & drives
            and room >= least(request, part, whole=whole)
            and suits(request, part, medium)
        )

    return fill(0, frozenset(), frozenset())


def demanded(request: Request, have: Stock) -> bool:
    """Whether there are as many bytes as a write wants, on all media that suit it together."""
    if not isinstance(request, WriteAllocation):
        return True
    media = {d.medium: d.volume.free for d in have.drives if d.medium is not None}
    media |= {s.medium: s.medium.stats.phys_spc_free for s in have.shelf.values() if s.refusal is None}
    every = range(len(request.media))
    total = sum(free for m, free in media.items() if any(suits(request, part, m) for part in every))
    each = [sum(free for m, free in media.items() if suits(request, part, m)) for part in every]
    return total >= sum(m.size for m in request.media) and all(
        free >= max(m.size, 1) for free, m in zip(each, request.media, strict=True)
    )


def expected(request: Request, have: Stock, excluded: frozenset[ResourceId] = frozenset()) -> type[Outcome]:
    ever, now = ways_ever(have, excluded), ways_now(have, kind_of(request))
    now = [way for way in now if not any(offer.device in excluded for offer in way[2])]
    if feasible(request, now, whole=True):
        return Placed
    if feasible(request, ever, whole=True):
        return Waits if demanded(request, have) else Never
    if isinstance(request, WriteAllocation) and not request.no_split and demanded(request, have):
        if feasible(request, now, whole=False):
            return Placed
        return Waits if feasible(request, ever, whole=False) else Never
    return Never


@settings(max_examples=300)
@given(seeds)
def test_law_what_can_be_done_is_done_what_cannot_is_refused_and_the_rest_waits(random: Random) -> None:
    have, request = any_stock(random), any_request(random)
    excluded = frozenset[ResourceId]()
    if isinstance(request, WriteAllocation) and random.random() < 0.2:
        excluded = frozenset({tape_id("d0")})
    assert isinstance(decide(request, have, excluded), expected(request, have, excluded))


@settings(max_examples=300)
@given(seeds)
def test_law_what_is_placed_was_there_to_be_had(random: Random) -> None:
    have, request = any_stock(random), any_request(random)
    outcome, kind = decide(request, have), kind_of(request)
    if not isinstance(outcome, Placed):
        return
    assert len(outcome.takes) == parts_of(request)
    ways, used = ways_now(have, kind), set[DriveOffer]()
    for part, take in enumerate(outcome.takes):
        assert isinstance(take, DriveTake)
        drives = frozenset({take.drive} if take.partner is None else {take.drive, take.partner})
        (room,) = {room for medium, room, needed in ways if medium == take.medium and needed == drives}
        assert not used & drives
        used |= drives
        if isinstance(request, WriteAllocation):
            assert may_write(take.medium, request.media[part], request.library)
            assert take.reserve == min(request.media[part].size, room)
            assert take.reserve == request.media[part].size or not request.no_split
    assert len({take.medium.id for take in outcome.takes}) == len(outcome.takes)
    outcome.take(kind)
    for take in outcome.takes:
        offer = next(offer for offer in have.drives if offer.device == take.device)
        assert offer.medium == take.medium
        assert kind in offer.dedicated
        assert not offer.idle


@given(seeds)
def test_law_one_pass_never_gives_the_same_thing_twice(random: Random) -> None:
    have = any_stock(random)
    slots = {offer.device: offer.slots for offer in have.drives}
    taken = dict.fromkeys(slots, 0)
    for _ in range(6):
        request = any_request(random)
        outcome = decide(request, have)
        settle(outcome, kind_of(request))
        for take in outcome.takes if isinstance(outcome, Placed) else ():
            taken[take.device] += 1
        media = [offer.medium.id for offer in have.drives if offer.medium is not None]
        assert len(set(media)) == len(media)
        for offer in have.drives:
            assert offer.slots >= 0
            assert taken[offer.device] <= slots[offer.device]
            assert offer.volume.available >= 0


def unload(have: Stock, devices: Sequence[ResourceId]) -> Stock:
    """The stock of the next pass, with these drives emptied."""
    drives, shelf = [], [shelved.medium for shelved in have.shelf.values()]
    for offer in have.drives:
        if offer.device in devices and offer.medium is not None:
            shelf.append(offer.medium)
        medium = None if offer.device in devices else offer.medium
        drives.append(drive(offer.device.name, medium, model=offer.model, mounted=offer.mounted))
    elsewhere = {s.medium.id.name: s.refusal for s in have.shelf.values() if s.refusal is not None}
    barred = [(device.name, medium.name) for device, medium in have.barred]
    return stock(drives, shelf, barred=barred, refused=elsewhere)


@settings(max_examples=200)
@given(seeds)
def test_law_nobody_waits_for_ever_where_nothing_goes_on(random: Random) -> None:
    have, request = any_stock(random, at_rest=True), any_request(random)
    for _ in range(3):
        outcome = decide(request, have)
        if not isinstance(outcome, Waits):
            return
        assert outcome.unload
        have = unload(have, outcome.unload)
    raise AssertionError("still waiting after all has been taken out that was in the way")


@given(seeds)
def test_law_grouped_reads_do_not_wait_for_each_other(random: Random) -> None:
    have = any_stock(random, at_rest=True)
    asked = [any_read(random) for _ in range(random.randint(1, 5))]
    have.grouped, have.wanted = True, wanted_by_reads(asked, have.drives)
    outcomes = []
    for request in asked:
        outcomes.append(place_read(request, have))
        settle(outcomes[-1], READ)
    assert not all(isinstance(outcome, Waits) and not outcome.unload for outcome in outcomes)


# Grants that end in any order, pass after pass: is anybody delayed by who came later?


@dataclass
class Site:
    """Drives and tapes as they are between passes."""

    models: dict[str, str]
    media: dict[str, Medium]
    inside: dict[str, str | None]
    """By drive: the tape in it."""
    slots: int
    mixes: bool
    grouped: bool = False
    held: list[tuple[str, RequestKind, int, int]] = field(default_factory=list)
    """(drive, kind, reserved, request)."""

    def stock(self, waiting: Sequence[tuple[int, Request]]) -> Stock:
        drives = []
        for name, content in self.inside.items():
            here = [held for held in self.held if held[0] == name]
            medium = None if content is None else self.media[content]
            formatting = any(held[1] is FORMAT for held in here)
            drives.append(
                drive(
                    name,
                    medium,
                    model=self.models[name],
                    available=None if medium is None else medium.stats.phys_spc_free - sum(held[2] for held in here),
                    idle=not here,
                    slots=0 if formatting else self.slots - len(here),
                    load=len(here),
                    kinds=frozenset({READ, WRITE}) if self.mixes or not here else frozenset({here[0][1]}),
                    mixes=self.mixes,
                    formatting=formatting,
                )
            )
        have = stock(drives, [m for name, m in self.media.items() if name not in self.inside.values()])
        have.grouped = self.grouped
        have.wanted = wanted_by_reads([r for _, r in waiting if isinstance(r, ReadAllocation)], drives)
        return have

    def one_pass(self, waiting: Sequence[tuple[int, Request]]) -> list[int]:
        """Look at all that wait in order; returns who was served, or refused for good."""
        have, done = self.stock(waiting), []
        for number, request in waiting:
            outcome = decide(request, have)
            settle(outcome, kind_of(request))
            if isinstance(outcome, Placed):
                for take in outcome.takes:
                    self.inside[take.device.name] = take.medium.id.name
                    self.held.append((take.device.name, kind_of(request), take.reserve, number))
            elif isinstance(outcome, Waits):
                self.inside |= {device.name: None for device in outcome.unload}
            if not isinstance(outcome, Waits):
                done.append(number)
        return done

    def end(self, number: int) -> None:
        self.held = [held for held in self.held if held[3] != number]


def any_site(random: Random, *, mixes: bool) -> Site:
    media = {medium.id.name: medium for medium in any_tapes(random)}
    models = {f"d{number}": random.choice(["TD8", "TD9", "TD9"]) for number in range(random.randint(1, 3))}
    inside: dict[str, str | None] = dict.fromkeys(models)
    site = Site(models, media, inside, random.choice([1, 1, 2, 3]), mixes)
    for number in range(random.randint(1, 5)):
        site.one_pass([(-1 - number, any_request(random))])
    return site


def copied(site: Site) -> Site:
    return replace(site, inside=dict(site.inside), held=list(site.held))


def ended_before_first_is_served(site: Site, order: Sequence[int], waiting: list[tuple[int, Request]]) -> float:
    """How many of the grants in `order` have to end before the first in the queue is served."""
    for ended in range(len(order) + 1):
        # Again, when what has to be taken out is out.
        for _ in range(3):
            done = site.one_pass(waiting)
            if waiting[0][0] in done:
                return ended
            waiting = [entry for entry in waiting if entry[0] not in done]
        if ended < len(order):
            site.end(order[ended])
    return inf


@pytest.mark.note("10.2")
@pytest.mark.parametrize("mixes", [True, False])
@settings(max_examples=150)
@given(seeds)
def test_law_nobody_behind_delays_one_that_waits(mixes: bool, random: Random) -> None:
    """Those behind never end here, so whatever they got that the first one needs would delay it."""
    site = any_site(random, mixes=mixes)
    crowd = [(number, any_request(random)) for number in range(random.randint(2, 5))]
    order = sorted({held[3] for held in site.held})
    random.shuffle(order)
    alone = ended_before_first_is_served(copied(site), order, crowd[:1])
    assert ended_before_first_is_served(copied(site), order, crowd) <= alone


@settings(max_examples=60)
@given(seeds)
def test_law_everybody_is_served_while_grants_end_in_any_order(random: Random) -> None:
    site = any_site(random, mixes=random.random() < 0.5)
    site.grouped = random.random() < 0.7
    waiting = [(number, any_request(random)) for number in range(8)]
    for _ in range(60):
        done = site.one_pass(waiting)
        waiting = [entry for entry in waiting if entry[0] not in done]
        if not waiting:
            return
        if site.held:
            site.end(random.choice(site.held)[3])
    raise AssertionError(f"never served: {waiting}")
