"""The configure request: sections and keys that an administrator sets while the daemon runs."""

from __future__ import annotations

import errno
import json

import structlog

from lrs_trio.errors import LrsError
from lrs_trio.model import ConfigureOperation
from lrs_trio.wire.messages import Configure, Configured

log = structlog.get_logger()

MOST_VALUES = 1000
LONGEST_TEXT = 4096
"""What clients may have the daemon remember."""

SHOWN = 5


class LiveConfiguration:
    """Values by (section, key). They last as long as the daemon; nothing of the directory family reads them."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, str], str] = {}

    def answer(self, body: Configure) -> Configured:
        """Set all given values or none, or get them in the order asked, "" where nothing is set.

        Raises:
            LrsError: EPROTO if nothing is asked, EINVAL if it is not an array of objects of strings, ENOSPC
                if it is more than is kept.
        """
        wanted = ("section", "key", "value") if body.operation is ConfigureOperation.SET else ("section", "key")
        items = _parse(body.configuration, wanted)
        if body.operation is ConfigureOperation.GET:
            return Configured(
                json.dumps([self._values.get((item[0], item[1]), "") for item in items], separators=(",", ":"))
            )
        values = self._values | {(section, key): value for section, key, value in items}
        if len(values) > MOST_VALUES or any(len(text) > LONGEST_TEXT for item in items for text in item):
            text = f"at most {MOST_VALUES} settings of {LONGEST_TEXT} characters are kept"
            raise LrsError(errno.ENOSPC, text)
        self._values = values
        log.warning(
            "these settings have no effect on the families served here",
            settings=", ".join(f"[{section}] {key}" for section, key, _ in items[:SHOWN]),
            count=len(items),
        )
        return Configured()


def _parse(text: str, wanted: tuple[str, ...]) -> list[tuple[str, ...]]:
    if not text:
        raise LrsError(errno.EPROTO, "an empty configuration")
    try:
        items = json.loads(text, object_pairs_hook=_without_duplicates)
    except ValueError as error:
        raise LrsError(errno.EINVAL, f"the configuration is not JSON: {error}") from None
    except RecursionError:
        raise LrsError(errno.EINVAL, "the configuration is nested too deeply") from None
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise LrsError(errno.EINVAL, "the configuration is not an array of objects")
    if not all(isinstance(item.get(name), str) for item in items for name in wanted):
        raise LrsError(errno.EINVAL, f"each object of the configuration needs the strings {', '.join(wanted)}")
    return [tuple(item[name] for name in wanted) for item in items]


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a key is given twice")
    return members
