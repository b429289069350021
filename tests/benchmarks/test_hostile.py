"""What the honest client counts while it is kept waiting, and the attack that asks for reports."""

from __future__ import annotations

import socket
from pathlib import Path
from threading import Thread
from typing import cast

import pytest

from benchmarks.harness import running
from benchmarks.hostile import honest
from benchmarks.hostile.attacks import REPORTERS, Scene, ask_for_reports
from benchmarks.hostile.cases import CASES
from benchmarks.hostile.honest import PERIODS_S, Report, Wait, be_honest, waits
from benchmarks.hostile.processes import Pipe
from benchmarks.hostile.site import temporary_place
from benchmarks.sites import Sites
from lrs_trio.wire.codec import encode_response
from lrs_trio.wire.framing import encode_frame
from lrs_trio.wire.messages import Pong, Response

PERIOD = PERIODS_S["ping"]


class Clock:
    """Time that passes only when somebody lets it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def read(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Turns:
    """A pipe by which something comes after so many looks, and which keeps what it is sent."""

    def __init__(self, looks: int) -> None:
        self._left = looks
        self.sent = Report()

    def poll(self) -> bool:
        self._left -= 1
        return self._left < 0

    def send(self, report: Report) -> None:
        self.sent = report


class Answered(Scene):
    """It is over once there were twice as many answers as connections, or after very many looks."""

    @property
    def is_over(self) -> bool:
        return self.seen.total() >= 2 * REPORTERS or super().is_over


def test_each_beginning_that_was_due_while_it_waited_is_a_wait() -> None:
    found = waits(10.0, 10.5, 0.125)
    assert found == [Wait(10.0, 0.5), Wait(10.125, 0.375), Wait(10.25, 0.25), Wait(10.375, 0.125)]


@pytest.mark.parametrize("seconds", [0.0, 0.0625, 0.125])
def test_what_ends_before_the_next_beginning_is_one_wait(seconds: float) -> None:
    assert waits(10.0, 10.0 + seconds, 0.125) == [Wait(10.0, seconds)]


def test_a_stall_is_seen_beside_many_answers_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, turns, path = Clock(), Turns(1000), str(tmp_path / "lrs")
    monkeypatch.setattr(honest, "monotonic", clock.read)
    monkeypatch.setattr(honest, "sleep", clock.sleep)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        server = Thread(target=answer_and_stand_still, args=(listener, clock, 1000 * PERIOD))
        server.start()
        be_honest("ping", path, (), cast(Pipe, turns))
        server.join()
    assert turns.sent.problems == []
    found = turns.sent.within([(1000.0, clock.now)])
    # For half of the time nothing was answered.
    assert found.count == pytest.approx(2000, abs=2)
    assert found.longest == pytest.approx(1000 * PERIOD)
    assert found.p99 == pytest.approx(980 * PERIOD, rel=0.01)


def answer_and_stand_still(listener: socket.socket, clock: Clock, seconds: float) -> None:
    """Answer each ping of one client at once, but the third only when so much time has passed."""
    connection, _ = listener.accept()
    with connection:
        number = 0
        while connection.recv(4096):
            number += 1
            if number == 3:
                clock.now += seconds
            connection.sendall(encode_frame(encode_response(Response(number, Pong()))))


def test_many_connections_each_wait_for_one_report_and_ask_again() -> None:
    with Sites().temporary(1) as site, running(site):
        scene = Answered(str(site.socket), site.media, cast(Pipe, Turns(10_000)))
        ask_for_reports(scene)
    assert scene.seen.total() >= 2 * REPORTERS
    assert {"statistics", "statusreport"} <= set(scene.seen)


def test_reports_are_asked_of_a_daemon_with_64_directories_by_several_processes() -> None:
    (case,) = [case for case in CASES if case.attack is ask_for_reports]
    assert (case.directories, case.processes * REPORTERS) == (64, 256)


def test_half_of_any_number_of_media_are_the_honest_clients() -> None:
    with temporary_place(directories=6) as place:
        assert place.honest + place.others == place.site.media
        assert len(place.honest) == len(place.others) == 3
