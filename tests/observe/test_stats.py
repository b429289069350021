from __future__ import annotations

import errno
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrs_trio.errors import LrsError
from lrs_trio.observe.stats import LONGEST_FILTER, Stats


@pytest.fixture
def stats() -> Stats:
    """The example of the format."""
    stats = Stats()
    stats.counter("dev", "nb_mount", {"family": "dir", "device": "host1:/data/d1"}).add()
    stats.gauge("sched", "incoming_qsize", {"family": "dir"})
    stats.counter("req", "count", {"request": "WRITE"}).add(12)
    stats.computed("req", "response_qsize", lambda: 0)
    return stats


def test_the_answer_is_byte_for_byte_what_clients_know(stats: Stats) -> None:
    assert stats.dump() == (
        '[{"name": "dev.nb_mount", "tags": "family=dir,device=host1:/data/d1", "value": 1}, '
        '{"name": "sched.incoming_qsize", "tags": "family=dir", "value": 0}, '
        '{"name": "req.count", "tags": "request=WRITE", "value": 12}, '
        '{"name": "req.response_qsize", "value": 0}]'
    )


def test_a_filtered_answer_as_it_was_captured() -> None:
    stats = Stats()
    for name in ("READ", "PING"):
        stats.counter("req", "count", {"request": name}).add()
    assert stats.dump("req", "count", "request=PING") == '[{"name": "req.count", "tags": "request=PING", "value": 1}]'


@pytest.mark.parametrize(
    ("ns", "name", "tags", "found"),
    [
        ("", "", "", 4),
        (None, None, None, 4),
        ("REQ", "", "", 2),
        ("req", "Count", "", 1),
        ("", "", "FAMILY=Dir", 2),
        ("", "", "device=HOST1:/data/d1,family=dir", 1),
        ("", "", "family=dir,,", 2),
        ("", "", "family=tape", 0),
        ("", "", "unknown=", 0),
        ("re", "", "", 0),
        ("dev", "count", "", 0),
    ],
)
def test_filters_ignore_case_and_have_to_match_whole(
    stats: Stats, ns: str | None, name: str | None, tags: str | None, found: int
) -> None:
    assert len(json.loads(stats.dump(ns, name, tags))) == found


@pytest.mark.parametrize("tags", ["family", "family=dir,device", "=,x"])
def test_a_filter_that_is_no_pair_is_refused(stats: Stats, tags: str) -> None:
    with pytest.raises(LrsError, match="key=value") as caught:
        stats.dump(tags=tags)
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize("filter", ["ns", "name", "tags"])
def test_a_filter_that_is_longer_than_any_name_is_refused(stats: Stats, filter: str) -> None:
    assert stats.dump(**{filter: ("k=" + "x" * LONGEST_FILTER)[:LONGEST_FILTER]}) == "[]"
    with pytest.raises(LrsError, match=f"{LONGEST_FILTER + 1} characters") as caught:
        stats.dump(**{filter: "x" * (LONGEST_FILTER + 1)})
    assert caught.value.errno == errno.EINVAL


def test_nothing_found_is_an_empty_array() -> None:
    assert Stats().dump() == "[]"


def test_names_that_are_not_ascii_stay_readable() -> None:
    stats = Stats()
    stats.counter("dev", "nb_mount", {"device": "h:/données"})
    assert "h:/données" in stats.dump()


def test_a_gauge_shows_its_last_value(stats: Stats) -> None:
    gauge = stats.gauge("sched", "retry_qsize")
    gauge.set(5)
    gauge.set(3)
    assert json.loads(stats.dump("sched", "retry_qsize"))[0]["value"] == 3


@given(st.lists(st.integers()))
def test_no_value_is_ever_negative_and_a_counter_never_goes_down(amounts: list[int]) -> None:
    stats = Stats()
    counter, gauge = stats.counter("a", "counter"), stats.gauge("a", "gauge")
    stats.computed("a", "computed", lambda: gauge.value)
    before = 0
    for amount in amounts:
        counter.add(amount)
        gauge.set(amount)
        values = [entry["value"] for entry in json.loads(stats.dump())]
        assert values == [before + max(amount, 0), max(amount, 0), max(amount, 0)]
        before = values[0]


def test_unregistering_drops_only_what_bears_the_tags(stats: Stats) -> None:
    stats.counter("dev", "nb_mount", {"family": "dir", "device": "host1:/data/d2"})
    stats.unregister("dev", {"family": "dir", "device": "host1:/data/d1"})
    assert [entry.get("tags") for entry in json.loads(stats.dump())] == [
        "family=dir",
        "request=WRITE",
        None,
        "family=dir,device=host1:/data/d2",
    ]
