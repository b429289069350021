"""The drawing in the picture of a timeline: devices above, requests below, along one axis of time.

Across, all lengths are in per cent of the drawing, so that it fills every window and can be stretched without
stretching the letters; down, they are in pixels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from lrs_trio.model import Family
from lrs_trio.observe.condensing import condense, crowd, gather, lanes, media_stays, say_once
from lrs_trio.observe.markup import Markup, element, joined, text
from lrs_trio.observe.timeline import (
    DeviceLife,
    Interval,
    Moment,
    Outcome,
    Phase,
    RequestLife,
    Stage,
    State,
    Timeline,
)
from lrs_trio.observe.words import clock, counted, devices_of, duration, errno_name, fault_of, percent, time_scale

NAMES_WIDTH: Final = 176
ASSUMED_WIDTH: Final = 1000
"""Pixels that the drawing has across in a window of usual size; the page itself looks how many there are."""

MOST_BARS: Final = 30_000
"""On all rows of devices together; what would be more is drawn together."""

MOST_PHASES: Final = 20_000
MOST_LANES: Final = 320
"""Beyond these the requests are not drawn one by one."""

CROSS: Final = "M0-1.7 2.5-4.2 4.2-2.5 1.7 0 4.2 2.5 2.5 4.2 0 1.7-2.5 4.2-4.2 2.5-1.7 0-4.2-2.5-2.5-4.2Z"
TRIANGLE: Final = "M0 5L-5.5-4.5H5.5Z"

_AXIS: Final = 26
_HEADING: Final = 26
_CROWD: Final = 84
_CROWD_COLUMNS: Final = 500
_LETTER: Final = 6.3
"""Pixels of a letter, more or less."""

_LONGEST_NAME: Final = 25
_SHOWN: Final = 6
"""Of several things at one place, name so many."""


@dataclass(frozen=True, slots=True)
class Plot:
    """`names` stay where they are when `drawing` is scrolled; both are `height` pixels high."""

    names: Markup
    drawing: Markup
    height: int


def draw_plot(timeline: Timeline) -> Plot:
    """Draw what has a duration: there has to be some."""
    plot = _Plot(timeline)
    plot.axis()
    for family in timeline.families:
        plot.devices(family, [device for device in timeline.devices if device.family == family])
    lives = [life for life in timeline.requests if life.phases]
    if lives:
        plot.crowd(lives)
    plot.requests(lives, refused_at_once(timeline))
    plot.axis()
    return plot.finished()


def refused_at_once(timeline: Timeline) -> list[RequestLife]:
    """The requests that have waited for nothing, as those that come when the daemon ends."""
    return [life for life in timeline.requests if life.outcome is Outcome.REFUSED and not life.phases]


def state_class(state: State) -> str:
    return f"s-{state.value.replace(' ', '-')}"


def stage_class(stage: Stage, request: str) -> str:
    if stage is Stage.IO:
        return state_class(State.READING if request == "READ" else State.WRITING)
    return f"r-{stage.name.lower()}"


STACKED: Final = (
    stage_class(Stage.IO, "WRITE"),
    stage_class(Stage.IO, "READ"),
    stage_class(Stage.RELEASE, ""),
    stage_class(Stage.PLANNED, ""),
    stage_class(Stage.QUEUED, ""),
)
"""What requests do or wait for, from the bottom of the crowd up: what is served lies on the ground."""


class _Plot:
    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._y = 0
        self._names: list[Markup] = []
        self._drawn: list[Markup] = []
        self._scale = time_scale(timeline.begin, timeline.end)
        self._row = min(max(960 // max(len(timeline.devices), 1), 10), 40)

    def finished(self) -> Plot:
        grid = [
            element("line", x1=self._at(time), x2=self._at(time), y1=_AXIS - 5, y2=self._y - _AXIS + 5, class_="grid")
            for time in self._scale.marks
        ]
        return Plot(joined(self._names), joined([*grid, *self._drawn]), self._y)

    def axis(self) -> None:
        for time, written in self._scale.fine.items():
            self._tick(time, written, "tick fine")
        for time, written in self._scale.marks.items():
            self._tick(time, written, "tick")
        self._name(self._scale.unit, self._y + 17, "unit")
        self._y += _AXIS

    def devices(self, family: str, devices: Sequence[DeviceLife]) -> None:
        self._heading(devices_of(family)[1])
        shortest = self._timeline.duration * 2 * len(self._timeline.devices) // MOST_BARS
        shortest = max(shortest, self._timeline.duration // 5000)
        for device in devices:
            self._device(device, shortest)
        self._y += 10

    def crowd(self, lives: Sequence[RequestLife]) -> None:
        """How many requests there were at a time, and at what stages."""
        self._heading("requests at a time")
        counts = crowd(lives, self._timeline.begin, self._timeline.end, _CROWD_COLUMNS, _kind)
        most = max(map(sum, zip(*counts.values(), strict=True)))
        floor = [0.0] * _CROWD_COLUMNS
        areas = []
        for kind in STACKED:
            if kind in counts:
                top = [low + count for low, count in zip(floor, counts[kind], strict=True)]
                areas.append(element("path", class_=kind, d=_area(floor, top, _CROWD / most)))
                floor = top
        self._drawn.append(
            element(
                "svg",
                *areas,
                x="0",
                y=self._y,
                width="100%",
                height=_CROWD,
                viewBox=f"0 0 {_CROWD_COLUMNS} {_CROWD}",
                preserveAspectRatio="none",
            )
        )
        self._name(f"{most:,.0f}" if most > 9.95 else f"{most:.1f}", self._y + 10, "unit")
        self._name("0", self._y + _CROWD, "unit")
        self._y += _CROWD + 10

    def requests(self, lives: Sequence[RequestLife], refused: Sequence[RequestLife]) -> None:
        """One by one: `lives` have a duration, those `refused` have none and share a row."""
        if lives or refused:
            self._heading("each request")
        if refused:
            self._points(refused)
        if lives:
            self._lives(lives)

    def _points(self, refused: Sequence[RequestLife]) -> None:
        self._name("refused at once", self._y + 10, "unit")
        for together in gather(refused, lambda life: life.begin, self._timeline.duration // 250):
            said = _some(list(map(self._story, together)))
            self._drawn.append(self._mark(together[0].begin, self._y + 6, CROSS, "refused", said))
        self._y += 18

    def _lives(self, lives: Sequence[RequestLife]) -> None:
        places = lanes(lives, self._timeline.duration // 250)
        number = max(places) + 1
        if number > MOST_LANES or sum(len(life.phases) for life in lives) > MOST_PHASES:
            said = f"{counted(len(lives), 'request')}: too many to draw each; --from and --to choose a shorter time"
            self._drawn.append(element("text", text(said), x="6", y=self._y + 12, class_="note"))
            self._y += 24
            return
        height = min(max(480 // number, 3), 11)
        shortest = self._timeline.duration // 5000
        for life, lane in zip(lives, places, strict=True):
            self._life(life, self._y + lane * height, height - 1 if height < 6 else height - 2, shortest)
        self._y += number * height + 10

    def _device(self, device: DeviceLife, shortest: int) -> None:
        with_media = device.family != Family.DIR.label and self._row >= 24
        room = self._row - 3
        height = room - 15 if with_media else room
        shown = device.name if len(device.name) <= _LONGEST_NAME else f"…{device.name[1 - _LONGEST_NAME :]}"
        self._name(shown, self._y + height / 2 + 4, "name", device.name)
        self._drawn.append(element("rect", x="0", y=self._y, width="100%", height=height, class_="track"))
        for group in condense(device.intervals, shortest):
            self._drawn.append(self._bar(group, height))
        if with_media:
            for stay in media_stays(device.intervals):
                if stay.duration * 500 >= self._timeline.duration:
                    self._drawn.append(self._stay(stay, self._y + height + 1))
        self._drawn.extend(self._faults(device))
        self._y += self._row

    def _bar(self, group: Sequence[Interval], height: float) -> Markup:
        begin, end = group[0].begin, group[-1].end
        when = f"{clock(begin)} to {clock(end)}, {duration(end - begin)}"
        if len(group) == 1:
            (only,) = group
            state, said = only.state, f"{only.state.value}{f' {only.medium}' if only.medium else ''}, {when}"
        else:
            times: Counter[State] = Counter()
            for interval in group:
                times[interval.state] += interval.duration
            ((state, _),) = times.most_common(1)
            parts = (f"{percent(100 * time / (end - begin))} {state.value}" for state, time in times.most_common())
            said = f"{counted(len(group), 'change')}: {', '.join(parts)}; {when}"
        title = element("title", text(said))
        return self._rect(begin, end, self._y, height, state_class(state), title)

    def _stay(self, stay: Interval, y: float) -> Markup:
        """A cartridge under the bar of the drive that it is in; its name where there is room for it."""
        needed = len(stay.medium) * _LETTER + 6
        width = self._span(stay.begin, stay.end)
        tight = stay.duration / self._timeline.duration * ASSUMED_WIDTH < needed
        label = element("text", text(stay.medium), x="50%", y="10", class_="tight" if tight else "fits")
        when = f"{clock(stay.begin)} to {clock(stay.end)}"
        title = element("title", text(f"{stay.medium} in the drive, {when}"))
        box = element("rect", x="0", y="0", width="100%", height=13, class_="stay")
        place = {"x": self._at(stay.begin), "y": f"{y}", "width": width, "height": "13"}
        return element("svg", title, box, label, class_="medium", data_needed=needed, **place)

    def _faults(self, device: DeviceLife) -> Iterator[Markup]:
        for together in gather(say_once(device.faults), lambda fault: fault.time, self._timeline.duration // 250):
            said = _some([self._fault(fault, device.family) for fault in together])
            yield self._mark(together[0].time, self._y, TRIANGLE, "fault", said)

    def _fault(self, fault: Moment, family: str) -> str:
        words = [fault_of(fault.kind, family), fault.medium, errno_name(fault.errno), f"at {clock(fault.time)}"]
        said = " ".join(word for word in words if word)
        return f"{said}: {fault.text}" if fault.text else said

    def _life(self, life: RequestLife, y: float, height: float, shortest: int) -> None:
        pieces = [element("title", text(self._story(life)))]
        for group in condense(life.phases, shortest):
            longest = max(group, key=lambda phase: phase.end - phase.begin)
            thin = height / 3 if longest.stage is Stage.QUEUED else 0.0
            place = group[0].begin, group[-1].end, y + thin, height - 2 * thin
            pieces.append(self._rect(*place, stage_class(longest.stage, life.request)))
        self._drawn.append(element("g", *pieces, class_="life"))
        if life.outcome in (Outcome.REFUSED, Outcome.FAILED):
            middle = y + height / 2
            self._drawn.append(self._mark(life.end, middle, CROSS, "refused", self._story(life)))

    def _story(self, life: RequestLife) -> str:
        steps = [_phase(phase) for phase in life.phases]
        if life.placings > 1:
            steps.append(f"placed {life.placings} times")
        end = f"{life.outcome.value} {errno_name(life.errno)}".rstrip()
        told = f"{', '.join(steps)}; {end}" if steps else end
        return f"{life.request} {life.serial} of {life.client} at {clock(life.begin)}: {told}"

    def _heading(self, words: str) -> None:
        self._names.append(element("text", text(words), x=NAMES_WIDTH - 10, y=self._y + 17, class_="heading"))
        self._y += _HEADING

    def _name(self, words: str, y: float, kind: str, whole: str = "") -> None:
        title = (element("title", text(whole)),) if whole else ()
        self._names.append(element("text", text(words), *title, x=NAMES_WIDTH - 10, y=y, class_=kind))

    def _tick(self, time: int, written: str, kind: str) -> None:
        share = (time - self._timeline.begin) / self._timeline.duration
        side = " first" if share < 0.01 else " last" if share > 0.985 else ""
        self._drawn.append(element("text", text(written), x=self._at(time), y=self._y + 17, class_=kind + side))

    def _mark(self, time: int, y: float, path: str, kind: str, said: str) -> Markup:
        return element(
            "svg",
            element("path", element("title", text(said)), d=path),
            x=self._at(time),
            y=y,
            class_=f"mark {kind}",
        )

    def _rect(self, begin: int, end: int, y: float, height: float, kind: str, *content: Markup) -> Markup:
        place = {"x": self._at(begin), "width": self._span(begin, end)}
        return element("rect", *content, y=y, height=height, class_=kind, **place)

    def _at(self, time: int) -> str:
        return f"{_written(self._ten_thousandths(time))}%"

    def _span(self, begin: int, end: int) -> str:
        """From one edge as it is written to the other: bars fit together as the intervals do."""
        return f"{_written(self._ten_thousandths(end) - self._ten_thousandths(begin))}%"

    def _ten_thousandths(self, time: int) -> int:
        """How far across `time` is, in ten thousandths of one per cent."""
        return round((time - self._timeline.begin) * 1_000_000 / self._timeline.duration)


def _written(ten_thousandths: int) -> str:
    whole, rest = divmod(ten_thousandths, 10_000)
    return f"{whole}.{rest:04}".rstrip("0").rstrip(".")


def _kind(life: RequestLife, phase: Phase) -> str:
    return stage_class(phase.stage, life.request)


def _some(lines: Sequence[str]) -> str:
    more = [f"and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    return "; ".join([*lines[:_SHOWN], *more])


def _phase(phase: Phase) -> str:
    where = f" on {phase.detail}" if phase.detail else ""
    return f"{phase.stage.value}{where} {duration(phase.end - phase.begin)}"


def _area(low: Sequence[float], high: Sequence[float], scale: float) -> str:
    """The outline of steps from `high` down to `low`, for columns of width 1."""
    steps = [f"M0 {_CROWD - low[0] * scale:.1f}"]
    steps += [f"V{_CROWD - height * scale:.1f}H{column}" for column, height in enumerate(high, start=1)]
    steps += [f"V{_CROWD - height * scale:.1f}H{column}" for column, height in reversed(list(enumerate(low)))]
    return "".join(steps) + "Z"
