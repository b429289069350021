"""A library whose robot is behind a tape library controller, ours or Phobos's."""

from __future__ import annotations

import errno
import json
import os
import socket
from typing import Any, Final, TypeVar

import trio

from lrs_trio.errors import (
    LibraryUnreachableError,
    LrsError,
    MediumMissingError,
    OperationError,
    ProtocolError,
    describe,
)
from lrs_trio.model import Device
from lrs_trio.storage.elements import Element
from lrs_trio.storage.library_status import parse_elements
from lrs_trio.storage.protocols import Content
from lrs_trio.wire import tlc

CONNECT_SECONDS: Final = 10.0
"""How long a controller may take to accept a connection, and then to take in a request. Seconds."""

KEEPALIVE: Final = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 20),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)
"""A load is waited for in silence: without these a host that has died would be waited for as well."""

READ_SIZE: Final = 64 * 1024

_ID: Final = 1
"""The id of the only request of a connection."""

_NOBODYS_FAULT: Final = {"NO_AVAILABLE_LIB_DEVICE", "NO_FREE_SLOT"}
"""Keys of messages that speak of the library as a whole."""

_UNKNOWN_DRIVE: Final = {"DRIVE_SERIAL_UNKNOWN", "DRIVE_UNKNOWN_SERIAL"}
_UNKNOWN_MEDIUM: Final = {"MEDIA_LABEL_UNKNOWN"}
_IN_ANOTHER_DRIVE: Final = {"MEDIUM_IN_DRIVE"}

R = TypeVar("R", bound=tlc.ResponseBody)


def keep_alive(stream: trio.SocketStream) -> None:
    """Have the kernel notice within minutes that the host at the other end has gone."""
    for level, option, value in KEEPALIVE:
        stream.setsockopt(level, option, value)


class TlcClient:
    """Asks one controller. Each request has a connection of its own, so any number may be under way.

    A request takes as long as the controller does: the caller sets the deadline. Every method raises

    * `LibraryUnreachableError` if nobody could be asked: with the errno of the connection (ECONNREFUSED,
      EHOSTUNREACH, ETIMEDOUT...), ECONNRESET if it ended before the answer, EPROTO if what came was no answer, or
      the controller's own if its library is out of order, full or about to be left alone;
    * `LrsError` with ENOENT if the library has no such drive;
    * `OperationError` with the controller's errno, EIO if it sent none, if it could not do what was asked.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port

    def __str__(self) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"the tape library controller at {host}:{self._port}"

    async def ping(self) -> bool:
        """Whether the controller reaches its library."""
        return (await self._ask(tlc.Ping(), tlc.Pong)).library_is_up

    async def drive_lookup(self, serial: str) -> tlc.Found:
        """Where a drive is and what is in it, as far as the controller knows."""
        return await self._ask(tlc.LookUp(serial), tlc.Found)

    async def load(self, serial: str, label: str) -> None:
        """Have the medium `label` brought into a drive.

        If the connection is lost before the answer (ECONNRESET), or the request given up, it may still be done:
        only a look-up afterwards tells.

        Raises:
            MediumMissingError: ENXIO, the library has no such medium; EBUSY, it has it in another drive.
        """
        await self._ask(tlc.Load(serial, label), tlc.Loaded)

    async def unload(self, serial: str, label: str | None = None) -> tlc.Unloaded:
        """Have a drive emptied, if `label` is given only of that medium. As with `load` it may be done in spite of
        a lost connection."""
        return await self._ask(tlc.Unload(serial, label), tlc.Unloaded)

    async def status(self, refresh: bool = False) -> tuple[Element, ...]:
        """All elements as far as the controller knows, with `refresh` after a look at the library."""
        answer = await self._ask(tlc.Status(refresh), tlc.Elements)
        try:
            return parse_elements(answer.elements)
        except ValueError as error:
            raise self._unreachable(errno.EPROTO, f"sent no elements: {error}") from None

    async def refresh(self) -> None:
        """Have the controller look at its library anew."""
        await self._ask(tlc.Refresh(True), tlc.Refreshed)

    async def stat(
        self, ns: str | None = None, name: str | None = None, tags: str | None = None
    ) -> list[dict[str, Any]]:
        """What the controller has counted: objects with name, value and tags."""
        answer = await self._ask(tlc.Stat(ns, name, tags), tlc.Statistics)
        try:
            found = json.loads(answer.stats)
        except (ValueError, RecursionError) as error:
            raise self._unreachable(errno.EPROTO, f"sent no statistics: {error}") from None
        if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
            raise self._unreachable(errno.EPROTO, "sent statistics that are no array of objects")
        return found

    async def _ask(self, body: tlc.RequestBody, expected: type[R]) -> R:
        answer = await self._exchange(tlc.request_frame(tlc.Request(_ID, body)))
        if answer.request_id != _ID or not isinstance(answer.body, tlc.Failed | expected):
            what = f"{type(answer.body).__name__} with id {answer.request_id}"
            raise self._unreachable(errno.EPROTO, f"answered with {what} instead of {expected.__name__}")
        if isinstance(answer.body, tlc.Failed):
            raise _failure(answer.body, body, str(self))
        return answer.body

    async def _exchange(self, request: bytes) -> tlc.Response:
        stream = await self._connect()
        async with stream:
            try:
                with trio.fail_after(CONNECT_SECONDS):
                    await stream.send_all(request)
                return await self._receive(stream)
            except trio.TooSlowError:
                raise self._unreachable(errno.ETIMEDOUT, "does not take in what it is asked") from None
            except trio.BrokenResourceError as error:
                number = _errno_of(error.__cause__) or errno.ECONNRESET
                raise self._unreachable(number, "closed the connection before it answered") from error
            except ProtocolError as error:
                raise self._unreachable(errno.EPROTO, f"does not speak this protocol: {error}") from None

    async def _connect(self) -> trio.SocketStream:
        try:
            with trio.fail_after(CONNECT_SECONDS):
                stream = await trio.open_tcp_stream(self._host, self._port)
        except trio.TooSlowError:
            text = f"does not accept a connection in {CONNECT_SECONDS:g} s"
            raise self._unreachable(errno.ETIMEDOUT, text, asked=False) from None
        except (OSError, UnicodeError) as error:
            number = _errno_of(error) or errno.EHOSTUNREACH
            reason = describe(error) if isinstance(error, socket.gaierror | UnicodeError) else os.strerror(number)
            raise self._unreachable(number, f"cannot be reached: {reason}", asked=False) from error
        keep_alive(stream)
        return stream

    async def _receive(self, stream: trio.SocketStream) -> tlc.Response:
        decoder = tlc.frame_decoder()
        while data := await stream.receive_some(READ_SIZE):
            for message in decoder.feed(data):
                return tlc.decode_response(message)
        raise self._unreachable(errno.ECONNRESET, "closed the connection before it answered")

    def _unreachable(self, number: int, what: str, *, asked: bool = True) -> LibraryUnreachableError:
        return LibraryUnreachableError(number, f"{self} {what}", asked=asked)


class TlcLibrary:
    """The robot of one library, by its controller. A tape drive's name is its serial, a tape's its label."""

    def __init__(self, client: TlcClient) -> None:
        self._client = client

    async def lookup(self, device: Device) -> Content:
        """A medium without a barcode is there under an empty name."""
        found = await self._client.drive_lookup(device.id.name)
        return Content(found.label, found.address - found.first_address)

    async def load(self, device: Device, medium: str) -> None:
        await self._client.load(device.id.name, medium)

    async def unload(self, device: Device, medium: str) -> None:
        await self._client.unload(device.id.name, medium)


def _errno_of(error: BaseException | None) -> int | None:
    """The errno that says most of why a connection failed, also where several addresses were tried in vain."""
    match error:
        case socket.gaierror():  # its numbers are of another kind
            return errno.EHOSTUNREACH
        case OSError(errno=int(number)):
            return number
        case OSError(__cause__=ExceptionGroup(exceptions=tried)):
            numbers = [number for number in map(_errno_of, tried) if number is not None]
            return errno.ECONNREFUSED if errno.ECONNREFUSED in numbers else next(iter(numbers), None)
    return None


def _failure(failed: tlc.Failed, request: tlc.RequestBody, controller: str) -> LrsError:
    """What an error answer means: whose errno it has, and whom it blames."""
    number = -failed.rc if -failed.rc in errno.errorcode else errno.EIO
    doing, record = _described(request)
    said = _message(failed.message)
    text = f"{doing}: {controller} says {os.strerror(number)}"
    if said:
        text += f" ({', '.join(f'{key}: {value}' for key, value in said.items())})"
    if said.keys() & _UNKNOWN_MEDIUM:
        return MediumMissingError(errno.ENXIO, text, record | said)
    if said.keys() & _IN_ANOTHER_DRIVE:
        return MediumMissingError(errno.EBUSY, text, record | said)
    if said.keys() & _UNKNOWN_DRIVE:
        return LrsError(errno.ENOENT, text)
    if said.keys() & _NOBODYS_FAULT or number == errno.ESHUTDOWN:
        return LibraryUnreachableError(number, text)
    return OperationError(number, text, record | said)


def _described(request: tlc.RequestBody) -> tuple[str, dict[str, str]]:
    """What was asked, for a person and for the operation log."""
    match request:
        case tlc.LookUp(serial=serial):
            return f"look-up of drive {serial}", {"look-up": serial}
        case tlc.Load(serial=serial, label=label):
            return f"load of {label} into drive {serial}", {"load": label, "drive": serial}
        case tlc.Unload(serial=serial, label=str(label)):
            return f"unload of {label} from drive {serial}", {"unload": label, "drive": serial}
        case tlc.Unload(serial=serial):
            return f"unload of drive {serial}", {"unload": "", "drive": serial}
    name = type(request).__name__.lower()
    return name, {name: ""}


def _message(text: str | None) -> dict[str, str]:
    """A controller's message as pairs of texts; what is not JSON, or no object, is one text."""
    if not text:
        return {}
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        said = text
    if not isinstance(said, dict):
        return {"message": said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)}
    return {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for key, value in said.items()
    }
