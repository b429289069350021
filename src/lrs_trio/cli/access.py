"""What may be done with a medium, as people write it: +PG, -D, =PGD. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Self

ACCESS_HELP: Final = (
    "ACCESS is letters after a sign: P to put (write), G to get (read), D to delete objects. +PG allows writes and"
    " reads, -D forbids deletions, =G allows reads and nothing else; no sign means =."
)

_ACCESS: Final = re.compile(r"([-+=]?)([PGD]*)")


@dataclass(frozen=True, slots=True)
class Access:
    """What is allowed; ``None`` leaves it as it is."""

    put: bool | None
    get: bool | None
    delete: bool | None

    @classmethod
    def parse(cls, text: str) -> Self:
        """The change that `text` asks for.

        Raises:
            ValueError: it cannot be read, or changes nothing.
        """
        found = _ACCESS.fullmatch(text)
        if found is None or text in ("", "+", "-"):
            raise ValueError(f"{text!r} is no access such as +PG, -D or =PGD")
        sign, letters = found.groups()
        named, others = (sign != "-"), (None if sign in ("+", "-") else False)
        put, get, delete = (named if letter in letters else others for letter in "PGD")
        return cls(put, get, delete)

    def __str__(self) -> str:
        """The letters of what is allowed, such as PGD; - stands for none."""
        allowed = {"P": self.put, "G": self.get, "D": self.delete}
        return "".join(letter for letter, is_allowed in allowed.items() if is_allowed) or "-"
