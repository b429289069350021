"""What must be true of a daemon after an attack, whatever the attack was."""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic, sleep
from typing import Any, Final

from benchmarks.harness import Lrsd
from lrs_trio.client import Client

SETTLE_S: Final = 20.0
"""How long the daemon may take to clear away what clients have left that are gone. Seconds."""

LOOK_AGAIN_S: Final = 0.05


def taken(report: Mapping[str, Any]) -> list[str]:
    """Every sign in the report that somebody holds something or waits for it."""
    signs = []
    for family in report["families"]:
        signs += [f"{count} queued ({kind})" for kind, count in family["queued"].items() if count]
        for device in family["devices"]:
            figures = ("planned", "ongoing", "reserved", "reserved_bytes", "grants", "syncing")
            signs += [f"{device['name']}: {name} {device[name]}" for name in figures if device[name]]
    return signs


def pids_of_grants(report: Mapping[str, Any]) -> set[int]:
    """The processes that the report names as holders of grants."""
    devices = [device for family in report["families"] for device in family["devices"]]
    return {grant["pid"] for device in devices for grant in device["grants"]}


def wrong_after_attack(daemon: Lrsd, observer: Client) -> list[str]:
    """What the daemon has not cleared away, or that it has ended. `observer` was connected before."""
    ends = monotonic() + SETTLE_S
    while daemon.status() is None:
        report = observer.status()
        signs = taken(report)
        if report["connections"] != 1:
            signs.append(f"{report['connections']} connections, and the observer's is the only one")
        if not signs or monotonic() >= ends:
            return [f"left by clients that are gone: {sign}" for sign in signs]
        sleep(LOOK_AGAIN_S)
    return [f"the daemon ended with {daemon.status()}{daemon.said()}"]
