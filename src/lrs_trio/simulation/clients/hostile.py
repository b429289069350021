"""Clients that break the protocol, or use it as nobody should. Nobody but themselves may notice.

They write nothing and have nothing counted, so that the books need not know of them.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import trio

from lrs_trio.client.common import held_by, read_body, write_body
from lrs_trio.model import ConfigureOperation, Family, FsType, NotifyOperation, ReadOperation, RequestKind, ResourceId
from lrs_trio.simulation.clients.raw_client import RawClient, frame, raw_client
from lrs_trio.simulation.faults import FaultKind
from lrs_trio.simulation.host.network import HOSTILE_UID
from lrs_trio.simulation.host.site import Site
from lrs_trio.simulation.scenario import HOUR, Scenario
from lrs_trio.wire import lrs_pb2 as pb
from lrs_trio.wire.framing import PROTOCOL_VERSION, encode_frame
from lrs_trio.wire.messages import (
    Configure,
    Failed,
    Format,
    Monitor,
    Notify,
    Ping,
    Release,
    Released,
    ReleasedMedium,
    RequestBody,
    Response,
    Revoke,
    Status,
    StatusReport,
    WriteAllocation,
    WriteGranted,
)

PATIENCE_S: Final = HOUR
"""How long may take what is answered at once: a daemon that is starting listens already, and serves nobody yet."""

GRANT_PATIENCE_S: Final = 2 * HOUR
"""How long a hostile client waits for media that others may hold; then it gives up."""

FEWEST: Final = 12
REQUESTS_FOR_EACH: Final = 20
"""How many acts there are: at least so many, and one more for every so many honest requests."""

MOST_AT_ONCE: Final = 70
"""More allocations of one connection at once cost a run too much."""

ROOM: Final = 2048
"""Bytes of responses that a hostile client has room for: the rest waits in the daemon."""

SENDER_CHUNK: Final = 16 * 1024
"""Bytes that the daemon may have taken out of its response channel and not sent yet."""

Act = Callable[[RawClient, str], Awaitable[None]]


class Hostiles:
    """All of a run. Each act has a connection of its own."""

    def __init__(self, site: Site, scenario: Scenario) -> None:
        self._world = site.world
        self._network = site.network
        self._server = scenario.settings.server
        self._random = site.world.chance.of("hostile clients")
        self._media = tuple(site.dss.read().media)
        self._seconds = scenario.hours * HOUR
        self._count = FEWEST + scenario.requests // REQUESTS_FOR_EACH

    async def run(self) -> None:
        """Do every kind of harm, again and again during the scenario's hours."""
        acts = self._acts()
        async with trio.open_nursery() as nursery:
            for number in range(self._count):
                await trio.sleep(self._random.expovariate(self._count / self._seconds))
                if not number % len(acts):
                    self._random.shuffle(acts)
                name = f"hostile {number}"
                nursery.start_soon(self._do, acts[number % len(acts)], name, name=name)

    def _acts(self) -> list[Act]:
        acts: list[Act] = [
            self._send_half_a_frame,
            self._send_garbage,
            self._release_twice,
            self._release_what_was_never_granted,
            self._read_late,
            self._never_read,
            self._read_slowly,
            self._ask_nonsense,
            self._ask_what_others_may,
        ]
        if self._server.max_requests_per_connection < MOST_AT_ONCE:
            acts.append(self._ask_too_much)
        return acts

    async def _do(self, act: Act, name: str) -> None:
        """An act is over when the connection is, for whichever reason."""
        try:
            async with raw_client(self._network, name, room=ROOM, uid=HOSTILE_UID) as client:
                await act(client, name)
        except* (EOFError, ConnectionRefusedError):
            self._world.trace.note("hostile.cut_off", name=name)

    # Bytes that are not the protocol.

    async def _send_half_a_frame(self, client: RawClient, name: str) -> None:
        """After something in order, or after nothing; the other half never comes."""
        if self._random.random() < 0.5:
            await client.send(Ping(), self._wish())
        whole = frame(3, self._random.choice((Ping(True), self._wish(), self._release_of(self._any_medium()))))
        await client.send_bytes(whole[: self._random.randrange(1, len(whole))])
        self._hit(FaultKind.HALF_FRAME, name)
        await trio.sleep(self._random.choice((0.0, self._random.expovariate(1 / 10))))

    async def _send_garbage(self, client: RawClient, name: str) -> None:
        """The daemon has to close the connection."""
        random = self._random
        garbage = random.choice(
            (
                b"\xff" + random.randbytes(random.randint(4, 4000)),
                struct.pack(">IB", 0, PROTOCOL_VERSION),
                struct.pack(">IB", 2**31, PROTOCOL_VERSION),
                frame(1, Ping())[:4] + b"\x00" + frame(1, Ping())[5:],
                encode_frame(b"\xff" * random.randint(1, 100)),
                encode_frame(pb.Request(ping=True).SerializeToString()),
            )
        )
        if random.random() < 0.5:
            await client.send(Ping(), self._wish())
        await client.send_bytes(garbage)
        self._hit(FaultKind.GARBAGE, name)
        with self._in_time(name, "sent what is not the protocol, and is not cut off"):
            await client.read_to_the_end()

    # Releases of what is not held.

    async def _release_twice(self, client: RawClient, name: str) -> None:
        release = await self._hold(client)
        if release is None:
            return
        at_once = self._random.random() < 0.5
        await client.send_bytes(frame(2, release) + (frame(3, release) if at_once else b""))
        self._hit(FaultKind.RELEASE_TWICE, name)
        if not at_once:
            await self._receive(client, 2)
            await client.send_bytes(frame(3, release))
        with self._in_time(name, "has released twice, and the second release is not answered"):
            answer = await self._receive(client, 3)
            self._check_refused(name, answer, errno.EINVAL, errno.ENODEV)

    async def _release_what_was_never_granted(self, client: RawClient, name: str) -> None:
        release = self._release_of(self._any_medium())
        unanswered = self._release_of(self._any_medium(), to_sync=False)
        await client.send(unanswered, release, Ping())
        self._hit(FaultKind.NEVER_GRANTED, name)
        with self._in_time(name, "has released what it never had, and is not answered"):
            answer = await client.receive()
            self._check_refused(name, answer, errno.EINVAL, errno.ENODEV)
            self._check_order(name, (answer, await client.receive()), (2, 3))

    # Requests that nobody should make.

    async def _ask_nonsense(self, client: RawClient, name: str) -> None:
        """Each is answered with EINVAL, in the order in which they were asked."""
        nonsense = self._nonsense()
        self._random.shuffle(nonsense)
        await client.send_bytes(b"".join(map(encode_frame, nonsense)))
        self._hit(FaultKind.MALFORMED, name)
        with self._in_time(name, "has asked for what cannot be, and is not answered"):
            for message in nonsense:
                answer = await client.receive()
                self._check_order(name, (answer,), (pb.Request.FromString(message).id,))
                self._check_refused(name, answer, errno.EINVAL)
            self._check_refused(name, await client.ask(Monitor(Family.RADOS_POOL), 0), errno.EINVAL)

    async def _ask_what_others_may(self, client: RawClient, name: str) -> None:
        """Each is refused, in the order in which they were asked, and nothing is done."""
        medium = self._any_medium()
        asked: list[RequestBody] = [
            Format(medium, FsType.POSIX, unlock=True, force=True),
            Notify(medium, NotifyOperation.MEDIA_UPDATE),
            Configure(ConfigureOperation.SET, "[]"),
            Revoke((medium.name,)),
        ]
        self._random.shuffle(asked)
        await client.send(Notify(medium, NotifyOperation.MEDIA_UPDATE, wait=False), *asked)
        self._hit(FaultKind.NOT_PERMITTED, name)
        with self._in_time(name, "has asked for what it may not, and is not answered"):
            for id_ in range(2, len(asked) + 2):
                answer = await client.receive()
                self._check_order(name, (answer,), (id_,))
                self._check_refused(name, answer, errno.EPERM)

    async def _ask_too_much(self, client: RawClient, name: str) -> None:
        """More than one connection may: nothing is answered twice. What is granted goes back with the connection."""
        count = self._server.max_requests_per_connection + 5
        body = read_body((self._any_medium(),), 1, ReadOperation.READ)
        await client.send(*[body] * count)
        self._hit(FaultKind.TOO_MANY_REQUESTS, name)
        answered: set[int] = set()
        with trio.move_on_after(self._random.expovariate(1 / 30)):
            while len(answered) < count:
                answer = await client.receive()
                known = 1 <= answer.request_id <= count and answer.request_id not in answered
                self._check(known, f"{name}: request {answer.request_id} is answered, and was not waiting")
                answered.add(answer.request_id)

    # Responses that are not read.

    async def _read_late(self, client: RawClient, name: str) -> None:
        """Every request is answered, once somebody reads the answers."""
        bodies = await self._flood(client)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send, *bodies, name=f"requests of {name}")
            await trio.sleep(self._random.random() * self._server.slow_client_s * 0.9)
            self._hit(FaultKind.CHANNEL_FULL, name)
            await self._read_all(client, name, len(bodies))

    async def _never_read(self, client: RawClient, name: str) -> None:
        """The daemon does not wait for ever."""
        bodies = await self._flood(client)
        with trio.move_on_after(2 * self._server.slow_client_s):
            await client.send(*bodies)
            self._hit(FaultKind.CHANNEL_FULL, name)
            await trio.sleep_forever()
        with self._in_time(name, "does not read its responses, and is not cut off"):
            await client.read_to_the_end()

    async def _read_slowly(self, client: RawClient, name: str) -> None:
        """Some bytes a second; the daemon may lose its patience with that, or not."""
        bodies = await self._flood(client)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send, *bodies, name=f"requests of {name}")
            self._hit(FaultKind.SLOW_READER, name)
            with trio.move_on_after(self._random.uniform(10, 100)):
                while client.received < len(bodies):
                    await trio.sleep(1)
                    await client.receive_some(self._random.randint(1, 200))
            await self._read_all(client, name, len(bodies))

    async def _flood(self, client: RawClient) -> Sequence[RequestBody]:
        """Requests whose answers fill the response channel of a client that does not read."""
        await client.send_bytes(frame(0, Status()))
        report = (await client.receive()).body
        size = len(report.status) if isinstance(report, StatusReport) else ROOM
        reports = 2 + (ROOM + SENDER_CHUNK) // size
        return [Status()] * reports + [Ping()] * (self._server.response_channel + 8)

    async def _read_all(self, client: RawClient, name: str, count: int) -> None:
        with self._in_time(name, "reads its responses, and not all requests are answered"):
            answers = [await client.receive() for _ in range(count)]
            # Reports are asked for first, and made while the rest is answered.
            reports = [answer for answer in answers if isinstance(answer.body, StatusReport)]
            self._check_order(name, reports, range(1, len(reports) + 1))
            others = [answer for answer in answers if not isinstance(answer.body, StatusReport)]
            self._check_order(name, others, range(len(reports) + 1, count + 1))

    # Parts of that.

    async def _hold(self, client: RawClient) -> Release | None:
        """Wait for a medium, and return what releases it; ``None`` if there is none."""
        with trio.move_on_after(GRANT_PATIENCE_S):
            answer = await client.ask(self._wish(), 1)
            if isinstance(answer.body, WriteGranted):
                return held_by(answer.body).finish()
        return None

    async def _receive(self, client: RawClient, id_: int) -> Response:
        """The answer to one request; those to others before it are dropped."""
        while (answer := await client.receive()).request_id != id_:
            self._check(isinstance(answer.body, Released | Failed), f"a release is answered with {answer.body}")
        return answer

    def _wish(self) -> WriteAllocation:
        return write_body(0, family=self._any_medium().family)

    def _any_medium(self) -> ResourceId:
        return self._random.choice(self._media)

    def _release_of(self, medium: ResourceId, *, to_sync: bool = True) -> Release:
        return Release((ReleasedMedium(medium, to_sync=to_sync),), RequestKind.RELEASE_WRITE)

    def _nonsense(self) -> list[bytes]:
        """Requests that can be taken apart, and contradict themselves or lack something. Their ids are 1, 2..."""
        medium = self._any_medium()
        pb_medium = pb.ResourceId(family=pb.DIR, name=medium.name, library=medium.library)
        requests = [
            pb.Request(),
            pb.Request(ping=True, monitor=pb.Monitor(family=pb.DIR)),
            pb.Request(write=pb.WriteAllocation(prevent_duplicate=False, no_split=False)),
            pb.Request(write=pb.WriteAllocation(family=pb.DIR, prevent_duplicate=False, no_split=False)),
            pb.Request(read=pb.ReadAllocation(n_required=2, media=[pb_medium], operation=pb.READ)),
            pb.Request(read=pb.ReadAllocation(n_required=1, media=[pb_medium, pb_medium], operation=pb.READ)),
            pb.Request(format=pb.Format(medium=pb_medium)),
            pb.Request(notify=pb.Notify(operation=pb.DEVICE_LOCK, wait=True)),
            pb.Request(release=pb.Release(partial=False)),
        ]
        for id_, request in enumerate(requests, start=1):
            request.id = id_
        return [request.SerializeToString() for request in requests]

    # What has to be so.

    def _hit(self, kind: FaultKind, name: str) -> None:
        self._world.faults.hit(kind, name)

    def _check(self, holds: bool, what: str) -> None:
        self._world.violations.check(holds, what)

    @contextmanager
    def _in_time(self, name: str, what: str) -> Iterator[None]:
        """The block ends soon, be it because the daemon does."""
        with trio.move_on_after(PATIENCE_S) as patience:
            yield
        self._check(not patience.cancelled_caught, f"{name}: {what}")

    def _check_refused(self, name: str, answer: Response, *expected: int) -> None:
        """A daemon that ends may always say so."""
        rc = answer.body.rc if isinstance(answer.body, Failed) else 0
        refused = -rc in (*expected, errno.ESHUTDOWN)
        self._check(refused, f"{name}: request {answer.request_id} is answered with {answer.body}")

    def _check_order(self, name: str, answers: Iterable[Response], expected: Iterable[int]) -> None:
        ids = [answer.request_id for answer in answers]
        self._check(ids == list(expected), f"{name}: requests {list(expected)} are answered in the order {ids}")
