"""PostgreSQL goes away again and again under load: the short form of a part of `make soak`."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest

from benchmarks.postgres import Cluster
from benchmarks.restarts import Blow, Restarts
from benchmarks.sites import Sites


@pytest.mark.note("1", "2.5d", "11")
@pytest.mark.parametrize("blows", [[Blow.RESTARTED], [Blow.KILLED, Blow.CRASHED, Blow.CUT]], ids=["restarts", "kills"])
def test_no_client_notices_and_nothing_is_lost_or_doubled(cluster: Cluster, blows: Sequence[Blow]) -> None:
    with Sites(cluster).temporary(4) as site:
        restarts = Restarts(site, cluster, 16, Random(5), blows=blows)
        restarts.run(3.5)
    totals = restarts.totals
    assert totals.problems == []
    assert totals.blows.total() > 0
    assert totals.outages > 0
    assert len(totals.ledger.acknowledged) > 0
