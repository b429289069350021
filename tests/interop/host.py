"""A storage host as a site of Phobos has it: a configuration file, directories, a daemon in a process of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from psycopg.conninfo import conninfo_to_dict

from benchmarks.harness import Lrsd, Site
from lrs_trio.model import Family, LockOwner, ResourceId, lock_id

LIBRARY: Final = "legacy"


class HasDevice(Protocol):
    """What is, or will be, a device of `host`."""

    @property
    def device(self) -> ResourceId: ...

    @property
    def host(self) -> str: ...

    @property
    def path(self) -> Path: ...


class HasMedium(Protocol):
    """What is, or will be, a medium."""

    @property
    def medium(self) -> ResourceId: ...


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory that is, or will be, a device of `host` and the medium in it."""

    path: Path
    host: str
    library: str = LIBRARY

    @property
    def medium(self) -> ResourceId:
        return ResourceId(Family.DIR, str(self.path), self.library)

    @property
    def device(self) -> ResourceId:
        return ResourceId(Family.DIR, f"{self.host}:{self.path}", self.library)

    @property
    def locks(self) -> dict[str, str]:
        """The ids of the lock rows that whoever serves it has, by their type."""
        return {"device": lock_id(self.device), "media": lock_id(self.medium)}


class StorageHost:
    """One host; `close` leaves nothing of it running."""

    def __init__(self, name: str, base: Path, url: str) -> None:
        self.name = name
        self.base = base
        self.url = url
        self._site = Site(base, (), name, url)
        self._daemon: Lrsd | None = None

    @property
    def socket(self) -> Path:
        return self._site.socket

    @property
    def daemon(self) -> Lrsd:
        assert self._daemon is not None, f"the daemon of {self.name} does not run"
        return self._daemon

    @property
    def runs(self) -> bool:
        return self._daemon is not None

    @property
    def owner(self) -> LockOwner:
        """Who holds the locks of this host."""
        return LockOwner(self.name, self.daemon.pid)

    def directory(self, name: str, *, below: Path | None = None, library: str = LIBRARY) -> Directory:
        """A new, empty directory; its path is longer than a label."""
        path = (below or self.base) / f"directory-with-a-long-name-{name}"
        path.mkdir()
        return Directory(path, self.name, library)

    def begin_start(self, *overrides: str, **keys: Mapping[str, object]) -> None:
        """Start a daemon with the configuration of a site.

        Args:
            overrides: KEY=VALUE texts, for what no key of Phobos sets.
            keys: more keys of the configuration, by section.
        """
        assert self._daemon is None, f"the daemon of {self.name} runs already"
        file = self.base / "phobos.conf"
        file.write_text(self._configuration(keys))
        options = [f"--phobos-config={file}", f"--set=host={self.name}", *(f"--set={text}" for text in overrides)]
        self._daemon = Lrsd(self._site, options)

    def start(self, *overrides: str, **keys: Mapping[str, object]) -> None:
        """As `begin_start`; the daemon serves when this returns."""
        self.begin_start(*overrides, **keys)
        self.daemon.wait_ready()

    def drain(self) -> None:
        """End the daemon in order."""
        self.daemon.terminate()
        self.wait_drained()

    def wait_drained(self) -> None:
        """Wait for the end of a drain that has begun."""
        status = self.daemon.wait()
        said = self.daemon.said()
        self._forget()
        assert status == 0, f"the daemon of {self.name} ended with {status}{said}"

    def kill(self) -> None:
        """End the daemon with SIGKILL."""
        self.daemon.kill()
        self.daemon.wait()
        self._forget()

    def close(self) -> None:
        """Drain the daemon if it runs; whatever comes of it, it does not run afterwards."""
        if self._daemon is not None:
            with self._daemon:
                self.drain()

    def _forget(self) -> None:
        daemon, self._daemon = self.daemon, None
        with daemon:
            pass

    def _configuration(self, keys: Mapping[str, Mapping[str, object]]) -> str:
        sections: dict[str, dict[str, object]] = {
            "dss": {"connect_string": _keywords(self.url)},
            "lrs": {"families": "dir", "server_socket": self.socket, "lock_file": self.base / "phobosd.lock"},
        }
        for section, values in keys.items():
            sections[section] = sections.get(section, {}) | dict(values)
        return "".join(
            f"[{section}]\n" + "".join(f"{key} = {value}\n" for key, value in values.items())
            for section, values in sections.items()
        )


def _keywords(url: str) -> str:
    """A database's URL as most sites write it."""
    return " ".join(f"{key}='{value}'" for key, value in conninfo_to_dict(url).items())
