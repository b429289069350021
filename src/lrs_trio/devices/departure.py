"""A response that turns grants ongoing at the moment it leaves (note 9)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from lrs_trio.devices.grant import Grant, GrantState
from lrs_trio.wire.messages import Response


class Outbox(Protocol):
    """A connection's response channel. All calls return at once, also when the client has gone."""

    def respond(self, response: Response) -> None: ...

    def promise(self) -> None:
        """Say that `keep` will be called once more: until then its client is not taken for one that wants nothing."""
        ...

    def keep(self, response: Response) -> None:
        """`respond` with what was promised."""
        ...

    def offer(self, departure: Departure) -> None:
        """Queue `departure`; whoever sends takes it with `Departure.depart` just before the first byte."""
        ...


class Departure:
    """Offered to an outbox once all its grants are usable, taken by whoever sends for the connection.

    Between the two a device may have begun a sync that excludes I/O. Then nothing leaves, and the
    departure is offered again when that device is free: nobody who sends waits for a device. Once it
    has left it is spent.
    """

    def __init__(
        self, outbox: Outbox, response: Response, grants: tuple[Grant, ...], departed: Callable[[], None]
    ) -> None:
        self._outbox = outbox
        self._response: Response | None = response
        self._grants = grants
        self._departed = departed
        self._offered = False
        self._left = False

    def offer(self) -> None:
        """Offer the response if its devices allow I/O now; harmless when it is offered already."""
        if self._left or self._offered or any(grant.device.state.excludes_io for grant in self._grants):
            return
        self._offered = True
        self._outbox.offer(self)

    def replace(self, response: Response | None) -> bool:
        """Let `response` leave instead, or nothing, and no grant become ongoing.

        The result is ``False`` if nothing of this departure is queued, so that the caller must send
        `response` on its own.
        """
        self._response = response
        self._grants = ()
        self._departed = _nothing
        return self._offered

    def depart(self) -> Response | None:
        """Turn all grants ongoing in one step and return the response; ``None`` if it cannot leave now."""
        self._offered = False
        if any(grant.device.state.excludes_io for grant in self._grants):
            return None
        self._left = True
        for grant in self._grants:
            grant.device.move_grant(grant, GrantState.ONGOING)
        # Who is told refers to this: nothing is left that only a search for garbage would free.
        departed, self._departed = self._departed, _nothing
        departed()
        return self._response


def _nothing() -> None:
    return None
