"""What a real daemon costs at size: its start, its memory, its reports, and pings beside thousands of connections."""

from __future__ import annotations

import json
import resource
import socket
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from time import perf_counter, sleep
from typing import Final, TypeVar

import tomli_w

from benchmarks.harness import LIBRARY, Lrsd, Site, administer, ask, running
from benchmarks.percentiles import percentile
from benchmarks.sites import Sites
from lrs_trio.dss.operations import AddMedia
from lrs_trio.model import AdmStatus, Family, FsStatus, FsType, Medium, MediumStats, ResourceId
from lrs_trio.wire.codec import encode_request
from lrs_trio.wire.framing import FrameDecoder, encode_frame
from lrs_trio.wire.messages import (
    Format,
    Ping,
    ReadAllocation,
    Request,
    RequestBody,
    ResponseBody,
    Stat,
    Statistics,
    Status,
    StatusReport,
)

T = TypeVar("T", bound=ResponseBody)

REQUESTS_PER_CONNECTION: Final = 1000
"""The daemon takes 1,024 of one connection before it refuses more."""
MOST_IO: Final = 8
"""So many requests for one directory are not made to wait."""
MOST_CONNECTIONS: Final = 15_000
SETTLE_S: Final = 2.0
PINGS: Final = 300
REPORTS: Final = 10
DESCRIPTORS_BESIDE: Final = 200
"""What this process has open beside its connections."""


@dataclass(frozen=True, slots=True)
class Growth:
    """What so many things of one kind add to the daemon's resident memory."""

    what: str
    count: int
    added_bytes: int

    def __str__(self) -> str:
        each = self.added_bytes / max(self.count, 1)
        return f"{self.count:7} {self.what:12} {self.added_bytes / 2**20:8.1f} MiB, {each:8.0f} bytes each"


def measure_start(sites: Sites, directories: int, tapes: int = 0) -> tuple[float, int]:
    """Seconds until a daemon on so many labelled directories and known tapes is ready, and its resident bytes then."""
    with _site(sites, directories, tapes) as site:
        if directories:
            with running(site) as daemon:
                _label(site)
                _end(daemon)
        began = perf_counter()
        with running(site) as daemon:
            took = perf_counter() - began
            sleep(SETTLE_S)
            found = took, daemon.resident_bytes()
            _end(daemon)
        return found


def measure_crowd(sites: Sites, directories: int, connections: int, requests: int) -> Iterator[str]:
    """Fill a daemon with idle connections, then with requests that wait, and ask it for pings and reports.

    Yields one line for each figure.
    """
    with _site(sites, directories, 0) as site, running(site) as daemon, ExitStack() as held:
        _label(site)
        idle = min(connections, _descriptors() - DESCRIPTORS_BESIDE - requests // REQUESTS_PER_CONNECTION)
        before = daemon.resident_bytes()
        yield f"ping without a crowd: {_shown(_pings(site))}"
        began = perf_counter()
        for _ in range(idle):
            _connect(site, held)
        took = perf_counter() - began
        yield f"{idle} connections opened in {took:.2f} s, {idle / took:.0f}/s"
        sleep(SETTLE_S)
        crowded = daemon.resident_bytes()
        yield str(Growth("connections", idle, crowded - before))
        yield f"ping beside {idle} idle connections: {_shown(_pings(site))}"
        _fill(site, held, requests)
        sleep(SETTLE_S)
        yield str(Growth("requests", requests, daemon.resident_bytes() - crowded))
        yield f"ping beside {requests} requests that wait: {_shown(_pings(site))}"
        size = f"{directories} devices and {requests} requests"
        times, status = _reports(site, Status(), StatusReport)
        yield (
            f"status with {size}: {_shown(times)}, {len(status.status)} bytes,"
            f" {json.loads(status.status)['families'][0]['queued']['read']} reads are queued"
        )
        times, statistics = _reports(site, Stat(), Statistics)
        yield f"stat with {size}: {_shown(times)}, {len(statistics.stats)} bytes"


@contextmanager
def _site(sites: Sites, directories: int, tapes: int) -> Iterator[Site]:
    families = {"dir": {"enabled": directories > 0}, "tape": {"enabled": tapes > 0}}
    with sites.temporary(directories, families=families) as site:
        settings = tomllib.loads(site.config.read_text())
        settings["server"]["max_connections"] = MOST_CONNECTIONS
        site.config.write_text(tomli_w.dumps(settings))
        for begin in range(0, tapes, 1000):
            administer(site, AddMedia(tuple(_tape(number) for number in range(begin, min(begin + 1000, tapes)))))
        yield site


def _tape(number: int) -> Medium:
    return Medium(
        ResourceId(Family.TAPE, f"P{number:05}L8", LIBRARY),
        FsType.LTFS,
        AdmStatus.UNLOCKED,
        FsStatus.USED,
        f"P{number:05}L8",
        model="LTO8",
        stats=MediumStats(nb_obj=number, phys_spc_free=12 * 2**40),
    )


def _label(site: Site) -> None:
    """Format all directories, many at once."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(60)
        connection.connect(str(site.socket))
        for begin in range(0, len(site.media), REQUESTS_PER_CONNECTION):
            media = site.media[begin : begin + REQUESTS_PER_CONNECTION]
            frames = [encode_frame(encode_request(Request(1, Format(m, FsType.POSIX, unlock=True)))) for m in media]
            connection.sendall(b"".join(frames))
            _read_answers(connection, len(media))


def _read_answers(connection: socket.socket, count: int) -> None:
    decoder = FrameDecoder()
    while count > 0:
        data = connection.recv(65536)
        if not data:
            raise RuntimeError("the daemon has closed the connection")
        count -= sum(1 for _ in decoder.feed(data))


def _connect(site: Site, held: ExitStack) -> socket.socket:
    connection = held.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
    connection.connect(str(site.socket))
    return connection


def _fill(site: Site, held: ExitStack, requests: int) -> None:
    """Let so many reads wait for one medium: the first ones hold it."""
    frame = encode_frame(encode_request(Request(1, ReadAllocation(1, site.media[:1]))))
    left = requests
    while left > 0:
        count = min(left, REQUESTS_PER_CONNECTION)
        _connect(site, held).sendall(frame * count)
        left -= count
    while _queued(site) < requests - MOST_IO:
        sleep(SETTLE_S)


def _queued(site: Site) -> int:
    family = json.loads(ask(site.socket, Status(), StatusReport).status)["families"][0]
    return int(family["queued"]["read"])


def _pings(site: Site) -> list[float]:
    """Seconds from a ping to its answer, one after the other."""
    frame, times = encode_frame(encode_request(Request(1, Ping()))), []
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(str(site.socket))
        for _ in range(PINGS):
            began = perf_counter()
            connection.sendall(frame)
            _read_answers(connection, 1)
            times.append(perf_counter() - began)
    return times


def _reports(site: Site, body: RequestBody, expected: type[T]) -> tuple[list[float], T]:
    """Seconds from a question to its answer, each on a connection of its own, and the last answer."""
    found = [_report(site, body, expected) for _ in range(REPORTS)]
    return [seconds for seconds, _ in found], found[-1][1]


def _report(site: Site, body: RequestBody, expected: type[T]) -> tuple[float, T]:
    began = perf_counter()
    answer = ask(site.socket, body, expected)
    return perf_counter() - began, answer


def _end(daemon: Lrsd) -> None:
    daemon.terminate()
    daemon.wait()


def _descriptors() -> int:
    """How many this process may open, after asking for as many as it may."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def _shown(times: list[float]) -> str:
    p50, p99, most = (1000 * percentile(times, percent) for percent in (50, 99, 100))
    return f"p50 {p50:.2f} ms, p99 {p99:.2f} ms, max {most:.2f} ms"
