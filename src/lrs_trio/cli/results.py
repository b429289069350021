"""How a command that does the same to many things tells what became of each."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import click

from lrs_trio.cli.output import REPORTED, one_line, say, say_error

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one thing: `error` if nothing good did, `remark` if there is more to say than that it is done."""

    name: str
    error: BaseException | None = None
    remark: str = ""


def each(things: Iterable[T], action: Callable[[T], str | None]) -> Iterator[Result]:
    """Do `action`, which may return a remark, to one thing after the other; what fails does not stop the others."""
    for thing in things:
        try:
            remark = action(thing)
        except REPORTED as error:
            yield Result(str(thing), error)
        else:
            yield Result(str(thing), remark=remark or "")


def report(results: Iterable[Result], done: str) -> list[int]:
    """Say of each that it is `done`, or why not; the exit statuses of those that failed.

    Raises:
        BrokenPipeError: whoever reads the standard output has gone; all has been done all the same.
    """
    failed = []
    nobody_reads: BrokenPipeError | None = None
    for result in results:
        if result.error is not None:
            failed.append(say_error(result.error, result.name))
        elif nobody_reads is None:
            try:
                click.echo(f"{one_line(result.name)}: {done}" + (f"; {result.remark}" if result.remark else ""))
            except BrokenPipeError as error:
                nobody_reads = error
    if nobody_reads is not None:
        raise nobody_reads
    return failed


def kept(results: Iterable[Result], into: list[Result]) -> Iterator[Result]:
    """Give `results` as they come, and keep them."""
    for result in results:
        into.append(result)
        yield result


def first(failed: list[int]) -> int:
    return failed[0] if failed else 0


def finish(failed: list[int], count: int, untold: str, later: str) -> None:
    """End with the first error's status; where the daemon was not told, say why, and what follows from that."""
    if untold and len(failed) < count:
        say(f"{untold}; {later}")
    sys.exit(first(failed))
