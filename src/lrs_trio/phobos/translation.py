"""Turning keys of a Phobos configuration into settings: what was read, what is wrong, what is to be told."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from lrs_trio.model import Family
from lrs_trio.phobos.configuration import GivenKey, PhobosConfiguration, variable
from lrs_trio.phobos.values import as_written, by_family, switch, whole_number, within
from lrs_trio.settings_sources import Key

DIR: Final = Family.DIR.label
TAPE: Final = Family.TAPE.label
RADOS_POOL: Final = Family.RADOS_POOL.label
KNOWN_FAMILIES: Final = frozenset({DIR, TAPE, RADOS_POOL})


class Translation:
    """The settings that keys become. A key that has been looked at is accounted for, by a setting or a message."""

    def __init__(self, configuration: PhobosConfiguration) -> None:
        self.configuration = configuration
        self.values: dict[Key, object] = {}
        self.said: dict[Key, str] = {}
        """For settings that can be wrong, how an error about them begins."""
        self.problems: list[str] = []
        self.warnings: list[str] = []
        self._accounted: set[str] = set()

    def unaccounted(self) -> Iterator[GivenKey]:
        """The keys that have a value at which nobody has looked."""
        return (given for given in self.configuration.given() if given.variable not in self._accounted)

    # What a key says.

    def text(self, section: str, key: str) -> str | None:
        self._accounted.add(variable(section, key))
        return self.configuration.get(section, key)

    def number(self, section: str, key: str, default: int) -> int:
        text = self.text(section, key)
        if text is None:
            return default
        number = whole_number(text)
        if number is None:
            self.warn(section, key, f"{text!r} is not a whole number; {default} holds")
            return default
        return number

    def switch(self, section: str, key: str, *, default: bool) -> bool:
        text = self.text(section, key)
        value = default if text is None else switch(text)
        if value is None:
            self.warn(section, key, f"{text!r} is neither true nor false; {str(default).lower()} holds")
            return default
        return value

    def by_family(
        self, key: str, needed: Iterable[str], defaults: Mapping[str, int], lowest: int, highest: int
    ) -> dict[str, int]:
        """The number for each family; if the key is there, each one that is `needed` must have a number."""
        text = self.text("lrs", key)
        if text is None:
            return dict(defaults)
        given = by_family(text)
        for family in needed:
            if within(given.get(family, ""), lowest, highest) is None:
                example = f"{family}={defaults[family]}"
                self.refuse("lrs", key, f"a whole number from {lowest} to {highest} for {family}, as in {example}")
        for item in text.split(","):
            if item.partition("=")[0] not in KNOWN_FAMILIES:
                self.warn("lrs", key, f"{item!r} is for no family")
        numbers = {family: within(given.get(family, ""), lowest, highest) for family in defaults}
        return {family: defaults[family] if number is None else number for family, number in numbers.items()}

    def sections(
        self, kind: str, keys: Iterable[str], known: Iterable[str], otherwise: Callable[[str], str] = str
    ) -> list[str]:
        """The names of the sections of a `kind`, such as legacy for [tlc "legacy"], that may have one of `keys`.

        A variable has a name in capitals. It is one that the file has, or else one of those that are `known`, or else
        what `otherwise` makes of it.
        """
        found = list(self.configuration.sections(kind))
        pattern = re.compile(f"{variable(kind, '')}([^a-z]+)_({'|'.join(keys)})")
        variables = (given.variable for given in self.configuration.given() if given.section is None)
        for match in filter(None, map(pattern.fullmatch, variables)):
            if as_written(match[1], found) is None:
                found.append(as_written(match[1], known) or otherwise(match[1]))
        return found

    # What becomes of it.

    def put(self, section: str, key: str, value: object, *settings: Key) -> None:
        """Have `value`, which the key says, as that of each of `settings`."""
        for setting in settings:
            self.values[setting] = value
            self.said[setting] = self.configuration.told(section, key)

    def refuse(self, section: str, key: str, allowed: str) -> None:
        self.problems.append(f"{self.configuration.told(section, key)}: must be {allowed}")

    def warn(self, section: str, key: str, what: str) -> None:
        self.warnings.append(f"{self.configuration.label(section, key)}: {what}")

    def expect_arrival_order(self, section: str, requests: str, *keys: str) -> None:
        """The algorithms that `keys` name: there is one for `requests`, whatever they say."""
        for key in keys:
            text = self.text(section, key)
            if text == "grouped_read":
                self.warn(section, key, f"grouped_read: {requests} are served in the order of arrival")
            elif text not in (None, "fifo"):
                self.refuse(section, key, "fifo, or grouped_read, which has no effect")
