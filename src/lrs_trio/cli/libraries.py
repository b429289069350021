"""`lrs lib`: tape libraries, real and virtual, as their robots see them."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from lrs_trio.cli.output import REPORTED, print_json, print_table, say_error
from lrs_trio.cli.robot import Robot
from lrs_trio.cli.site import Site, pass_site
from lrs_trio.cli.tlc import library_settings
from lrs_trio.errors import describe
from lrs_trio.storage.elements import Element, ElementKind

TIMEOUT = click.option(
    "--timeout", type=click.FloatRange(0.001), default=300.0, show_default=True, help="How long to wait, in seconds."
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def libraries() -> None:
    """Look at tape libraries, and make virtual ones."""


@libraries.command()
@click.argument("library")
@click.option("--refresh", is_flag=True, help="Have the controller look at the library first.")
@JSON
@TIMEOUT
@pass_site
def scan(site: Site, library: str, refresh: bool, as_json: bool, timeout: float) -> None:
    """Show every place of a library with what is in it.

    Without --refresh that is what the controller knows: it follows its own moves, and does not notice what people do.
    """
    settings = library_settings(site.settings(), library)
    elements = Robot(library, settings, timeout).elements(refresh=refresh)
    if as_json:
        import json

        from lrs_trio.storage.library_status import dump_elements

        print_json(json.loads(dump_elements(elements)))
        return
    print_table(
        ["kind", "address", "content", "from", "drive", "remark"],
        map(_cells, elements),
        right=frozenset({"address", "from"}),
    )


@libraries.command()
@click.argument("library", required=False)
@JSON
@TIMEOUT
@pass_site
def status(site: Site, library: str | None, as_json: bool, timeout: float) -> None:
    """Show whether libraries work, what is in their drives, and how full they are.

    All of the settings, or one. The exit status is 0 if all work.
    """
    settings = site.settings()
    chosen = settings.libraries if library is None else {library: library_settings(settings, library)}
    reports = [_look(Robot(name, one, timeout)) for name, one in chosen.items()]
    if as_json:
        print_json([report.shown() for report in reports])
    else:
        for number, report in enumerate(reports):
            if number:
                click.echo()
            _print(report)
    failed = [say_error(report.error, report.library) for report in reports if report.error is not None]
    sys.exit(failed[0] if failed else 0)


@libraries.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option(
    "--from",
    "description",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="What it consists of, and how fast that is.",
)
def create(directory: Path, description: Path) -> None:
    """Make a virtual library in a directory.

    The files in settings/virtual are descriptions.
    """
    from lrs_trio.storage.virtual.library import create as create_library

    create_library(directory, description)
    click.echo(f"{directory}: created")


@dataclass(frozen=True, slots=True)
class _Report:
    """One library; without elements if there is an `error`."""

    library: str
    robot: str
    elements: tuple[Element, ...] = ()
    error: BaseException | None = None

    def of(self, kind: ElementKind) -> list[Element]:
        return [element for element in self.elements if element.kind is kind]

    def shown(self) -> dict[str, Any]:
        drives = self.of(ElementKind.DRIVE)
        return {
            "library": self.library,
            "robot": self.robot,
            "up": self.error is None,
            "error": None if self.error is None else describe(self.error),
            "drives": [_drive(drive, drives[0].address) for drive in drives],
            "slots": _fill(self.of(ElementKind.SLOT)),
            "import_export": _fill(self.of(ElementKind.IMPORT_EXPORT)),
        }


def _look(robot: Robot) -> _Report:
    try:
        return _Report(robot.library, str(robot), robot.elements())
    except REPORTED as error:
        return _Report(robot.library, str(robot), error=error)


def _print(report: _Report) -> None:
    shown = report.shown()
    click.echo(click.style(f"library {report.library}", bold=True) + f": {'up' if shown['up'] else 'down'}")
    click.echo(f"  {report.robot}")
    if report.error is not None:
        return
    for name, what in (("slots", "slots"), ("import_export", "import/export slots")):
        click.echo(f"  {what}: {shown[name]['full']} of {shown[name]['total']} full, {shown[name]['free']} free")
    print_table(
        ["drive", "address", "serial", "content", "from", "remark"],
        [
            [
                str(drive["number"]),
                str(element.address),
                element.serial,
                _content(element),
                _source(element),
                _remark(element),
            ]
            for drive, element in zip(shown["drives"], report.of(ElementKind.DRIVE), strict=True)
        ],
        right=frozenset({"drive", "address", "from"}),
    )


def _drive(drive: Element, first_address: int) -> dict[str, Any]:
    return {
        "number": drive.address - first_address,
        "address": drive.address,
        "serial": drive.serial,
        "full": drive.full,
        "medium": drive.label,
        "source": drive.source,
        "accessible": drive.accessible,
    }


def _fill(elements: Iterable[Element]) -> dict[str, int]:
    """How many places there are; one that cannot be reached is neither full nor free."""
    places = list(elements)
    return {
        "total": len(places),
        "full": sum(place.full for place in places),
        "free": sum(not place.full and place.accessible for place in places),
    }


def _cells(element: Element) -> list[str]:
    return [
        element.kind.value,
        str(element.address),
        _content(element),
        _source(element),
        element.device_id,
        _remark(element),
    ]


def _content(element: Element) -> str:
    if not element.full:
        return ""
    return element.label or "(no label)"


def _source(element: Element) -> str:
    return "" if element.source is None else str(element.source)


def _remark(element: Element) -> str:
    return "" if element.accessible else "not accessible"
