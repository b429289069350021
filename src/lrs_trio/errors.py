"""Errors that carry an errno, so that a client always gets a number and a person a sentence."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping


class LrsError(OSError):
    """An operation that could not be done: `errno` says why to a program, the text to a person."""

    def __init__(self, errno: int, message: str) -> None:
        super().__init__(errno, message)


class OperationError(LrsError):
    """A physical operation on a medium in a drive went wrong; one of the two may be to blame.

    `record` is what the operation log of the DSS keeps: what was done, and what came of it.
    """

    def __init__(self, errno: int, message: str, record: Mapping[str, str]) -> None:
        super().__init__(errno, message)
        self.record = record


class LabelError(OperationError):
    """The medium in the drive bears the label of another one: no drive is to blame for that."""


class HostError(OperationError):
    """This host could not even begin: neither the drive nor the medium is to blame, and no other would do better."""


class MediumMissingError(OperationError):
    """The library does not have the medium that it was asked for, or has it in another drive: nothing is broken."""


class LibraryUnreachableError(LrsError):
    """Nobody could be asked to move media: neither a medium nor a drive is to blame for that.

    `asked` tells whether the request may have arrived all the same, so that it is not known what moves.
    """

    def __init__(self, errno: int, message: str, *, asked: bool = True) -> None:
        super().__init__(errno, message)
        self.asked = asked


class ProtocolError(Exception):
    """A peer sent bytes that are not the protocol; its connection is closed."""


class SettingsError(Exception):
    """The settings cannot be used; the text names the file, the key, the value and what is allowed."""


class DssUnavailableError(Exception):
    """The DSS did not take an operation this time; it is tried again."""


class CommitInDoubtError(Exception):
    """The connection to the DSS was lost during a COMMIT: whether it was done has to be looked up.

    `resolve` does that: it returns the outcomes of the batch if it was committed and ``None`` if nothing
    of it was done; while it cannot tell it raises `DssUnavailableError` and may be tried again.
    """

    def __init__(self, message: str, resolve: Callable[[], Awaitable[list[object] | None]]) -> None:
        super().__init__(message)
        self.resolve = resolve


class AlreadyRunningError(LrsError):
    """Another daemon holds what this one needs to start."""


def describe(error: BaseException) -> str:
    """`error` in one line: the message, with the errno's meaning where it says more."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
    return str(error) or type(error).__name__
