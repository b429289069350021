"""Labels of tapes as people write them: P[00001-00040]L8 names forty. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, product
from math import prod
from typing import Final

MOST_LABELS: Final = 10_000
"""That many one command takes; more is a slip, such as a zero too many."""

LABELS_HELP: Final = (
    "Brackets name many tapes at once: P[00001-00040]L8 is P00001L8 to P00040L8, P[1,3,10-12] is P1, P3, P10, P11 and"
    f" P12; several brackets in a label give every combination. Zeros in front are kept. {MOST_LABELS} labels at most."
)

_WORD: Final = re.compile(r"(?:[^\[\]]|\[[^\[\]]*\])+")
_BRACKETS: Final = re.compile(r"\[([^\[\]]*)\]")
_GENERATION: Final = re.compile(r"L([1-9])\Z")
_ITEM: Final = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,18}))?")


@dataclass(frozen=True, slots=True)
class _Numbers:
    """The whole numbers from `low` to `high`, each of `width` digits at least: counted before they are written down."""

    low: int
    high: int
    width: int

    def __len__(self) -> int:
        return self.high - self.low + 1

    def __iter__(self) -> Iterator[str]:
        return (f"{number:0{self.width}}" for number in range(self.low, self.high + 1))


def expand_labels(words: Iterable[str]) -> list[str]:
    """All labels that `words` name, each once, in the order in which they are named.

    Raises:
        ValueError: a word cannot be read, or there are more than `MOST_LABELS`; the text says which and why.
    """
    labels: dict[str, None] = {}
    named = 0
    for word in words:
        parts = _parts(word)
        named += prod(sum(map(len, part)) for part in parts)
        if named > MOST_LABELS:
            raise ValueError(f"{word}: that makes {named} labels; one command takes {MOST_LABELS} at most")
        labels.update(dict.fromkeys(map("".join, product(*map(chain.from_iterable, parts)))))
    return list(labels)


def may_be_of(label: str, model: str) -> bool:
    """Whether the barcode `label` leaves it open that the cartridge is a tape of `model`.

    LTO barcodes end with L and the number of the generation, those of cleaning cartridges begin with CLN.
    """
    generation = _GENERATION.search(label)
    return not label.startswith("CLN") and (generation is None or model.upper() == f"LTO{generation[1]}")


def _parts(word: str) -> list[list[_Numbers | tuple[str]]]:
    """What can stand at each place of `word`: one text, or the numbers of brackets."""
    if not _WORD.fullmatch(word):
        raise ValueError(f"{word or 'an empty word'}: brackets must come in pairs, such as P[00001-00040]L8")
    # The split gives what is between brackets and what is in them, in turns.
    texts = _BRACKETS.split(word)
    return [
        [_numbers(item, word) for item in text.split(",")] if place % 2 else [(text,)]
        for place, text in enumerate(texts)
    ]


def _numbers(item: str, word: str) -> _Numbers:
    found = _ITEM.fullmatch(item)
    if found is None:
        raise ValueError(f"{word}: [{item}] is neither a number nor a range such as 00001-00040")
    low, high = found[1], found[2] or found[1]
    padded = any(len(bound) > 1 and bound.startswith("0") for bound in (low, high))
    if int(low) > int(high) or (padded and len(low) != len(high)):
        raise ValueError(f"{word}: {item} is no range: write the lower number first, and zeros in front of both")
    return _Numbers(int(low), int(high), len(low))
