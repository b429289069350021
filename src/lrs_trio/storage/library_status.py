"""A library's elements as JSON, in the form that tape library controllers and their clients know."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from lrs_trio.storage.elements import Element, ElementKind, in_order

_KINDS = {kind.value: kind for kind in ElementKind}


def dump_elements(elements: Iterable[Element]) -> str:
    """`elements` as a JSON array without blanks, in order."""
    return json.dumps(list(map(_shown, in_order(elements))), separators=(",", ":"), ensure_ascii=False)


def parse_elements(text: str) -> tuple[Element, ...]:
    """What `dump_elements`, or somebody else's controller, has written. Elements of unknown kinds are left out.

    Raises:
        ValueError: it is something else.
    """
    try:
        items = json.loads(text)
    except RecursionError:
        raise ValueError("the elements are nested too deeply") from None
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise ValueError("the elements are no array of objects")
    return tuple(_element(item) for item in items if str(item.get("type")) in _KINDS)


def _shown(element: Element) -> dict[str, object]:
    shown: dict[str, object] = {"type": element.kind.value, "address": element.address, "full": element.full}
    if element.full and element.label is not None:
        shown["volume"] = element.label
    if element.source is not None:
        shown["source_address"] = element.source
    if element.device_id:
        shown["device_id"] = element.device_id
    # An arm reaches others; nobody says that it can be reached.
    if element.accessible and element.kind is not ElementKind.ARM:
        shown["accessible"] = True
    return shown


def _element(item: dict[str, Any]) -> Element:
    kind = _KINDS[item["type"]]
    full = item.get("full") is True
    return Element(
        kind,
        _member(item, "address", int),
        full,
        _member(item, "volume", str) if full and "volume" in item else None,
        _member(item, "source_address", int) if "source_address" in item else None,
        _member(item, "device_id", str) if "device_id" in item else "",
        item.get("accessible") is True or kind is ElementKind.ARM,
    )


def _member(item: dict[str, Any], name: str, kind: type) -> Any:
    value = item.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"{name} of an element is {value!r}")
    return value
