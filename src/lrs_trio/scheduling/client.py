"""A connection as the scheduler knows it: where answers go, what it waits for, what it holds (note 0)."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from typing import Protocol

from lrs_trio.devices.departure import Outbox
from lrs_trio.devices.grant import Grant, GrantState
from lrs_trio.model import RequestKind, ResourceId, Right
from lrs_trio.ordered import OrderedSet


class Withdrawable(Protocol):
    """A request that a client waits for."""

    def withdraw(self) -> None:
        """The client has gone: leave every queue and give back what was promised."""
        ...


class Holdings:
    """The grants that a connection has got and not yet released, oldest first.

    One that was revoked keeps its place until the client gives it back: a release says of which medium it is and not of
    which grant, and is not to be taken for that of a later one.
    """

    def __init__(self) -> None:
        self._grants: dict[ResourceId, deque[Grant]] = {}
        self._revoked: set[Grant] = set()

    def __len__(self) -> int:
        return sum(map(len, self._grants.values())) - len(self._revoked)

    def add(self, grant: Grant) -> None:
        self._grants.setdefault(grant.medium, deque()).append(grant)

    def holds(self, medium: ResourceId) -> bool:
        return any(grant not in self._revoked for grant in self._grants.get(medium, ()))

    def find(self, medium: ResourceId, kind: RequestKind, *, apart_from: Collection[Grant] = ()) -> Grant | None:
        """The oldest grant on `medium` that is not in a partial release, one of `kind` before any other.

        It may be one that was revoked.
        """
        oldest: Grant | None = None
        for grant in self._grants.get(medium, ()):
            if (grant.state is GrantState.ONGOING or grant in self._revoked) and grant not in apart_from:
                if grant.kind is kind:
                    return grant
                oldest = oldest or grant
        return oldest

    def remove(self, grant: Grant) -> None:
        grants = self._grants[grant.medium]
        grants.remove(grant)
        if not grants:
            del self._grants[grant.medium]
        self._revoked.discard(grant)

    def revoke(self, grant: Grant) -> None:
        """Hold `grant` no more, and remember that the connection has not given it back."""
        self._revoked.add(grant)

    def was_revoked(self, grant: Grant) -> bool:
        return grant in self._revoked

    def all(self) -> tuple[Grant, ...]:
        return tuple(grant for grants in self._grants.values() for grant in grants if grant not in self._revoked)

    def clear(self) -> None:
        self._grants.clear()
        self._revoked.clear()


class Client:
    """One connection. It is known by this object: ids repeat and descriptors are reused by the kernel."""

    def __init__(
        self, serial: int, outbox: Outbox, *, pid: int, uid: int, rights: frozenset[Right] = frozenset()
    ) -> None:
        self.serial = serial
        self.outbox = outbox
        self.pid = pid
        self.uid = uid
        self.rights = rights
        self.waiting = OrderedSet[Withdrawable]()
        self.holdings = Holdings()
        self.is_gone = False
        """Whether nobody will hear any more of what it has asked for."""
        self._text = f"client {serial} (pid {pid}, uid {uid})"

    def __str__(self) -> str:
        return self._text

    def withdrawals(self) -> Iterator[None]:
        """Nobody hears of what is asked for any more: withdraw what is pending, a request with each step."""
        self.is_gone = True
        for request in tuple(self.waiting):
            if request in self.waiting:
                request.withdraw()
                yield

    def leave(self) -> None:
        """The connection has ended: withdraw what is pending, take back what was granted (decision 9)."""
        for _ in self.withdrawals():
            pass
        self.waiting.clear()
        held = self.holdings.all()
        self.holdings.clear()
        for grant in held:
            _take_back(grant)

    def revoke(self, grant: Grant) -> None:
        """Take back a grant that the connection holds, as if it had ended."""
        self.holdings.revoke(grant)
        _take_back(grant)


def _take_back(grant: Grant) -> None:
    grant.device.end_grant(grant, dirty=grant.kind is RequestKind.WRITE)
