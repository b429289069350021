"""Who may ask for what: the rights of a connection, and the right that a request needs."""

from __future__ import annotations

import errno
import grp
import pwd
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from lrs_trio.errors import LrsError
from lrs_trio.model import ConfigureOperation, ReadOperation, Right
from lrs_trio.server.credentials import PeerCredentials
from lrs_trio.settings import AccessSettings
from lrs_trio.wire.messages import (
    Configure,
    Format,
    Notify,
    ReadAllocation,
    Release,
    RequestBody,
    Revoke,
    WriteAllocation,
)

ROOT: Final = 0

ALL_RIGHTS: Final = frozenset(Right)
NO_RIGHTS: Final = frozenset[Right]()

_NEEDED: Final[Mapping[type[RequestBody], Right]] = {
    WriteAllocation: Right.WRITE,
    ReadAllocation: Right.READ,
    Format: Right.FORMAT,
    Notify: Right.ADMIN,
    Configure: Right.ADMIN,
    Revoke: Right.ADMIN,
}
"""What is not here is for all: reports, and giving back what one holds without having changed it."""

# Looked up once: every request is asked about, and Python 3.11 takes its time to find the members of an enumeration.
_DELETE: Final = ReadOperation.DELETE
_GET: Final = ConfigureOperation.GET
_WRITE: Final = Right.WRITE


class Access:
    """What the settings let whom do.

    `uid` is the user of the daemon, who may do everything, as root may.

    Raises:
        LrsError: EINVAL, the settings name a user or a group that this host does not have.
    """

    def __init__(self, settings: AccessSettings, uid: int) -> None:
        self._almighty = (ROOT, uid)
        self._everyone = frozenset(map(Right, settings.everyone))
        self._users = _by_number(settings.users, "user", lambda name: pwd.getpwnam(name).pw_uid)
        self._groups = _by_number(settings.groups, "group", lambda name: grp.getgrnam(name).gr_gid)

    def rights(self, peer: PeerCredentials) -> frozenset[Right]:
        """What `peer` may do."""
        return ALL_RIGHTS if peer.uid in self._almighty else self._everyone | self._named_rights(peer)

    def is_administrator(self, peer: PeerCredentials) -> bool:
        """Whether `peer` may do more than everyone: a right that everyone has makes nobody an administrator."""
        return peer.uid in self._almighty or Right.ADMIN in self._named_rights(peer)

    def _named_rights(self, peer: PeerCredentials) -> frozenset[Right]:
        """What `peer` may do because its user or one of its groups is named."""
        rights = self._users.get(peer.uid, NO_RIGHTS)
        for group, more in self._groups.items():
            if group == peer.gid or group in peer.groups:
                rights |= more
        return rights


def needed_right(body: RequestBody) -> Right | None:
    """The right that a request needs; ``None`` if it is for all."""
    right = _NEEDED.get(type(body))
    if right is None:
        # A sync of what was written or deleted, and its place in the books.
        return _WRITE if type(body) is Release and any(element.to_sync for element in body.media) else None
    if type(body) is ReadAllocation and body.operation is _DELETE:
        return Right.WRITE
    if type(body) is Configure and body.operation is _GET:
        return None
    return right


def _by_number(
    named: Mapping[str, Sequence[str]], kind: str, look_up: Callable[[str], int]
) -> dict[int, frozenset[Right]]:
    """The rights that go with each name, by number; who is named twice has both."""
    found: dict[int, frozenset[Right]] = {}
    for name, rights in named.items():
        try:
            number = int(name) if name.isdecimal() else look_up(name)
        except KeyError:
            text = f"access.{kind}s.{name}: there is no such {kind} on this host; correct the name, or take it out"
            raise LrsError(errno.EINVAL, text) from None
        found[number] = found.get(number, NO_RIGHTS) | frozenset(map(Right, rights))
    return found
