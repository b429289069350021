"""Frames: a length, a version byte, and one message. Without I/O."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from lrs_trio.errors import ProtocolError

PROTOCOL_VERSION = 14
"""The version byte between the daemon and its clients; other protocols in such frames have their own."""

MAX_FRAME_BYTES = 2 * 1024 * 1024
"""The longest frame that any peer may send; the length counts the version byte and the message."""

_HEADER = struct.Struct(">IB")
_LENGTH = struct.Struct(">I")


def encode_frame(message: bytes, version: int = PROTOCOL_VERSION) -> bytes:
    """The frame that carries `message`."""
    return _HEADER.pack(len(message) + 1, version) + message


class FrameDecoder:
    """Bytes in, messages out, however the bytes were cut."""

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES, *, version: int = PROTOCOL_VERSION) -> None:
        self._max_frame_bytes = max_frame_bytes
        self._version = version
        self._buffer = bytearray()

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[bytes]:
        """Add `data` and return an iterator over the messages that are complete now.

        Whatever the iterator has not yielded stays for the next call.

        Raises:
            ProtocolError: by the iterator, after the messages before: a frame of length 0 or longer than
                allowed, or of another version.
        """
        self._buffer += data
        return self._messages()

    def at_boundary(self) -> bool:
        """Whether the bytes so far end with a whole frame."""
        return not self._buffer

    @property
    def missing(self) -> int:
        """How many bytes the frame that has begun still lacks, as far as that is known; for between two calls."""
        if len(self._buffer) < _LENGTH.size:
            return 0
        (length,) = _LENGTH.unpack_from(self._buffer)
        return _LENGTH.size + int(length) - len(self._buffer)

    def _messages(self) -> Iterator[bytes]:
        buffer, start = self._buffer, 0
        try:
            while len(buffer) - start >= _LENGTH.size:
                (length,) = _LENGTH.unpack_from(buffer, start)
                if not 1 <= length <= self._max_frame_bytes:
                    raise ProtocolError(f"a frame of {length} bytes; 1 to {self._max_frame_bytes} are allowed")
                begin = start + _HEADER.size
                end = start + _LENGTH.size + length
                if len(buffer) >= begin and buffer[begin - 1] != self._version:
                    raise ProtocolError(f"protocol version {buffer[begin - 1]}; this is version {self._version}")
                if len(buffer) < end:
                    return
                message = bytes(memoryview(buffer)[begin:end])
                start = end
                yield message
        finally:
            del buffer[:start]
