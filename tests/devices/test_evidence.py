"""Who is charged with a failure: case by case, and by law in worlds where it is known who is broken."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import combinations, product
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrs_trio.devices.evidence import (
    CAUSES,
    LEAD,
    MOST_PAIRS,
    Evidence,
    Verdict,
    fewest_culprits,
    fresh_start,
    replay,
)
from lrs_trio.dss.operations import LogEntry, LoggedOperation
from lrs_trio.model import Family, Phase, ResourceId

EIO = "mount: Input/output error"
MOUNT = CAUSES[Phase.MOUNT]


def tape(name: str) -> ResourceId:
    return ResourceId(Family.TAPE, name, "lib1")


D1, D2, D3, D4 = (tape(f"S{number}") for number in range(1, 5))
M1, M2, M3, M4 = (tape(f"M{number}") for number in range(1, 5))


def names(verdicts: list[Verdict]) -> list[str]:
    return [verdict.resource.name for verdict in verdicts]


# Case by case.


def test_one_failure_charges_nobody_and_bars_the_pair() -> None:
    evidence = Evidence(1)
    assert evidence.failed(D1, M1, EIO) == []
    assert set(evidence.barred()) == {(D1, M1)}
    assert evidence.suspects() == [(D1, M1, EIO)]
    assert (evidence.health(D1, is_drive=True), evidence.health(M1, is_drive=False)) == (1, 1)


def test_a_medium_that_works_elsewhere_convicts_the_drive() -> None:
    evidence = Evidence(1)
    evidence.failed(D1, M1, EIO)
    assert evidence.worked(D2, M1) == [Verdict(D1, True, f"{EIO} with medium M1; medium M1 works in drive S2")]
    assert evidence.health(D1, is_drive=True) == 0
    assert evidence.health(M1, is_drive=False) == evidence.health(D2, is_drive=True) == 1
    assert not evidence.barred()
    assert not evidence.suspects()


def test_a_drive_that_works_with_something_else_convicts_the_medium() -> None:
    evidence = Evidence(1)
    evidence.failed(D1, M1, EIO)
    evidence.failed(D2, M1, "load: No such device")
    assert evidence.worked(D1, M2) == [
        Verdict(M1, False, f"{EIO} in drive S1, load: No such device in drive S2; drive S1 works with medium M2")
    ]
    # What is explained weighs on nobody else.
    assert evidence.worked(D3, M3) == evidence.worked(D2, M3) == []


def test_a_pair_that_works_after_all_charges_nobody() -> None:
    evidence = Evidence(1)
    evidence.failed(D1, M1, EIO)
    assert evidence.worked(D1, M1) == []
    assert not evidence.barred()


def test_a_pair_that_works_says_who_was_wrong_on_both_sides() -> None:
    evidence = Evidence(1)
    evidence.failed(D1, M1, EIO)
    evidence.failed(D2, M2, EIO)
    assert sorted(names(evidence.worked(D1, M2))) == ["M1", "S2"]


def test_two_failures_of_one_party_are_not_enough_without_a_success_and_three_are() -> None:
    for is_drive in (True, False):
        evidence = Evidence(1)
        pairs = [(D1, medium) for medium in (M1, M2, M3)] if is_drive else [(drive, M1) for drive in (D1, D2, D3)]
        assert [names(evidence.failed(*pair, EIO)) for pair in pairs[:2]] == [[], []]
        (verdict,) = evidence.failed(*pairs[2], EIO)
        assert (verdict.resource, verdict.is_drive) == ((D1, True) if is_drive else (M1, False))
        assert verdict.reason.count(EIO) == 3
        assert verdict.reason.endswith("; no success since")
        assert not evidence.suspects()


def test_as_long_as_drives_and_media_explain_it_equally_well_nobody_is_charged() -> None:
    evidence = Evidence(1)
    drives, media = [D1, D2, D3], [M1, M2, M3]
    for turn in range(3):
        for drive, medium in zip(drives, media[turn:] + media[:turn], strict=True):
            assert evidence.failed(drive, medium, EIO) == []
    assert len(evidence.suspects()) == 9


def test_what_failed_elsewhere_saves_nobody() -> None:
    evidence = Evidence(1)
    evidence.failed(D4, M4, EIO)
    assert [names(evidence.failed(D1, medium, EIO)) for medium in (M1, M2, M3)] == [[], [], ["S1"]]
    assert evidence.suspects() == [(D4, M4, EIO)]


def test_who_is_charged_without_proof_pays_once_for_each_pair() -> None:
    evidence = Evidence(5)
    for drive, health in ((D1, 5), (D2, 5), (D3, 2), (D3, 2), (D4, 1)):
        evidence.failed(drive, M1, EIO)
        assert evidence.health(M1, is_drive=False) == health
    # It is proven now, and has paid already.
    evidence.worked(D1, M2)
    assert (evidence.health(M1, is_drive=False), evidence.barred()) == (1, set())


def test_pairs_that_were_charged_without_proof_can_still_convict_the_other_side() -> None:
    evidence = Evidence(1)
    assert [names(evidence.failed(drive, M1, EIO)) for drive in (D1, D2, D3)] == [[], [], ["M1"]]
    assert names(evidence.worked(D4, M1)) == ["S1", "S2", "S3"]


def test_a_verdict_comes_when_health_is_used_up_and_once() -> None:
    evidence = Evidence(2)
    evidence.failed(D1, M1, EIO)
    assert evidence.worked(D2, M1) == []
    assert evidence.health(D1, is_drive=True) == 1
    # Proven broken: what fails with it is charged to it at once, and to nobody else.
    (verdict,) = evidence.failed(D1, M2, "load: Timer expired")
    assert verdict.reason == f"{EIO} with medium M1; medium M1 works in drive S2; load: Timer expired with medium M2"
    assert evidence.failed(D1, M3, EIO) == []
    assert evidence.health(D1, is_drive=True) == 0
    assert [verdict.resource for verdict in evidence.failed_resources()] == [D1]
    assert all(evidence.health(medium, is_drive=False) == 2 for medium in (M1, M2, M3))


def test_each_success_gives_one_back_and_ends_the_suspicion() -> None:
    evidence = Evidence(3)
    evidence.blame_drive(D1, "stuck")
    evidence.blame_drive(D1, "stuck")
    assert evidence.health(D1, is_drive=True) == 1
    for health in (2, 3, 3):
        assert evidence.worked(D1, M1) == []
        assert evidence.health(D1, is_drive=True) == health
    evidence.failed(D1, M2, EIO)
    assert evidence.suspects() == [(D1, M2, EIO)]


def test_what_is_charged_at_once_is_not_tried_again_before_one_of_the_two_works_with_another() -> None:
    evidence = Evidence(5)
    evidence.blame_medium(M1, "wrong label")
    evidence.failed(D1, M1, EIO)
    assert set(evidence.barred()) == {(D1, M1)}
    assert not evidence.suspects()
    evidence.failed(D2, M1, EIO)
    assert set(evidence.barred()) == {(D1, M1), (D2, M1)}
    assert evidence.telling(D2, M3)
    evidence.worked(D2, M3)
    assert set(evidence.barred()) == {(D1, M1)}
    evidence.worked(D1, M3)
    assert not evidence.barred()


def test_what_is_charged_at_once_may_be_tried_again_when_one_of_the_two_fails_for_an_unknown_reason() -> None:
    evidence = Evidence(5)
    evidence.blame_medium(M1, "wrong label")
    evidence.failed(D1, M1, EIO)
    evidence.failed(D1, M2, EIO)
    assert set(evidence.barred()) == {(D1, M2)}


def test_what_is_proven_without_comparison_explains_all_that_failed_with_it() -> None:
    evidence = Evidence(1)
    evidence.failed(D1, M1, EIO)
    assert evidence.blame_drive(D1, "unload: M1 is stuck") == [
        Verdict(D1, True, f"unload: M1 is stuck, {EIO} with medium M1")
    ]
    assert names(evidence.blame_medium(M2, "mount: label M9")) == ["M2"]
    assert evidence.blame_medium(M2, "mount: label M9") == []
    assert not evidence.suspects()


def test_only_a_success_that_changes_something_is_telling() -> None:
    evidence = Evidence(1)
    assert not evidence.telling(D1, M1)
    evidence.failed(D1, M1, EIO)
    pairs = [(D1, M2), (D2, M1), (D2, M2)]
    assert [evidence.telling(*pair) for pair in pairs] == [True, True, False]
    evidence.worked(D2, M1)
    assert [evidence.telling(*pair) for pair in pairs] == [True, False, False]


def test_who_is_forgotten_starts_afresh() -> None:
    evidence = Evidence(1)
    evidence.failed(D1, M1, EIO)
    evidence.failed(D2, M1, EIO)
    evidence.forget(D1, is_drive=True)
    # A medium is not a drive, whatever it is called.
    evidence.forget(D2, is_drive=False)
    assert set(evidence.barred()) == {(D2, M1)}
    assert evidence.worked(D1, M2) == []
    evidence.blame_drive(D1, "dead")
    evidence.forget(D1, is_drive=True)
    assert (evidence.health(D1, is_drive=True), evidence.failed_resources()) == (1, [])
    evidence.failed(D1, M3, EIO)
    assert evidence.suspects()[-1] == (D1, M3, EIO)


def test_who_was_charged_without_proof_and_is_forgotten_is_suspected_again() -> None:
    evidence = Evidence(1)
    for drive in (D1, D2, D3):
        evidence.failed(drive, M1, EIO)
    evidence.forget(M1, is_drive=False)
    assert evidence.failed(D1, M1, EIO) == []
    assert evidence.suspects() == [(D1, M1, EIO)]


def test_no_more_failures_are_kept_than_can_mean_anything() -> None:
    evidence = Evidence(1)
    for number in range(MOST_PAIRS + 5):
        evidence.failed(tape(f"S{number}"), tape(f"M{number}"), EIO)
    assert len(evidence.barred()) == len(evidence.suspects()) == MOST_PAIRS
    assert evidence.suspects()[0][0] == tape("S5")


# In worlds where it is known who is broken.

DRIVES = [tape(f"S{number}") for number in range(5)]
MEDIA = [tape(f"M{number}") for number in range(6)]


@dataclass
class World:
    """Pairs work exactly when both are good; who gets a verdict is not used any more."""

    evidence: Evidence
    broken_drives: set[ResourceId]
    broken_media: set[ResourceId]
    drives: list[ResourceId] = field(default_factory=lambda: list(DRIVES))
    media: list[ResourceId] = field(default_factory=lambda: list(MEDIA))
    failed: list[ResourceId] = field(default_factory=list)
    on_verdict: Callable[[Verdict], None] = lambda verdict: None

    def use(self, drive: ResourceId, medium: ResourceId) -> bool:
        works = drive not in self.broken_drives and medium not in self.broken_media
        verdicts = self.evidence.worked(drive, medium) if works else self.evidence.failed(drive, medium, EIO)
        for verdict in verdicts:
            (self.drives if verdict.is_drive else self.media).remove(verdict.resource)
            self.failed.append(verdict.resource)
            self.on_verdict(verdict)
        return works

    def usable(self) -> list[tuple[ResourceId, ResourceId]]:
        barred = self.evidence.barred()
        return [pair for pair in product(self.drives, self.media) if pair not in barred]

    def read(self, medium: ResourceId) -> bool:
        """As a request does: one drive after the other, until one works or the medium is failed."""
        return any(
            self.use(drive, medium)
            for drive in list(self.drives)
            if medium in self.media and drive in self.drives and (drive, medium) not in self.evidence.barred()
        )

    @property
    def broken(self) -> set[ResourceId]:
        return self.broken_drives | self.broken_media


def worlds(most_broken: int, max_health: st.SearchStrategy[int]) -> st.SearchStrategy[World]:
    broken = st.lists(st.sampled_from([*DRIVES, *MEDIA]), max_size=most_broken, unique=True)
    return st.builds(
        lambda health, chosen: World(Evidence(health), {*DRIVES} & {*chosen}, {*MEDIA} & {*chosen}), max_health, broken
    )


@settings(max_examples=15)
@given(worlds(2, st.just(1)), st.randoms(use_true_random=False))
def test_law_with_at_most_two_broken_nobody_good_is_failed_and_everybody_broken_is(
    world: World, random: Random
) -> None:
    wear_out = random.sample(sorted(world.broken), len(world.broken))
    world.broken_drives, world.broken_media = set(), set()
    for _ in range(60):
        if wear_out and random.random() < 0.1:
            (world.broken_drives if wear_out[-1] in DRIVES else world.broken_media).add(wear_out.pop())
        if usable := world.usable():
            world.use(*random.choice(usable))
        assert set(world.failed) <= world.broken
    settle(world, random)
    assert set(world.failed) == world.broken


def settle(world: World, random: Random) -> None:
    """Use every pair again and again until nobody is failed for it any more."""
    quiet = 0
    while quiet < 2:
        before = len(world.failed)
        pairs = list(product(world.drives, world.media))
        for pair in random.sample(pairs, len(pairs)):
            if pair in world.usable():
                world.use(*pair)
        quiet = quiet + 1 if len(world.failed) == before else 0


@settings(max_examples=20)
@given(worlds(8, st.integers(1, 3)), st.randoms(use_true_random=False))
def test_law_everybody_broken_is_failed_while_something_good_is_left(world: World, random: Random) -> None:
    settle(world, random)
    if {*world.drives} - world.broken_drives and {*world.media} - world.broken_media:
        assert world.broken <= set(world.failed)


@settings(max_examples=30)
@given(worlds(8, st.just(1)), st.randoms(use_true_random=False))
def test_law_somebody_good_is_failed_only_if_more_are_broken_than_could_explain_it(
    world: World, random: Random
) -> None:
    suspicious: set[tuple[ResourceId, ResourceId]] = set()

    def check(verdict: Verdict) -> None:
        if verdict.resource not in world.broken:
            suspects = {resource for pair in suspicious for resource in pair}
            assert len(suspects & world.broken) >= fewest_culprits(suspicious) + LEAD

    world.on_verdict = check
    for _ in range(60):
        if usable := world.usable():
            pair = random.choice(usable)
            suspicious = {*world.evidence.barred(), pair}
            world.use(*pair)


@settings(max_examples=60)
@given(st.sets(st.tuples(st.sampled_from(DRIVES), st.sampled_from(MEDIA)), max_size=8))
def test_law_the_fewest_culprits_are_as_many_as_a_search_finds(pairs: set[tuple[ResourceId, ResourceId]]) -> None:
    parties = [(resource, side) for side in (0, 1) for resource in {pair[side] for pair in pairs}]

    def explains(culprits: tuple[tuple[ResourceId, int], ...]) -> bool:
        return all(any(pair[side] == resource for resource, side in culprits) for pair in pairs)

    searched = next(size for size in range(len(parties) + 1) if any(map(explains, combinations(parties, size))))
    assert fewest_culprits(pairs) == searched


def test_drives_that_die_one_after_the_other_are_failed_and_no_medium_is() -> None:
    world = World(Evidence(1), set(), set(), [tape(f"S{number}") for number in range(8)])
    for drive in list(world.drives):
        world.broken_drives.add(drive)
        for medium in MEDIA:
            world.read(medium)
        assert world.failed[-1] == drive
    assert (world.drives, world.media) == ([], MEDIA)


@pytest.mark.parametrize("dead", range(1, 9))
def test_drives_that_all_die_at_once_cost_few_media(dead: int) -> None:
    drives = [tape(f"S{number}") for number in range(dead)]
    world = World(Evidence(1), set(drives), set(), list(drives), [tape(f"M{number}") for number in range(40)])
    for medium in list(world.media):
        world.read(medium)
    assert world.drives == []
    assert len(world.media) >= 40 - max(dead - 2, 0)


def test_bad_media_cost_no_drive_that_has_other_work() -> None:
    world = World(Evidence(1), set(), set(MEDIA[:-1]))
    for medium in MEDIA[:-1]:
        world.read(medium)
        for drive in DRIVES:
            world.use(drive, MEDIA[-1])
    assert sorted(world.failed) == MEDIA[:-1]


# From the log.


def logged(
    drive: ResourceId, medium: ResourceId, number: int = -errno.EIO, cause: str = MOUNT, message: str = "{}"
) -> LoggedOperation:
    return LoggedOperation(drive, medium, number, cause, message, 0.0)


def read_back(entry: LogEntry) -> LoggedOperation:
    medium = ResourceId(entry.device.family, entry.medium, entry.device.library)
    return LoggedOperation(entry.device, medium, entry.errno, entry.cause, entry.message, 0.0)


def test_the_log_tells_what_failed_and_what_worked() -> None:
    evidence = replay([logged(D1, M1), logged(D2, M2, cause="LTFS df"), logged(D3, M1, 0)], 1)
    assert evidence.failed_resources() == [Verdict(D1, True, f"{EIO} with medium M1; medium M1 works in drive S3")]
    assert evidence.suspects() == [(D2, M2, "df: Input/output error")]
    # A command of Phobos ends with its own number.
    assert replay([logged(D1, M1, 2)], 1).suspects() == [(D1, M1, "mount: exit status 2")]


def test_that_a_medium_moved_proves_nothing_and_what_names_no_pair_is_skipped() -> None:
    loads = [logged(D2, M1, 0, CAUSES[phase]) for phase in (Phase.LOAD, Phase.UNLOAD)]
    nobody = [logged(tape(""), M1), logged(D1, tape("")), logged(D1, M1, cause="Library scan")]
    evidence = replay([logged(D1, M1), *loads, *nobody], 1)
    assert evidence.suspects() == [(D1, M1, EIO)]
    assert evidence.failed_resources() == []


@pytest.mark.parametrize(
    "entry",
    [
        logged(D1, M1, cause=CAUSES[Phase.UNLOAD]),
        logged(D1, M1, cause=CAUSES[Phase.UNMOUNT]),
        logged(D1, M1, -errno.ETIMEDOUT),
    ],
)
def test_what_took_a_drive_out_of_service_is_charged_to_it(entry: LoggedOperation) -> None:
    (verdict,) = replay([entry], 1).failed_resources()
    assert (verdict.resource, verdict.is_drive) == (D1, True)
    assert "with medium M1" in verdict.reason


def test_another_label_is_charged_to_its_medium() -> None:
    entry = logged(D1, M1, -errno.EINVAL, message=json.dumps({"label mismatch": "found: M9, expected: M1"}))
    (verdict,) = replay([entry], 1).failed_resources()
    assert (verdict.resource, verdict.is_drive) == (M1, False)


@pytest.mark.parametrize("message", ["", "7", "null", "[" * 100_000])
def test_a_message_of_somebody_else_is_no_trouble(message: str) -> None:
    assert replay([logged(D1, M1, message=message)], 1).suspects() == [(D1, M1, EIO)]


@pytest.mark.parametrize(("resource", "is_drive"), [(D1, True), (M1, False)])
def test_a_fresh_start_is_kept_in_the_log(resource: ResourceId, is_drive: bool) -> None:
    row = read_back(fresh_start(resource, is_drive=is_drive))
    assert replay([logged(D1, M1), row, logged(D1, M2, 0), logged(D2, M1, 0)], 1).failed_resources() == []
    other = read_back(fresh_start(tape("X"), is_drive=is_drive))
    assert replay([logged(D1, M1), other, logged(D1, M2, 0)], 1).failed_resources() != []


def happenings() -> st.SearchStrategy[list[tuple[str, ResourceId, ResourceId]]]:
    kinds = st.sampled_from(["failed", "failed", "worked", "worked", "stuck", "label", "forget drive", "forget medium"])
    return st.lists(st.tuples(kinds, st.sampled_from(DRIVES[:3]), st.sampled_from(MEDIA[:4])), max_size=25)


@settings(max_examples=60)
@given(happenings(), st.integers(1, 3))
def test_law_the_log_brings_everything_back(
    happened: list[tuple[str, ResourceId, ResourceId]], max_health: int
) -> None:
    evidence, log, seen = Evidence(max_health), [], []
    for kind, drive, medium in happened:
        row: LoggedOperation | None = None
        match kind:
            case "failed":
                row = logged(drive, medium)
                verdicts = evidence.failed(drive, medium, EIO)
            case "worked":
                row = logged(drive, medium, 0) if evidence.telling(drive, medium) else None
                verdicts = evidence.worked(drive, medium)
            case "stuck":
                row = logged(drive, medium, cause=CAUSES[Phase.UNLOAD])
                verdicts = evidence.blame_drive(drive, f"unload: Input/output error with medium {medium.name}")
            case "label":
                row = logged(drive, medium, message=json.dumps({"label mismatch": ""}))
                verdicts = evidence.blame_medium(medium, EIO)
            case _:
                is_drive = kind == "forget drive"
                resource = drive if is_drive else medium
                row = read_back(fresh_start(resource, is_drive=is_drive))
                evidence.forget(resource, is_drive=is_drive)
                verdicts = []
        seen += verdicts
        log += [row] if row is not None else []
        assert {(verdict.resource, verdict.is_drive) for verdict in verdicts} <= set(without_health(evidence))
    again = replay(log, max_health)
    assert again.suspects() == evidence.suspects()
    assert again.barred() == evidence.barred()
    assert again.failed_resources() == evidence.failed_resources()
    for resource, is_drive in parties():
        health = evidence.health(resource, is_drive=is_drive)
        assert again.health(resource, is_drive=is_drive) == health
        assert 0 <= health <= max_health


def parties() -> Iterator[tuple[ResourceId, bool]]:
    yield from ((drive, True) for drive in DRIVES)
    yield from ((medium, False) for medium in MEDIA)


def without_health(evidence: Evidence) -> list[tuple[ResourceId, bool]]:
    return [(verdict.resource, verdict.is_drive) for verdict in evidence.failed_resources()]
