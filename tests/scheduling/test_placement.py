"""Which medium and device for which request: rules one by one, and laws for all."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrs_trio.errors import LrsError
from lrs_trio.model import AdmStatus, Family, FsStatus, FsType, Medium, ReadOperation, RequestKind, ResourceId
from lrs_trio.scheduling import placement
from lrs_trio.scheduling.placement import (
    Never,
    Offer,
    OfferTake,
    Outcome,
    Placed,
    VolumeOffer,
    Waits,
    match,
    place_write,
    read_error,
)
from lrs_trio.wire.messages import Format, ReadAllocation, WriteAllocation, WriteMedium
from tests.fakes.site import device_id, medium_id

WRITE, READ = RequestKind.WRITE, RequestKind.READ


def offer(
    name: str,
    *,
    free: int = 1000,
    available: int | None = None,
    volume: VolumeOffer | None = None,
    serving: bool = True,
    idle: bool = True,
    slots: int = 1,
    load: int = 0,
    fs_status: FsStatus = FsStatus.EMPTY,
    adm_status: AdmStatus = AdmStatus.UNLOCKED,
    tags: tuple[str, ...] = (),
    groupings: tuple[str, ...] = (),
    library: str = "legacy",
    put: bool = True,
    mixes: bool = True,
    kinds: frozenset[RequestKind] = frozenset({READ, WRITE}),
    formatting: bool = False,
    located: bool = False,
    refusal: LrsError | None = None,
    written: bool = False,
) -> Offer:
    medium = Medium(
        medium_id(name)._replace(library=library),
        FsType.POSIX,
        adm_status,
        fs_status,
        tags=tags,
        groupings=groupings,
        put=put,
    )
    space = volume or VolumeOffer(free, free if available is None else available)
    made = Offer(device_id(name), medium, space, serving, idle, slots, load, mixes, kinds, formatting, located, refusal)
    made.written = written
    return made


def write(*sizes: int, tags: tuple[str, ...] = (), empty: bool = False, **more: object) -> WriteAllocation:
    return WriteAllocation(tuple(WriteMedium(size, tags, empty) for size in sizes), Family.DIR, **more)  # type: ignore[arg-type]


def read(required: int, *names: str, operation: ReadOperation = ReadOperation.READ) -> ReadAllocation:
    return ReadAllocation(required, tuple(map(medium_id, names)), operation)


def place_read(request: ReadAllocation, offers: Sequence[Offer], absent: dict[ResourceId, LrsError]) -> Outcome:
    return placement.place_read(request, {offer.medium.id: offer for offer in offers}, absent)


def place_format(request: Format, offers: Sequence[Offer], absent: LrsError | None) -> Outcome:
    reasons = {} if absent is None else {request.medium: absent}
    return placement.place_format(request, {offer.medium.id: offer for offer in offers}, reasons)


def taken(outcome: Outcome) -> list[str]:
    assert isinstance(outcome, Placed), outcome
    return [take.medium.id.name for take in outcome.takes]


def claimed(outcome: Outcome) -> set[str]:
    assert isinstance(outcome, Waits), outcome
    return {claim.medium.id.name for claim in of_offers(outcome)}


def of_offers(outcome: Outcome) -> list[OfferTake]:
    """What is taken or claimed of devices."""
    takes = outcome.takes if isinstance(outcome, Placed) else outcome.claims if isinstance(outcome, Waits) else ()
    return [take for take in takes if isinstance(take, OfferTake)]


def refused(outcome: Outcome) -> int | None:
    assert isinstance(outcome, Never), outcome
    return outcome.error.errno


# Writes.


@pytest.mark.note("7")
def test_the_least_busy_device_is_chosen_then_the_least_space_left_over() -> None:
    offers = [offer("busy", load=1), offer("large", free=900), offer("small", free=500), offer("tiny", free=99)]
    assert taken(place_write(write(100), offers)) == ["small"]


def test_best_fit_takes_the_least_space_that_is_enough() -> None:
    offers = [offer("large", free=900), offer("tight", free=100), offer("tiny", free=99), offer("middle", free=500)]
    assert taken(place_write(write(100), offers)) == ["tight"]
    assert taken(place_write(write(100, 100), offers)) == ["tight", "middle"]


def test_first_fit_takes_the_first_that_has_enough() -> None:
    offers = [offer("tiny", free=99), offer("large", free=900), offer("tight", free=100)]
    assert taken(place_write(write(100), offers, first_fit=True)) == ["large"]
    assert taken(place_write(write(100, 100), offers, first_fit=True)) == ["large", "tight"]


def test_first_fit_prefers_the_less_busy_as_well() -> None:
    offers = [offer("busy", load=1), offer("first"), offer("second", free=500)]
    assert taken(place_write(write(100), offers, first_fit=True)) == ["first"]


@pytest.mark.parametrize("first_fit", [False, True])
def test_what_counts_is_the_space_that_nobody_has_reserved(first_fit: bool) -> None:
    offers = [offer("promised", free=300, available=50), offer("free", free=400)]
    assert taken(place_write(write(100), offers, first_fit=first_fit)) == ["free"]


@pytest.mark.note("7")
def test_the_media_of_one_request_are_all_different() -> None:
    offers = [offer("a", slots=5), offer("b", slots=5)]
    assert sorted(taken(place_write(write(10, 10), offers))) == ["a", "b"]
    assert refused(place_write(write(10, 10, 10), offers)) == errno.ENOSPC


@pytest.mark.note("7")
def test_all_or_nothing() -> None:
    offers = [offer("a"), offer("b", slots=0)]
    assert claimed(place_write(write(10, 10), offers)) == {"a"}


def test_an_assignment_that_the_greedy_order_would_miss_is_found() -> None:
    """The first medium fits on both and prefers the one that the second needs."""
    offers = [offer("both", free=100, tags=("x", "y")), offer("one", free=200, tags=("x",))]
    request = WriteAllocation((WriteMedium(10, ("x",)), WriteMedium(10, ("y",))), Family.DIR)
    assert taken(place_write(request, offers)) == ["one", "both"]


@pytest.mark.parametrize(
    "spoilt",
    [
        pytest.param({"fs_status": FsStatus.FULL}, id="full"),
        pytest.param({"fs_status": FsStatus.BLANK}, id="blank"),
        pytest.param({"fs_status": FsStatus.IMPORTING}, id="importing"),
        pytest.param({"adm_status": AdmStatus.LOCKED}, id="locked"),
        pytest.param({"adm_status": AdmStatus.FAILED}, id="failed"),
        pytest.param({"put": False}, id="no-put"),
        pytest.param({"free": 0}, id="no-space"),
        pytest.param({"free": 9}, id="too-little-space"),
    ],
)
def test_a_write_that_no_medium_can_ever_take_is_refused(spoilt: dict[str, object]) -> None:
    assert refused(place_write(write(10), [offer("a", **spoilt)])) == errno.ENOSPC  # type: ignore[arg-type]
    assert taken(place_write(write(10), [offer("a", **spoilt), offer("b")])) == ["b"]  # type: ignore[arg-type]


def test_a_write_without_any_device_is_refused() -> None:
    assert refused(place_write(write(10), [])) == errno.ENOSPC
    assert refused(place_write(write(10), [offer("a", serving=False)])) == errno.ENODEV


def test_a_medium_that_has_been_written_is_not_an_empty_one() -> None:
    offers = [offer("used", fs_status=FsStatus.USED), offer("empty")]
    assert taken(place_write(write(10, empty=True), offers)) == ["empty"]
    assert refused(place_write(write(10, empty=True), offers[:1])) == errno.ENOSPC


def test_a_medium_is_not_empty_once_somebody_writes_on_it() -> None:
    written = offer("a", slots=2, written=True)
    assert taken(place_write(write(10, empty=True), [written, offer("b", load=3)])) == ["b"]
    assert taken(place_write(write(10), [written, offer("b", load=3)])) == ["a"]
    # It may come to nothing, so it is waited for; but those who can use it now are not held up.
    assert claimed(place_write(write(10, empty=True), [written])) == set()
    first = offer("c", slots=2)
    placed = place_write(write(10), [first])
    assert isinstance(placed, Placed)
    placed.take(WRITE)
    assert isinstance(place_write(write(10, empty=True), [first]), Waits)


def test_each_medium_of_a_request_may_have_to_be_empty() -> None:
    """Phobos looks at what the first one wants, for all."""
    used, empty = offer("used", fs_status=FsStatus.USED, free=10), offer("empty", free=99)
    for wanted in ((True, False), (False, True)):
        request = WriteAllocation(tuple(WriteMedium(10, (), empty) for empty in wanted), Family.DIR)
        assert taken(place_write(request, [used, empty])) == ["empty" if want else "used" for want in wanted]


def test_tags_and_library_limit_the_choice() -> None:
    offers = [offer("a", tags=("x",)), offer("b", tags=("y", "x")), offer("c", library="other")]
    assert taken(place_write(write(10, tags=("x", "y")), offers)) == ["b"]
    assert taken(place_write(write(10, library="other"), offers)) == ["c"]
    assert refused(place_write(write(10, library="nowhere"), offers)) == errno.ENOSPC
    assert refused(place_write(write(10, tags=("z",)), offers)) == errno.ENOSPC


def test_a_grouping_is_a_wish_that_gives_way() -> None:
    offers = [offer("a", free=500), offer("b", groupings=("g",))]
    assert taken(place_write(write(10, grouping="g"), offers, groupings=True)) == ["b"]
    assert taken(place_write(write(10, grouping="g"), offers)) == ["a"]
    assert taken(place_write(write(10, grouping="unknown"), offers, groupings=True)) == ["a"]
    offers[1].slots = 0
    assert taken(place_write(write(10, grouping="g"), offers, groupings=True)) == ["a"]


def test_a_grouping_gives_way_where_its_media_have_no_room_together() -> None:
    grouped = [offer(name, free=60, groupings=("g",)) for name in "ab"]
    assert taken(place_write(write(100, grouping="g"), [*grouped, offer("c", free=500)], groupings=True)) == ["a"]
    assert taken(place_write(write(121, grouping="g"), [*grouped, offer("c", free=500)], groupings=True)) == ["c"]


def test_a_grouping_gives_way_as_a_whole() -> None:
    """Two media are wanted and one bears the grouping: without it, the best ones are taken."""
    offers = [offer("grouped", free=900, groupings=("g",)), offer("a", free=100), offer("b", free=200)]
    assert taken(place_write(write(10, 10, grouping="g"), offers, groupings=True)) == ["a", "b"]


def test_a_grouping_is_not_above_tags_and_library() -> None:
    offers = [offer("grouped", groupings=("g",)), offer("tagged", tags=("x",))]
    assert taken(place_write(write(10, tags=("x",), grouping="g"), offers, groupings=True)) == ["tagged"]
    assert refused(place_write(write(10, library="x", grouping="g"), offers, groupings=True)) == errno.ENOSPC


def test_no_duplicate_on_a_device_that_serves_this_client_already() -> None:
    offers = [offer("a"), offer("b")]
    assert taken(place_write(write(10), offers, excluded=frozenset({device_id("a")}))) == ["b"]
    assert refused(place_write(write(10, 10), offers, excluded=frozenset({device_id("a")}))) == errno.ENODEV


def test_a_write_that_may_be_split_gets_the_largest_part() -> None:
    offers = [offer("a", free=300), offer("b", free=400), offer("c", free=350)]
    outcome = place_write(write(1000), offers)
    assert taken(outcome) == ["b"]
    assert isinstance(outcome, Placed)
    assert outcome.takes[0].reserve == 400
    assert refused(place_write(write(1051), offers)) == errno.ENOSPC


@pytest.mark.parametrize("first_fit", [False, True])
def test_a_write_is_split_only_if_it_fits_nowhere_whole(first_fit: bool) -> None:
    offers = [offer("largest part", free=300, available=300), offer("whole", free=301, slots=0)]
    assert taken(place_write(write(300), offers, first_fit=first_fit)) == ["largest part"]
    assert claimed(place_write(write(301), offers, first_fit=first_fit)) == set()
    assert taken(place_write(write(302), offers, first_fit=first_fit)) == ["largest part"]


def test_every_split_medium_gets_the_largest_part_that_is_left() -> None:
    offers = [offer(name, free=free) for name, free in (("a", 100), ("b", 300), ("c", 200))]
    outcome = place_write(write(400, 200), offers)
    assert taken(outcome) == ["b", "c"]
    assert isinstance(outcome, Placed)
    assert [take.reserve for take in outcome.takes] == [300, 200]


def test_two_media_of_which_one_gets_only_a_part_are_had_at_once() -> None:
    """Both would fit on the larger one. Waiting for that would be waiting for nothing, and hold up all behind."""
    offers = [offer("a", free=1000), offer("b", free=400)]
    outcome = place_write(write(500, 500), offers)
    assert taken(outcome) == ["a", "b"]
    assert isinstance(outcome, Placed)
    assert [take.reserve for take in outcome.takes] == [500, 400]


def test_two_media_are_refused_if_there_is_room_on_one_only() -> None:
    assert refused(place_write(write(500, 500), [offer("a", free=1000), offer("b", free=0)])) == errno.ENOSPC


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=4),
    st.lists(st.integers(0, 5), min_size=1, max_size=4),
    st.booleans(),
    st.booleans(),
)
def test_a_write_does_not_wait_when_nothing_goes_on(
    sizes: list[int], rooms: list[int], no_split: bool, first_fit: bool
) -> None:
    offers = [offer(str(number), free=room) for number, room in enumerate(rooms)]
    outcome = place_write(write(*sizes, no_split=no_split), offers, first_fit=first_fit)
    assert not isinstance(outcome, Waits)


def test_a_write_that_may_not_be_split_needs_one_medium_for_it() -> None:
    offers = [offer("a", free=300), offer("b", free=400)]
    assert refused(place_write(write(401, no_split=True), offers)) == errno.ENOSPC
    assert taken(place_write(write(400, no_split=True), offers)) == ["b"]


def test_a_write_waits_for_space_that_others_have_reserved() -> None:
    outcome = place_write(write(400), [offer("a", free=1000, available=399, slots=4)])
    assert claimed(outcome) == {"a"}


def test_a_volume_that_several_directories_share_counts_once() -> None:
    volume = VolumeOffer(300, 300)
    assert refused(place_write(write(500), [offer("a", volume=volume), offer("b", volume=volume)])) == errno.ENOSPC


def test_two_media_on_one_volume_never_promise_more_than_it_has() -> None:
    volume = VolumeOffer(150, 150)
    outcome = place_write(write(100, 100), [offer("a", volume=volume), offer("b", volume=volume)])
    if isinstance(outcome, Placed):
        assert sum(take.reserve for take in outcome.takes) <= 150


def test_two_media_that_may_not_be_split_never_fit_on_a_volume_of_less() -> None:
    volume = VolumeOffer(150, 150)
    offers = [offer("a", volume=volume), offer("b", volume=volume)]
    assert refused(place_write(write(100, 100, no_split=True), offers)) == errno.ENOSPC


@pytest.mark.note("8")
def test_a_write_waits_for_reads_where_they_do_not_mix() -> None:
    reading = offer("a", slots=1, load=1, mixes=False, kinds=frozenset({READ}))
    outcome = place_write(write(10), [reading])
    assert claimed(outcome) == {"a"}
    assert isinstance(outcome, Waits)
    outcome.keep()
    assert isinstance(place_read(read(1, "a"), [reading], {}), Waits)


# Media that a client has located, and media of others.


def test_a_write_is_not_placed_on_a_located_medium_while_another_will_do() -> None:
    offers = [offer("located", free=100, located=True), offer("other", free=900, load=3)]
    assert taken(place_write(write(100), offers)) == ["other"]


def test_a_write_waits_for_a_located_medium_and_claims_nothing_there() -> None:
    located = offer("a", located=True)
    outcome = place_write(write(10), [located])
    assert isinstance(outcome, Waits)
    outcome.keep()
    assert taken(place_read(read(1, "a"), [located], {})) == ["a"]


def test_a_write_of_two_claims_what_is_not_located() -> None:
    offers = [offer("located", located=True), offer("other")]
    assert claimed(place_write(write(10, 10), offers)) == {"other"}


def test_what_a_device_does_not_grant_for_a_reason_of_its_own_is_refused_with_that() -> None:
    elsewhere = LrsError(errno.EALREADY, "on store2")
    withheld = offer("a", serving=False, refusal=elsewhere, fs_status=FsStatus.BLANK)
    readable = offer("b", serving=False, refusal=elsewhere)
    assert refused(place_read(read(1, "b"), [readable], {})) == errno.EALREADY
    assert refused(place_format(Format(medium_id("a"), FsType.POSIX), [withheld], None)) == errno.EBUSY
    assert refused(place_write(write(10), [readable])) == errno.ENODEV
    assert taken(place_write(write(10), [readable, offer("c", free=10)])) == ["c"]


# Reads.


@pytest.mark.note("6")
def test_the_first_that_are_free_are_taken_in_the_clients_order() -> None:
    offers = [offer(name) for name in "abcd"]
    assert taken(place_read(read(2, "d", "b", "a"), offers, {})) == ["d", "b"]
    offers[1].slots = 0
    assert taken(place_read(read(2, "d", "b", "a"), offers, {})) == ["d", "a"]


@pytest.mark.note("6")
def test_a_read_waits_for_enough_and_claims_what_is_free() -> None:
    offers = [offer("a"), offer("b", slots=0), offer("c", slots=0)]
    assert claimed(place_read(read(2, "c", "a", "b"), offers, {})) == {"a"}


@pytest.mark.parametrize("required", [1, 2])
def test_media_that_cannot_be_had_are_left_out_while_enough_remain(required: int) -> None:
    absent = {medium_id("gone"): LrsError(errno.ENXIO, "unknown")}
    outcome = place_read(read(required, "gone", "a"), [offer("a")], absent)
    if required == 1:
        assert taken(outcome) == ["a"]
    else:
        assert refused(outcome) == errno.ENXIO


@pytest.mark.parametrize(
    ("medium", "operation", "expected"),
    [
        ({}, ReadOperation.READ, None),
        ({"fs_status": FsStatus.FULL}, ReadOperation.READ, None),
        ({"fs_status": FsStatus.BLANK}, ReadOperation.READ, errno.EINVAL),
        ({"get": False}, ReadOperation.READ, errno.EPERM),
        ({"get": False}, ReadOperation.DELETE, None),
        ({"delete": False}, ReadOperation.DELETE, errno.EPERM),
        ({"delete": False}, ReadOperation.READ, None),
        ({"adm_status": AdmStatus.LOCKED}, ReadOperation.READ, errno.EPERM),
        ({"adm_status": AdmStatus.FAILED}, ReadOperation.DELETE, errno.EPERM),
        ({"fs_status": FsStatus.IMPORTING, "get": False, "adm_status": AdmStatus.LOCKED}, ReadOperation.READ, None),
        ({"fs_status": FsStatus.IMPORTING, "delete": False}, ReadOperation.DELETE, errno.EPERM),
    ],
)
def test_what_may_be_read_and_deleted(
    medium: dict[str, object], operation: ReadOperation, expected: int | None
) -> None:
    plain = Medium(medium_id("a"), FsType.POSIX, AdmStatus.UNLOCKED, FsStatus.USED)
    error = read_error(operation, replace(plain, **medium))  # type: ignore[arg-type]
    assert (error.errno if error else None) == expected


def test_a_read_from_a_device_that_does_not_serve_is_refused() -> None:
    assert refused(place_read(read(1, "a"), [offer("a", serving=False)], {})) == errno.ENODEV
    assert refused(place_read(read(1, "a"), [], {})) == errno.ENODEV


# Formats.


@pytest.mark.note("5.1")
@pytest.mark.parametrize(
    ("spoilt", "fs_type", "expected"),
    [
        ({"fs_status": FsStatus.EMPTY}, FsType.POSIX, errno.EINVAL),
        ({"fs_status": FsStatus.USED}, FsType.POSIX, errno.EINVAL),
        ({}, FsType.LTFS, errno.EINVAL),
        ({"formatting": True}, FsType.POSIX, errno.EINVAL),
        ({"serving": False}, FsType.POSIX, errno.ENODEV),
    ],
)
def test_formats_that_can_never_be_done(spoilt: dict[str, object], fs_type: FsType, expected: int) -> None:
    device = offer("a", **({"fs_status": FsStatus.BLANK} | spoilt))  # type: ignore[arg-type]
    assert refused(place_format(Format(medium_id("a"), fs_type), [device], None)) == expected


@pytest.mark.note("5.1")
def test_a_format_needs_the_device_for_itself() -> None:
    request = Format(medium_id("a"), FsType.POSIX)
    assert taken(place_format(request, [offer("a", fs_status=FsStatus.BLANK)], None)) == ["a"]
    assert claimed(place_format(request, [offer("a", fs_status=FsStatus.BLANK, idle=False)], None)) == {"a"}
    assert refused(place_format(request, [], LrsError(errno.ENXIO, "unknown"))) == errno.ENXIO
    assert refused(place_format(request, [], None)) == errno.ENODEV


# Laws.

NAMES = tuple("abcde")


@st.composite
def offers_of_any_kind(draw: st.DrawFn, *, mixes: bool = True) -> list[Offer]:
    volumes: list[VolumeOffer] = []
    made = []
    for name in draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=5)):
        if not volumes or draw(st.booleans()):
            free = draw(st.integers(0, 400))
            volumes.append(VolumeOffer(free, draw(st.integers(0, free))))
        kinds = frozenset({READ, WRITE}) if mixes else draw(st.sampled_from([frozenset({READ}), frozenset({WRITE})]))
        made.append(
            offer(
                name,
                volume=draw(st.sampled_from(volumes)),
                serving=draw(st.sampled_from([True, True, True, False])),
                slots=draw(st.integers(0, 3)),
                load=draw(st.integers(0, 3)),
                fs_status=draw(st.sampled_from([FsStatus.EMPTY, FsStatus.USED, FsStatus.FULL])),
                tags=tuple(sorted(draw(st.sets(st.sampled_from("xy"))))),
                mixes=mixes,
                kinds=kinds,
            )
        )
    return made


any_write = st.builds(
    WriteAllocation,
    st.lists(
        st.builds(
            WriteMedium,
            st.integers(0, 300),
            st.sampled_from([(), (), ("x",), ("y",)]),
            st.sampled_from([False, False, True]),
        ),
        min_size=1,
        max_size=3,
    ).map(tuple),
    st.just(Family.DIR),
    no_split=st.booleans(),
)


@st.composite
def any_read(draw: st.DrawFn) -> ReadAllocation:
    names = draw(st.lists(st.sampled_from(NAMES), unique=True, min_size=1))
    return read(draw(st.integers(1, len(names))), *names)


def check_takes(outcome: Outcome, kind: RequestKind) -> None:
    takes = of_offers(outcome)
    assert len({take.offer.device for take in takes}) == len(takes)
    for take in takes:
        assert take.offer.slots > 0
        assert take.offer.serving
        if isinstance(outcome, Placed):
            assert kind in take.offer.kinds
    for volume in {id(take.offer.volume): take.offer.volume for take in takes}.values():
        reserved = sum(take.reserve for take in takes if take.offer.volume is volume)
        assert reserved == 0 or reserved <= volume.available


@pytest.mark.note("7")
@given(offers_of_any_kind(), any_write)
def test_law_a_write_takes_all_or_nothing_and_never_more_than_there_is(
    offers: list[Offer], request: WriteAllocation
) -> None:
    outcome = place_write(request, offers)
    check_takes(outcome, WRITE)
    if isinstance(outcome, Placed):
        assert len(outcome.takes) == len(request.media)
        for wanted, take in zip(request.media, outcome.takes, strict=True):
            assert set(wanted.tags) <= set(take.medium.tags)
            assert take.medium.fs_status is not FsStatus.FULL
            assert take.reserve <= wanted.size
            assert take.reserve == wanted.size or not request.no_split


@pytest.mark.note("6")
@given(offers_of_any_kind(), any_read())
def test_law_a_read_takes_the_first_free_ones_in_the_clients_order(
    offers: list[Offer], request: ReadAllocation
) -> None:
    outcome = place_read(request, offers, {})
    check_takes(outcome, READ)
    serving = {o.medium.id: o for o in offers if o.serving}
    usable = [serving[medium] for medium in request.media if medium in serving]
    free = [o for o in usable if o.slots > 0]
    if len(usable) < request.n_required:
        assert isinstance(outcome, Never)
    elif len(free) >= request.n_required:
        assert isinstance(outcome, Placed)
        assert [take.offer for take in of_offers(outcome)] == free[: request.n_required]
    else:
        assert isinstance(outcome, Waits)
        assert {claim.device for claim in of_offers(outcome)} == {o.device for o in free}


@given(st.integers(0, 4), st.integers(0, 4), st.randoms(use_true_random=False))
def test_law_the_matching_is_as_large_as_possible(slots: int, count: int, random: Random) -> None:
    offers = [offer(f"m{number}") for number in range(count)]
    candidates = [[o for o in offers if random.random() < 0.5] for _ in range(slots)]
    chosen = match(candidates, lambda options, _: options)
    picked = [o.device for o in chosen if o is not None]
    assert len(set(picked)) == len(picked)
    assert all(o is None or o in candidates[slot] for slot, o in enumerate(chosen))
    assert len(picked) == largest_matching(candidates, frozenset())


def largest_matching(candidates: Sequence[Sequence[Offer]], used: frozenset[ResourceId]) -> int:
    if not candidates:
        return 0
    options = [o.device for o in candidates[0] if o.device not in used]
    return max(
        [largest_matching(candidates[1:], used)]
        + [1 + largest_matching(candidates[1:], used | {device}) for device in options]
    )


def place(request: WriteAllocation | ReadAllocation, offers: list[Offer]) -> Outcome:
    return place_write(request, offers) if isinstance(request, WriteAllocation) else place_read(request, offers, {})


def apply(request: WriteAllocation | ReadAllocation, outcome: Outcome) -> None:
    """What the family does with the outcome, on the offers alone."""
    if isinstance(outcome, Placed):
        outcome.take(WRITE if isinstance(request, WriteAllocation) else READ)
    elif isinstance(outcome, Waits):
        outcome.keep()


# Grants that end in any order, pass after pass: is everybody served, and without being delayed by who came later?


@dataclass
class Grants:
    """A family reduced to what placement sees, with reservations and kinds."""

    volumes: dict[str, int]
    """Free bytes by volume."""
    devices: dict[str, str]
    """Volume by device."""
    slots: int
    mixes: bool = True
    held: list[tuple[str, RequestKind, int, int]] = field(default_factory=list)
    """(device, kind, reserved, request)."""

    def offers(self) -> list[Offer]:
        volumes = {
            name: VolumeOffer(free, free - sum(h[2] for h in self.held if self.devices[h[0]] == name))
            for name, free in self.volumes.items()
        }
        made = []
        for name, volume in self.devices.items():
            here = [held for held in self.held if held[0] == name]
            kinds = frozenset({READ, WRITE}) if self.mixes or not here else frozenset({here[0][1]})
            made.append(
                offer(
                    name,
                    volume=volumes[volume],
                    slots=self.slots - len(here),
                    load=len(here),
                    idle=not here,
                    mixes=self.mixes,
                    kinds=kinds,
                )
            )
        return made

    def one_pass(self, waiting: list[tuple[int, WriteAllocation | ReadAllocation]]) -> list[int]:
        """Look at all that wait in order; returns who was served."""
        offers, served = self.offers(), []
        for number, request in waiting:
            outcome = place(request, offers)
            apply(request, outcome)
            if isinstance(outcome, Placed):
                kind = WRITE if isinstance(request, WriteAllocation) else READ
                self.held += [(t.medium.id.name, kind, t.reserve, number) for t in outcome.takes]
                served.append(number)
        for volume, free in self.volumes.items():
            assert sum(held[2] for held in self.held if self.devices[held[0]] == volume) <= free
        for device in self.devices:
            here = [held for held in self.held if held[0] == device]
            assert len(here) <= self.slots
            assert self.mixes or len({held[1] for held in here}) <= 1
        return served

    def end(self, number: int) -> None:
        self.held = [held for held in self.held if held[3] != number]


@pytest.mark.note("10.2")
@given(
    st.integers(1, 2),
    st.booleans(),
    st.lists(
        st.one_of(
            st.lists(st.integers(0, 100), min_size=1, max_size=3).map(lambda sizes: write(*sizes)),
            any_read(),
        ),
        min_size=1,
        max_size=12,
    ),
    st.randoms(use_true_random=False),
)
def test_law_everybody_is_served_while_grants_end_in_any_order(
    slots: int, mixes: bool, requests: list[WriteAllocation | ReadAllocation], random: Random
) -> None:
    grants = Grants(dict.fromkeys(NAMES, 300), {name: name for name in NAMES}, slots, mixes)
    waiting = list(enumerate(requests))
    ongoing: list[int] = []
    for _ in range(2 * len(requests) + 1):
        served = grants.one_pass(waiting)
        assert not waiting or waiting[0][0] in served or ongoing, "nobody holds anything and the first one still waits"
        ongoing += served
        waiting = [entry for entry in waiting if entry[0] not in served]
        if not waiting:
            return
        ended = random.choice(ongoing)
        ongoing.remove(ended)
        grants.end(ended)
    raise AssertionError(f"never served: {waiting}")


def ended_before_first_is_served(
    grants: Grants, order: list[int], waiting: list[tuple[int, WriteAllocation | ReadAllocation]]
) -> int | None:
    """How many of the grants in `order` have to end before the first in the queue is served; None if all do not do."""
    for ended in range(len(order) + 1):
        served = grants.one_pass(waiting)
        if waiting[0][0] in served:
            return ended
        waiting = [entry for entry in waiting if entry[0] not in served]
        if ended < len(order):
            grants.end(order[ended])
    return None


any_size_write = st.builds(
    lambda sizes, no_split: write(*sizes, no_split=no_split),
    st.lists(st.integers(0, 120), min_size=1, max_size=2),
    st.booleans(),
)


@st.composite
def busy_grants(draw: st.DrawFn, mixes: bool) -> Grants:
    grants = Grants(dict.fromkeys("ab", 150), {name: name for name in "ab"}, draw(st.integers(1, 3)), mixes)
    for number in range(draw(st.integers(1, 5))):
        device, kind = draw(st.sampled_from("ab")), draw(st.sampled_from([READ, WRITE]))
        here = next(o for o in grants.offers() if o.medium.id.name == device)
        if here.open_to(kind):
            reserve = draw(st.integers(0, max(here.volume.available, 0))) if kind is WRITE else 0
            grants.held.append((device, kind, reserve, -1 - number))
    return grants


@pytest.mark.parametrize("mixes", [True, False])
@settings(max_examples=150)
@given(st.data())
def test_law_nobody_behind_delays_one_that_waits(mixes: bool, data: st.DataObject) -> None:
    """Those behind never end here, so whatever they got that the first one needs would delay it."""
    reads = st.builds(lambda order, n: read(min(n, len(order)), *order), st.permutations("ab"), st.integers(1, 2))
    first = data.draw(any_size_write | reads)
    behind = data.draw(st.lists(any_size_write | reads, min_size=1, max_size=4))
    grants = data.draw(busy_grants(mixes))
    order = data.draw(st.permutations(sorted({held[3] for held in grants.held})))
    alone = replace(grants, held=list(grants.held))
    crowd = list(enumerate([first, *behind]))
    assert ended_before_first_is_served(grants, order, crowd) == ended_before_first_is_served(alone, order, crowd[:1])


def passes_until_first_is_served(
    grants: Grants, first: WriteAllocation | ReadAllocation, newcomer: WriteAllocation | ReadAllocation, endless: int
) -> int:
    """Each pass a newcomer has come, and the oldest of more than four ends: how long does `first` wait?

    What was held at the beginning ends after five passes.
    """
    waiting: list[tuple[int, WriteAllocation | ReadAllocation]] = [(0, first)]
    behind: list[int] = []
    for number in range(1, endless):
        waiting.append((number, newcomer))
        served = grants.one_pass(waiting)
        if 0 in served:
            return number
        behind += served
        waiting = [entry for entry in waiting if entry[0] not in served]
        if len(behind) > 4:
            grants.end(behind.pop(0))
        if number == 5:
            grants.end(-1)
    raise AssertionError("newcomers were served for ever before the first one in the queue")


def test_two_crossed_two_media_requests_are_both_served() -> None:
    grants = Grants({"a": 300, "b": 300}, {"a": "a", "b": "b"}, 1, held=[("a", WRITE, 0, 8), ("b", WRITE, 0, 9)])
    waiting: list[tuple[int, WriteAllocation | ReadAllocation]] = [(0, read(2, "a", "b")), (1, read(2, "b", "a"))]
    grants.end(8)
    assert grants.one_pass(waiting) == []
    grants.end(9)
    assert grants.one_pass(waiting) == [0]
    grants.end(0)
    assert grants.one_pass(waiting[1:]) == [1]


def test_a_request_for_two_is_not_starved_by_a_stream_of_requests_for_one() -> None:
    grants = Grants({"a": 300, "b": 300}, {"a": "a", "b": "b"}, 1, held=[("a", READ, 0, -1)])
    assert passes_until_first_is_served(grants, read(2, "a", "b"), read(1, "b"), 30) <= 6


def test_a_large_write_is_not_starved_by_a_stream_of_small_ones() -> None:
    """It waits for space that is reserved now: what comes free must not go to those behind it."""
    grants = Grants({"v": 100}, {"a": "v"}, 8, held=[("a", WRITE, 50, -1)])
    assert passes_until_first_is_served(grants, write(80, no_split=True), write(10), 40) <= 9


def test_a_large_write_is_not_starved_on_a_volume_that_directories_share() -> None:
    grants = Grants({"v": 100}, {"a": "v", "b": "v"}, 8, held=[("a", WRITE, 50, -1)])
    assert passes_until_first_is_served(grants, write(80), write(10), 40) <= 9


def test_a_large_write_claims_a_device_that_can_hold_it() -> None:
    """The small directory, which it can never use, stays free for others; the large one is kept for it."""
    offers = [offer("small", free=50, slots=8), offer("large", free=1000, available=400, slots=8)]
    outcome = place_write(write(800), offers)
    assert claimed(outcome) == {"large"}


@pytest.mark.note("8")
def test_a_write_is_not_starved_by_a_stream_of_reads_where_they_do_not_mix() -> None:
    grants = Grants({"a": 300}, {"a": "a"}, 4, mixes=False, held=[("a", READ, 0, -1)])
    assert passes_until_first_is_served(grants, write(10), read(1, "a"), 40) <= 9


def test_one_request_claims_a_device_once() -> None:
    outcome = place_write(write(10, 10), [offer("a", available=5, slots=4), offer("b", slots=0)])
    assert claimed(outcome) == {"a"}
    assert len(of_offers(outcome)) == 1
