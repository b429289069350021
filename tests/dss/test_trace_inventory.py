"""What the trace's inventory gets of resources that turn up while the daemon serves."""

from __future__ import annotations

import errno

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from lrs_trio.dss.inventory import Additions
from lrs_trio.dss.operations import ReadMedium
from lrs_trio.errors import LrsError
from lrs_trio.model import Device, Medium, NotifyOperation
from lrs_trio.observe.inventory import Inventory
from lrs_trio.settings import Settings
from lrs_trio.wire.messages import Notify, Request
from tests.fakes.site import Site, medium_id


async def test_a_row_that_cannot_be_read_is_left_out_and_others_are_not(autojump_clock: MockClock) -> None:
    site = Site()
    site.add("/srv/b")
    found: list[Device | Medium] = []
    additions = Additions(Inventory(Settings(), (), ()), site.dss, found.append)

    def ask_for(path: str) -> None:
        additions.hear(Request(1, Notify(medium_id(path), NotifyOperation.MEDIA_UPDATE, True)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(additions.run)
        site.dss.refusals[ReadMedium] = LrsError(errno.EINVAL, "its stats in the DSS are malformed")
        ask_for("/srv/a")
        await wait_all_tasks_blocked()
        assert found == []
        site.dss.refusals.clear()
        ask_for("/srv/b")
        await wait_all_tasks_blocked()
        assert [resource.id for resource in found] == [medium_id("/srv/b")]
        nursery.cancel_scope.cancel()
