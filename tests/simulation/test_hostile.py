"""Clients that break the protocol: what they do is counted, and what a daemon does wrong with them is found."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import trio

from lrs_trio.model import RequestKind
from lrs_trio.settings import ServerSettings
from lrs_trio.simulation.clients.hostile import Hostiles
from lrs_trio.simulation.faults import FaultKind
from lrs_trio.simulation.host.network import Network
from lrs_trio.simulation.host.stream import StreamEnd
from lrs_trio.simulation.scenario import Scenario
from lrs_trio.wire.codec import decode_response, encode_response
from lrs_trio.wire.framing import FrameDecoder, encode_frame
from lrs_trio.wire.messages import Failed, Pong, Released, Response
from tests.simulation.hosts import host_of, run_patiently, scenario_with

KINDS = {
    FaultKind.HALF_FRAME,
    FaultKind.GARBAGE,
    FaultKind.RELEASE_TWICE,
    FaultKind.CHANNEL_FULL,
    FaultKind.SLOW_READER,
    FaultKind.MALFORMED,
    FaultKind.TOO_MANY_REQUESTS,
    FaultKind.NEVER_GRANTED,
    FaultKind.NOT_PERMITTED,
}

Tamper = Callable[[Response], Sequence[Response]]


class TamperedStream(trio.abc.ReceiveStream):
    """A client's end of a connection to a daemon that has a defect: `tamper` makes it from a good one."""

    def __init__(self, stream: StreamEnd, tamper: Tamper, *, stays_open: bool) -> None:
        self._stream = stream
        self._tamper = tamper
        self._stays_open = stays_open
        self._decoder = FrameDecoder()
        self._data = b""

    async def send_all(self, data: bytes) -> None:
        await self._stream.send_all(data)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        while not self._data:
            try:
                data = await self._stream.receive_some(max_bytes)
            except trio.BrokenResourceError:
                data = b""
            if not data and self._stays_open:
                await trio.sleep_forever()
            if not data:
                return b""
            answers = map(decode_response, self._decoder.feed(data))
            self._data = b"".join(
                encode_frame(encode_response(tampered)) for answer in answers for tampered in self._tamper(answer)
            )
        data, self._data = self._data, b""
        return data

    async def aclose(self) -> None:
        await self._stream.aclose()


def as_it_is(answer: Response) -> Sequence[Response]:
    return (answer,)


def scenario(**server: object) -> Scenario:
    made = scenario_with(hours=10.0, requests=600)
    settings = ServerSettings(**{"max_requests_per_connection": 16, "response_channel": 8, **server})  # type: ignore[arg-type]
    return replace(made, settings=made.settings.model_copy(update={"server": settings}))


def run(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch, tamper: Tamper = as_it_is, *, stays_open: bool = False
) -> tuple[list[str], set[FaultKind]]:
    """What a run of hostile clients finds, and the kinds of faults that it has hit."""
    connect = Network.connect

    async def connect_badly(network: Network, name: str, **more: int) -> TamperedStream:
        return TamperedStream(await connect(network, name, **more), tamper, stays_open=stays_open)

    monkeypatch.setattr(Network, "connect", connect_badly)

    async def main() -> tuple[list[str], set[FaultKind]]:
        async with host_of(scenario) as host:
            async with host.daemon():
                await trio.sleep(1)
                await Hostiles(host.site, scenario).run()
            return host.violations, set(host.hits)

    return run_patiently(main)


@pytest.mark.parametrize("channel", [8, 64])
def test_a_good_daemon_bears_all_of_it(monkeypatch: pytest.MonkeyPatch, channel: int) -> None:
    assert run(scenario(response_channel=channel), monkeypatch) == ([], KINDS)


def test_a_crowd_of_requests_is_left_out_where_it_would_be_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    found = run(scenario(max_requests_per_connection=1024), monkeypatch)
    assert found == ([], KINDS - {FaultKind.TOO_MANY_REQUESTS})


def test_it_is_noticed_that_what_must_fail_succeeds(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgive(answer: Response) -> Sequence[Response]:
        if isinstance(answer.body, Failed) and answer.body.rc == -errno.EINVAL:
            return (Response(answer.request_id, Released((), RequestKind.RELEASE_WRITE)),)
        return (answer,)

    violations, _ = run(scenario(), monkeypatch, forgive)
    assert all("is answered with Released" in violation for violation in violations)
    assert {violation.rpartition("request ")[2][0] for violation in violations} >= {"1", "2", "3", "4"}


def test_it_is_noticed_that_an_answer_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def forget(answer: Response) -> Sequence[Response]:
        return () if isinstance(answer.body, Pong) and answer.request_id % 8 == 3 else (answer,)

    violations, _ = run(scenario(), monkeypatch, forget)
    assert any("not all requests are answered" in violation for violation in violations)


def test_it_is_noticed_that_an_answer_comes_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    violations, _ = run(scenario(), monkeypatch, lambda answer: (answer, answer))
    assert any("and was not waiting" in violation for violation in violations)
    assert any("are answered in the order" in violation for violation in violations)


def test_it_is_noticed_that_nobody_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    violations, _ = run(scenario(), monkeypatch, stays_open=True)
    assert {violation.rpartition(": ")[2] for violation in violations} == {
        "sent what is not the protocol, and is not cut off",
        "does not read its responses, and is not cut off",
    }


def test_nobody_listening_ends_an_act_and_not_the_run() -> None:
    async def main() -> None:
        async with host_of(scenario()) as host:
            await Hostiles(host.site, host.scenario).run()
            assert host.violations == []
            assert not host.hits

    run_patiently(main)
