"""Commands: run, listened to, and ended when they take too long."""

from __future__ import annotations

import fcntl
import os
import shlex
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Final

import structlog
import trio

from lrs_trio.storage.process_group import KILL_S, TERMINATE_S, end_group, members

log = structlog.get_logger()

_LONGEST_LINE: Final = 500
"""Bytes of one line; the rest of it is dropped."""
_LAST_LINES: Final = 10
_LONGEST_QUOTE: Final = 700
"""Characters of what a command said last that an error repeats: a log line has room for them."""
_CHUNK: Final = 2**12
"""Bytes that are looked at in one go: what is nothing but ends of lines is expensive."""
_MOST_CHUNKS_LEFT: Final = 16
"""As much as a pipe holds."""


@dataclass(frozen=True, slots=True)
class Finished:
    """How a command ended. `status` is its exit status or, if a signal ended it, minus the signal's number.

    `last_lines` are the end of what it printed, shortened where need be.
    """

    command: str
    status: int
    last_lines: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return self.status == 0

    @property
    def how(self) -> str:
        """The command line and its end, such as ``mkltfs -f -d /dev/sg3 exited with status 3``."""
        if self.status < 0:
            return f"{self.command} was ended by {_signal_name(-self.status)}"
        return f"{self.command} exited with status {self.status}"

    def __str__(self) -> str:
        said = " | ".join(self.last_lines)
        if not said:
            return f"{self.how} and said nothing"
        quoted = said if len(said) <= _LONGEST_QUOTE else f"...{said[-_LONGEST_QUOTE:]}"
        return f"{self.how}; its last words: {quoted}"


class Lifeline:
    """A file that is locked as long as anything lives that was started with a descriptor of it.

    A command outlives the daemon that has started it and is killed. The next daemon knows of it by this: the kernel
    keeps the lock (``flock``) for all that have inherited the descriptor, and drops it with the last of them. What the
    command leaves behind in the background has it too. Any number of commands may hold it at once.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def take(self) -> int:
        """A new descriptor that holds it, for `run_command` to hand down and for the caller to close. Blocks.

        Raises:
            OSError: it cannot be made or locked here.
        """
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    @staticmethod
    def let_go(descriptor: int) -> None:
        """Let nobody hold it any more who has inherited `descriptor`."""
        fcntl.flock(descriptor, fcntl.LOCK_UN)

    def is_held(self) -> bool:
        """Whether anybody has it; also ``False`` where nobody could. Blocks."""
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        finally:
            os.close(descriptor)
        return False


async def run_command(
    argv: Sequence[str], *, on_line: Callable[[str], None] | None = None, pass_fds: Sequence[int] = ()
) -> Finished:
    """Run a program to its end, in a session of its own and without input.

    What it starts in the background may go on, and may keep its output open: nobody listens to that after the end
    of the program itself. A cancellation ends the program and all that is left of its process group.

    Args:
        argv: the program, looked for in PATH, and its arguments.
        on_line: gets each line printed on either output, shortened and without control characters.
        pass_fds: descriptors that it inherits, such as that of a `Lifeline`.

    Raises:
        OSError: it could not be started.
    """
    command = shlex.join(argv)
    # One pipe for both outputs keeps their lines in order.
    read_end, write_end = os.pipe()
    with closing(trio.lowlevel.FdStream(read_end)) as output:
        try:
            process = await trio.lowlevel.open_process(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=write_end,
                stderr=write_end,
                start_new_session=True,
                pass_fds=pass_fds,
                # Some of what programs say is looked for in English.
                env={**os.environ, "LC_ALL": "C.UTF-8"},
            )
        finally:
            os.close(write_end)
        log.debug("command started", command=command, pid=process.pid)
        heard = _Heard(process.pid, on_line)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_listen, output, heard)
                await process.wait()
                nursery.cancel_scope.cancel("the command has ended")
        finally:
            if process.returncode is None:
                # Shielded because a command that nobody watches could still write to a cartridge that is given away.
                with trio.move_on_after(TERMINATE_S + KILL_S, shield=True) as ending:
                    await end_group(process)
                if ending.cancelled_caught:
                    log.error("a command outlives SIGKILL", command=command, left=members(process.pid))
        await _listen_to_the_rest(output, heard)
    finished = Finished(command, await process.wait(), tuple(heard.last_lines))
    log.debug("command ended", command=command, pid=process.pid, status=finished.status)
    return finished


class Lines:
    """Cuts a stream of bytes into lines that can be shown, and holds no more than one of them."""

    def __init__(self) -> None:
        self._begun = bytearray()
        self._is_begun = False

    def feed(self, data: bytes) -> Iterator[str]:
        """The lines that end in `data`."""
        *ended, begun = data.split(b"\n")
        for part in ended:
            self._extend(part)
            yield self._take()
        self._extend(begun)
        self._is_begun = self._is_begun or bool(begun)

    def end(self) -> Iterator[str]:
        """The line that has no end, if there is one."""
        if self._is_begun:
            yield self._take()

    def _extend(self, part: bytes) -> None:
        self._begun += part[: _LONGEST_LINE - len(self._begun)]

    def _take(self) -> str:
        line = self._begun.decode(errors="backslashreplace").rstrip()
        self._begun.clear()
        self._is_begun = False
        if line.isprintable():
            return line
        # A terminal and a database shall be able to take it.
        return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in line)


class _Heard:
    """What a command has said so far: the last of it is kept."""

    def __init__(self, pid: int, on_line: Callable[[str], None] | None) -> None:
        self.last_lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._pid = pid
        self._on_line = on_line
        self._lines = Lines()

    def feed(self, data: bytes) -> None:
        self._note(self._lines.feed(data))

    def end(self) -> None:
        self._note(self._lines.end())

    def _note(self, lines: Iterator[str]) -> None:
        for line in lines:
            log.debug("command says", pid=self._pid, line=line)
            if line:
                self.last_lines.append(line)
            if self._on_line is not None:
                self._on_line(line)


async def _listen(output: trio.lowlevel.FdStream, heard: _Heard) -> None:
    while data := await output.receive_some(_CHUNK):
        heard.feed(data)


async def _listen_to_the_rest(output: trio.lowlevel.FdStream, heard: _Heard) -> None:
    """Take what is in the pipe: all that the command itself has printed is there, since it has ended.

    The end of the file is not awaited: a filesystem that serves in the background may have the pipe as its output.
    """
    with suppress(BlockingIOError):
        for _ in range(_MOST_CHUNKS_LEFT):
            await trio.lowlevel.checkpoint()
            data = os.read(output.fileno(), _CHUNK)
            if not data:
                break
            heard.feed(data)
    heard.end()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
