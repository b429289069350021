from __future__ import annotations

import errno
import os

import pytest

from lrs_trio.server.descriptors import SpareDescriptor, room_for_connections


def lowest_free() -> int:
    """The number that the next descriptor gets."""
    number = os.open(os.devnull, os.O_RDONLY)
    os.close(number)
    return number


@pytest.mark.parametrize(("limit", "room"), [(64, 48), (1024, 896), (16_384, 15_360), (1_048_576, 1_047_552)])
def test_some_descriptors_are_not_for_connections(limit: int, room: int) -> None:
    assert room_for_connections(limit) == room


def test_the_spare_is_free_only_when_it_is_given_up() -> None:
    number = lowest_free()
    spare = SpareDescriptor()
    assert lowest_free() > number
    spare.close()
    spare.close()
    assert lowest_free() == number
    assert spare.refill()
    assert spare.refill()
    assert lowest_free() > number
    spare.close()
    assert lowest_free() == number


def test_a_spare_that_cannot_be_had_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    spare = SpareDescriptor()
    spare.close()
    with monkeypatch.context() as used_up:
        used_up.setattr(os, "open", none_left)
        assert not spare.refill()
    assert spare.refill()
    spare.close()
