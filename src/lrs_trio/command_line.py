"""The command lines of the settings: words as in a shell, without one, and marks for the arguments."""

from __future__ import annotations

import re
import shlex
from collections import deque
from errno import EINVAL

from lrs_trio.errors import LrsError

_PLACEHOLDER = re.compile(r"%(.?)", re.DOTALL)


def split_command(template: str, *arguments: str) -> list[str]:
    """The words of a command line of the settings.

    They are split as a shell does; then each ``%s`` becomes the next argument, which stays within its word whatever
    it contains, and ``%%`` a per cent sign.

    Raises:
        LrsError: EINVAL, `template` is no command line with as many ``%s`` as there are `arguments`.
    """

    def wrong(why: str) -> LrsError:
        return LrsError(EINVAL, f"the command {template!r} of the settings {why}")

    try:
        words = shlex.split(template)
    except ValueError as error:
        raise wrong(f"cannot be split into words: {error}") from error
    if not words:
        raise wrong("is empty")
    left = deque(arguments)

    def filled(placeholder: re.Match[str]) -> str:
        match placeholder[1]:
            case "%":
                return "%"
            case "s" if left:
                return left.popleft()
            case "s":
                raise wrong(f"has more %s than the {len(arguments)} arguments that it gets")
        raise wrong(f"has {placeholder[0]!r}: only %s and %% may follow a per cent sign")

    words = [_PLACEHOLDER.sub(filled, word) for word in words]
    if left:
        raise wrong(f"has fewer %s than the {len(arguments)} arguments that it gets")
    if any("\0" in word for word in words):
        raise wrong("or one of its arguments contains a null character")
    return words
