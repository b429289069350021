"""A process of its own that commits numbers to the DSS given and says each one when it is committed."""

from __future__ import annotations

import sys

from lrs_trio.dss.operations import AppendLog, LogEntry, MediumUpdate, UpdateMedia
from lrs_trio.dss.sqlite import SqliteHome
from lrs_trio.model import Family, ResourceId


def main(path: str, name: str, count: int) -> None:
    medium = ResourceId(Family.DIR, name, "legacy")
    with SqliteHome.open(path) as home:
        for number in range(1, count + 1):
            home.commit(
                [
                    UpdateMedia((MediumUpdate(medium, add_objects=1),)),
                    AppendLog(LogEntry(medium, name, -number, "LTFS sync", "{}")),
                ]
            )
            sys.stdout.write(f"{number}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
