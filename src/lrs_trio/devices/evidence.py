"""Who is to blame when a tape does not work in a drive: what failed together, and what has worked since. Pure."""

from __future__ import annotations

import errno
import json
import os
from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from lrs_trio.dss.operations import LogEntry, LoggedOperation
from lrs_trio.model import Phase, ResourceId

MOST_PAIRS = 500
"""How many unexplained failures are kept; the oldest goes first. So many mean something else than a broken drive."""

LEAD = 2
"""By how many culprits the simplest explanation must beat every other one to be believed without proof."""

REASONS_SHOWN = 5

LABEL_MISMATCH = "label mismatch"
"""The key in a logged message that tells of another medium's label, as in Phobos's log."""

CAUSES = {
    Phase.LOAD: "Device load",
    Phase.UNLOAD: "Device unload",
    Phase.MOUNT: "LTFS mount",
    Phase.UNMOUNT: "LTFS umount",
    Phase.FORMAT: "LTFS format",
    Phase.SYNC: "LTFS sync",
}
"""What the operation log of the DSS calls the operations that are evidence."""

# Phobos also logs that the space of a medium could not be read.
_NAMES = {"LTFS df": "df"} | {cause: phase.value for phase, cause in CAUSES.items()}
_MOVES = frozenset({CAUSES[Phase.LOAD], CAUSES[Phase.UNLOAD]})
_STUCK = frozenset({CAUSES[Phase.UNLOAD], CAUSES[Phase.UNMOUNT]})
_DRIVE_FORGOTTEN, _MEDIUM_FORGOTTEN = "Device lookup", "Medium lookup"

Pair = tuple[ResourceId, ResourceId]
"""A drive and a medium."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A drive or a medium without any health left is to be set to failed; `reason` says what failed and worked."""

    resource: ResourceId
    is_drive: bool
    reason: str


class _Party(NamedTuple):
    """One side of a pair."""

    resource: ResourceId
    is_drive: bool

    def __str__(self) -> str:
        return f"{'drive' if self.is_drive else 'medium'} {self.resource.name}"

    def is_in(self, pair: Pair) -> bool:
        return self.resource == (pair[0] if self.is_drive else pair[1])

    def partner(self, pair: Pair) -> _Party:
        return _Party(pair[1] if self.is_drive else pair[0], not self.is_drive)

    def complaint(self, what: str, pair: Pair) -> str:
        """`what` went wrong with `pair`, as said of this side."""
        return f"{what} {'with' if self.is_drive else 'in'} {self.partner(pair)}"


@dataclass(slots=True)
class _Record:
    """The health of a party that has lost some, and why."""

    health: int
    reasons: deque[str] = field(default_factory=lambda: deque(maxlen=REASONS_SHOWN))


class Evidence:
    """Decides from failures and successes whether a drive or a medium is broken.

    A failure names a pair, not a culprit. It stays unexplained, and its pair is not to be tried again, until

    * one of the two works with something else. It is good, so the other one is charged, with all its unexplained
      failures: they are explained by that, and suspicion is off everybody else in them.
    * the failures themselves say who it is, though nothing works: a drive that has failed with three media none of
      which has failed elsewhere, say. The explanation with the fewest culprits is believed if every explanation
      without this culprit has at least `LEAD` more. Until something works, these pairs still count.

    A party that is proven broken is charged with whatever fails with it, until it works. Each failure that is charged
    costs one health, each success gives one back; a party whose health reaches 0 gets its verdict. `max_health` is
    where everybody starts.

    If a pair works exactly when both are good, and what has broken stays so until it is forgotten, this is true:

    * Whoever is broken is charged as soon as somebody good that it has failed with works.
    * Nobody good is charged while at most two of those in unexplained failures are broken. With more it takes bad
      luck: they must be `LEAD` more than could explain the same failures. Where `n` drives are broken and no other one
      is left, that costs up to `n - 2` media; the next ones speak for each other against the drives.
    * Of a broken drive and a broken medium that meet each other, one alone may be charged for that. The other one
      shows with its next partner.

    Somebody who fails only now and then is charged, or gets a partner charged, by chance: a `max_health` above 1 is
    for that.
    """

    def __init__(self, max_health: int) -> None:
        self._max_health = max_health
        self._open: dict[Pair, str] = {}
        """What went wrong with the pairs of which neither has been proven good or broken since, oldest first."""
        self._charged: dict[Pair, _Party] = {}
        """Who has paid already, without proof, for which of the open failures."""
        self._proven: set[_Party] = set()
        """Who is broken beyond doubt, as long as it has not worked again."""
        self._resting: set[Pair] = set()
        """Charged at once to somebody proven; not tried again before one of the two has worked with another partner, or
        has failed with one while neither was proven broken."""
        self._records: dict[_Party, _Record] = {}

    # What happens.

    def worked(self, drive: ResourceId, medium: ResourceId) -> list[Verdict]:
        """The medium could be used in the drive: it was loaded and mounted, synced, or formatted there."""
        if not self.telling(drive, medium):
            return []
        self._drop((drive, medium))
        self._wake(drive, medium)
        good = _Party(drive, True), _Party(medium, False)
        for party in good:
            self._proven.discard(party)
            self._heal(party)
        verdicts = []
        for party, other in zip(good, reversed(good), strict=True):
            works = f"{party} works {'with' if party.is_drive else 'in'} {other}"
            for pair in self._open_with(party):
                verdicts += self._convict(party.partner(pair), [], works)
        return verdicts

    def failed(self, drive: ResourceId, medium: ResourceId, what: str) -> list[Verdict]:
        """Something went wrong with the pair, such as "mount: Input/output error"; either of the two may be broken."""
        pair = drive, medium
        parties = _Party(drive, True), _Party(medium, False)
        if culprits := [party for party in parties if party in self._proven]:
            # This tells nothing new of the two, so the other pairs go on resting: else all would take turns for ever.
            self._resting.add(pair)
            return [verdict for party in culprits for verdict in self._charge(party, [party.complaint(what, pair)])]
        self._wake(drive, medium)
        self._open[pair] = what
        if len(self._open) > MOST_PAIRS:
            self._drop(next(iter(self._open)))
        return [verdict for party in parties if self._stands_out(party) for verdict in self._presume(party)]

    def blame_drive(self, drive: ResourceId, what: str) -> list[Verdict]:
        """The drive is broken whatever medium is in it: a medium is stuck there, or it does not answer."""
        return self._convict(_Party(drive, True), [what])

    def blame_medium(self, medium: ResourceId, what: str) -> list[Verdict]:
        """The medium is unusable in whatever drive: it bears another one's label."""
        return self._convict(_Party(medium, False), [what])

    def forget(self, resource: ResourceId, *, is_drive: bool) -> None:
        """Give `resource` a fresh start: an administrator has seen to it. `fresh_start` is what the log has to keep."""
        party = _Party(resource, is_drive)
        self._records.pop(party, None)
        self._proven.discard(party)
        self._resting = {pair for pair in self._resting if not party.is_in(pair)}
        for pair in self._open_with(party):
            self._drop(pair)

    # What is known.

    def barred(self) -> Collection[Pair]:
        """The pairs of drive and medium that have failed and would tell nothing new, or nothing better, now."""
        return self._open.keys() | self._resting

    def telling(self, drive: ResourceId, medium: ResourceId) -> bool:
        """Whether a success of this pair would change anything: then it belongs into the log."""
        parties = _Party(drive, True), _Party(medium, False)
        return any(party in self._records for party in parties) or any(
            party.is_in(pair) for pair in self.barred() for party in parties
        )

    def suspects(self) -> list[tuple[ResourceId, ResourceId, str]]:
        """The failures that nobody is charged with yet, oldest first: drive, medium, what went wrong."""
        return [(*pair, what) for pair, what in self._open.items() if pair not in self._charged]

    def health(self, resource: ResourceId, *, is_drive: bool) -> int:
        record = self._records.get(_Party(resource, is_drive))
        return self._max_health if record is None else record.health

    def failed_resources(self) -> list[Verdict]:
        """Everybody without any health left, the first who lost some first."""
        return [_verdict(party, record) for party, record in self._records.items() if record.health == 0]

    # How it is decided.

    def _open_with(self, party: _Party) -> list[Pair]:
        return [pair for pair in self._open if party.is_in(pair)]

    def _drop(self, pair: Pair) -> None:
        self._open.pop(pair, None)
        self._charged.pop(pair, None)

    def _wake(self, drive: ResourceId, medium: ResourceId) -> None:
        self._resting = {pair for pair in self._resting if pair[0] != drive and pair[1] != medium}

    def _stands_out(self, party: _Party) -> bool:
        """Whether explaining the open failures without `party` takes at least `LEAD` more culprits than with it.

        Without it all its partners are broken; who else is follows from the failures that this leaves.
        """
        partners = {party.partner(pair) for pair in self._open_with(party)}
        # One culprit in place of its partners saves one less than they are, at most.
        if len(partners) <= LEAD:
            return False
        others = [pair for pair in self._open if party.partner(pair) not in partners]
        return len(partners) + fewest_culprits(others) - fewest_culprits(self._open) >= LEAD

    def _presume(self, party: _Party) -> list[Verdict]:
        """Charge `party` with what nobody has paid for, and keep it all open: only a success is proof."""
        pairs = [pair for pair in self._open_with(party) if pair not in self._charged]
        self._charged.update(dict.fromkeys(pairs, party))
        complaints = [party.complaint(self._open[pair], pair) for pair in pairs]
        return self._charge(party, complaints, "no success since")

    def _convict(self, party: _Party, complaints: list[str], proof: str = "") -> list[Verdict]:
        """`party` is broken: charge it with `complaints` and all its open failures, which that explains."""
        self._proven.add(party)
        for pair in self._open_with(party):
            if self._charged.get(pair) != party:
                complaints.append(party.complaint(self._open[pair], pair))
            self._drop(pair)
        return self._charge(party, complaints, proof)

    def _charge(self, party: _Party, complaints: list[str], proof: str = "") -> list[Verdict]:
        if not complaints:
            return []
        record = self._records.setdefault(party, _Record(self._max_health))
        record.reasons.append(", ".join(complaints) + (f"; {proof}" if proof else ""))
        alive = record.health > 0
        record.health = max(record.health - len(complaints), 0)
        return [_verdict(party, record)] if alive and record.health == 0 else []

    def _heal(self, party: _Party) -> None:
        record = self._records.get(party)
        if record is not None:
            record.health += 1
            if record.health >= self._max_health:
                del self._records[party]


def fewest_culprits(pairs: Iterable[Pair]) -> int:
    """How many broken drives and media it takes at least to explain that all these pairs have failed.

    That is as many as there are pairs at most of which no two share a drive or a medium (König's theorem).
    """
    media: dict[ResourceId, list[ResourceId]] = {}
    for drive, medium in pairs:
        media.setdefault(drive, []).append(medium)
    taken: dict[ResourceId, ResourceId] = {}

    def pair_off(drive: ResourceId, tried: set[ResourceId]) -> bool:
        for medium in media[drive]:
            if medium not in tried:
                tried.add(medium)
                if medium not in taken or pair_off(taken[medium], tried):
                    taken[medium] = drive
                    return True
        return False

    return sum(pair_off(drive, set()) for drive in media)


def replay(entries: Iterable[LoggedOperation], max_health: int) -> Evidence:
    """The evidence that the operation log holds; `entries` are those of one family, oldest first.

    That a medium could be moved does not tell that it can be used, so no success of a load or unload counts. What
    took a drive out of service by itself is charged to it again: a medium that did not come out, an operation without
    end. So is another label to its medium.
    """
    evidence = Evidence(max_health)
    for entry in entries:
        drive, medium = entry.device, entry.medium
        if entry.cause == _DRIVE_FORGOTTEN and not entry.errno and not medium.name:
            evidence.forget(drive, is_drive=True)
        elif entry.cause == _MEDIUM_FORGOTTEN and not entry.errno and not drive.name:
            evidence.forget(medium, is_drive=False)
        elif entry.cause not in _NAMES or not drive.name or not medium.name:
            continue
        elif not entry.errno:
            if entry.cause not in _MOVES:
                evidence.worked(drive, medium)
        elif _tells_of_another_label(entry.message):
            evidence.blame_medium(medium, _what(entry))
        elif entry.cause in _STUCK or entry.errno == -errno.ETIMEDOUT:
            evidence.blame_drive(drive, f"{_what(entry)} with medium {medium.name}")
        else:
            evidence.failed(drive, medium, _what(entry))
    return evidence


def fresh_start(resource: ResourceId, *, is_drive: bool) -> LogEntry:
    """What has to be logged when `resource` is forgotten, or else the next start would remember."""
    nothing = ResourceId(resource.family, "", resource.library)
    device, medium = (resource, "") if is_drive else (nothing, resource.name)
    cause = _DRIVE_FORGOTTEN if is_drive else _MEDIUM_FORGOTTEN
    return LogEntry(device, medium, 0, cause, json.dumps({"unlock": "a fresh start"}))


def _verdict(party: _Party, record: _Record) -> Verdict:
    return Verdict(party.resource, party.is_drive, "; ".join(record.reasons))


def _what(entry: LoggedOperation) -> str:
    # The commands that others run end with their own, positive, numbers.
    result = os.strerror(-entry.errno) if entry.errno < 0 else f"exit status {entry.errno}"
    return f"{_NAMES[entry.cause]}: {result}"


def _tells_of_another_label(message: str) -> bool:
    try:
        return LABEL_MISMATCH in json.loads(message)
    except (TypeError, ValueError, RecursionError):
        return False
