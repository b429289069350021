"""Counters and gauges, and how they are shown to whoever asks with a stat request.

The answer's form and the metrics' names are those that existing clients know.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Iterator, Mapping
from itertools import count

from lrs_trio.errors import LrsError


class Counter:
    """Counts up from 0 and never down."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def add(self, amount: int = 1) -> None:
        """Count `amount` more. A negative one (bytes that were deleted) counts as nothing."""
        if amount > 0:
            self.value += amount

    def read(self) -> int:
        return self.value


class Gauge:
    """A figure that goes up and down; below 0 it shows 0."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def set(self, value: int) -> None:
        self.value = value

    def read(self) -> int:
        return max(self.value, 0)


class _Metric:
    __slots__ = ("name", "ns", "read", "tags")

    def __init__(self, ns: str, name: str, tags: Mapping[str, str] | None, read: Callable[[], int]) -> None:
        self.ns = ns
        self.name = name
        self.tags = dict(tags or {})
        self.read = read

    def bears(self, tags: Mapping[str, str]) -> bool:
        """Whether it has all these; they are in lower case."""
        if not tags:
            return True
        mine = {key.casefold(): value.casefold() for key, value in self.tags.items()}
        return all(mine.get(key) == value for key, value in tags.items())

    def shown(self) -> dict[str, str | int]:
        entry: dict[str, str | int] = {"name": f"{self.ns}.{self.name}"}
        if self.tags:
            entry["tags"] = ",".join(f"{key}={value}" for key, value in self.tags.items())
        entry["value"] = max(self.read(), 0)
        return entry


LONGEST_FILTER = 8192
"""Characters of a filter: more than the path of a directory has."""


def check_filters(ns: str | None, name: str | None, tags: str | None) -> None:
    """See that metrics can be chosen by these, as `Stats.shown` does.

    Raises:
        LrsError: EINVAL, a part of `tags` is no pair, or a filter is longer than any metric is named.
    """
    for text in filter(None, (ns, name, tags)):
        if len(text) > LONGEST_FILTER:
            raise LrsError(errno.EINVAL, f"a filter has {len(text)} characters; {LONGEST_FILTER} are allowed")
    _parse_tags((tags or "").casefold())


class Stats:
    """All metrics of the daemon, in the order of their registration."""

    def __init__(self) -> None:
        # By number, so that those of one device are taken out without a look at those of all others.
        self._metrics: dict[int, _Metric] = {}
        self._numbers = count()
        self._alike: dict[tuple[str, frozenset[tuple[str, str]]], list[int]] = {}
        """By namespace and tags: their numbers."""

    def counter(self, ns: str, name: str, tags: Mapping[str, str] | None = None) -> Counter:
        """Register a counter and return it."""
        counter = Counter()
        self.computed(ns, name, counter.read, tags)
        return counter

    def gauge(self, ns: str, name: str, tags: Mapping[str, str] | None = None) -> Gauge:
        """Register a gauge and return it."""
        gauge = Gauge()
        self.computed(ns, name, gauge.read, tags)
        return gauge

    def computed(self, ns: str, name: str, read: Callable[[], int], tags: Mapping[str, str] | None = None) -> None:
        """Register a gauge whose value is asked of `read` whenever it is shown."""
        number = next(self._numbers)
        self._metrics[number] = _Metric(ns, name, tags, read)
        self._alike.setdefault((ns, frozenset((tags or {}).items())), []).append(number)

    def unregister(self, ns: str, tags: Mapping[str, str]) -> None:
        """Drop every metric of `ns` that bears `tags` and no others."""
        for number in self._alike.pop((ns, frozenset(tags.items())), ()):
            del self._metrics[number]

    def dump(self, ns: str | None = None, name: str | None = None, tags: str | None = None) -> str:
        """`shown`, as a JSON array."""
        return json.dumps(list(self.shown(ns, name, tags)), ensure_ascii=False)

    def shown(
        self, ns: str | None = None, name: str | None = None, tags: str | None = None
    ) -> Iterator[dict[str, str | int]]:
        """The metrics that match, each read when its turn comes.

        Filters ignore case; an empty one matches everything. `tags` is ``key=value[,key=value...]``
        and each pair must be there.

        Raises:
            LrsError: EINVAL, a part of `tags` is no pair, or a filter is longer than any metric is named.
        """
        check_filters(ns, name, tags)
        ns, name = (ns or "").casefold(), (name or "").casefold()
        wanted = _parse_tags((tags or "").casefold())
        # Those of a device may be taken out while others are shown.
        return (
            metric.shown()
            for metric in tuple(self._metrics.values())
            if (not ns or metric.ns.casefold() == ns)
            and (not name or metric.name.casefold() == name)
            and metric.bears(wanted)
        )


def _parse_tags(text: str) -> dict[str, str]:
    tags: dict[str, str] = {}
    for item in filter(None, text.split(",")):
        key, equals, value = item.partition("=")
        if not equals:
            raise LrsError(errno.EINVAL, f"tag filter {text!r}: {item!r} is not of the form key=value")
        tags[key] = value
    return tags
