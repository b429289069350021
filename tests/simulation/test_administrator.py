"""The person who looks after a simulated host, with the real daemon."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio

from lrs_trio.client.asynchronous import open_client_on
from lrs_trio.client.common import held_by, write_body
from lrs_trio.dss.operations import MediumUpdate, SetDeviceStatus, UpdateMedia
from lrs_trio.errors import LrsError
from lrs_trio.model import AdmStatus, FsStatus, ResourceId
from lrs_trio.simulation.clients.administrator import Administrator
from lrs_trio.simulation.faults import FaultKind
from lrs_trio.simulation.oracles.ledger import Ledger
from lrs_trio.simulation.scenario import HOUR, Scenario
from tests.simulation.hosts import Host, host_of, run_patiently, scenario_with

MEDDLING = {FaultKind.DEVICE_LOCKED, FaultKind.MEDIUM_CHANGED, FaultKind.MEDIUM_DELETED}

Main = Callable[[Host, Administrator], Awaitable[None]]


def administer(scenario: Scenario, main: Main, *, serves: bool = True) -> None:
    """Run `main` on a host of `scenario`, with a daemon if it `serves`; nothing may be found to be wrong."""

    async def run() -> None:
        async with host_of(scenario) as host:
            ledger = Ledger(host.world, host.site.content_at, host.site.dss.committed_of)
            administrator = Administrator(host.site, scenario, ledger)
            if serves:
                async with host.daemon():
                    await trio.sleep(1)
                    await main(host, administrator)
            else:
                await main(host, administrator)
            assert host.violations == []

    run_patiently(run)


def out_of_service(host: Host) -> set[ResourceId]:
    """What cannot be used, apart from media that have no filesystem yet."""
    content = host.site.dss.read()
    media = {
        row.medium.id
        for row in content.media.values()
        if row.medium.fs_status is not FsStatus.BLANK
        and (row.medium.adm_status, row.medium.tags, row.medium.put, row.medium.get, row.medium.delete)
        != (AdmStatus.UNLOCKED, (), True, True, True)
    }
    return media | {id_ for id_, row in content.devices.items() if row.device.adm_status is not AdmStatus.UNLOCKED}


def break_everything(host: Host) -> None:
    content = host.site.dss.read()
    host.site.dss.administer(
        *(SetDeviceStatus(device, AdmStatus.FAILED) for device in content.devices),
        *(
            UpdateMedia((MediumUpdate(medium, adm_status=AdmStatus.FAILED, put=False, tags=("blue",)),))
            for medium in content.media
        ),
    )


async def can_write(host: Host) -> bool:
    """Whether somebody gets a medium to write to."""
    family = next(iter(host.site.dss.read().media)).family
    stream = await host.site.network.connect("somebody")
    try:
        async with open_client_on(stream) as client, client.write(1, family=family):
            pass
    except LrsError:
        return False
    return True


@pytest.mark.parametrize("tapes", [False, True])
@pytest.mark.parametrize("serves", [False, True])
def test_in_time_everything_is_meddled_with_that_there_is(*, tapes: bool, serves: bool) -> None:
    async def main(host: Host, administrator: Administrator) -> None:
        with trio.move_on_after(10 * HOUR):
            await administrator.run()
        assert set(host.hits) >= MEDDLING
        await administrator.repair_everything()
        assert out_of_service(host) == set()

    administer(scenario_with(tapes=tapes, hours=10.0), main, serves=serves)


@pytest.mark.parametrize("tapes", [False, True])
def test_whoever_holds_something_for_long_loses_it_in_time(*, tapes: bool) -> None:
    async def main(host: Host, administrator: Administrator) -> None:
        family = next(iter(host.site.dss.read().media)).family
        async with open_client_on(await host.site.network.connect("somebody")) as client:
            held = held_by(await client.request(write_body(1, family=family)))
            with trio.move_on_after(10 * HOUR):
                await administrator.run()
            assert host.hits[FaultKind.GRANT_REVOKED]
            with pytest.raises(LrsError):
                await client.request(held.finish())

    administer(scenario_with(tapes=tapes, hours=10.0), main)


def test_what_has_failed_is_put_back_into_service_in_time() -> None:
    async def main(host: Host, administrator: Administrator) -> None:
        break_everything(host)
        with trio.move_on_after(5000):
            await administrator.run()
        content = host.site.dss.read()
        assert not any(row.device.adm_status is AdmStatus.FAILED for row in content.devices.values())
        assert not any(row.medium.adm_status is AdmStatus.FAILED for row in content.media.values())

    administer(scenario_with(hours=10.0), main)


@pytest.mark.parametrize("tapes", [False, True])
def test_the_daemon_works_again_when_everything_is_repaired(*, tapes: bool) -> None:
    async def main(host: Host, administrator: Administrator) -> None:
        assert await can_write(host)
        break_everything(host)
        await trio.sleep(100)
        assert not await can_write(host)
        await administrator.repair_everything()
        assert out_of_service(host) == set()
        assert await can_write(host)

    administer(scenario_with(tapes=tapes), main)


def test_blank_media_stay_as_they_are() -> None:
    async def main(host: Host, administrator: Administrator) -> None:
        before = [row.medium for row in host.site.dss.read().media.values() if row.medium.fs_status is FsStatus.BLANK]
        await administrator.repair_everything()
        media = host.site.dss.read().media
        assert before
        assert [media[medium.id].medium for medium in before] == before

    administer(scenario_with(), main)
