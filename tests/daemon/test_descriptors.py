"""A real daemon whose file descriptors are used up by its clients."""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from time import monotonic, sleep
from typing import Any

import pytest

from benchmarks.harness import ANSWER_S, Lrsd, Site, format_media, temporary_site
from benchmarks.harness import running as lrsd_on
from lrs_trio.client import Client, connect
from lrs_trio.log_flood import LINES
from lrs_trio.server.descriptors import room_for_connections
from lrs_trio.server.server import KEPT_PLACES
from lrs_trio.wire.messages import Ping, Request, WriteGranted
from tests.daemon.conftest import LOOK_AGAIN_S, frames, media_of, release, write

FEW = 64
BEYOND = 100


@pytest.fixture
def site() -> Iterator[Site]:
    with temporary_site(2) as made:
        yield made


def in_use(daemon: Lrsd) -> int:
    return len(os.listdir(f"/proc/{daemon.pid}/fd"))


def limit(daemon: Lrsd, descriptors: int) -> None:
    hard = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)[1]
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (descriptors, hard))


def write_cycle(client: Client) -> None:
    granted = client.request(write())
    assert isinstance(granted, WriteGranted)
    client.request(release(*media_of(granted)))


def crowd(site: Site, stack: ExitStack, count: int) -> list[socket.socket]:
    made = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(count)]
    for connection in made:
        connection.settimeout(ANSWER_S)
        connection.connect(str(site.socket))
    return made


def is_served(connection: socket.socket) -> bool:
    """Whether the daemon answers, rather than having closed the connection."""
    try:
        connection.sendall(frames(Request(1, Ping())))
        return connection.recv(100) != b""
    except ConnectionError:
        return False


def until_closed(daemon: Lrsd, descriptors: int) -> None:
    """Wait until the daemon has no more than so many, because it has noticed who has left."""
    ends = monotonic() + ANSWER_S
    while in_use(daemon) > descriptors:
        assert monotonic() < ends
        sleep(LOOK_AGAIN_S)


def log_lines(site: Site) -> list[dict[str, Any]]:
    return [json.loads(line) for line in site.log.read_text().splitlines()]


@pytest.mark.parametrize("left", [FEW, 0])
def test_clients_beyond_the_limit_are_closed_and_the_others_are_served(site: Site, left: int) -> None:
    with lrsd_on(site) as daemon, ExitStack() as stack:
        format_media(site)
        honest = stack.enter_context(connect(site.socket))
        write_cycle(honest)
        before = in_use(daemon)
        limit(daemon, before + left)
        # For the daemon's own user, who we are, some more places are kept; but not of those that there are not.
        room = room_for_connections(before + left) + KEPT_PLACES - before if left else 0
        clients = crowd(site, stack, room + BEYOND)
        assert [connection for connection in clients if is_served(connection)] == clients[:room]
        write_cycle(honest)
        for connection in clients:
            connection.close()
        until_closed(daemon, before)
        limit(daemon, before + FEW)
        assert all(map(is_served, crowd(site, stack, room or 1)))
        write_cycle(honest)
        daemon.terminate()
        assert daemon.wait() == 0
    refused = [line for line in log_lines(site) if "connection refused" in line["event"]]
    # A few lines tell of many, and each of them names who it was.
    assert len(refused) == LINES
    assert {line["client"] for line in refused} == {f"pid {os.getpid()}, uid {os.getuid()}"}
    (told,) = [line["left_out"] for line in log_lines(site) if "left_out" in line]
    assert told == f"{BEYOND - LINES} of '{refused[0]['event']}'"


def test_a_limit_that_leaves_too_few_for_the_settings_is_told(site: Site) -> None:
    limited = ["sh", "-c", f'ulimit -n {FEW}; exec "$@"', "sh"]
    # It ends at once, for another reason.
    command = [sys.executable, "-m", "lrs_trio.cli.lrsd", f"--config={site.config}", "--set=dss.url=sqlite:///no/dss"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        limited + command, env=environment, check=False, capture_output=True, text=True, timeout=ANSWER_S
    )
    told, _ = map(json.loads, done.stderr.splitlines())
    assert "LimitNOFILE=" in told["event"]
    assert (told["limit"], told["possible"], told["max_connections"]) == (FEW, room_for_connections(FEW), 10_000)
