"""One directory among four fails to sync while two-copy writes go on: acceptance by a whole daemon in this process."""

from __future__ import annotations

import errno
import signal
import socket
from collections.abc import Iterator
from functools import partial
from itertools import islice
from random import Random

import pytest
import trio

from benchmarks.books import differences
from benchmarks.harness import Site, format_media
from benchmarks.load import Ledger, Order, finishing, orders, run_load, write_all
from benchmarks.sites import Sites
from lrs_trio.daemon import EXIT_DRAINED, Daemon
from lrs_trio.machine import ThisMachine
from lrs_trio.model import Device, Family, RequestKind, ResourceId
from lrs_trio.settings_sources import load_settings
from lrs_trio.storage.directory import DirectoryStorage
from lrs_trio.storage.protocols import Unit
from tests.daemon.conftest import books_of
from tests.storage.faults import FaultyFilesystem, faulty

CLIENTS = 12
CYCLES = 240
FAILS_AT = 80


class FaultyStorage(DirectoryStorage):
    """Directories whose filesystems can be made to fail, by the path of the directory."""

    filesystems: dict[str, FaultyFilesystem]

    def unit(self, device: Device) -> Unit:
        unit, filesystem = faulty(super().unit(device))
        self.filesystems[device.path] = filesystem
        return unit


class FaultyMachine(ThisMachine):
    def directories(self, host: str, full_threshold_percent: int) -> FaultyStorage:
        return FaultyStorage(host, full_threshold_percent)


@pytest.fixture
def site_of_four(sites: Sites) -> Iterator[Site]:
    with sites.temporary(4) as made:
        yield made


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """What a service manager listens on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("")
        monkeypatch.setenv("NOTIFY_SOCKET", manager.getsockname().decode().replace("\0", "@", 1))
        yield manager


@pytest.mark.note("2.1", "2.5d", "4.4")
async def test_a_failing_sync_costs_its_releases_and_its_device_only(
    site_of_four: Site, manager: socket.socket
) -> None:
    FaultyStorage.filesystems = {}
    site = site_of_four
    failing = site.media[1]
    ledger, status = await serve_and_fail(site, failing, manager)
    books = await books_of(site)

    assert status == EXIT_DRAINED
    assert ledger.problems == []
    answered = [*ledger.acknowledged, *ledger.failed]
    assert sorted(written.order.number for written in answered) == list(range(CYCLES))
    assert ledger.failures == {(RequestKind.RELEASE_WRITE, errno.EIO): len(ledger.failed)}
    # Each client may have met the failure once; whoever asks later gets a medium that works.
    assert 1 <= len(ledger.failed) <= CLIENTS
    assert all(failing in written.media for written in ledger.failed)
    assert all(failing not in written.media for written in ledger.acknowledged if written.order.number >= FAILS_AT)
    # What was not acknowledged counts nowhere, also on the medium that was synced; the rest counts on both.
    assert differences(books.totals, ledger.totals()) == []
    device = ResourceId(Family.DIR, f"{site.host}:{failing.name}", failing.library)
    assert set(books.not_unlocked) == {failing, device}


async def serve_and_fail(site: Site, failing: ResourceId, manager: socket.socket) -> tuple[Ledger, int]:
    """Run a daemon and two-copy writes; from order number FAILS_AT on `failing` cannot be synced."""
    ledger = Ledger()
    limiter = trio.CapacityLimiter(1)
    told = trio.socket.from_stdlib_socket(manager)
    statuses: list[int] = []

    def wanted() -> Iterator[Order]:
        for order in islice(orders(Random(5), copies=[2]), CYCLES):
            if order.number == FAILS_AT:
                FaultyStorage.filesystems[failing.name].fail("sync", errno.EIO)
            yield order

    coming = wanted()
    load = partial(
        run_load,
        site.socket,
        ledger,
        CLIENTS,
        lambda client: finishing(client, write_all(client, coming)),
        seconds=60,
    )

    async def serve() -> None:
        statuses.append(await Daemon(load_settings(site.config, {}), FaultyMachine()).run())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        while b"READY=1" not in (await told.recv(4096)).splitlines():
            pass
        await trio.to_thread.run_sync(format_media, site, limiter=limiter)
        await trio.to_thread.run_sync(load, limiter=limiter)
        signal.raise_signal(signal.SIGTERM)
    return ledger, statuses[0]
