"""The socket of a simulated daemon: who may connect when, and what is left of a connection when the daemon dies."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from lrs_trio.errors import AlreadyRunningError
from lrs_trio.simulation.determinism import Chance, run_seeded
from lrs_trio.simulation.faults import Faults
from lrs_trio.simulation.host.network import BACKLOG, Network
from lrs_trio.simulation.host.stream import StreamEnd
from lrs_trio.simulation.trace import Trace
from lrs_trio.simulation.world import Process, ProcessKilledError, Violations, World
from tests.simulation.test_stream import read_all

Story = Callable[[Network, trio.Nursery], Awaitable[None]]


def play(story: Story, seed: int = 1) -> World:
    """Run `story`; what it still does in its nursery ends with it."""
    worlds = []

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            chance, trace = Chance(seed), Trace()
            world = World("store1", chance, trace, Faults(chance, {}, trace), Violations(trace), nursery)
            worlds.append(world)
            await story(Network(world), nursery)
            nursery.cancel_scope.cancel(reason="the story is told")

    run_seeded(seed, main)
    return worlds[0]


async def echo(stream: StreamEnd) -> None:
    """Serve one client."""
    async with stream:
        async for data in stream:
            await stream.send_all(data)


def test_a_daemon_serves_its_clients() -> None:
    async def story(network: Network, nursery: trio.Nursery) -> None:
        async with network.listen(Process(1001, 0.0)) as listener:
            nursery.start_soon(trio.serve_listeners, echo, [listener])
            for name in ("one", "two"):
                stream = await network.connect(name)
                await stream.send_all(name.encode())
                await stream.send_eof()
                assert await read_all(stream) == (name.encode(), False)

    play(story)


def test_nobody_listens() -> None:
    async def story(network: Network, nursery: trio.Nursery) -> None:
        with pytest.raises(ConnectionRefusedError):
            await network.connect("early")
        async with network.listen(Process(1001, 0.0)):
            await network.connect("in time")
        with pytest.raises(ConnectionRefusedError):
            await network.connect("late")

    play(story)


def test_two_daemons_do_not_listen_at_the_same_time() -> None:
    async def story(network: Network, nursery: trio.Nursery) -> None:
        async with network.listen(Process(1001, 0.0)):
            with pytest.raises(AlreadyRunningError):
                async with network.listen(Process(1002, 0.0)):
                    pass
        async with network.listen(Process(1003, 0.0)):
            pass

    play(story)


def test_every_client_has_a_pid_of_its_own() -> None:
    found: list[list[int]] = []

    async def story(network: Network, nursery: trio.Nursery) -> None:
        async with network.listen(Process(1001, 0.0)) as listener:
            credentials = []
            for number in range(6):
                await network.connect(f"client {number}")
                credentials.append(network.credentials(await listener.accept()))
            found.append([of.pid for of in credentials])
            assert len({of.pid for of in credentials}) == 6
            assert len({of.uid for of in credentials}) == 3

    play(story)
    play(story)
    assert found[0] == found[1]


def test_a_full_backlog_lets_clients_wait() -> None:
    async def story(network: Network, nursery: trio.Nursery) -> None:
        async with network.listen(Process(1001, 0.0)) as listener:
            for number in range(BACKLOG):
                await network.connect(f"client {number}")
            with trio.move_on_after(60) as waiting:
                await network.connect("one too many")
            assert waiting.cancelled_caught
            await listener.accept()
            with trio.fail_after(60):
                await network.connect("one more")

    play(story)


def test_who_waits_is_refused_when_the_daemon_stops_listening() -> None:
    refused: list[str] = []

    async def story(network: Network, nursery: trio.Nursery) -> None:
        async def be_refused(name: str) -> None:
            with pytest.raises(ConnectionRefusedError):
                await network.connect(name)
            refused.append(name)

        async with trio.open_nursery() as clients, network.listen(Process(1001, 0.0)) as listener:
            waiting = [await network.connect(f"client {number}") for number in range(BACKLOG)]
            clients.start_soon(be_refused, "one too many")
            await trio.testing.wait_all_tasks_blocked()
            await listener.aclose()
            with pytest.raises(trio.ClosedResourceError):
                await listener.accept()
        assert [await read_all(stream) for stream in waiting] == [(b"", True)] * BACKLOG

    play(story)
    assert refused == ["one too many"]


def test_a_connection_outlives_the_listener() -> None:
    async def story(network: Network, nursery: trio.Nursery) -> None:
        async with network.listen(Process(1001, 0.0)) as listener:
            ours = await network.connect("client")
            theirs = await listener.accept()
        await theirs.send_all(b"still here")
        assert len(await ours.receive_some()) > 0
        assert not ours.severed

    play(story)


def test_what_a_daemon_sent_before_its_death_is_received() -> None:
    async def story(network: Network, nursery: trio.Nursery) -> None:
        process = Process(1001, 0.0)
        async with network.listen(process) as listener:
            streams = [await network.connect(name) for name in ("quiet", "talking", "waiting")]
            quiet, talking = [await listener.accept() for _ in range(2)]
            await quiet.send_all(b"answer")
            await talking.send_all(b"answer")
            await streams[1].send_all(b"not read any more")
            process.alive = False
            network.kill()
            assert all(stream.severed for stream in streams)
            assert [await read_all(stream) for stream in streams] == [
                (b"answer", False),
                (b"answer", True),
                (b"", True),
            ]
            with pytest.raises(trio.BrokenResourceError):
                await streams[0].send_all(b"anybody?")
            with pytest.raises(trio.ClosedResourceError):
                await quiet.send_all(b"a ghost")
            async with network.listen(Process(1002, 0.0)) as next_listener:
                await network.connect("again")
                await next_listener.accept()

    play(story)


def test_a_dead_process_reaches_nobody() -> None:
    """What happens between the death and the moment at which the network is told, if there is one."""

    async def story(network: Network, nursery: trio.Nursery) -> None:
        process = Process(1001, 0.0)
        async with network.listen(process) as listener:
            ours = await network.connect("client")
            theirs = await listener.accept()
            await network.connect("next")
            process.alive = False
            with pytest.raises(ProcessKilledError):
                await theirs.send_all(b"a ghost")
            with pytest.raises(ProcessKilledError):
                await listener.accept()
            with pytest.raises(ProcessKilledError):
                async with network.listen(process):
                    pass
            network.kill()
            assert (await read_all(ours))[0] == b""

    play(story)


def test_a_power_cut_may_lose_what_is_on_its_way() -> None:
    received: set[bytes] = set()

    async def story(network: Network, nursery: trio.Nursery) -> None:
        process = Process(1001, 0.0)
        async with network.listen(process) as listener:
            ours = await network.connect("client")
            await (await listener.accept()).send_all(b"answer")
            process.alive = False
            network.cut_power()
            received.add((await read_all(ours))[0])

    for seed in range(20):
        play(story, seed)
    assert received == {b"", b"answer"}


def test_closed_connections_are_forgotten() -> None:
    async def story(network: Network, nursery: trio.Nursery) -> None:
        async with network.listen(Process(1001, 0.0)) as listener:
            for number in range(1000):
                await network.connect(f"client {number}")
                await (await listener.accept()).aclose()
            assert len(network._accepted) <= 1

    play(story)


def test_the_trace_tells_who_connects() -> None:
    async def story(network: Network, nursery: trio.Nursery) -> None:
        async with network.listen(Process(1001, 0.0)):
            await network.connect("client")

    assert any("connected client=client pid=20001" in line for line in play(story).trace.last)
