"""Reports on the daemon, which are as long as the site is large: one for all who ask for the same, made piece by piece.

Whoever may connect may ask for them, as often and on as many connections as it likes. So they take a share of the event
loop's time that does not depend on how many ask, and none of its turns is longer by more than a piece.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import structlog
import trio

from lrs_trio.errors import LrsError, describe
from lrs_trio.model import RequestKind
from lrs_trio.scheduling.client import Client
from lrs_trio.server.turnstile import PAUSE, TURN_S, TURNS_BETWEEN
from lrs_trio.wire.framing import MAX_FRAME_BYTES
from lrs_trio.wire.messages import Failed, Request, RequestBody, Response, ResponseBody

log = structlog.get_logger()

LONGEST_REPORT: Final = MAX_FRAME_BYTES - 1024
"""Bytes of a report that fit into a frame with everything around them."""

SENDING_S: Final = 2e-8
"""What is left to others for each byte that is sent, in seconds: a report may go to hundreds who have asked for it."""

LEAST_REST_S: Final = 0.001
"""A shorter rest would last as long."""

ELEMENTS: Final = 16
"""How many elements of an array are a piece."""

_PLAIN: Final = frozenset({str, int, float, bool, type(None), list, tuple})

AS_ASCII: Final[Callable[[object], str]] = json.JSONEncoder().encode
AS_IT_IS: Final[Callable[[object], str]] = json.JSONEncoder(ensure_ascii=False).encode


@dataclass(frozen=True, slots=True)
class Report:
    """How one kind of request is answered: what makes the text, piece by piece, and the body of the answer with it."""

    pieces: Callable[[Any], Iterator[str]]
    answer: Callable[[str], ResponseBody]
    check: Callable[[Any], None]
    """Raises `LrsError` if no such report can be made: who asks is told at once, and what was asked is not kept."""
    kind: RequestKind = RequestKind.WRITE
    """What an error says it is of. Phobos tells none for most of these, it leaves 0."""


class Reports:
    """Answers requests for reports while `run` runs."""

    def __init__(self, reports: Mapping[type, Report]) -> None:
        self._reports = reports
        # Bounded by the promises that an outbox takes. By users, who take turns: one with a thousand questions of its
        # own does not keep others from asking what it is about.
        self._asked: dict[int, dict[RequestBody, list[tuple[Client, int]]]] = {}
        self._rung = trio.Event()
        self._owed = 0.0
        """Seconds that are to be left to others."""

    def __contains__(self, kind: type) -> bool:
        return kind in self._reports

    def ask(self, client: Client, request: Request) -> None:
        """Have `request` answered with a report that is begun after this.

        Raises:
            LrsError: it is not one that can be made.
        """
        body = request.body
        self._reports[type(body)].check(body)
        client.outbox.promise()
        self._asked.setdefault(client.uid, {}).setdefault(body, []).append((client, request.id))
        self._rung.set()

    async def run(self) -> None:
        """Make one report after the other, for all who have asked for it by then; to be cancelled in the end."""
        while True:
            if not self._asked:
                self._rung = trio.Event()
                await self._rung.wait()
            await trio.lowlevel.checkpoint()
            body, askers = self._next()
            answer, size = await self._make(body, askers[0][0])
            for client, request_id in askers:
                client.outbox.keep(Response(request_id, answer))
                self._owed += size * SENDING_S
                await self._rest()

    def _next(self) -> tuple[RequestBody, list[tuple[Client, int]]]:
        """What the user whose turn it is has asked for first, and all who have asked for the same."""
        user = next(iter(self._asked))
        body = next(iter(self._asked[user]))
        self._asked[user] = self._asked.pop(user)
        askers = [asker for asked in self._asked.values() for asker in asked.pop(body, ())]
        self._asked = {user: asked for user, asked in self._asked.items() if asked}
        return body, askers

    async def _make(self, body: RequestBody, client: Client) -> tuple[ResponseBody, int]:
        """The answer to `body`, which `client` asks for, and about how long it is, in bytes."""
        report = self._reports[type(body)]
        try:
            text = await self._text(report.pieces(body))
        except LrsError as error:
            log.info("request refused", client=str(client), error=describe(error))
            return Failed(-(error.errno or errno.EINVAL), report.kind), 0
        return report.answer(text), len(text)

    async def _text(self, pieces: Iterator[str]) -> str:
        made: list[str] = []
        size = 0
        begun = trio.current_time()
        for piece in pieces:
            made.append(piece)
            size += len(piece.encode())
            if size > LONGEST_REPORT:
                text = f"a report of more than {LONGEST_REPORT} bytes does not fit into a frame; ask for less"
                raise LrsError(errno.EMSGSIZE, text)
            spent = trio.current_time() - begun
            if spent >= TURN_S:
                self._owed += PAUSE * spent
                for _ in range(TURNS_BETWEEN):
                    await trio.lowlevel.checkpoint()
                begun = trio.current_time()
        self._owed += PAUSE * (trio.current_time() - begun)
        return "".join(made)

    async def _rest(self) -> None:
        if self._owed >= LEAST_REST_S:
            owed, self._owed = self._owed, 0.0
            await trio.sleep(owed)


def json_pieces(value: object, encode: Callable[[object], str]) -> Iterator[str]:
    """The JSON of `value`. An iterator in it is an array, whose elements are made when their turn comes."""
    if isinstance(value, Iterator):
        yield from _array_pieces(value, encode)
    elif isinstance(value, Mapping) and _is_lazy(value):
        opening = "{"
        for key, item in value.items():
            yield f"{opening}{encode(key)}: "
            yield from json_pieces(item, encode)
            opening = ", "
        yield "}"
    else:
        yield encode(value)


def _array_pieces(elements: Iterator[object], encode: Callable[[object], str]) -> Iterator[str]:
    opening = "["
    while some := list(islice(elements, ELEMENTS)):
        yield opening
        if any(map(_is_lazy, some)):
            for number, element in enumerate(some):
                yield ", " if number else ""
                yield from json_pieces(element, encode)
        else:
            # All at once takes a third of the time.
            yield encode(some)[1:-1]
        opening = ", "
    yield "]" if opening == ", " else "[]"


def _is_lazy(value: object) -> bool:
    # Most are plain, and what an abstract class says of them takes longer than to write them.
    if type(value) in _PLAIN:
        return False
    return isinstance(value, Iterator) or (isinstance(value, Mapping) and any(map(_is_lazy, value.values())))
