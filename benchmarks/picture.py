"""Throughput and latency against clients and against devices, as one SVG file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from statistics import median
from typing import Final

from benchmarks.driver.scripts import Kind
from benchmarks.measuring import Figures
from benchmarks.results import Results
from benchmarks.sites import DSS_KINDS, NAMES, DssKind
from lrs_trio.observe.markup import Markup, element, joined, text

KINDS: Final[tuple[Kind, ...]] = ("write", "read")
"""What is measured everywhere."""

WIDTH, HEIGHT = 250, 160
"""Pixels of one plot, without its words."""

LEFT, TOP, GAP_X, GAP_Y = 60, 70, 66, 74
COLOURS: Final = ("#1b6ca8", "#d1495b", "#3a8f5c", "#8a5fb0", "#c9862b", "#5c6672")
GREY: Final = "#8a8f98"
LETTER: Final = 5.8
"""Pixels of a letter, more or less."""

_NAMESPACE: Final = 'xmlns="http&#58;//www.w3.org/2000/svg"'
"""Without it a file is no picture. It is only a name, and so written that nobody takes it for a place to go to."""

_STYLE: Final = (
    "text{font:11px sans-serif;fill:#30343b}.title{font-weight:bold}.head{font-size:15px;font-weight:bold}"
    ".grid{stroke:#e3e5e9}.axis{stroke:#8a8f98}.line{fill:none;stroke-width:1.8}.dashed{stroke-dasharray:4 3}"
)


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a plot: for each number on the axis across that has a value, this."""

    name: str
    colour: str
    values: dict[int, float]
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Plot:
    """What belongs into one plot, and where that is."""

    column: int
    row: int
    title: str
    across: str
    lines: list[Line]


@dataclass(frozen=True, slots=True)
class Scale:
    """Powers of ten, upwards."""

    low: int
    high: int

    @classmethod
    def of(cls, plots: Sequence[Plot]) -> Scale:
        """One for all of them, so that they can be compared."""
        lines = [line for plot in plots for line in plot.lines]
        values = [value for line in lines for value in line.values.values() if value > 0] or [1.0]
        low = floor(log10(min(values)))
        return cls(low, max(ceil(log10(max(values))), low + 1))

    def share(self, value: float) -> float:
        """How high `value` is, from 0 to 1; what is below the lowest is at the bottom."""
        return max(log10(value) - self.low, 0) / (self.high - self.low) if value > 0 else 0


@dataclass(frozen=True, slots=True)
class _Measured:
    """A point of the default way."""

    clients: int
    devices: int
    figures: Figures


def draw(results: Results) -> str:
    """A row of plots for each kind of cycle and each DSS that was measured."""
    plots: list[Plot] = []
    rows = 0
    for kind in KINDS:
        for dss in DSS_KINDS:
            measured = list(_measured(results, kind, dss))
            if measured:
                plots += _row(rows, f"{kind} cycles, {NAMES[dss]}", measured)
                rows += 1
    drawn: list[Markup] = []
    for alike in (plots[::2], plots[1::2]):
        scale = Scale.of(alike)
        drawn += [_draw_plot(plot, scale) for plot in alike]
    head = element(
        "text",
        text(f"lrs-trio, commit {results.commit}, {results.time:%Y-%m-%d %H:%M} UTC"),
        x=LEFT,
        y=24,
        class_="head",
    )
    width, height = LEFT + 4 * (WIDTH + GAP_X), TOP + max(rows, 1) * (HEIGHT + GAP_Y)
    page = element("rect", width=width, height=height, fill="#ffffff")
    style = element("style", text(_STYLE))
    view = f"0 0 {width} {height}"
    whole = element("svg", style, page, head, joined(drawn), width=width, height=height, viewBox=view)
    return whole.replace("<svg", f"<svg {_NAMESPACE}", 1)


def _measured(results: Results, kind: Kind, dss: DssKind) -> Iterator[_Measured]:
    for place, point, figures in results.points():
        if point.kind == kind and place.dss == dss and place.way == "default":
            yield _Measured(point.clients, place.devices, figures)


def _row(row: int, title: str, measured: Sequence[_Measured]) -> Iterator[Plot]:
    """Against clients, then against devices: throughput and latency."""
    by_devices = _family(measured, lambda one: one.clients, lambda one: one.devices, "devices")
    by_clients = _family(measured, lambda one: one.devices, lambda one: one.clients, "clients")
    for column, (lines_of, across) in enumerate(((by_devices, "clients"), (by_clients, "devices"))):
        rates = lines_of(lambda figures: figures.cycles_per_s, False)
        if across == "clients":
            rates += _echo(measured)
        latencies = lines_of(lambda figures: figures.p50 * 1e3, False) + lines_of(
            lambda figures: figures.p99 * 1e3, True
        )
        yield Plot(2 * column, row, f"{title}: cycles/s", across, rates)
        yield Plot(2 * column + 1, row, "ms: p50, and p99 dashed", across, latencies)


def _family(
    measured: Sequence[_Measured],
    across: Callable[[_Measured], int],
    line: Callable[[_Measured], int],
    noun: str,
) -> Callable[[Callable[[Figures], float], bool], list[Line]]:
    """What makes a line for each number of the other thing."""
    numbers = sorted({line(one) for one in measured})

    def lines_of(value: Callable[[Figures], float], dashed: bool) -> list[Line]:
        return [
            Line(
                "" if dashed else f"{number} {noun if number > 1 else noun[:-1]}",
                COLOURS[index % len(COLOURS)],
                {across(one): value(one.figures) for one in measured if line(one) == number},
                dashed,
            )
            for index, number in enumerate(numbers)
        ]

    return lines_of


def _echo(measured: Sequence[_Measured]) -> list[Line]:
    """The limit, which devices do not change, if it was measured."""
    found: dict[int, list[float]] = {}
    for one in measured:
        if one.figures.echo is not None:
            found.setdefault(one.clients, []).append(one.figures.echo)
    limit = {clients: median(rates) for clients, rates in found.items()}
    return [Line("echo", GREY, limit, dashed=True)] if limit else []


def _draw_plot(plot: Plot, scale: Scale) -> Markup:
    """Numbers across at equal distances, values upwards on a logarithmic scale."""
    x0, y0 = LEFT + plot.column * (WIDTH + GAP_X), TOP + plot.row * (HEIGHT + GAP_Y)
    numbers = sorted({number for line in plot.lines for number in line.values})

    def x(number: int) -> float:
        return x0 + WIDTH * (numbers.index(number) + 0.5) / len(numbers)

    def y(value: float) -> float:
        return y0 + HEIGHT * (1 - scale.share(value))

    drawn = [element("text", text(plot.title), x=x0, y=y0 - 8, class_="title")]
    for decade in range(scale.low, scale.high + 1):
        drawn.append(element("line", x1=x0, x2=x0 + WIDTH, y1=y(10.0**decade), y2=y(10.0**decade), class_="grid"))
        drawn.append(element("text", text(f"{10.0**decade:,g}"), x=x0 - 6, y=y(10.0**decade) + 4, text_anchor="end"))
    drawn.append(element("line", x1=x0, x2=x0 + WIDTH, y1=y0 + HEIGHT, y2=y0 + HEIGHT, class_="axis"))
    drawn += [
        element("text", text(f"{number}"), x=x(number), y=y0 + HEIGHT + 15, text_anchor="middle") for number in numbers
    ]
    drawn.append(element("text", text(plot.across), x=x0 - 6, y=y0 + HEIGHT + 15, text_anchor="end"))
    for line in plot.lines:
        places = [(x(number), y(line.values[number])) for number in sorted(line.values)]
        drawn.append(_curve(places, line))
    drawn += _legend(x0, y0 + HEIGHT + 30, plot.lines)
    return joined(drawn)


def _curve(places: Sequence[tuple[float, float]], line: Line) -> Markup:
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    dots = [element("circle", cx=x, cy=y, r=2, fill=line.colour) for x, y in places]
    curve = element("path", d=path, stroke=line.colour, class_="line dashed" if line.dashed else "line")
    return joined([curve, *dots])


def _legend(x: float, y: float, lines: Sequence[Line]) -> Iterator[Markup]:
    for line in lines:
        if line.name:
            yield element("text", text(line.name), x=x, y=y, fill=line.colour, style=f"fill:{line.colour}")
            x += LETTER * len(line.name) + 8
