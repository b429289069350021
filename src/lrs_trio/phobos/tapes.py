"""What a Phobos configuration says of tapes, drives and libraries, as our settings."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import chain
from typing import Final

from lrs_trio.phobos.configuration import variable
from lrs_trio.phobos.translation import TAPE, Translation
from lrs_trio.phobos.values import as_written, names, shares
from lrs_trio.settings import TapeSettings

_TAPE: Final = ("families", TAPE)
_SCHEDULING: Final = "io_sched_tape"

# The keys that are one setting, with Phobos's default.
_TEXTS: Final = (
    ("lrs", "mount_prefix", "/mnt/phobos-", (*_TAPE, "mount_prefix")),
    (_SCHEDULING, "read_algo", "fifo", (*_TAPE, "read_algorithm")),
    (_SCHEDULING, "dispatch_algo", "none", (*_TAPE, "dispatch")),
    ("ltfs", "cmd_mount", '/usr/sbin/pho_ldm_helper mount_ltfs "%s" "%s"', (*_TAPE, "ltfs", "mount")),
    ("ltfs", "cmd_umount", '/usr/sbin/pho_ldm_helper umount_ltfs "%s" "%s"', (*_TAPE, "ltfs", "unmount")),
    ("ltfs", "cmd_format", '/usr/sbin/pho_ldm_helper format_ltfs "%s" "%s"', (*_TAPE, "ltfs", "format")),
    ("ltfs", "cmd_release", '/usr/sbin/pho_ldm_helper release_ltfs "%s"', (*_TAPE, "ltfs", "release")),
)

_FAIR_SHARE: Final = re.compile(variable(_SCHEDULING, "fair_share_(.+)_(min|max)"))
_SHARES_ALLOWED: Final = "three whole numbers for reads, writes and formats, without blanks, as in 1,1,0"
_PORT: Final = 20123


def translate_tapes(found: Translation) -> None:
    """For a host that serves tapes."""
    for section, key, default, setting in _TEXTS:
        text = found.text(section, key)
        found.put(section, key, default if text is None else text, setting)
    number = found.number("tape", "tape_full_threshold", 5)
    found.put("tape", "tape_full_threshold", number, (*_TAPE, "full_threshold_percent"))
    ordered = found.switch(_SCHEDULING, "ordered_grouped_read", default=True)
    found.put(_SCHEDULING, "ordered_grouped_read", ordered, (*_TAPE, "ordered_grouped_read"))
    found.expect_arrival_order(_SCHEDULING, "writes and formats", "write_algo", "format_algo")
    models = _models(found)
    _fair_share(found, models)
    types = _lists(found, "tape_type", "drive_rw", "tape_types", models)
    _lists(found, "drive_type", "models", "drive_types", [*chain(*types), *(f"{model}_drive" for model in models)])
    _libraries(found)


def _models(found: Translation) -> Iterable[str]:
    section, key = "tape_model", "supported_list"
    text = found.text(section, key)
    models = TapeSettings().models if text is None else tuple(names(text))
    found.put(section, key, models, (*_TAPE, "models"))
    return models


def _fair_share(found: Translation, models: Iterable[str]) -> None:
    given = filter(None, (_FAIR_SHARE.fullmatch(given.variable) for given in found.configuration.given()))
    for name, bound in sorted(match.groups() for match in given):
        technology = as_written(name, models)
        key = f"fair_share_{technology or name}_{bound}"
        numbers = shares(found.text(_SCHEDULING, key) or "")
        if technology is None:
            found.warn(
                _SCHEDULING, key, "no drive is of that technology: [tape_model] supported_list has no such model"
            )
        elif numbers is None:
            found.refuse(_SCHEDULING, key, _SHARES_ALLOWED)
        else:
            found.put(_SCHEDULING, key, numbers, (*_TAPE, "fair_share", technology, bound))


def _lists(found: Translation, kind: str, key: str, setting: str, known: Iterable[str]) -> list[list[str]]:
    """The lists that the sections of a `kind` have, which become a table of lists."""
    lists = []
    for name in found.sections(kind, [key], known):
        section = f'{kind} "{name}"'
        text = found.text(section, key)
        if text is not None:
            lists.append(names(text))
            found.put(section, key, names(text), (*_TAPE, setting, name))
    return lists


def _libraries(found: Translation) -> None:
    """Those whose controllers are told. One without the name of its host cannot be used; no drive may need it."""
    default = found.configuration.get("store", "default_tape_library")
    usable = False
    for name in found.sections("tlc", ["hostname", "port"], [default] if default else [], str.lower):
        section = f'tlc "{name}"'
        host, port = found.text(section, "hostname"), found.number(section, "port", _PORT)
        if host is None:
            found.warnings.append(f"[{section}]: has no hostname, so that its library cannot be used")
            continue
        usable = True
        library = ("libraries", name)
        found.put(section, "hostname", host, (*library, "host"))
        found.put(section, "port", port, (*library, "port"))
        # The controller of Phobos writes them to the operation log itself.
        found.values[*library, "log_moves"] = False
    if not usable:
        found.warn("lrs", "families", f'{TAPE}: no section [tlc "..."] has a hostname, so that no tape can be moved')
