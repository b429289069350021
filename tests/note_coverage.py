"""Lists the design-note items with the tests that hold them: ``python -m tests.note_coverage``.

A test names the items that it holds: ``@pytest.mark.note("2.4")``. An item without a test, and a test that
names an item which does not exist, are errors.
"""

from __future__ import annotations

import io
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout

import pytest

ITEMS = {
    "0": "a request belongs to its connection, never to a descriptor or a token",
    "1": "to_sync per medium; no response without it; size 0 still syncs",
    "2.1": "what a release holds per medium; a medium that is not there is an error",
    "2.2": "one response channel per client",
    "2.3": "a device has something to sync, beside what is ongoing",
    "2.4": "a device's to-sync set: age of the oldest, total size, count",
    "2.5a": "receive, releases before allocations",
    "2.5b": "a release enters the to-sync set of its devices",
    "2.5c": "a threshold that is reached makes the sync due",
    "2.5d": "one sync serves every waiting release; each gets its error once; sizes taken back",
    "2.5e": "responses leave through the response channel",
    "2.5f": "an allocation finds no device that has I/O or a due sync; sync before unmount",
    "3.0": "threshold: age",
    "3.1": "threshold: number of releases",
    "3.2": "threshold: size written",
    "4.1": "one task per device, also for a device that comes later",
    "4.2": "what threads would lock has one owner each",
    "4.3": "shared state changes between two checkpoints, never across one",
    "4.4": "the device syncs: cancelled ones dropped, errors caught up with, sync before unmount",
    "4.5": "the device decides when a sync is due",
    "4.6": "exact wake-ups, none when idle",
    "5.1": "a format knows its device and its state: todo, done, error, cancelled",
    "5.2": "each device has a queue of scheduled requests",
    "5.3": "format runs in the device's task, one action at a time, leaving room for a sync",
    "6": "read allocation in the device's task, answered when the last medium is ready",
    "7": "write allocation in the device's task, answered when the last medium is ready",
    "8": "several I/Os per device up to a maximum; reads and writes mixed only where allowed",
    "9": "planned becomes ongoing when the response leaves",
    "10.1": "requests reach the schedulers through channels",
    "10.2": "one scheduler per family",
    "10.3": "a scheduler starts and ends cleanly",
    "10.4": "communication reads and answers, scheduling decides, neither waits for the other",
    "11": "ordered drain; the second signal and the deadline force it",
}


class NoteCoverage:
    """A pytest plugin that remembers which collected test names which items."""

    def __init__(self) -> None:
        self.named: list[tuple[str, str]] = []
        """(item, test), in the order of the tests."""

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for test in items:
            for mark in test.iter_markers("note"):
                self.named += [(str(name), test.nodeid) for name in mark.args or ("",)]


def without_cases(node_ids: Sequence[str]) -> Iterator[str]:
    """Each test once, with the number of its parametrized cases."""
    for test, cases in Counter(re.sub(r"\[.*\]$", "", node_id, flags=re.DOTALL) for node_id in node_ids).items():
        yield f"{test} ({cases} cases)" if cases > 1 else test


def main(arguments: Sequence[str]) -> int:
    """Collect the tests in `arguments`, print item -> tests, return the exit status."""
    coverage = NoteCoverage()
    with redirect_stdout(io.StringIO()) as said:
        status = pytest.main(["--collect-only", "-q", *arguments], plugins=[coverage])
    if status != pytest.ExitCode.OK:
        print(said.getvalue(), file=sys.stderr)
        print("the tests could not be collected", file=sys.stderr)
        return 1
    empty = []
    for item, title in ITEMS.items():
        tests = list(without_cases([test for name, test in coverage.named if name == item]))
        print(f"{item:5} {title}")
        for test in tests:
            print(f"      {test}")
        if not tests:
            print("      NO TEST")
            empty.append(item)
    unknown = [f"{test} names item {name!r}" for name, test in coverage.named if name not in ITEMS]
    for line in unknown:
        print(f"unknown item: {line}", file=sys.stderr)
    if empty:
        print(f"items without a test: {', '.join(empty)}", file=sys.stderr)
    return 1 if empty or unknown else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
