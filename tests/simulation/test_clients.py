"""The honest clients of a run, with the real daemon."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio

from lrs_trio.client.asynchronous import open_client_on
from lrs_trio.model import FsStatus
from lrs_trio.simulation.clients.crowd import Crowd
from lrs_trio.simulation.faults import FaultKind
from lrs_trio.simulation.oracles.ledger import Ledger
from lrs_trio.simulation.scenario import HOUR, Scenario
from tests.simulation.hosts import Host, host_of, run_patiently, scenario_with

DEATHS = (
    FaultKind.CLIENT_KILLED_ASKING,
    FaultKind.CLIENT_KILLED_WAITING,
    FaultKind.CLIENT_KILLED_GRANTED,
    FaultKind.CLIENT_KILLED_IN_IO,
    FaultKind.CLIENT_KILLED_RELEASING,
    FaultKind.CLIENT_KILLED_SYNCING,
)

EVERYTHING = {
    "WriteAllocation",
    "ReadAllocation",
    "Release",
    "Format",
    "Notify",
    "Ping",
    "Status",
    "Monitor",
    "Stat",
    "Configure",
}

Main = Callable[[Host, Crowd], Awaitable[None]]


def crowd_of(scenario: Scenario, main: Main) -> Ledger:
    """Run `main` on a host of `scenario` without a daemon; nothing may be found to be wrong in the end."""

    async def run() -> Ledger:
        async with host_of(scenario) as host:
            ledger = Ledger(host.world, host.site.content_at, host.site.dss.committed_of)
            host.site.dss.observers.append(ledger.observe)
            await main(host, Crowd(host.site, scenario, ledger))
            for medium in host.site.dss.read().media:
                ledger.check_books(medium)
            assert host.violations == []
            return ledger

    return run_patiently(run)


async def held(host: Host) -> int:
    """The grants that the daemon knows of, and the requests that wait."""
    async with open_client_on(await host.site.network.connect("somebody")) as client:
        report = await client.status()
    return sum(
        len(family["waiting"]) + sum(len(device["grants"]) for device in family["devices"])
        for family in report["families"]
    )


@pytest.mark.parametrize("tapes", [False, True])
def test_all_requests_are_made_in_about_the_time_that_they_should_take(*, tapes: bool) -> None:
    async def main(host: Host, crowd: Crowd) -> None:
        async with host.daemon():
            await crowd.run()
            assert crowd.done == 100
            # What the last one has said, and that it has gone, is still on its way.
            await trio.sleep(1)
            assert await held(host) == 0
        assert 0.5 * HOUR < trio.current_time() < 10 * HOUR
        stored = [row.medium.stats.nb_obj for row in host.site.dss.read().media.values()]
        assert sum(stored) > 20

    crowd_of(scenario_with(tapes=tapes, requests=100, hours=2.0), main)


def test_they_ask_for_everything_that_there_is() -> None:
    async def main(host: Host, crowd: Crowd) -> None:
        async with host.daemon():
            await crowd.run()
        assert crowd.errors.total() < 60
        blank = [row for row in host.site.dss.read().media.values() if row.medium.fs_status is FsStatus.BLANK]
        assert not blank

    ledger = crowd_of(scenario_with(requests=600, hours=2.0, clients=8), main)
    assert set(ledger.requests) >= EVERYTHING
    assert ledger.acknowledged > 150


def test_the_same_seed_makes_the_same_run() -> None:
    digests = []

    async def main(host: Host, crowd: Crowd) -> None:
        async with host.daemon():
            await crowd.run()
        digests.append(host.world.trace.digest)

    for _ in range(2):
        crowd_of(scenario_with(requests=60, rates=dict.fromkeys(DEATHS, 0.05)), main)
    assert digests[0] == digests[1]


@pytest.mark.parametrize("kind", DEATHS)
def test_another_process_goes_on_where_one_has_died(kind: FaultKind) -> None:
    async def main(host: Host, crowd: Crowd) -> None:
        async with host.daemon():
            await crowd.run()
            assert crowd.done == 60
            assert host.hits[kind] >= 3
            await trio.sleep(1)
            assert await held(host) == 0

    crowd_of(scenario_with(requests=60, hours=0.5, rates={kind: 0.2}), main)


def test_nothing_new_is_asked_for_after_the_end() -> None:
    async def main(host: Host, crowd: Crowd) -> None:
        async with host.daemon():
            with trio.fail_after(3 * HOUR):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(crowd.run)
                    await trio.sleep(HOUR)
                    before = crowd.done
                    crowd.finish()
            assert 0 < before <= crowd.done < before + 10
            assert await held(host) == 0

    crowd_of(scenario_with(requests=1000, hours=10.0), main)


def test_clients_come_back_to_a_daemon_that_was_away() -> None:
    async def main(host: Host, crowd: Crowd) -> None:
        served = 0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(crowd.run)
            for _ in range(15):
                await trio.sleep(100)
                before = crowd.done
                async with host.daemon():
                    await trio.sleep(100)
                served += crowd.done > before
        assert crowd.done == 80
        assert served > 2

    crowd_of(scenario_with(requests=80, hours=0.25), main)


def test_who_hurries_makes_all_that_is_left_at_once() -> None:
    async def main(host: Host, crowd: Crowd) -> None:
        async with host.daemon():
            with trio.fail_after(4 * HOUR):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(crowd.run)
                    await trio.sleep(HOUR)
                    assert crowd.done < 60
                    crowd.hurry()
            assert crowd.done == 100

    crowd_of(scenario_with(requests=100, hours=10.0), main)


def test_it_is_noticed_that_the_failure_of_a_client_is_not_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its release says that all went well, so the daemon answers so."""
    monkeypatch.setattr("lrs_trio.simulation.clients.client_process.BOTCHED", 1.0)
    monkeypatch.setattr("lrs_trio.simulation.clients.client_process.replace", lambda whole, **changes: whole)

    async def main(host: Host, crowd: Crowd) -> None:
        async with host.daemon():
            await crowd.run()
        assert any("as if all were well" in violation for violation in host.violations)
        host.violations.clear()

    crowd_of(scenario_with(), main)
