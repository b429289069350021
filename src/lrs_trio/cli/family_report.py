"""What the daemon says of one family, for people: its devices, what waits, its I/O, and whom it suspects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import click

from lrs_trio.cli.output import counted, human_age, print_table
from lrs_trio.devices.life import DeviceStatus
from lrs_trio.model import Family
from lrs_trio.sizes import human_size

OUT_OF_SERVICE = frozenset({DeviceStatus.FAILED.value, DeviceStatus.QUARANTINED.value})

Report = dict[str, Any]
"""A part of the daemon's own report, as it came: sizes are bytes, ages seconds."""


MOST_ROWS = 60
"""How many rows of a table are printed unless all are asked for: more than that nobody reads."""


def print_family(family: Report, *, everything: bool = False) -> None:
    """A family's devices, and where there are any, its suspects, its waiting requests and its I/O.

    Of very many only the first are printed, unless `everything` is asked for: of devices those that are out of order
    or have something to do. Of grants the oldest are, whatever else of their devices is.
    """
    devices = family["devices"]
    if not everything and len(devices) > MOST_ROWS:
        _print_counts(devices)
        devices = sorted(devices, key=_interest)[:MOST_ROWS]
    if family["family"] == Family.TAPE.label:
        drives = by_address(devices)
        print_drives(drives, f"family tape: {_queues(family['queued'])}, {_media(family)}")
        _print_times(drives)
        _print_sync_costs(drives)
        _print_suspects(family.get("suspects", []))
    else:
        _print_directories(devices, f"family {family['family']}: {_queues(family['queued'])}, {_space(family)}")
    most = None if everything else MOST_ROWS
    _print_waiting(family["waiting"][:most], family.get("unanswered", len(family["waiting"])))
    _print_grants(family["devices"], most, family.get("grants_left_out", 0))


def by_address(devices: Iterable[Report]) -> list[Report]:
    """Drives in the order in which they stand in their library."""
    return sorted(devices, key=lambda device: (device["library"], device.get("address", 0), device["name"]))


def print_drives(drives: Iterable[Report], title: str = "") -> None:
    print_table(
        [
            "drive",
            "serial",
            "library",
            "status",
            "for",
            "medium",
            "filesystem",
            "I/O",
            "planned",
            "serves",
            "to sync",
            "free",
            "remark",
        ],
        map(_drive_cells, drives),
        right=frozenset({"for", "I/O", "planned", "free"}),
        title=title,
    )


def _print_directories(devices: Iterable[Report], title: str) -> None:
    print_table(
        ["device", "library", "status", "medium", "filesystem", "I/O", "planned", "to sync", "free", "remark"],
        map(_directory_cells, devices),
        right=frozenset({"I/O", "planned", "free"}),
        title=title,
    )


def _print_times(drives: Sequence[Report]) -> None:
    """How long each drive has been what, as far as the daemon tells it."""
    statuses = [status.value for status in DeviceStatus if any(status.value in d.get("times", {}) for d in drives)]
    if statuses:
        click.echo()
        print_table(
            ["drive", *statuses],
            [[drive["path"], *(_time(drive.get("times", {}).get(status)) for status in statuses)] for drive in drives],
            right=frozenset(statuses),
            title="time in each status",
        )


def _print_sync_costs(drives: Iterable[Report]) -> None:
    """How long a sync of each tape in a drive takes, where that is known."""
    known = [(drive, cost) for drive in drives if (cost := drive.get("sync_cost"))]
    if known:
        click.echo()
        print_table(
            ["drive", "medium", "at least", "per file on it", "syncs"],
            [
                [
                    drive["path"],
                    drive["medium"] or "none",
                    f"{cost['base_s']:.1f} s",
                    f"{1000 * cost['per_file_s']:.2f} ms",
                    str(cost["syncs"]),
                ]
                for drive, cost in known
            ],
            right=frozenset({"at least", "per file on it", "syncs"}),
            title="what a sync takes",
        )


def _print_suspects(suspects: Sequence[Report]) -> None:
    if suspects:
        click.echo()
        print_table(
            ["drive", "medium", "what"],
            [[str(suspect.get(key) or "-") for key in ("drive", "medium", "what")] for suspect in suspects],
            title=counted(len(suspects), "suspect"),
        )


def _interest(device: Report) -> tuple[bool, bool, bool]:
    """Sorts first what is out of order, then what has something to do."""
    busy = device["ongoing"] or device["planned"] or device["to_sync"]["requests"]
    return device["status"] not in OUT_OF_SERVICE, not any(_remarks(device)), not busy


def _print_counts(devices: Sequence[Report]) -> None:
    """What very many devices are, in one line."""
    statuses = Counter(device["status"] for device in devices)
    ongoing, planned = (sum(device[what] for device in devices) for what in ("ongoing", "planned"))
    parts = ", ".join(f"{count} {status}" for status, count in statuses.most_common())
    click.echo(
        f"{counted(len(devices), 'device')} ({parts}), {ongoing} I/O, {planned} planned; {MOST_ROWS} of them follow,"
        " --all shows all"
    )


def _print_waiting(waiting: Sequence[Report], unanswered: int) -> None:
    if waiting:
        click.echo()
        print_table(
            ["request", "state", "client", "pid", "uid", "age"],
            [[w["kind"], w.get("state", ""), *_client(w), human_age(w["age_s"])] for w in waiting],
            right=frozenset({"age"}),
            title=counted(unanswered, "request") + " without an answer yet" + _shown(len(waiting), unanswered),
        )


def _shown(rows: int, count: int) -> str:
    return "" if rows == count else f", the oldest {rows}"


def _print_grants(devices: Iterable[Report], most: int | None, left_out: int) -> None:
    """The oldest grants, at `most` so many; the daemon has already `left_out` some."""
    grants = [(device, grant) for device in devices for grant in device["grants"]]
    count = len(grants) + left_out
    if most is not None and len(grants) > most:
        grants = sorted(grants, key=lambda held: -held[1]["age_s"])[:most]
    if grants:
        click.echo()
        print_table(
            ["medium", "I/O", "state", "client", "pid", "uid", "age"],
            [_grant_cells(device, grant) for device, grant in grants],
            right=frozenset({"age"}),
            title=counted(count, "grant") + _shown(len(grants), count),
        )


def _space(family: Report) -> str:
    """Directories of one filesystem share its space, which counts once."""
    return f"{human_size(family['free'])} free on {counted(family['volumes'], 'filesystem')}"


def _media(family: Report) -> str:
    """The space that writes can count on, and where the media are."""
    media = family["media"]
    free = f"{human_size(family['free'])} free on {counted(family['volumes'], 'writable medium', 'writable media')}"
    return f"{free}; {media['drives']} in drives, {media['shelf']} on the shelf"


def _queues(queued: Report) -> str:
    parts = [f"{count} {kind}" for kind, count in queued.items() if count]
    return ", ".join(parts) + " queued" if parts else "no request queued"


def _directory_cells(device: Report) -> list[str]:
    medium_status = device.get("medium_adm_status") or ""
    return [
        device["path"],
        device["library"],
        device["status"],
        medium_status if device["medium"] else "none",
        device["fs_status"] or "",
        _io(device),
        str(device["planned"]),
        _to_sync(device),
        human_size(device["free"]) if device["medium"] else "",
        "; ".join(_remarks(device)),
    ]


def _drive_cells(drive: Report) -> list[str]:
    since = drive.get("since_s")
    return [
        drive["path"],
        drive["name"],
        drive["library"],
        drive["status"],
        _time(since),
        drive["medium"] or "none",
        drive["fs_status"] or "",
        _io(drive),
        str(drive["planned"]),
        drive.get("dedicated_to") or "-",
        _to_sync(drive),
        human_size(drive["free"]) if drive["medium"] else "",
        "; ".join(_drive_remarks(drive)),
    ]


def _time(seconds: float | None) -> str:
    return "-" if seconds is None else human_age(seconds)


def _io(device: Report) -> str:
    io = f"{device['ongoing']}/{device['max_concurrent_io']}"
    return f"{io}+{device['reserved']}" if device["reserved"] else io


def _to_sync(device: Report) -> str:
    to_sync = device["to_sync"]
    waiting = "-"
    if to_sync["requests"]:
        waiting = f"{counted(to_sync['requests'], 'release')}, {human_size(to_sync['bytes'])}"
    if to_sync["age_s"] is not None:
        waiting += f", {human_age(to_sync['age_s'])} old"
    return waiting


def _drive_remarks(drive: Report) -> Iterator[str]:
    """A tape that is out of service does not show in the status of its drive."""
    medium_status = drive.get("medium_adm_status")
    if drive["medium"] and medium_status != "unlocked":
        yield f"{medium_status} medium"
    yield from _remarks(drive)


def _remarks(device: Report) -> Iterator[str]:
    if device.get("stopping") and device["status"] not in OUT_OF_SERVICE:
        yield "stopping"
    if device["syncing"]:
        yield "syncing"
    if device["reserved_bytes"]:
        yield f"{human_size(device['reserved_bytes'])} reserved"
    if device["reason"]:
        yield str(device["reason"])


def _grant_cells(device: Report, grant: Report) -> list[str]:
    return [
        grant.get("medium") or device["medium"] or device["path"],
        grant["kind"],
        grant["state"],
        *_client(grant),
        human_age(grant["age_s"]),
    ]


def _client(entry: Report) -> tuple[str, str, str]:
    pid, uid = ("-" if entry[key] is None else str(entry[key]) for key in ("pid", "uid"))
    return str(entry["client"]), pid, uid
