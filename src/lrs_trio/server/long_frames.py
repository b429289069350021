"""Room for the long frames of each user: what has come of one takes memory until it is complete."""

from __future__ import annotations

from weakref import WeakValueDictionary

import trio

LONG_BYTES = 64 * 1024
"""What a frame may lack before it needs room of its own. Requests are hundreds of bytes, rarely a few thousand."""

AT_ONCE = 8
"""Long frames of one user that may come at once. Clients are on the daemon's machine: each takes milliseconds."""


class LongFrames:
    """Who begins many long frames and ends none waits for himself, and for nobody else."""

    def __init__(self) -> None:
        self._rooms: WeakValueDictionary[int, trio.CapacityLimiter] = WeakValueDictionary()

    def room_of(self, uid: int) -> trio.CapacityLimiter:
        """What all connections of a user have together, for as long as any of them keeps it."""
        room = self._rooms.get(uid)
        if room is None:
            room = self._rooms[uid] = trio.CapacityLimiter(AT_ONCE)
        return room
