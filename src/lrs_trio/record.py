"""Frozen data of which many are made: each request is a dozen of them.

Python makes a frozen dataclass four times slower than one that only nobody changes. So these are frozen for whoever
checks the program, and by nothing when it runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

T = TypeVar("T")

if TYPE_CHECKING:
    from dataclasses import dataclass as record
else:

    def record(*, frozen: bool, slots: bool) -> Callable[[type[T]], type[T]]:
        """As `dataclasses.dataclass` with these arguments; `frozen` promises that nothing is ever changed."""
        return dataclass(slots=slots, unsafe_hash=frozen)


__all__ = ["record"]
