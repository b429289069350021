"""A process that runs cases: it takes one per line of its standard input, and answers each with a line.

``python -m lrs_trio.simulation.suite.worker``; both are JSON. It ends when nothing more can come.
"""

from __future__ import annotations

import gc
import signal
import sys

from pydantic import TypeAdapter

from lrs_trio.logs import configure_logging
from lrs_trio.simulation.suite.case import Case
from lrs_trio.simulation.suite.result import Result
from lrs_trio.simulation.suite.running import run_case

COLLECT_AFTER = (100_000, 50, 100)
"""New objects between two collections of the youngest, and how many of these make one of the older ones."""

CASE = TypeAdapter(Case)
RESULT = TypeAdapter(Result)


def main() -> None:
    # Whoever has started us decides what an interruption means; the terminal sends it to both.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    configure_logging("off", "json", sys.stderr)
    # A run makes much that lives as long as itself: looking through it less often saves a tenth of the time.
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)
    # Nothing but answers may be there, whatever else writes.
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        answers.write(RESULT.dump_json(run_case(CASE.validate_json(line))).decode() + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
