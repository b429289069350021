"""A connection as the scheduler knows it: where answers go, what it waits for, what it holds (note 0)."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from typing import Protocol

from lrs_trio.devices.departure import Outbox
from lrs_trio.devices.grant import Grant, GrantState
from lrs_trio.model import RequestKind, ResourceId
from lrs_trio.ordered import OrderedSet


class Withdrawable(Protocol):
    """A request that a client waits for."""

    def withdraw(self) -> None:
        """The client has gone: leave every queue and give back what was promised."""
        ...


class Holdings:
    """The grants that a connection has got and not yet released, oldest first."""

    def __init__(self) -> None:
        self._grants: dict[ResourceId, deque[Grant]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._grants.values()))

    def add(self, grant: Grant) -> None:
        self._grants.setdefault(grant.medium, deque()).append(grant)

    def holds(self, medium: ResourceId) -> bool:
        return medium in self._grants

    def find(self, medium: ResourceId, kind: RequestKind, *, apart_from: Collection[Grant] = ()) -> Grant | None:
        """The oldest grant on `medium` that is not in a partial release, one of `kind` before any other."""
        ongoing = [
            grant
            for grant in self._grants.get(medium, ())
            if grant.state is GrantState.ONGOING and grant not in apart_from
        ]
        return next((grant for grant in ongoing if grant.kind is kind), next(iter(ongoing), None))

    def remove(self, grant: Grant) -> None:
        grants = self._grants[grant.medium]
        grants.remove(grant)
        if not grants:
            del self._grants[grant.medium]

    def all(self) -> tuple[Grant, ...]:
        return tuple(grant for grants in self._grants.values() for grant in grants)


class Client:
    """One connection. It is known by this object: ids repeat and descriptors are reused by the kernel."""

    def __init__(self, serial: int, outbox: Outbox, *, pid: int, uid: int) -> None:
        self.serial = serial
        self.outbox = outbox
        self.pid = pid
        self.uid = uid
        self.waiting = OrderedSet[Withdrawable]()
        self.holdings = Holdings()

    def __str__(self) -> str:
        return f"client {self.serial} (pid {self.pid}, uid {self.uid})"

    def leave(self) -> None:
        """The connection has ended: withdraw what is pending, take back what was granted (decision 9)."""
        for request in tuple(self.waiting):
            request.withdraw()
        self.waiting.clear()
        for grant in self.holdings.all():
            self.holdings.remove(grant)
            grant.device.end_grant(grant, dirty=grant.kind is RequestKind.WRITE)
