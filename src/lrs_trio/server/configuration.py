"""The configure request: sections and keys that an administrator sets while the daemon runs."""

from __future__ import annotations

import errno
import json

import structlog

from lrs_trio.errors import LrsError
from lrs_trio.model import ConfigureOperation
from lrs_trio.wire.messages import Configure, Configured

log = structlog.get_logger()


class LiveConfiguration:
    """Values by (section, key). They last as long as the daemon; nothing of the directory family reads them."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, str], str] = {}

    def answer(self, body: Configure) -> Configured:
        """Set all given values or none, or get them in the order asked, "" where nothing is set.

        Raises:
            LrsError: EPROTO if nothing is asked, EINVAL if it is not an array of objects of strings.
        """
        wanted = ("section", "key", "value") if body.operation is ConfigureOperation.SET else ("section", "key")
        items = _parse(body.configuration, wanted)
        if body.operation is ConfigureOperation.GET:
            return Configured(
                json.dumps([self._values.get((item[0], item[1]), "") for item in items], separators=(",", ":"))
            )
        for section, key, value in items:
            self._values[section, key] = value
            log.warning("this setting has no effect on the families served here", section=section, key=key, value=value)
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
