"""A timeline as one HTML page that anybody can open: what to look at first, the drawing, and the figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from statistics import median
from typing import Final

from lrs_trio.events import EventKind
from lrs_trio.observe.condensing import say_once
from lrs_trio.observe.markup import Markup, element, joined, text
from lrs_trio.observe.page import PAGE, SCRIPT, STYLE
from lrs_trio.observe.plot import CROSS, NAMES_WIDTH, TRIANGLE, draw_plot, stage_class, state_class
from lrs_trio.observe.timeline import (
    MICROSECONDS,
    SHARE_OF,
    DeviceLife,
    Outcome,
    RequestLife,
    Share,
    Stage,
    State,
    Timeline,
    percentages,
)
from lrs_trio.observe.words import clock, counted, devices_of, duration, errno_name, fault_of, listed, percent
from lrs_trio.sizes import human_size

MOST_FAULTS: Final = 100
"""Rows in the table of what went wrong."""

_WORDS_OF_REQUESTS: Final = {
    stage_class(Stage.QUEUED, ""): "queued",
    stage_class(Stage.PLANNED, ""): "waits for its media",
    stage_class(Stage.IO, "READ"): "reads",
    stage_class(Stage.IO, "WRITE"): "writes",
    stage_class(Stage.RELEASE, ""): "waits for its sync",
}

_ALIKE: Final = ((State.LOADING, State.UNLOADING), (State.MOUNTING, State.UNMOUNTING))
"""What has one colour."""

_SIDE_BY_SIDE: Final = tuple(state for share in Share for state in State if SHARE_OF[state] is share)
_BROKEN: Final = (State.FAILED, State.QUARANTINED)
_SMALLEST_PART: Final = 0.005
"""Of a bar, in per cent: less would be written as nothing."""


def draw(timeline: Timeline, title: str, *, begun: datetime | None = None, note: str = "") -> str:
    """The page. `begun` is when the recording began, `note` is whatever readers should know of it."""
    when = f"From {begun:%Y-%m-%d %H:%M:%S %Z}, for" if begun else "For"
    about = [element("p", text(f"{when} {duration(timeline.duration)}. {note}"), class_="soft")]
    body = [_tiles(timeline), *(_sentence(timeline, family) for family in timeline.families)]
    if timeline.duration:
        body.append(_drawing(timeline))
    body += [_shares_table(timeline, family) for family in timeline.families]
    body += [_faults_table(timeline)]
    return PAGE.substitute(title=text(title), style=STYLE, script=SCRIPT, about=joined(about), body=joined(body))


def _tiles(timeline: Timeline) -> Markup:
    outcomes = Counter(request.outcome for request in timeline.requests)
    waits = [wait for request in timeline.requests if (wait := _wait(request)) is not None]
    releases = [life.duration for life in timeline.releases if life.outcome is Outcome.DONE]
    failed = sum(device.failed_operations for device in timeline.devices)
    broken = sum(device.count(EventKind.DEVICE_FAILED) > 0 for device in timeline.devices)
    tiles = [
        (
            percent(percentages(timeline.shares(family))[Share.STREAMING]),
            f"of the time of the {devices_of(family)[1]} is streaming",
        )
        for family in timeline.families
    ]
    if timeline.requests:
        tiles.append((f"{outcomes[Outcome.DONE]:,}", f"of {counted(len(timeline.requests), 'request')} done"))
    if waits:
        tiles.append((duration(round(median(waits))), "from a request to its media, in the median"))
    if releases:
        tiles.append((duration(round(median(releases))), "from a release to its answer, in the median"))
    said = "operation that failed" if failed == 1 else "operations that failed"
    if broken:
        said += f"; {counted(broken, 'device')} taken out of service"
    tiles.append((f"{failed:,}", said))
    return element("div", *(_tile(figure, words) for figure, words in tiles), class_="tiles")


def _tile(figure: str, words: str) -> Markup:
    return element("div", element("b", text(figure)), element("span", text(words), class_="soft"), class_="tile")


def _wait(request: RequestLife) -> int | None:
    """From the arrival of a request to its I/O, if it got that far."""
    return next((phase.begin - request.begin for phase in request.phases if phase.stage is Stage.IO), None)


def _sentence(timeline: Timeline, family: str) -> Markup:
    devices = [device for device in timeline.devices if device.family == family]
    requests = [request for request in timeline.requests if request.family == family]
    shares = percentages(timeline.shares(family))
    spent = ", ".join(f"{percent(share)} {name.value}" for name, share in shares.items() if share >= 0.05)
    ends = Counter(_ending(request) for request in requests)
    media = {interval.medium for device in devices for interval in device.intervals if interval.medium}
    syncs = sum(device.count(EventKind.SYNC_FINISHED) for device in devices)
    said = f"{counted(len(devices), *devices_of(family))} with {counted(len(media), 'medium', 'media')}"
    said += f" spent their time like this: {spent or 'there was none'}."
    said += f" {counted(syncs, 'sync')} made {human_size(sum(device.synced for device in devices))} safe."
    if requests:
        said += f" {counted(len(requests), 'request')}: {listed(ends)}."
    return element("p", text(said))


def _ending(request: RequestLife) -> str:
    name = errno_name(request.errno)
    return f"{request.outcome.value} with {name}" if name else request.outcome.value


def _drawing(timeline: Timeline) -> Markup:
    plot = draw_plot(timeline)
    names = element("svg", plot.names, class_="names", width=NAMES_WIDTH, height=plot.height)
    drawing = element(
        "svg",
        joined(_patterns()),
        plot.drawing,
        class_="drawing",
        height=plot.height,
        data_begin=timeline.begin / MICROSECONDS,
        data_end=timeline.end / MICROSECONDS,
    )
    scroll = element("div", drawing, element("div", id="hair"), class_="scroll")
    legend = element("div", *_legend(timeline), _tools(), class_="legend")
    return element("div", legend, element("div", names, scroll, class_="plot"), class_="card")


def _patterns() -> Iterator[Markup]:
    up, down = "M-1 7L7-1M-1 1L1-1M5 7l2-2", "M-1-1L7 7M5-1l2 2M-1 5l2 2"
    for name, lines in (("failed", up), ("quarantined", up + down), ("out", up)):
        across = element("path", d=lines)
        yield element("pattern", across, id=name, width=6, height=6, patternUnits="userSpaceOnUse")


def _legend(timeline: Timeline) -> Iterator[Markup]:
    """Only what occurs: a line for devices, one for requests."""
    devices = list(_legend_of_devices(timeline))
    if devices:
        kinds = " and ".join(devices_of(family)[1] for family in timeline.families)
        yield element("p", element("b", text(kinds)), *devices)
    requests = list(_legend_of_requests(timeline))
    if requests:
        yield element("p", element("b", text("requests")), *requests)


def _legend_of_devices(timeline: Timeline) -> Iterator[Markup]:
    seen = {interval.state for device in timeline.devices for interval in device.intervals}
    for state in State:
        alike = [other for other in next((pair for pair in _ALIKE if state in pair), (state,)) if other in seen]
        if alike and alike[0] is state:
            words = " or ".join(other.value for other in alike)
            yield _swatch(state_class(state), f"out of service: {words}" if state in _BROKEN else words)
    if any(device.faults for device in timeline.devices):
        yield _sign(TRIANGLE, "fault", "an operation failed")


def _legend_of_requests(timeline: Timeline) -> Iterator[Markup]:
    seen = {stage_class(phase.stage, life.request) for life in timeline.requests for phase in life.phases}
    for kind, words in _WORDS_OF_REQUESTS.items():
        if kind in seen:
            yield _swatch(kind, words)
    if any(request.outcome in (Outcome.REFUSED, Outcome.FAILED) for request in timeline.requests):
        yield _sign(CROSS, "refused", "the request failed or was refused")


def _swatch(kind: str, words: str) -> Markup:
    return element("span", element("i", class_=kind), text(words))


def _sign(path: str, kind: str, words: str) -> Markup:
    drawn = element("svg", element("path", d=path), viewBox="-6 -6 12 12", width=13, height=13, class_=kind)
    return element("span", drawn, text(words))


def _tools() -> Markup:
    buttons = [
        element("button", text(sign), id=name, title=says)
        for sign, name, says in (
            ("+", "in", "closer; also Ctrl and the wheel"),
            ("\N{MINUS SIGN}", "out-again", "less close"),
            ("all", "whole", "all of the time"),
        )
    ]
    return element("span", element("span", id="now"), *buttons, class_="tools")


def _shares_table(timeline: Timeline, family: str) -> Markup:
    devices = [device for device in timeline.devices if device.family == family]
    head, *rows, total = shares_rows(timeline, family)
    table = [
        _row("th", [*head, "time", "loads", "syncs", "synced", "failed"], element("th")),
        *(
            _row("td", [*row, *_figures([device])], element("td", _share_bar(device.by_state())))
            for row, device in zip(rows, devices, strict=True)
        ),
        _row("td", [*total, *_figures(devices)], element("td", _share_bar(timeline.by_state(family))), kind="all"),
    ]
    return _table(f"What the time of the {devices_of(family)[1]} was spent on", table)


def shares_rows(timeline: Timeline, family: str) -> list[list[str]]:
    """How the devices of `family` spent their time, as a table: a heading, each device, all of them together."""
    lives = {device.name: device.shares() for device in timeline.devices if device.family == family}
    rows = [[name, *map(percent, percentages(shares).values())] for name, shares in lives.items()]
    total = ["all", *map(percent, percentages(timeline.shares(family)).values())]
    return [["device", *(share.value for share in Share)], *rows, total]


def _figures(devices: Sequence[DeviceLife]) -> list[str]:
    return [
        duration(sum(device.duration for device in devices)),
        *(f"{sum(device.count(kind) for device in devices):,}" for kind in (EventKind.LOADED, EventKind.SYNC_FINISHED)),
        human_size(sum(device.synced for device in devices)),
        f"{sum(device.failed_operations for device in devices):,}",
    ]


def _share_bar(times: Mapping[State, int]) -> Markup:
    """By state, in the colours that these have in the drawing; what belongs to one share is side by side."""
    parts = percentages(times)
    drawn = [
        element(
            "span",
            class_=state_class(state),
            style=f"width:{parts[state]:.2f}%",
            title=f"{state.value} {percent(parts[state])}",
        )
        for state in _SIDE_BY_SIDE
        if parts.get(state, 0.0) >= _SMALLEST_PART
    ]
    return element("div", *drawn, class_="shares")


def _faults_table(timeline: Timeline) -> Markup:
    faults = [(fault, device) for device in timeline.devices for fault in say_once(device.faults)]
    if not faults:
        return Markup("")
    faults.sort(key=lambda found: found[0].time)
    rows = [
        [
            clock(fault.time),
            device.name,
            fault.medium,
            fault_of(fault.kind, device.family),
            errno_name(fault.errno),
            fault.text,
        ]
        for fault, device in faults[:MOST_FAULTS]
    ]
    if len(faults) > MOST_FAULTS:
        rows.append(["", f"and {len(faults) - MOST_FAULTS:,} more", "", "", "", ""])
    head = ["time", "device", "medium", "what", "error", ""]
    table = [_row("th", head, left=True), *(_row("td", row, left=True) for row in rows)]
    return _table("What went wrong", table)


def _table(heading: str, rows: Sequence[Markup]) -> Markup:
    return joined(
        [
            element("h2", text(heading)),
            element("div", element("table", *rows), class_="card tables"),
        ]
    )


def _row(cell: str, words: Iterable[str], *more: Markup, kind: str = "", left: bool = False) -> Markup:
    cells = [
        element(cell, text(word), class_="left wide" if left else "left" if number == 0 else "")
        for number, word in enumerate(words)
    ]
    return element("tr", *cells, *more, class_=kind)
