"""Sets with an order."""

from __future__ import annotations

from lrs_trio.ordered import OrderedSet


def test_it_is_gone_through_in_the_order_of_arrival() -> None:
    elements = [f"element {number}" for number in range(100)]
    found = OrderedSet(elements)
    found.add("element 7")
    assert list(found) == elements


def test_what_comes_again_comes_last() -> None:
    found = OrderedSet("abc")
    found.discard("a")
    found.discard("nothing")
    assert (list(found), len(found), "a" in found) == (["b", "c"], 2, False)
    found.add("a")
    assert repr(found) == "OrderedSet(['b', 'c', 'a'])"


def test_it_equals_any_set_of_the_same_elements() -> None:
    assert OrderedSet("abc") == set("cba")
    assert set() == OrderedSet()
    assert OrderedSet("ab") != set("abc")
    found = OrderedSet("ab")
    found.clear()
    assert not found
