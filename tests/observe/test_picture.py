from __future__ import annotations

import errno
import re
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from html.parser import HTMLParser
from itertools import combinations
from math import dist
from operator import mul
from xml.etree.ElementTree import Element, fromstring

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrs_trio.events import Event, EventKind
from lrs_trio.observe import plot
from lrs_trio.observe.markup import element, text
from lrs_trio.observe.page import STYLE
from lrs_trio.observe.picture import draw
from lrs_trio.observe.plot import stage_class, state_class
from lrs_trio.observe.replay import build_timeline
from lrs_trio.observe.timeline import (
    SHARE_OF,
    DeviceLife,
    Interval,
    Outcome,
    RequestLife,
    Share,
    Stage,
    State,
    Timeline,
)
from lrs_trio.observe.words import clock
from tests.observe.samples import START, PlayedTapeSite
from tests.observe.test_replay import BEGIN, EXCHANGED_AHEAD

TITLE = "Devices and requests on silo1"


class Page(HTMLParser):
    """Reads a page as a browser does, and minds that all that is opened is closed."""

    VOID = frozenset({"meta"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: Counter[str] = Counter()
        self.attributes: list[tuple[str, str]] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen[tag] += 1
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen[tag] += 1
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def timeline() -> Timeline:
    return build_timeline(PlayedTapeSite(requests=100, death_s=200).events(), START)


@pytest.fixture(scope="module")
def page(timeline: Timeline) -> str:
    return draw(timeline, TITLE, begun=datetime(2026, 11, 24, 17, 3, tzinfo=UTC), note="Played fast.")


def drawing(page: str) -> Element:
    found = re.search(
        r'<svg class="drawing".*?</svg></svg>(?=<div id="hair">)|<svg class="drawing".*(?=<div id="hair">)', page
    )
    assert found is not None
    return fromstring(found.group())


def names(page: str) -> Element:
    found = re.search(r'<svg class="names".*?</svg>', page)
    assert found is not None
    return fromstring(found.group())


def across(drawn: Element, name: str) -> Decimal:
    return Decimal(drawn.get(name, "").removesuffix("%"))


def bars(page: str) -> dict[str, list[Element]]:
    """The bars of each row of a device, from left to right, by the height of the row."""
    rows: dict[str, list[Element]] = {}
    for rect in drawing(page).iter("rect"):
        if rect.get("class", "").startswith("s-") and rect.find("title") is not None:
            rows.setdefault(rect.get("y", ""), []).append(rect)
    return rows


def one_device(intervals: list[Interval], name: str = "d1", family: str = "tape") -> Timeline:
    end = intervals[-1].end
    return Timeline(0, end, (DeviceLife(family, name, 0, end, tuple(intervals)),), (), ())


def test_the_bars_of_a_device_are_its_intervals(timeline: Timeline, page: str) -> None:
    rows = bars(page)
    assert len(rows) == len(timeline.devices) == 8
    for row, life in zip(rows.values(), timeline.devices, strict=True):
        edge = across(row[0], "x")
        for bar in row:
            assert across(bar, "x") == edge
            edge += across(bar, "width")
        assert float(edge) == pytest.approx(100 * life.end / timeline.end, abs=1e-4)
        long = [interval for interval in life.intervals if interval.duration * 100 > timeline.duration]
        drawn = [bar for bar in row if across(bar, "width") > 1]
        assert [bar.get("class") for bar in drawn] == [f"s-{interval.state.value}" for interval in long]
        for bar, interval in zip(drawn, long, strict=True):
            assert float(across(bar, "width")) == pytest.approx(100 * interval.duration / timeline.duration, abs=1e-3)
            said = bar.findtext("title") or ""
            assert said.startswith(interval.state.value)
            assert interval.medium in said


def test_the_names_stand_beside_their_rows(timeline: Timeline, page: str) -> None:
    written = [text.text for text in names(page).iter("text") if text.get("class") == "name"]
    assert written == [life.name for life in timeline.devices]


def test_the_media_are_named_under_the_bars(timeline: Timeline, page: str) -> None:
    boxes = [box for box in drawing(page).iter("svg") if box.get("class") == "medium"]
    shown = Counter(box.findtext("text") for box in boxes)
    media = {interval.medium for life in timeline.devices for interval in life.intervals if interval.medium}
    assert set(shown) == media
    for box in boxes:
        label = box.find("text")
        assert label is not None
        assert (label.get("class") == "fits") == (across(box, "width") * 10 >= Decimal(box.get("data-needed", "")))


def test_what_failed_is_marked_and_listed(timeline: Timeline, page: str) -> None:
    faults = [fault for life in timeline.devices for fault in life.faults]
    assert len(faults) >= 2
    marks = [mark for mark in drawing(page).iter("svg") if "fault" in mark.get("class", "")]
    said = " ".join(mark.findtext("path/title") or "" for mark in marks)
    for fault in faults:
        assert fault.text in said
        assert f">{fault.text}<" in page


def test_every_request_has_a_line_with_its_story(timeline: Timeline, page: str) -> None:
    lives = [life for life in drawing(page).iter("g") if life.get("class") == "life"]
    assert len(lives) == len(timeline.requests) == 100
    for life, drawn in zip(timeline.requests, lives, strict=True):
        title = drawn.findtext("title") or ""
        assert title.startswith(f"{life.request} {life.serial} of {life.client} at ")
        assert title.endswith(life.outcome.value if life.outcome is Outcome.DONE else "failed EIO")
        whole = 100 * (life.phases[-1].end - life.phases[0].begin) / timeline.duration
        assert float(sum(across(rect, "width") for rect in drawn.iter("rect"))) == pytest.approx(whole, abs=1e-3)
    assert sum(life.placings == 2 for life in timeline.requests) == page.count("placed 2 times") == 1


def plain(page: str) -> str:
    """What is read on the page, also where one points at something."""
    return re.sub(r"<[^>]*>", " ", page.partition("</style>")[2].partition("<script>")[0])


def test_what_went_wrong_says_which_operation_and_that_the_drive_left(page: str) -> None:
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", page.partition("<h2>What went wrong</h2>")[2])
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in rows]
    *_, operation, left = [row for row in cells if row and row[1] == "10WT000003"]
    assert operation[3:] == ["unmount failed", "ETIMEDOUT", "unmount did not end within 75 s"]
    assert left[3:] == ["tape drive taken out of service", "ETIMEDOUT", ""]
    failed = sum(row[3:4] != ["tape drive taken out of service"] for row in cells if row)
    assert re.search(rf"{failed} +operations? that failed; 1 device taken out of service", plain(page))


@pytest.mark.parametrize("refusals", [1, 9])
def test_what_is_refused_at_once_is_a_point_at_its_time(timeline: Timeline, refusals: int) -> None:
    end = timeline.end // 2
    refused = tuple(
        RequestLife("tape", 900 + number, "WRITE", "c", end, end, (), Outcome.REFUSED, errno.ESHUTDOWN)
        for number in range(refusals)
    )
    for requests in (refused, timeline.requests + refused):
        page = draw(replace(timeline, requests=requests), TITLE)
        marks = [mark for mark in drawing(page).iter("svg") if mark.get("class") == "mark refused"]
        (mark,) = [mark for mark in marks if "ESHUTDOWN" in said(mark)]
        assert float(across(mark, "x")) == pytest.approx(100 * end / timeline.duration, abs=1e-3)
        first = f"WRITE 900 of c at {clock(end)}: refused ESHUTDOWN"
        assert said(mark).split("; ")[0] == first
        assert said(mark).endswith("; and 3 more" if refusals == 9 else first)
        assert "refused at once" in [text.text for text in names(page).iter("text")]
        assert "the request failed or was refused" in page
    assert "refused at once" not in draw(timeline, TITLE)


def said(mark: Element) -> str:
    return mark.findtext("path/title") or ""


def test_a_refusal_is_marked_with_its_reason(timeline: Timeline) -> None:
    refused = replace(timeline.requests[0], outcome=Outcome.REFUSED, errno=28)
    shown = drawing(draw(replace(timeline, requests=(refused,)), TITLE))
    (mark,) = [mark for mark in shown.iter("svg") if mark.get("class") == "mark refused"]
    assert (mark.findtext("path/title") or "").endswith("refused ENOSPC")


def test_the_page_says_the_important_in_words(timeline: Timeline, page: str) -> None:
    words = plain(page)
    assert "From 2026-11-24 17:03:00 UTC, for" in words
    assert "Played fast." in words
    assert "8 tape drives with" in words
    assert re.search(r"100 requests: 9\d done, \d failed with EIO\.", words)
    assert all(share.value in words for share in Share)


def test_the_legend_explains_what_occurs_and_nothing_else(page: str) -> None:
    legend = re.search(r'<div class="legend">.*?</div>', page)
    assert legend is not None
    drawn = {rect.get("class") for rect in drawing(page).iter("rect") if rect.get("class", "")[:2] in ("s-", "r-")}
    explained = dict(re.findall(r'<i class="([^"]*)"></i>([^<]*)', legend.group()))
    for one, other in (("unloading", "loading"), ("unmounting", "mounting")):
        assert explained[f"s-{other}"] == f"{other} or {one}"
        drawn.remove(f"s-{one}")
    assert set(explained) == drawn
    assert explained["s-quarantined"] == "out of service: quarantined"
    assert [re.sub("<[^>]*>", "", word) for word in re.findall("<b>.*?</b>", legend.group())] == [
        "tape drives",
        "requests",
    ]


def test_every_colour_is_defined(page: str) -> None:
    for kind in [*map(state_class, State), *(stage_class(stage, "READ") for stage in Stage)]:
        assert re.search(rf"\.{kind}\b", page), kind


LIGHT, DARK = (
    re.findall(r"--([a-z]+): (#[0-9a-f]{6});", rules) for rules in re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
)
GROUND = {"page", "card", "ink", "soft", "line", "track", "stay"}
HATCHES = {"out"}
SHADES = {"mounted", "loaded", "empty", "both"}
"""Those of one kind, which are told apart by a step of lightness."""

SIGHTS = {
    "all cones": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "no L": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "no M": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "no S": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}
"""What light becomes for whom, in linear red, green and blue (Machado and others, 2009)."""


def lab(colour: str, sight: tuple[tuple[float, ...], ...]) -> tuple[float, ...]:
    values = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    light = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in values]
    seen = [min(max(sum(map(mul, row, light)), 0), 1) for row in sight]
    to_xyz = ((0.4339, 0.3762, 0.1899), (0.2126, 0.7152, 0.0722), (0.0177, 0.1095, 0.8728))
    x, y, z = (sum(map(mul, row, seen)) ** (1 / 3) for row in to_xyz)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


@pytest.mark.parametrize("colours", [dict(LIGHT), dict(LIGHT) | dict(DARK)], ids=["light", "dark"])
@pytest.mark.parametrize("sight", SIGHTS)
def test_everybody_tells_the_colours_apart(colours: dict[str, str], sight: str) -> None:
    kinds = {name: lab(colour, SIGHTS[sight]) for name, colour in colours.items() if name not in GROUND | HATCHES}
    assert len(kinds) == 15
    for one, other in combinations(kinds, 2):
        least = 6 if {one, other} & SHADES else 10
        assert dist(kinds[one], kinds[other]) > least, (one, other)


def test_one_colour_means_one_thing() -> None:
    users: dict[str, set[str]] = {}
    for kinds, colour in re.findall(r"^([^{}\n]+) \{ --(?:c|hatch): var\(--([a-z]+)\); \}", STYLE, re.MULTILINE):
        users.setdefault(colour, set()).update(re.findall(r"[rs]-[a-z-]+", kinds))
    shared = [kinds for kinds in users.values() if len(kinds) > 1]
    assert sorted(map(sorted, shared)) == [
        ["s-failed", "s-quarantined"],
        ["s-loading", "s-unloading"],
        ["s-mounting", "s-unmounting"],
        ["s-stopped", "s-unknown", "s-waiting"],
    ]
    assert set.union(*users.values()) == {
        *map(state_class, State),
        *(stage_class(stage, request) for stage in Stage for request in ("READ", "WRITE")),
    }


def test_the_bars_of_the_shares_have_the_colours_of_the_states(timeline: Timeline, page: str) -> None:
    shown = re.findall(r'<div class="shares">(.*?)</div>', page)
    assert len(shown) == len(timeline.devices) + 1
    for bar, life in zip(shown, timeline.devices, strict=False):
        parts = re.findall(r'<span class="([^"]*)" style="width:([0-9.]*)%" title="([^"]*)"></span>', bar)
        assert bar.count("<span") == len(parts)
        states = {state_class(state): (state, time) for state, time in life.by_state().items()}
        assert {kind for kind, _, _ in parts} == set(states)
        shares = [SHARE_OF[states[kind][0]] for kind, _, _ in parts]
        assert shares == sorted(shares, key=list(Share).index)
        for kind, width, title in parts:
            state, time = states[kind]
            assert float(width) == pytest.approx(100 * time / life.duration, abs=0.006)
            assert title == f"{state.value} {100 * time / life.duration:.1f} %"


def test_what_cannot_be_seen_is_not_in_a_bar() -> None:
    spans = [Interval(State.EMPTY, 0, 999_960), Interval(State.LOADING, 999_960, 1_000_000, "m1")]
    page = draw(one_device(spans), TITLE)
    assert re.findall(r'<span class="(s-[a-z]+)" style="width:([0-9.]*)%', page) == [("s-empty", "100.00")] * 2
    visible = [Interval(State.EMPTY, 0, 999_940), Interval(State.LOADING, 999_940, 1_000_000, "m1")]
    assert 'class="s-loading" style="width:0.01%"' in draw(one_device(visible), TITLE)


def test_the_crowd_tells_reads_from_writes(timeline: Timeline) -> None:
    for kept in ("READ", "WRITE"):
        lives = tuple(life for life in timeline.requests if life.request == kept)
        areas = drawing(draw(replace(timeline, requests=lives), TITLE)).iter("path")
        assert stage_class(Stage.IO, kept) in [area.get("class") for area in areas]
        areas = drawing(draw(replace(timeline, requests=lives), TITLE)).iter("path")
        other = "READ" if kept == "WRITE" else "WRITE"
        assert stage_class(Stage.IO, other) not in [area.get("class") for area in areas]


@pytest.mark.parametrize("state", [State.FAILED, State.QUARANTINED])
def test_what_is_broken_is_hatched(state: State) -> None:
    page = draw(one_device([Interval(State.EMPTY, 0, 50), Interval(state, 50, 100)]), TITLE)
    assert f'<pattern id="{state.value}"' in page
    assert f"svg rect.s-{state.value} {{ fill: url(#{state.value}); }}" in page
    assert f"out of service: {state.value}" in plain(page)


def test_a_drive_that_is_exchanged_ahead_shows_both_tapes() -> None:
    page = draw(build_timeline(EXCHANGED_AHEAD, BEGIN), TITLE)
    boxes = [box for box in drawing(page).iter("svg") if box.get("class") == "medium"]
    assert [box.findtext("title") for box in boxes] == [
        "m1 in the drive, 0:00.00 to 0:06.00",
        "m2 in the drive, 0:07.00 to 0:24.00",
    ]
    (row,) = bars(page).values()
    assert [bar.get("class") for bar in row][-3:] == ["s-unmounting", "s-unloading", "s-empty"]


def test_the_page_is_complete_in_itself(page: str) -> None:
    parsed = Page(page)
    assert (parsed.seen["script"], parsed.seen["style"]) == (1, 1)
    assert not {"img", "link", "iframe", "image", "use", "object"} & set(parsed.seen)
    assert not {"src", "href", "xlink:href", "srcset"} & {name for name, _ in parsed.attributes}
    assert not re.search(r"//[a-z]|@import|url\((?!#)", page)


HOSTILE = """</title><script>alert(1)</script><b a='x' "y">&amp; \0\x1b\udc80"""


def test_no_name_becomes_markup() -> None:
    events = [
        replace(event, device=HOSTILE, medium=HOSTILE, client=HOSTILE, detail=HOSTILE, family=HOSTILE, request=HOSTILE)
        if event.kind is not EventKind.DEVICE_STATUS
        else replace(event, device=HOSTILE, medium=HOSTILE, family=HOSTILE)
        for event in PlayedTapeSite(drives=1, requests=5, death_s=1).events()
    ]
    events += [Event(START + 900, EventKind.ALLOCATION_REFUSED, family=HOSTILE, request=HOSTILE, serial=5, errno=28)]
    page = draw(build_timeline(events, START), HOSTILE, note=HOSTILE)
    parsed = Page(page)
    assert (parsed.seen["script"], parsed.seen["b"]) == (1, parsed.seen["div"] and page.count("<b>"))
    assert "alert(1)</script>" not in page
    assert all(name in KNOWN or name.startswith("data-") for name, _ in parsed.attributes)
    page.encode()
    drawing(page)


KNOWN = {
    *("class", "x", "y", "x1", "x2", "y1", "y2", "width", "height", "d", "id", "title", "style", "viewbox"),
    *("preserveaspectratio", "patternunits", "lang", "charset", "name", "content", "http-equiv"),
}


@given(st.text(st.characters()), st.text(st.characters()))
@settings(max_examples=50)
def test_text_and_attributes_come_back_as_they_were(content: str, value: str) -> None:
    parsed = fromstring(element("text", text(content), class_=value))
    shown = [re.sub(r"[^ -~]", "?", it) for it in (content, value)]
    got = [re.sub(r"[^ -~]", "?", it or "") for it in (parsed.text, parsed.get("class"))]
    assert got == shown


def test_much_that_happened_makes_no_large_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plot, "MOST_BARS", 800)
    spans = []
    for begin in range(0, 15_000_000, 5000):
        spans.append(Interval(State.WRITING, begin, begin + 2000, "m1"))
        spans.append(Interval(State.MOUNTED, begin + 2000, begin + 5000, "m1"))
    devices = tuple(DeviceLife("tape", f"d{number}", 0, spans[-1].end, tuple(spans)) for number in range(4))
    page = draw(Timeline(0, spans[-1].end, devices, (), ()), TITLE)
    rows = bars(page)
    assert 400 <= sum(map(len, rows.values())) <= 800
    assert len(page) < 200_000
    for row in rows.values():
        assert sum(across(bar, "width") for bar in row) == 100
        assert {bar.get("class") for bar in row} == {"s-mounted"}
        assert all(
            re.search(r"changes: [56]\d.\d % mounted, [34]\d.\d % writing", bar.findtext("title") or "")
            for bar in row[:5]
        )


def test_too_many_requests_are_counted_instead_of_drawn(timeline: Timeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plot, "MOST_PHASES", 50)
    page = draw(timeline, TITLE)
    assert not [life for life in drawing(page).iter("g") if life.get("class") == "life"]
    assert "100 requests: too many to draw each" in page
    assert len([area for area in drawing(page).iter("path") if area.get("class", "")[:2] in ("s-", "r-")]) == 5


def test_directories_are_not_labelled_with_their_own_names() -> None:
    page = draw(one_device([Interval(State.MOUNTED, 0, 100, "/d1")], "h:/d1", "dir"), TITLE)
    assert not [box for box in drawing(page).iter("svg") if box.get("class") == "medium"]
    assert "1 directory with 1 medium" in page


def test_long_names_keep_their_ends() -> None:
    page = draw(one_device([Interval(State.EMPTY, 0, 100)], "host1:/a/very/long/path/to/a/directory-7"), TITLE)
    (name,) = [text for text in names(page).iter("text") if text.get("class") == "name"]
    assert name.text is not None
    assert name.text.startswith("…")
    assert name.text.endswith("directory-7")
    assert name.findtext("title") == "host1:/a/very/long/path/to/a/directory-7"


def test_where_nothing_happened_there_is_nothing_to_draw() -> None:
    page = draw(Timeline(0, 0, (), (), ()), TITLE)
    Page(page)
    assert 'class="drawing"' not in page
