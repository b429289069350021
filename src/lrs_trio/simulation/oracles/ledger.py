"""What every client has asked for, was told and has written; whatever the daemon says is held against that."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import trio

from lrs_trio.dss.operations import Operation, Outcome, UpdateMedia
from lrs_trio.errors import LrsError, ProtocolError
from lrs_trio.model import RequestKind, ResourceId
from lrs_trio.simulation.host.content import Content, File
from lrs_trio.simulation.host.stream import StreamEnd
from lrs_trio.simulation.oracles.books import Counted
from lrs_trio.simulation.oracles.exchange import Asked, Exchange, asked_for, is_answered, misasked, name_of
from lrs_trio.simulation.oracles.holdings import Grant, Holdings, Part, SentRelease
from lrs_trio.simulation.oracles.medium_books import MediumBooks
from lrs_trio.simulation.oracles.tap import Tap
from lrs_trio.simulation.oracles.words import errno_name, in_words
from lrs_trio.simulation.world import World
from lrs_trio.wire.codec import MalformedRequestError, decode_request, decode_response
from lrs_trio.wire.messages import (
    Failed,
    GrantedMedium,
    ReadGranted,
    Release,
    Released,
    Response,
    WriteGranted,
)

MAYBE_COUNTED: Final = frozenset({errno.ENOENT, errno.ESHUTDOWN})
"""Errors of a release some of which may be counted all the same: another of its media is gone from the DSS, or the
daemon was made to end while its books were written."""


class Ledger:
    """Reads along on every connection that is tapped, and reports what must not be.

    Args:
        world: gets the violations, and a line for every request and every answer.
        content_at: what a client finds at a root now.
        committed: what was added to the books of a medium since its last format.
    """

    def __init__(
        self,
        world: World,
        content_at: Callable[[str], Content | None],
        committed: Callable[[ResourceId], Counted],
    ) -> None:
        self.requests: Counter[str] = Counter()
        """By the names of their types."""
        self.answers: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        """Answers that were errors, by the name of the errno."""
        self.acknowledged = 0
        """Releases that were answered well."""
        self.betrayals = 0
        """Files of such releases that a sync has lied about: nobody could have known."""
        self.longest_wait = 0.0
        """For an answer, in virtual seconds."""
        self.world = world
        self._content_at = content_at
        self._committed = committed
        self._accounts: dict[str, _Account] = {}
        self._books: dict[ResourceId, MediumBooks] = {}
        self._media: dict[Content, ResourceId] = {}
        """Which medium has been seen to have a content."""
        self._contents: dict[ResourceId, Content] = {}
        self._io: dict[tuple[str, str], list[_Io]] = {}

    def tap(self, stream: StreamEnd, name: str) -> Tap:
        """The client's end `stream` of a connection that is known as `name` until it ends."""
        account = _Account(self, stream, name)
        self._accounts[name] = account
        return Tap(stream, account)

    def unanswered(self) -> list[str]:
        """The requests that are still to be answered, of connections that have not ended."""
        return [
            f"{account.name}: {asked} since {asked.since:.3f} s"
            for account in self._accounts.values()
            if account.is_served and account.is_lawful
            for asked in account.exchange
        ]

    # What clients do.

    def begin_io(self, connection: str, root: str) -> None:
        """The client begins to read, write or delete at `root`, perhaps with a grant of a daemon that has gone."""
        account = self._accounts.get(connection)
        io = _Io(self._found(connection, root))
        self._io.setdefault((connection, root), []).append(io)
        if account is None or not account.is_served or account.holdings.at(root) is None:
            io.intrude()

    def end_io(self, connection: str, root: str) -> None:
        """It has done so, or is gone."""
        going_on = self._io[connection, root]
        going_on.pop().end()
        if not going_on:
            del self._io[connection, root]

    def wrote(self, connection: str, root: str, size: int) -> None:
        """The client has written a file of `size` bytes.

        Raises:
            OSError: EIO, nothing is there; ENOSPC, there is no room.
        """
        content = self._used(connection, root)
        if content.free < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), root)
        file = content.write(size)
        account = self._accounts.get(connection)
        if account is not None:
            account.holdings.wrote(root, file)

    def deleted(self, connection: str, root: str, size: int) -> None:
        """The client has removed a file of `size` bytes.

        Raises:
            OSError: EIO, nothing is there.
        """
        self._used(connection, root).delete(size)

    def revoked(self, connection: str, medium: str) -> None:
        """The daemon has taken away what the client holds of `medium`, or a part of it."""
        account = self._accounts.get(connection)
        if account is None:
            return
        account.holdings.revoke(medium)
        for (name, root), going_on in self._io.items():
            if name == connection and account.holdings.at(root) is None:
                for io in going_on:
                    io.intrude()

    # What becomes of the daemon.

    def killed(self) -> None:
        """The daemon is no more: nothing is owed to those who are connected, and nothing is committed any more."""
        self.ended()

    def power_cut(self) -> None:
        """As `killed`, and the I/O that was going on has ended too."""
        self._io = {key: [_Io(None) for _ in going_on] for key, going_on in self._io.items()}
        self.killed()

    def ended(self) -> None:
        """As `killed`, when the daemon has ended in order."""
        for account in self._accounts.values():
            account.abandoned = True
        for medium, books in self._books.items():
            self.check_books(medium)
            books.settle(self._committed(medium))

    # The books.

    def observe(self, operation: Operation[Any], outcome: Outcome) -> None:
        """For the observers of the DSS: the daemon has committed `operation`."""
        if not isinstance(operation, UpdateMedia) or isinstance(outcome, LrsError):
            return
        for update in operation.updates:
            if update.set_objects is not None:
                self.forget(update.id)
            if update.add_objects or update.add_logical:
                self.check_books(update.id)

    def forget(self, medium: ResourceId) -> None:
        """The books of `medium` begin anew: it was formatted."""
        self._books[medium] = MediumBooks()

    def check_books(self, medium: ResourceId) -> None:
        """See that everything acknowledged is counted, and nothing that was not released."""
        flaw = self.books_of(medium).flaw(self._committed(medium))
        self.world.violations.check(not flaw, f"the books of {medium} are wrong: {flaw}")

    def books_of(self, medium: ResourceId) -> MediumBooks:
        return self._books.setdefault(medium, MediumBooks())

    # What accounts tell.

    def close(self, account: _Account) -> None:
        """A connection has ended; what it has not released is nobody's any more."""
        if self._accounts.get(account.name) is account:
            del self._accounts[account.name]

    def check_root(self, account: _Account, grant: Grant) -> Content | None:
        """What `account` finds where `grant` lets it work: what it was granted, as long as the daemon is there."""
        content = self._content_at(grant.root)
        if not account.is_served:
            return content
        if content is None:
            self._report(account.name, f"was granted {grant.medium} at {grant.root}, where nothing is")
            return None
        found = self._media.setdefault(content, grant.medium)
        same = self._contents.setdefault(grant.medium, content) is content
        if found != grant.medium or not same:
            self._report(account.name, f"was granted {grant.medium} at {grant.root}, where another medium is")
        return content

    def check_durable(self, account: _Account, asked: Asked, part: Part, file: File) -> None:
        """`file` is not durable although the release `asked` was acknowledged."""
        if file.betrayed:
            self.betrayals += 1
            self.world.trace.note("betrayed", client=account.name, medium=part.medium, size=file.size)
            return
        state = "lost" if file.lost else "not durable"
        self._report(
            account.name, f"{asked} is acknowledged, and a file of {file.size} bytes on {part.medium} is {state}"
        )

    def _report(self, connection: str, what: str) -> None:
        self.world.violations.report(f"{connection}: {what}")

    def _found(self, connection: str, root: str) -> Content | None:
        account = self._accounts.get(connection)
        grant = None if account is None else account.holdings.at(root)
        if account is None or grant is None:
            return self._content_at(root)
        return self.check_root(account, grant)

    def _used(self, connection: str, root: str) -> Content:
        content = self._found(connection, root)
        if content is None:
            raise OSError(errno.EIO, os.strerror(errno.EIO), root)
        return content


class _Io:
    """One client at work on `content`, if there is anything; it counts as a user of that until its end."""

    def __init__(self, content: Content | None) -> None:
        self._content = content
        self._intrudes = False
        if content is not None:
            content.users += 1

    def intrude(self) -> None:
        """It is not granted any more."""
        if self._content is not None and not self._intrudes:
            self._intrudes = True
            self._content.intruders += 1

    def end(self) -> None:
        if self._content is not None:
            self._content.users -= 1
            self._content.intruders -= self._intrudes


class _Account:
    """One connection."""

    def __init__(self, ledger: Ledger, stream: StreamEnd, name: str) -> None:
        self.name = name
        self.exchange = Exchange()
        self.holdings = Holdings()
        self.abandoned = False
        """The daemon that it was connected to is no more."""
        self.is_lawful = True
        """Whether everything that the client has sent is the protocol: nothing is owed to others but the end."""
        self._ledger = ledger
        self._stream = stream
        self._releases: dict[Asked, SentRelease] = {}

    @property
    def is_served(self) -> bool:
        """Whether the daemon has not left."""
        return not (self.abandoned or self._stream.severed)

    # What the tap tells.

    def request(self, message: bytes) -> None:
        now = trio.current_time()
        try:
            request = decode_request(message)
        except MalformedRequestError as error:
            self._ledger.requests[name_of(None)] += 1
            self._note("request", error.request_id, error)
            if not error.silent:
                self.exchange.ask(misasked(error, now))
            return
        self._ledger.requests[name_of(request.body)] += 1
        self._note("request", request.id, in_words(request.body))
        asked = asked_for(request.id, request.body, now)
        if is_answered(request.body):
            self.exchange.ask(asked)
        if isinstance(request.body, Release):
            self._release(asked, request.body)

    def response(self, message: bytes) -> None:
        response = decode_response(message)
        self._ledger.answers[name_of(response.body)] += 1
        self._note("answer", response.request_id, in_words(response.body))
        asked, flaw = self.exchange.answer(response)
        self._check(not flaw, flaw)
        if asked is not None and not flaw:
            self._ledger.longest_wait = max(self._ledger.longest_wait, trio.current_time() - asked.since)
            self._settle(asked, response)

    def garbage(self, error: ProtocolError, *, received: bool) -> None:
        self._note("garbage", "", error)
        self.is_lawful = False
        self._check(not received, f"the daemon has sent what is not the protocol: {error}")

    def end(self) -> None:
        self._note("disconnected", "", "")
        self._ledger.close(self)

    # What follows.

    def _release(self, asked: Asked, body: Release) -> None:
        release = self.holdings.release(body)
        if release.parts:
            self._releases[asked] = release
        if not release.hopeless:
            for part in release.parts:
                self._ledger.books_of(part.medium).claim(part.claim)

    def _settle(self, asked: Asked, response: Response) -> None:
        match response.body:
            case WriteGranted(media=media):
                self._hold(media, RequestKind.WRITE)
            case ReadGranted(media=media):
                self._hold(media, RequestKind.READ)
            case Released() if (release := self._releases.pop(asked, None)) is not None:
                self._acknowledge(asked, release)
            case Failed(rc=rc):
                self._ledger.errors[errno_name(-rc)] += 1
                if (release := self._releases.pop(asked, None)) is not None:
                    self._refuse(release, -rc)

    def _hold(self, media: tuple[GrantedMedium, ...], kind: RequestKind) -> None:
        for granted in media:
            grant = Grant(granted.medium, granted.root, kind)
            if self.holdings.add(grant):
                self._ledger.check_root(self, grant)

    def _acknowledge(self, asked: Asked, release: SentRelease) -> None:
        self._ledger.acknowledged += 1
        self._check(not release.hopeless, f"{asked} is acknowledged although {release.hopeless}")
        for part, file in self.holdings.acknowledge(release):
            self._ledger.check_durable(self, asked, part, file)
        for part in release.parts:
            self._ledger.books_of(part.medium).acknowledge(part.claim)
            self._ledger.check_books(part.medium)

    def _refuse(self, release: SentRelease, number: int) -> None:
        self.holdings.refuse(release)
        if number not in MAYBE_COUNTED:
            for part in release.parts:
                self._ledger.books_of(part.medium).refuse(part.claim)
                self._ledger.check_books(part.medium)

    def _check(self, holds: bool, what: str) -> None:
        self._ledger.world.violations.check(holds, f"{self.name}: {what}")

    def _note(self, kind: str, id_: object, what: object) -> None:
        self._ledger.world.trace.note(kind, client=self.name, id=id_, what=what)
