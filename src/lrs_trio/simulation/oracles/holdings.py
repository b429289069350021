"""What one connection was granted, what was written under that, and the releases that have to make it durable. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from lrs_trio.model import RequestKind, ResourceId
from lrs_trio.simulation.host.content import File
from lrs_trio.simulation.oracles.books import Counted
from lrs_trio.simulation.oracles.medium_books import Claim
from lrs_trio.wire.messages import Release


@dataclass(frozen=True, slots=True)
class Grant:
    """A medium that the connection may use under `root`."""

    medium: ResourceId
    root: str
    kind: RequestKind


@dataclass(frozen=True, slots=True)
class Part:
    """One medium of a release that is to be synced, with all files that the sync has to make durable."""

    medium: ResourceId
    claim: Claim
    files: list[File]


@dataclass(frozen=True, slots=True)
class SentRelease:
    """`hopeless` says why it cannot succeed; "" if it can."""

    parts: tuple[Part, ...]
    hopeless: str


class Holdings:
    """The grants of one connection.

    A connection may hold one medium several times. Then nobody can tell which of its files belong to which release,
    and the error that one of them gets is for all.
    """

    def __init__(self) -> None:
        self._grants: list[Grant] = []
        self._files: dict[ResourceId, list[File]] = {}
        """By medium, what is in no release yet."""
        self._releases: list[SentRelease] = []
        """Without an answer yet."""
        self._revoked: set[str] = set()
        """Names of media that an administrator has taken away. What the client has sent, or was sent, may have been on
        its way then, so nobody can tell any more what it holds of them."""
        self._doubtful: set[str] = set()
        """Where these media were: the client may go on there."""

    def at(self, root: str) -> Grant | None:
        """The grant that allows I/O under `root`."""
        if root in self._doubtful:
            return None
        return next((grant for grant in self._grants if grant.root == root), None)

    def add(self, grant: Grant) -> bool:
        """The client is told of `grant`; the result is whether it is known to hold it."""
        if grant.medium.name in self._revoked:
            self._doubtful.add(grant.root)
            return False
        self._grants.append(grant)
        return True

    def revoke(self, name: str) -> None:
        """What the client holds of the medium called `name` is taken away, or a part of it."""
        self._revoked.add(name)
        self._doubtful |= {grant.root for grant in self._grants if grant.medium.name == name}
        self._grants = [grant for grant in self._grants if grant.medium.name != name]
        self._files = {medium: files for medium, files in self._files.items() if medium.name != name}

    def wrote(self, root: str, file: File) -> None:
        """The client has written `file`; nobody vouches for it unless it holds a medium there."""
        grant = self.at(root)
        if grant is not None:
            self._files.setdefault(grant.medium, []).append(file)

    def release(self, body: Release) -> SentRelease:
        """The client sends `body`. It has to be answered, by `acknowledge` or `refuse`, if it has parts."""
        hopeless = self._hopeless(body)
        parts = tuple(
            Part(
                element.medium,
                Claim(Counted(element.extents_written, element.size_written)),
                self._files.pop(element.medium, []),
            )
            for element in body.media
            if element.to_sync
        )
        if not body.partial:
            for element in body.media:
                self._end(element.medium, body.kind)
        release = SentRelease(parts, hopeless)
        if parts:
            self._releases.append(release)
        else:
            self._give_up_lost(body)
        return release

    def acknowledge(self, release: SentRelease) -> Iterator[tuple[Part, File]]:
        """All is said to be synced: the files of which that is not true."""
        self._releases.remove(release)
        for part in release.parts:
            others = self._others(part.medium)
            for file in part.files:
                if file.lost and not file.betrayed and others is not None:
                    others.append(file)
                elif not file.durable:
                    yield part, file

    def refuse(self, release: SentRelease) -> None:
        """The client is told that something is lost: it knows of everything that is lost by now on these media."""
        self._releases.remove(release)
        for part in release.parts:
            self._forget_lost(part.medium)

    def _hopeless(self, body: Release) -> str:
        if any(element.to_sync and element.rc for element in body.media):
            return "the client said that its I/O has failed"
        held = Counter(grant.medium for grant in self._grants)
        known = (element.medium for element in body.media if element.medium.name not in self._revoked)
        if missing := Counter(known) - held:
            return f"{', '.join(map(str, missing))} was not held"
        return ""

    def _end(self, medium: ResourceId, kind: RequestKind) -> None:
        """The oldest grant ends, one of the same kind before any other."""
        wanted = RequestKind.READ if kind in (RequestKind.READ, RequestKind.RELEASE_READ) else RequestKind.WRITE
        of_medium = [grant for grant in self._grants if grant.medium == medium]
        ending = next((grant for grant in of_medium if grant.kind is wanted), next(iter(of_medium), None))
        if ending is not None:
            self._grants.remove(ending)

    def _give_up_lost(self, body: Release) -> None:
        """Nothing of a release without an answer is vouched for; what is not lost may be in another one."""
        held = {grant.medium for grant in self._grants}
        for element in body.media:
            if element.medium in held:
                self._forget_lost(element.medium)
            else:
                self._files.pop(element.medium, None)

    def _forget_lost(self, medium: ResourceId) -> None:
        waiting = [part.files for release in self._releases for part in release.parts if part.medium == medium]
        for files in (*waiting, self._files.get(medium, [])):
            files[:] = [file for file in files if not file.lost]

    def _others(self, medium: ResourceId) -> list[File] | None:
        """Where files go on waiting that another release of the medium may have been refused for."""
        for release in self._releases:
            for part in release.parts:
                if part.medium == medium:
                    return part.files
        return None
