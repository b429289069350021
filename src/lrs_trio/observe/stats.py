"""Counters and gauges, and how they are shown to whoever asks with a stat request.

The answer's form and the metrics' names are those that existing clients know.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Mapping

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
        mine = {key.casefold(): value.casefold() for key, value in self.tags.items()}
        return all(mine.get(key.casefold()) == value.casefold() for key, value in tags.items())

    def shown(self) -> dict[str, str | int]:
        entry: dict[str, str | int] = {"name": f"{self.ns}.{self.name}"}
        if self.tags:
            entry["tags"] = ",".join(f"{key}={value}" for key, value in self.tags.items())
        entry["value"] = max(self.read(), 0)
        return entry


class Stats:
    """All metrics of the daemon, in the order of their registration."""

    def __init__(self) -> None:
        self._metrics: list[_Metric] = []

    def counter(self, ns: str, name: str, tags: Mapping[str, str] | None = None) -> Counter:
        """Register a counter and return it."""
        counter = Counter()
        self._metrics.append(_Metric(ns, name, tags, counter.read))
        return counter

    def gauge(self, ns: str, name: str, tags: Mapping[str, str] | None = None) -> Gauge:
        """Register a gauge and return it."""
        gauge = Gauge()
        self._metrics.append(_Metric(ns, name, tags, gauge.read))
        return gauge

    def computed(self, ns: str, name: str, read: Callable[[], int], tags: Mapping[str, str] | None = None) -> None:
        """Register a gauge whose value is asked of `read` whenever it is shown."""
        self._metrics.append(_Metric(ns, name, tags, read))

    def unregister(self, ns: str, tags: Mapping[str, str]) -> None:
        """Drop every metric of `ns` that bears all of `tags`."""
        self._metrics = [metric for metric in self._metrics if metric.ns != ns or not metric.bears(tags)]

    def dump(self, ns: str | None = None, name: str | None = None, tags: str | None = None) -> str:
        """The metrics that match, as a JSON array.

        Filters ignore case; an empty one matches everything. `tags` is ``key=value[,key=value...]``
        and each pair must be there.

        Raises:
            LrsError: EINVAL, a part of `tags` is no pair.
        """
        wanted = _parse_tags(tags or "")
        return json.dumps(
            [
                metric.shown()
                for metric in self._metrics
                if (not ns or metric.ns.casefold() == ns.casefold())
                and (not name or metric.name.casefold() == name.casefold())
                and metric.bears(wanted)
            ],
            ensure_ascii=False,
        )


def _parse_tags(text: str) -> dict[str, str]:
    tags: dict[str, str] = {}
    for item in filter(None, text.split(",")):
        key, equals, value = item.partition("=")
        if not equals:
            raise LrsError(errno.EINVAL, f"tag filter {text!r}: {item!r} is not of the form key=value")
        tags[key] = value
    return tags
