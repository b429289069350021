from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from lrs_trio.scheduling import report
from lrs_trio.scheduling.report import family_status
from tests.fakes.house import house_of

A, B = "/srv/a", "/srv/b"


@pytest.mark.parametrize(("grants", "left_out"), [(3, 0), (5, 2)])
async def test_of_very_many_grants_the_oldest_are_named_and_the_others_counted(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, grants: int, left_out: int
) -> None:
    monkeypatch.setattr(report, "MOST_GRANTS", 3)
    async with house_of(A, B) as house:
        client = house.connect()
        for number in range(grants):
            client.write(10, id=number)
            await client.answer(number + 1)
            await trio.sleep(1)
        status = family_status(house.family)
        named = [grant["age_s"] for device in status["devices"] for grant in device["grants"]]  # type: ignore[attr-defined]
        assert sorted(named, reverse=True) == [float(grants - number) for number in range(3)]
        assert status["grants_left_out"] == left_out
