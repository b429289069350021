"""Writes HTML and SVG such that no text can be taken for markup."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import Final, NewType

Markup = NewType("Markup", str)
"""A well-formed piece of HTML or SVG; only this module makes it out of text."""

_EMPTY: Final = frozenset({"rect", "line", "path", "circle"})


def text(value: str) -> Markup:
    """`value` to be read as it stands; what cannot be printed is replaced."""
    shown = (
        value if value.isprintable() else "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in value)
    )
    return Markup(html.escape(shown))


def element(name: str, *content: Markup, **attributes: str | float) -> Markup:
    """One element. An attribute that is a word of Python ends in an underscore, and others stand for dashes."""
    words = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{text(_number(value))}"' for key, value in attributes.items()
    )
    if name in _EMPTY and not content:
        return Markup(f"<{name}{words}/>")
    return Markup(f"<{name}{words}>{''.join(content)}</{name}>")


def joined(pieces: Iterable[Markup]) -> Markup:
    return Markup("".join(pieces))


def _number(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")
