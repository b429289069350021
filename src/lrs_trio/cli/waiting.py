"""Tells a person at a terminal what an allocation waits for."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from lrs_trio.cli.output import REPORTED, counted, human_age, say
from lrs_trio.cli.site import Site
from lrs_trio.errors import describe

FIRST_S: Final = 1.0
AGAIN_S: Final = 2.0
"""When to say it first, and how often to look again. Seconds; said again only if it has changed."""


@contextmanager
def says_what_it_waits_for(site: Site, family: str) -> Iterator[None]:
    """While the block waits for our allocation, tell on a terminal what is in its way.

    The question is asked on a connection of its own, from a timer's signal handler: the block may be inside
    a blocking read, and the handler runs in the same thread, so nothing needs a lock. Nor may an error leave it: it
    would end that read, and our place in the queue with it.
    """
    if sys.stderr is None or not sys.stderr.isatty():
        yield
        return
    said, looking = "", False

    def look(*_: object) -> None:
        nonlocal said, looking
        if looking:
            return  # it is the last look, still without an answer, that the timer has interrupted
        looking = True
        try:
            with site.connect() as client:
                text = what_is_in_the_way(client.status(), family, os.getpid())
        except TimeoutError as error:
            text = f"waiting: {describe(error)}"
        except REPORTED:
            return  # the connection that waits will tell what has happened
        finally:
            looking = False
        if text and text != said:
            said = text
            say(text)

    before = signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, FIRST_S, AGAIN_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def what_is_in_the_way(report: dict[str, Any], family: str, pid: int) -> str:
    """In one line, what the request of process `pid` waits for; empty if `report` shows no such request."""
    for shown in report["families"]:
        if shown["family"] != family:
            continue
        for ahead, request in enumerate(shown["waiting"]):
            if request["pid"] == pid:
                return _describe(report, shown, ahead)
    return ""


def _describe(report: dict[str, Any], family: dict[str, Any], ahead: int) -> str:
    reasons = [f"{counted(ahead, 'request')} ahead"] if ahead else []
    reasons += [busy for device in family["devices"] if (busy := _busy(device))]
    unavailable = report["daemon"]["dss"]["unavailable_s"]
    if unavailable is not None:
        reasons.append(f"the DSS has not answered for {human_age(unavailable)}")
    return "waiting: " + ("; ".join(reasons) or "the daemon is preparing a medium")


def _busy(device: dict[str, Any]) -> str:
    slots = device["ongoing"] + device["planned"] + device["reserved"]
    if device["status"] in ("failed", "waiting"):
        why = f"{device['status']}: {device['reason']}" if device["reason"] else device["status"]
    elif slots >= device["max_concurrent_io"]:
        pids = sorted({grant["pid"] for grant in device["grants"] if grant["pid"] is not None})
        why = f"busy, {slots} of {device['max_concurrent_io']} I/Os"
        if pids:
            why += f" by pid {', '.join(map(str, pids[:4]))}{'...' if len(pids) > 4 else ''}"
    elif device["reserved_bytes"] >= device["free"] > 0:
        why = "all free space is reserved"
    else:
        return ""
    return f"{device['path']} {why}"
