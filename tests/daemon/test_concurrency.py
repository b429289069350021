"""Many clients at once on a real daemon: every release answered once, counters equal to what was released."""

from __future__ import annotations

from itertools import islice
from random import Random

import pytest

from benchmarks.books import differences, expected_locks, read_books, unsound_files
from benchmarks.harness import counters, format_media, running
from benchmarks.load import Ledger, Marks, finishing, orders, run_load, write_all
from benchmarks.sites import Sites


@pytest.mark.note("1", "2.2", "2.5d", "2.5e", "8", "11")
def test_every_release_is_answered_once_and_counted_once(sites: Sites) -> None:
    cycles = 400
    ledger = Ledger()
    wanted = islice(orders(Random(3), copies=[1, 1, 2]), cycles)
    with sites.temporary(4) as site, running(site) as daemon:
        format_media(site)
        run_load(
            site.socket,
            ledger,
            16,
            lambda client: finishing(client, write_all(client, wanted)),
            seconds=60,
            marks=Marks(),
        )
        seen = counters(site)
        books = read_books(site)
        assert books.locks == expected_locks(site, daemon.pid)
        daemon.terminate()
        assert daemon.wait() == 0
        after = read_books(site)
        assert unsound_files(ledger.acknowledged) == []
    assert ledger.problems == []
    assert ledger.failures == {}
    assert ledger.lost_connections == 0
    assert sorted(written.order.number for written in ledger.acknowledged) == list(range(cycles))
    assert differences(books.totals, ledger.totals()) == []
    assert differences(after.totals, ledger.totals()) == []
    assert after.locks == frozenset()
    synced_media = sum(written.order.copies for written in ledger.acknowledged)
    assert seen["dev.requested_sync"] == seen["req.tosync_media_cnt"] == synced_media
    assert 0 < seen["dev.effective_sync"] < synced_media
