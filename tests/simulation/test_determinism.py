"""One seed gives one run, whatever hashes and addresses the process has."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import trio
import trio.testing
from trio._core import _run

from lrs_trio.events import Event
from lrs_trio.model import RequestKind
from lrs_trio.simulation.determinism import Chance, run_seeded
from tests.fakes.house import House, back, house_of

PROJECT = Path(__file__).parents[2]
HASH_SEEDS = ("0", "1")
PATHS = tuple(f"/srv/{number}" for number in range(6))


def told_by_processes() -> set[str]:
    """What `tell` says in processes with different hash seeds."""
    # The log goes to the other stream.
    program = "import sys; from tests.simulation.test_determinism import tell; sys.stderr.write(tell())"
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            cwd=PROJECT,
            env=os.environ | {"PYTHONHASHSEED": seed},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed in HASH_SEEDS
    ]
    told = {process.communicate()[1] for process in running}
    assert [process.returncode for process in running] == [0] * len(HASH_SEEDS)
    return told


# Chance.


def numbers(seed: int = 1, name: str = "clients") -> list[float]:
    random = Chance(seed).of(name)
    return [random.random() for _ in range(5)]


def test_a_sequence_depends_on_the_seed_and_on_its_name_only() -> None:
    assert numbers() == numbers()
    assert numbers(seed=2) != numbers() != numbers(name="disks")


def test_sequences_do_not_disturb_each_other() -> None:
    chance = Chance(1)
    drawn = []
    for _ in range(5):
        drawn.append(chance.of("clients").random())
        chance.of("disks").random()
    assert drawn == numbers()


# The order of tasks.


async def race(runners: int = 10) -> list[int]:
    """In which order tasks go on that could all do so at the same moment."""
    order: list[int] = []
    start = trio.Event()

    async def run(number: int) -> None:
        await start.wait()
        order.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(runners):
            nursery.start_soon(run, number)
        await trio.testing.wait_all_tasks_blocked()
        start.set()
    return order


def test_one_seed_gives_one_order_of_tasks() -> None:
    orders = {tuple(run_seeded(seed, race)) for seed in range(20)}
    assert len(orders) == 20
    assert run_seeded(1, race) == run_seeded(1, race)
    assert sorted(run_seeded(1, race)) == list(range(10))


def test_what_ran_before_does_not_matter() -> None:
    expected = run_seeded(1, race)
    trio.run(race)
    run_seeded(2, race)
    assert run_seeded(1, race) == expected


def test_time_is_virtual_and_begins_at_0() -> None:
    async def main() -> tuple[float, float]:
        began = trio.current_time()
        await trio.sleep(80_000)
        return began, trio.current_time()

    assert run_seeded(1, main) == (0, 80_000)


def test_trio_is_left_as_it_was_found() -> None:
    async def fail() -> None:
        await trio.lowlevel.checkpoint()
        raise ValueError("a bug")

    before = _run._ALLOW_DETERMINISTIC_SCHEDULING, _run._r
    run_seeded(1, race)
    with pytest.raises(ValueError, match="a bug"):
        run_seeded(1, fail)
    assert (_run._ALLOW_DETERMINISTIC_SCHEDULING, _run._r) == before


# Processes.


def tell() -> str:
    """Chance, an order of tasks, and all that a family tells while clients crowd, leave, and are refused."""
    return "\n".join(map(str, (numbers(), run_seeded(1, race), *run_seeded(1, crowd))))


async def crowd() -> list[Event]:
    async with house_of(*PATHS) as house:
        clients = [house.connect() for _ in range(12)]
        for client in clients:
            for number in range(12):
                client.write(100, id=number)
        await house.settle()
        for client in clients[::2]:
            client.leave()
        await trio.sleep(1)
        for client in clients[1::4]:
            for grant in client.client.holdings.all():
                client.release(back(grant.medium.name, 100), kind=RequestKind.RELEASE_WRITE)
        await trio.sleep(1)
        await change(house)
        for client in clients:
            client.leave()
    return house.site.seen


async def change(house: House) -> None:
    """Lock a device that is promised to many who have not taken their answers."""
    late = [house.connect(pause=None) for _ in range(3)]
    for client in late:
        for number in range(8):
            client.write(100, id=number)
    await house.settle()
    house.family.devices[next(iter(house.family.devices))].stop()
    house.drain()


def test_processes_agree_whatever_their_hash_seeds() -> None:
    (told,) = told_by_processes()
    assert told == tell()
    assert told.count("\n") > 300
