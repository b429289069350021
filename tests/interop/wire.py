"""The wire side of a client command: blocking connections, and every frame that is said, in order."""

from __future__ import annotations

import socket
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, TypeVar

from lrs_trio.model import RequestKind
from lrs_trio.wire.codec import decode_response, encode_request
from lrs_trio.wire.framing import FrameDecoder, encode_frame
from lrs_trio.wire.messages import Failed, Ping, Pong, Request, RequestBody, Response, ResponseBody

B = TypeVar("B", bound=ResponseBody)

PATIENCE_S: Final = 30.0
"""Only so that a defect ends a test instead of holding it up."""

READ_SIZE: Final = 64 * 1024
MARK: Final = 4_000_000_000
"""An id that no command uses."""


class RefusedError(Exception):
    """The daemon has answered a request with an error: `rc` is a negative errno."""

    def __init__(self, rc: int, kind: RequestKind) -> None:
        super().__init__(f"rc {rc} for a request of kind {kind.name}")
        self.rc = rc
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Said:
    """One frame, on the connection of that number of its command, which counts them from 1."""

    connection: int
    direction: Literal["request", "response"]
    frame: bytes


class Connection:
    """One connection of a command."""

    def __init__(self, path: Path, number: int, said: list[Said]) -> None:
        self._number = number
        self._said = said
        self._decoder = FrameDecoder()
        self._come: deque[Response] = deque()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(PATIENCE_S)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise

    def close(self) -> None:
        self._socket.close()

    def send(self, *requests: Request) -> None:
        """All of `requests` in one go."""
        frames = [encode_frame(encode_request(request)) for request in requests]
        self._said += [Said(self._number, "request", frame) for frame in frames]
        self._socket.sendall(b"".join(frames))

    def receive(self) -> Response:
        """The next response, whatever it is.

        Raises:
            EOFError: the daemon has closed the connection.
        """
        while not self._come:
            data = self._socket.recv(READ_SIZE)
            if not data:
                raise EOFError("the daemon has closed the connection")
            for message in self._decoder.feed(data):
                self._said.append(Said(self._number, "response", encode_frame(message)))
                self._come.append(decode_response(message))
        return self._come.popleft()

    def expect(self, id: int, expected: type[B]) -> B:
        """The next response, which must be that to the request `id`.

        Raises:
            RefusedError: it is an error.
        """
        response = self.receive()
        assert response.request_id == id, response
        if isinstance(response.body, Failed):
            raise RefusedError(response.body.rc, response.body.kind)
        assert isinstance(response.body, expected), response
        return response.body

    def ask(self, id: int, body: RequestBody, expected: type[B], **more: int) -> B:
        """One request and its answer; errors as `expect`."""
        self.send(Request(id, body, **more))
        return self.expect(id, expected)

    def tell(self, body: RequestBody) -> None:
        """A request that is not answered."""
        self.send(Request(MARK, body))

    def assert_silent(self) -> None:
        """Nothing has been answered: what is there when a ping is answered would have come before."""
        self.send(Request(MARK, Ping(False)))
        assert self.receive() == Response(MARK, Pong(False))


@dataclass(slots=True)
class Command:
    """One run of a client command."""

    socket: Path
    said: list[Said] = field(default_factory=list)
    _connections: list[Connection] = field(default_factory=list)

    def connect(self) -> Connection:
        connection = Connection(self.socket, len(self._connections) + 1, self.said)
        self._connections.append(connection)
        return connection

    def end(self) -> None:
        """What the end of the process does."""
        for connection in self._connections:
            connection.close()
