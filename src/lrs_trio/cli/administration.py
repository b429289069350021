"""What the administration of every family does alike (decision 21).

The DSS is written first, in one short transaction; then the daemon is told, if it runs. What it refuses to
take into service is as it was before.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeVar

from lrs_trio.dss.homes import CommandHome, open_command_home
from lrs_trio.errors import LrsError, describe
from lrs_trio.logs import configure_logging
from lrs_trio.model import NotifyOperation, ResourceId

if TYPE_CHECKING:
    from lrs_trio.cli.site import Site
    from lrs_trio.client import Client
    from lrs_trio.settings import Settings

A = TypeVar("A", bound="Administration")

DEFAULT_LIBRARY: Final = "legacy"

NOBODY_LISTENS: Final = frozenset({errno.ENOENT, errno.ECONNREFUSED})


def connect_if_running(site: Site) -> Client | None:
    """A connection to the daemon, ``None`` if there is no daemon.

    Raises:
        OSError: there may be one, but this user cannot talk to it.
    """
    try:
        return site.connect()
    except OSError as error:
        if error.errno in NOBODY_LISTENS:
            return None
        raise


@contextmanager
def open_administration(kind: type[A], site: Site, library: str | None = None, *, create: bool = False) -> Iterator[A]:
    """The administration of the site's resources of one `kind`; `create` makes a DSS that is not there yet.

    Raises:
        OSError: the DSS cannot be used, or the daemon runs and cannot be reached.
        SettingsError: the settings cannot be used.
        DssUnavailableError: somebody else is writing the DSS for too long.
    """
    settings = site.settings()
    # The standard output is for the results. What the floors below tell is for those who watch a daemon.
    configure_logging("warning", "console", sys.stderr)
    with open_command_home(settings.dss, host=settings.host, create=create) as home:
        client = connect_if_running(site)
        try:
            yield kind(home, settings, library, client)
        finally:
            if client is not None:
                client.close()


def holds_objects(name: str) -> LrsError:
    """Why the medium called `name` is not deleted unless that is forced."""
    return LrsError(errno.ENOTEMPTY, f"{name}: holds objects, which nobody finds any more without it; --force insists")


class Administration:
    """The DSS, the settings, and the daemon of this host if it runs, for what is administered in one library."""

    def __init__(self, home: CommandHome, settings: Settings, library: str | None, client: Client | None) -> None:
        self._home = home
        self._settings = settings
        self._host = settings.host
        self._named_library = library
        self._client = client

    @property
    def untold(self) -> str:
        """Why the daemon is not told what has been done in the DSS, "" if it is."""
        return "" if self._client is not None else "the daemon does not run"

    @property
    def _library(self) -> str:
        """The library that was named, or that goes without saying."""
        return self._named_library or DEFAULT_LIBRARY

    def _tell(self, operation: NotifyOperation, resource: ResourceId, *, wait: bool = True) -> None:
        """Tell the daemon, if it runs, what has been done in the DSS; `wait` until it has acted on it.

        Raises:
            OSError: it cannot do what that asks for, or the connection is lost.
        """
        if self._client is not None:
            self._client.notify(operation, resource, wait=wait)

    @contextmanager
    def _undone_on_refusal(self, what: str, undo: Callable[[], object]) -> Iterator[None]:
        """If the daemon refuses in the block, `undo` what the DSS was told, and say so in the words of `what`."""
        try:
            yield
        except OSError as error:
            undo()
            number = error.errno or errno.EIO
            if number == errno.ESHUTDOWN:
                why = "the daemon is ending; try again when it has ended, or runs again"
            elif isinstance(error, ConnectionError):
                why = describe(error)
            else:
                why = f"the daemon cannot use it: {describe(error)}; its log says more"
            raise LrsError(number, f"{what}, {why}") from error

    @contextmanager
    def _done_all_the_same(self, name: str, done: str, later: str) -> Iterator[None]:
        """If the daemon refuses in the block, say that what `name` is about is `done` in the DSS all the same.

        `later` is what it will do when it starts again.
        """
        try:
            yield
        except OSError as error:
            number = error.errno or errno.EIO
            if number == errno.ESHUTDOWN:
                why = f"; the daemon is ending, and {later} from its next start on"
            else:
                why = f", but the daemon does not heed it: {describe(error)}"
            raise LrsError(number, f"{name}: {done} in the DSS{why}") from error

    def _formatter(self) -> Client:
        """The daemon, which alone formats.

        Raises:
            LrsError: ECONNREFUSED, there is none.
        """
        if self._client is None:
            raise LrsError(errno.ECONNREFUSED, f"only the daemon formats, and {self.untold}; start lrsd first")
        return self._client


class LibraryAdministration(Administration):
    """For what is in tape libraries, of which the settings may have any number.

    A daemon that does not serve tapes is as good as none.
    """

    def __init__(self, home: CommandHome, settings: Settings, library: str | None, client: Client | None) -> None:
        super().__init__(home, settings, library, client if settings.families.tape.enabled else None)

    @property
    def untold(self) -> str:
        if self._settings.families.tape.enabled:
            return super().untold
        return "no daemon here serves tapes (families.tape.enabled in the settings is false)"

    @property
    def _library(self) -> str:
        """The library that was named, else the only one that the settings have, or "legacy".

        Raises:
            LrsError: EINVAL, there is a choice.
        """
        libraries = self._settings.libraries
        if self._named_library:
            return self._named_library
        if DEFAULT_LIBRARY in libraries or not libraries:
            return DEFAULT_LIBRARY
        if len(libraries) > 1:
            raise LrsError(
                errno.EINVAL, f"the settings have the libraries {', '.join(libraries)}; say which with --library"
            )
        return next(iter(libraries))
