"""A COMMIT whose answer was lost: whether it was done is found out by looking, never by doing it again.

The server is asked for the fate of the transaction by its number. As long as it lives that is all. After a
crash it may mislead: the number of a transaction that is not in the server's log is given to another one.
How far the log got tells, unless there was one more crash; and on a server that took over the number may be
anybody's. So the rows have a say then: a medium that is as the transaction left it, or still as it found it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import Enum

from lrs_trio.dss.operations import Outcome
from lrs_trio.dss.postgres.transaction import Change, Number
from lrs_trio.model import Medium, ResourceId


class Fate(Enum):
    """What the server says of a transaction's number. UNKNOWN: it is too old, or of another timeline."""

    COMMITTED = "committed"
    ABORTED = "aborted"
    IN_PROGRESS = "in progress"
    UNKNOWN = "unknown"


class Evidence(Enum):
    """What the rows say: as the transaction left them, as it found them, or neither."""

    DONE = "done"
    NOT_DONE = "not done"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class ServerState:
    """Which life of which server a session belongs to: those of one are equal."""

    timeline: str
    """Another one: another server has taken over."""
    started: str
    recovered_to: str | None
    """How far the log got that was read after the last crash; ``None``: the server had been stopped in order."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """A transaction whose COMMIT was sent, to the process `backend` of the server, and not answered."""

    number: Number
    server: ServerState
    backend: int
    changes: Mapping[ResourceId, Change]
    outcomes: list[Outcome]
    repeatable: bool
    """Doing it again, after it was done, changes nothing: locks that are held already, figures that stay."""


def lost_in_crash(doubt: Doubt, server: ServerState) -> bool:
    """Whether the log ended before the COMMIT, when the server crashed since. The number may be anybody's then."""
    if server == doubt.server or server.recovered_to is None:
        return False
    return _place(server.recovered_to) < _place(doubt.number.position)


def _place(position: str) -> tuple[int, ...]:
    return tuple(int(half, 16) for half in position.split("/"))


def evidence_in(changes: Mapping[ResourceId, Change], found: Mapping[ResourceId, Medium]) -> Evidence:
    """What the rows `found` now say about a transaction that was to make `changes`.

    A transaction is done whole: one row that speaks is enough. A row speaks if all that was to change in it is as it
    was to become, or all as it was; what else somebody has changed there does not matter.
    """
    for medium, change in changes.items():
        if medium not in found:
            continue
        before, after, now = _figures(change.before), _figures(change.after), _figures(found[medium])
        changed = [name for name in before if before[name] != after[name]]
        if changed and all(now[name] == after[name] for name in changed):
            return Evidence.DONE
        if changed and all(now[name] == before[name] for name in changed):
            return Evidence.NOT_DONE
    return Evidence.NONE


def _figures(medium: Medium) -> dict[str, object]:
    """All that a row says, each figure by itself."""
    values = {column.name: getattr(medium, column.name) for column in fields(medium) if column.name != "stats"}
    return values | {figure.name: getattr(medium.stats, figure.name) for figure in fields(medium.stats)}


def was_committed(fate: Fate, evidence: Evidence, *, same_life: bool, repeatable: bool) -> bool:
    """Whether the transaction counts as done, for every fate but IN_PROGRESS.

    A number that the server calls aborted was never committed under any owner. One that it calls committed, in the
    `same_life` in which it gave it out, was. Else it may have had another owner since: the rows decide, and what
    may be repeated is done again. Of the rest nothing may ever be added twice: where neither the server nor the rows
    know, it counts as done.
    """
    if fate is Fate.ABORTED:
        return False
    if fate is Fate.COMMITTED and same_life:
        return True
    return evidence is not Evidence.NOT_DONE and not repeatable
