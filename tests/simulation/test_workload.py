"""What the clients of a run ask for."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random

import pytest

from lrs_trio.model import Family, FsType, ResourceId
from lrs_trio.simulation.clients.workload import (
    DeleteOrder,
    FormatOrder,
    Order,
    ReadOrder,
    Stock,
    Stored,
    Workload,
    WriteOrder,
    shares,
)
from lrs_trio.simulation.scenario import Scenario

GIB = 2**30
DISK = ResourceId(Family.DIR, "/data/000", "legacy")
OTHER = ResourceId(Family.DIR, "/data/001", "legacy")
TAPE = ResourceId(Family.TAPE, "P00000L8", "legacy")

DIRECTORIES = Scenario(seed=1, directories=4, volumes=2, directory_capacity=8 * GIB, largest=GIB, requests=500)
BOTH = replace(DIRECTORIES, drives=2, tapes=4)


def orders(scenario: Scenario, stock: Stock, count: int = 500, *, fullness: float = 0.6, seed: int = 1) -> list[Order]:
    workload = Workload(scenario, Random(seed), stock, fullness)
    return [workload.order() for _ in range(count)]


def full_stock() -> Stock:
    stock = Stock([OTHER])
    for medium in (DISK, OTHER, TAPE):
        for size in range(1000):
            stock.add(Stored(medium, size))
    return stock


def test_the_same_random_numbers_make_the_same_orders() -> None:
    assert orders(BOTH, full_stock()) == orders(BOTH, full_stock())
    assert orders(BOTH, full_stock()) != orders(BOTH, full_stock(), seed=2)


def test_there_are_orders_of_all_kinds_once_something_is_stored() -> None:
    kinds = Counter(type(order) for order in orders(BOTH, full_stock()))
    assert kinds[WriteOrder] > kinds[ReadOrder] > kinds[DeleteOrder] > kinds[FormatOrder] == 1


def test_all_is_written_as_long_as_nothing_is_stored() -> None:
    assert {type(order) for order in orders(DIRECTORIES, Stock())} == {WriteOrder}


def test_writes_are_for_what_the_scenario_has() -> None:
    writes = [order for order in orders(BOTH, Stock()) if isinstance(order, WriteOrder)]
    assert {order.family for order in writes} == {Family.DIR, Family.TAPE}
    assert {order.family for order in orders(DIRECTORIES, Stock()) if isinstance(order, WriteOrder)} == {Family.DIR}


def test_sizes_are_of_all_orders_of_magnitude_and_never_above_the_largest() -> None:
    sizes = [order.size for order in orders(DIRECTORIES, Stock(), 2000, fullness=20) if isinstance(order, WriteOrder)]
    assert max(sizes) <= GIB
    assert min(sizes) == 0
    assert all(any(low <= size < 1000 * low for size in sizes) for low in (1, 1000, 10**6))


@pytest.mark.parametrize("fullness", [0.2, 0.6])
def test_all_writes_together_fill_the_media_about_as_much_as_they_should(fullness: float) -> None:
    written = sum(
        order.size for order in orders(DIRECTORIES, Stock(), fullness=fullness) if isinstance(order, WriteOrder)
    )
    assert 0.2 * fullness * 16 * GIB < written < 3 * fullness * 16 * GIB


def test_copies_seldom_need_more_devices_than_there_are() -> None:
    scenario = replace(DIRECTORIES, directories=2)
    copies = Counter(order.copies for order in orders(scenario, Stock(), 5000) if isinstance(order, WriteOrder))
    assert set(copies) == {1, 2, 3}
    assert copies[3] < 0.02 * 5000


def test_media_of_one_read_are_different_and_of_one_family() -> None:
    reads = [order for order in orders(BOTH, full_stock()) if isinstance(order, ReadOrder)]
    assert any(len(order.media) > 1 for order in reads)
    for order in reads:
        assert len(set(order.media)) == len(order.media)
        assert len({medium.family for medium in order.media}) == 1
        assert 1 <= order.n_required <= len(order.media)


def test_nothing_is_deleted_twice() -> None:
    stock = Stock()
    for size in range(10):
        stock.add(Stored(DISK, size))
    deleted = [order.objects for order in orders(DIRECTORIES, stock, 2000) if isinstance(order, DeleteOrder)]
    assert sorted(stored.size for objects in deleted for stored in objects) == list(range(10))


def test_a_blank_medium_is_formatted_once_unless_it_is_put_back() -> None:
    stock = Stock([DISK, TAPE])
    formats = [order for order in orders(BOTH, stock) if isinstance(order, FormatOrder)]
    assert {(order.medium, order.fs_type) for order in formats} == {(DISK, FsType.POSIX), (TAPE, FsType.LTFS)}
    stock.put_back(DISK)
    assert [order.medium for order in orders(BOTH, stock) if isinstance(order, FormatOrder)] == [DISK]


def test_shares_are_as_equal_as_can_be() -> None:
    assert shares(11, 4) == [3, 3, 3, 2]
    assert shares(2, 2) == [1, 1]
