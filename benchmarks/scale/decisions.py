"""How long a scheduling decision holds the loop, at any number of devices, media and requests that wait."""

from __future__ import annotations

import errno
import gc
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Final

import trio
import trio.testing

from benchmarks.percentiles import percentile
from benchmarks.scale.families import MIXES, Crowded, directories, tapes, update_of
from benchmarks.scale.steps import StepTimes
from lrs_trio.devices.life import DeviceStatus

EVENTS: Final = 100
"""How many of each kind of event are measured; of those that change the world, a tenth."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one kind of event costs: seconds of CPU of each step of the scheduler's task."""

    event: str
    events: int
    steps: tuple[float, ...]

    @property
    def per_event(self) -> float:
        """Seconds of all steps that one event leads to."""
        return sum(self.steps) / self.events

    def __str__(self) -> str:
        p50, p99, most = (1000 * percentile(self.steps, percent) for percent in (50, 99, 100))
        return (
            f"{self.event:18} {len(self.steps):6} steps: p50 {p50:7.3f} ms, p99 {p99:7.3f} ms, max {most:7.3f} ms;"
            f" {1e6 * self.per_event:8.0f} us an event"
        )


def measure_directories(devices: int, queued: int, mix: str, *, seed: int = 1, shared: bool = False) -> list[Cost]:
    """The costs with so many directories and requests that wait, perhaps all on one filesystem.

    `mix` is one of `MIXES`.
    """

    async def main() -> list[Cost]:
        async with directories(devices, tags=mix in ("tagged writes", "mixed"), shared=shared) as crowded:
            return await _measure(crowded, Random(seed), mix, queued)

    return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def measure_tapes(drives: int, count: int, queued: int, mix: str, *, seed: int = 1) -> list[Cost]:
    """As `measure_directories`, with so many drives and tapes."""

    async def main() -> list[Cost]:
        async with tapes(drives, count) as crowded:
            return await _measure(crowded, Random(seed), mix, queued)

    return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


async def _measure(crowded: Crowded, random: Random, mix: str, queued: int) -> list[Cost]:
    family, body = crowded.family, MIXES[mix]
    slots = sum(device.state.max_concurrent_io for device in family.devices.values())
    await crowded.ask_for_all([MIXES["writes"](crowded, random) for _ in range(slots)])
    while len(crowded.held()) < slots:
        # Tapes have to be brought first.
        await trio.sleep(100)
        await crowded.settle()
    # The daemon does so as well, once it has started.
    gc.collect()
    gc.freeze()
    watch = StepTimes("placement of")
    trio.lowlevel.add_instrument(watch)
    costs: list[Cost] = []

    async def during(event: str, times: int, act: Callable[[], Awaitable[None] | None]) -> None:
        watch.clear()
        for _ in range(times):
            done = act()
            if done is not None:
                await done
            await crowded.settle()
        costs.append(Cost(event, times, tuple(watch.seconds)))

    await during("filling the queue", 1, lambda: crowded.ask_for_all([body(crowded, random) for _ in range(queued)]))
    held = crowded.held()
    random.shuffle(held)

    def fail() -> None:
        device = next(d for d in family.devices.values() if d.state.status is DeviceStatus.MOUNTED)
        device.state.fail(OSError(errno.EIO, "broken"), trio.current_time())
        family.supply.touch(device)
        family.look()

    def update() -> None:
        medium = random.choice(crowded.media)
        row = crowded.site.dss.media[medium]
        crowded.site.dss.media[medium] = replace(row, put=not row.put)
        crowded.ask(update_of(medium))

    await during("a release", min(EVENTS, slots // 2), lambda: crowded.give_back(held.pop()))
    await during("an arrival", EVENTS, lambda: crowded.ask_and_forget(body(crowded, random)))
    await during("a medium changes", EVENTS // 10, update)
    await during("a device fails", min(EVENTS // 10, len(family.devices) // 4), fail)
    trio.lowlevel.remove_instrument(watch)
    gc.unfreeze()
    return costs
