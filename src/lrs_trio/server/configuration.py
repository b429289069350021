"""The configure request: keys of a Phobos configuration that an administrator sets while the daemon runs."""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import structlog
from pydantic import ValidationError

from lrs_trio.errors import LrsError
from lrs_trio.model import ConfigureOperation, Family
from lrs_trio.scheduling.family import FamilyScheduler
from lrs_trio.settings import FamilySettings
from lrs_trio.wire.messages import Configure, Configured

log = structlog.get_logger()

MOST_VALUES = 1000
LONGEST_TEXT = 4096
"""What one request may name, and what clients may have the daemon remember."""

SHOWN = 5


class Configuration(Protocol):
    """Where values come from and where they are kept, by section and key."""

    def get(self, section: str, key: str) -> str | None: ...

    def set(self, section: str, key: str, value: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Effect:
    """What a key changes while the daemon runs: a setting of `family`, or of each if there is none."""

    setting: str
    family: Family | None = None


EFFECTS: Final[Mapping[tuple[str, str], Effect]] = {
    ("LRS", "policy"): Effect("policy"),
    ("LRS", "locate_lock_expirancy"): Effect("locate_expiry_ms"),
    ("LRS", "grouping_on_dir"): Effect("groupings", Family.DIR),
    ("DIR", "dir_full_threshold"): Effect("full_threshold_percent", Family.DIR),
}


class LiveConfiguration:
    """Sets and gets values; some of them change how `families` work.

    Values that nobody has set come from `given`; what is set lasts as long as the daemon.
    """

    def __init__(self, families: Mapping[Family, FamilyScheduler], given: Configuration | None) -> None:
        self._families = families
        self._values: Configuration = _Values() if given is None else given
        self._set: set[tuple[str, str]] = set()
        self._warned: set[tuple[str, str]] = set()

    def answer(self, body: Configure) -> Configured:
        """Set the values one by one, or get them in the order asked, "" where there is none.

        Raises:
            LrsError: EPROTO if nothing is asked, EINVAL if it is not an array of objects of strings, if a value is
                wrong or too much is named, ENOSPC if it is more than is kept. What was set before the fault stays.
        """
        items = _parse(body.configuration)
        if body.operation is ConfigureOperation.GET:
            values = [self._values.get(*_strings(item, "section", "key")) for item in items]
            texts = [(value or "").encode(errors="surrogateescape").decode(errors="replace") for value in values]
            return Configured(json.dumps(texts, separators=(",", ":"), ensure_ascii=False))
        unheeded: dict[tuple[str, str], str] = {}
        try:
            for item in items:
                section, key, value = _strings(item, "section", "key", "value")
                if not self._set_one(section, key, value):
                    unheeded[_name(section, key)] = f"[{section}] {key}"
        finally:
            self._warn(unheeded)
        return Configured()

    def _set_one(self, section: str, key: str, value: str) -> bool:
        """Set a value; ``False`` if that changes nothing that this daemon does."""
        name = _name(section, key)
        too_many = name not in self._set and len(self._set) >= MOST_VALUES
        if too_many or max(len(section), len(key), len(value)) > LONGEST_TEXT:
            text = f"at most {MOST_VALUES} settings of {LONGEST_TEXT} characters are kept"
            raise LrsError(errno.ENOSPC, text)
        effect = EFFECTS.get(name)
        if effect is not None:
            self._apply(effect, f"[{section}] {key}", value)
        self._set.add(name)
        self._values.set(section, key, value)
        return effect is not None

    def _warn(self, unheeded: Mapping[tuple[str, str], str]) -> None:
        """Say once of each key that it has no effect."""
        new = [label for name, label in unheeded.items() if name not in self._warned]
        self._warned |= unheeded.keys()
        if new:
            log.warning(
                "these settings have no effect on the families served here",
                settings=", ".join(new[:SHOWN]),
                count=len(new),
            )

    def _apply(self, effect: Effect, label: str, value: str) -> None:
        try:
            checked = FamilySettings.model_validate({effect.setting: value})
        except ValidationError:
            allowed = FamilySettings.model_fields[effect.setting].description
            raise LrsError(errno.EINVAL, f"{label} = {value!r}: must be {allowed}") from None
        change = {effect.setting: getattr(checked, effect.setting)}
        for family in self._families.values():
            if effect.family in (None, family.family):
                family.change_settings(family.settings.model_copy(update=change))


class _Values:
    """Values that are set, and no others."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, str], str] = {}

    def get(self, section: str, key: str) -> str | None:
        return self._values.get(_name(section, key))

    def set(self, section: str, key: str, value: str) -> None:
        self._values[_name(section, key)] = value


def _name(section: str, key: str) -> tuple[str, str]:
    """What Phobos takes for one and the same key: it names an environment variable by it."""
    return section.upper().replace('"', "").replace(" ", "_"), key.lower()


def _parse(text: str) -> list[Any]:
    if not text:
        raise LrsError(errno.EPROTO, "an empty configuration")
    try:
        items = json.loads(text, object_pairs_hook=_without_duplicates)
    except ValueError as error:
        raise LrsError(errno.EINVAL, f"the configuration is not JSON: {error}") from None
    except RecursionError:
        raise LrsError(errno.EINVAL, "the configuration is nested too deeply") from None
    if not isinstance(items, list):
        raise LrsError(errno.EINVAL, "the configuration is not an array")
    if len(items) > MOST_VALUES:
        raise LrsError(errno.EINVAL, f"the configuration names {len(items)} values; {MOST_VALUES} are allowed")
    return items


def _strings(item: object, *names: str) -> list[str]:
    """The members `names` of a JSON object.

    Raises:
        LrsError: EINVAL, one of them is no string, or none that an environment variable could hold.
    """
    members = item if isinstance(item, dict) else {}
    found = [text for name in names if isinstance(text := members.get(name), str)]
    if len(found) != len(names):
        raise LrsError(errno.EINVAL, f"each object of the configuration needs the strings {', '.join(names)}")
    try:
        "".join(found).encode()
    except UnicodeEncodeError:
        raise LrsError(errno.EINVAL, "half a character is no text") from None
    if any("\0" in text for text in found):
        raise LrsError(errno.EINVAL, "a null character is no text")
    return found


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a key is given twice")
    return members
