"""What the codecs share: messages are parsed whole, then each field that must be there is looked for."""

from __future__ import annotations

from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from lrs_trio.errors import ProtocolError

M = TypeVar("M", bound=Message)


class MissingError(Exception):
    """A part that must be there is not, or has a value that nobody knows."""


def parse(message: M, data: bytes) -> M:
    """`message`, filled from `data`.

    Raises:
        ProtocolError: that is no message at all.
    """
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise no_message(error) from None
    return message


def no_message(error: DecodeError) -> ProtocolError:
    """What becomes of bytes that are no message at all."""
    return ProtocolError(f"not a message of this protocol: {error}")


def require(message: Message, *names: str) -> None:
    """Raises `MissingError` unless `message` has all fields `names`."""
    for name in names:
        if not message.HasField(name):
            raise MissingError(f"{name} is missing or unknown")


def optional(message: Message, name: str) -> str | None:
    """The text `name` of `message`, ``None`` if it has none."""
    return checked_text(getattr(message, name)) if message.HasField(name) else None


def text(message: Message, name: str) -> str:
    """The text `name` of `message`, which must be there."""
    require(message, name)
    return checked_text(getattr(message, name))


def checked_text(text: str) -> str:
    # The parser hands over as bytes what is not UTF-8.
    if not isinstance(text, str):
        raise MissingError("a text is not UTF-8")
    return text
