from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from lrs_trio.signals import drain_signals


@pytest.fixture(autouse=True)
def hang_up_as_before() -> Iterator[None]:
    before = signal.getsignal(signal.SIGHUP)
    yield
    signal.signal(signal.SIGHUP, before)


def test_a_terminal_that_closes_begins_a_drain() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    assert set(drain_signals()) == {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


def test_a_hang_up_that_is_ignored_stays_so() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    assert set(drain_signals()) == {signal.SIGINT, signal.SIGTERM}
