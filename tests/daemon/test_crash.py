"""A real daemon, killed under load and started again: the short form of `make soak`."""

from __future__ import annotations

from random import Random

import pytest

from benchmarks.sites import Sites
from benchmarks.soak import Soak


@pytest.mark.note("11")
def test_nothing_acknowledged_is_missing_after_kills_and_drains(sites: Sites) -> None:
    with sites.temporary(4) as site:
        soak = Soak(site, 16, Random(7), longest_s=1.0)
        soak.run(4)
    assert soak.totals.problems == []
    assert soak.totals.kills == 4
    # One on purpose; the one that is to be killed on its way may be faster than the kill.
    assert soak.totals.drains in (1, 2)
    assert len(soak.totals.acknowledged) > 0
