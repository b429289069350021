"""The controller as a process: what starts in which order, and how it drains.

The nesting of the nurseries is the order of the end, read from the inside out: the robot ends first, then everything
is answered, then the server ends; the signals go last.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncIterator, Callable

import structlog
import trio

from lrs_trio import __version__, systemd
from lrs_trio.errors import describe
from lrs_trio.logs import configure_logging
from lrs_trio.settings import LogSettings
from lrs_trio.signals import drain_signals
from lrs_trio.tlc.changer import Changer
from lrs_trio.tlc.controller import Controller
from lrs_trio.tlc.server import Server, close_listeners, open_listeners, shown_address

log = structlog.get_logger()

EXIT_DRAINED = 0
EXIT_FAILED = 1
EXIT_FORCED = 3


class Service:
    """One library's controller on one TCP port, from its start to the end of its drain.

    `on_ready` is called once, with the addresses listened on, when requests are served.
    """

    def __init__(self, library: str, changer: Changer, on_ready: Callable[[list[str]], None] | None = None) -> None:
        self._library = library
        self._controller = Controller(changer)
        self._server = Server(self._controller)
        self._on_ready = on_ready
        self._draining = trio.Event()
        self._forced = trio.CancelScope()

    async def run(self, host: str, port: int) -> int:
        """Serve until drained and return the exit status.

        Raises:
            OSError: it could not start: nobody can listen there, or the library does not answer.
        """
        # Whoever has the port has the robot: that there is no other controller shows before it is touched.
        listeners = await open_listeners(host, port)
        try:
            elements = await self._controller.open()
        except OSError:
            close_listeners(listeners)
            raise
        return await self._serve(listeners, elements)

    async def _serve(self, listeners: list[trio.SocketListener], elements: int) -> int:
        with trio.open_signal_receiver(*drain_signals()) as signals:
            async with trio.open_nursery() as root:
                root.start_soon(self._watch_signals, signals, name="signals")
                with self._forced:
                    async with trio.open_nursery() as serving:
                        async with trio.open_nursery() as robot:
                            robot.start_soon(self._controller.run, name="robot")
                            await serving.start(self._server.run, listeners, name="server")
                            self._announce_ready(listeners, elements)
                            await self._draining.wait()
                            systemd.notify("STOPPING=1\nSTATUS=draining")
                            self._controller.drain()
                        self._server.finish()
                root.cancel_scope.cancel(reason="drained")
        if self._forced.cancelled_caught:
            log.warning("forced end: a move may have been left half done")
            return EXIT_FORCED
        log.info("drained")
        return EXIT_DRAINED

    async def _watch_signals(self, signals: AsyncIterator[int]) -> None:
        async for number in signals:
            name = signal.Signals(number).name
            if self._draining.is_set():
                log.warning("second signal: ending now", signal=name)
                self._forced.cancel(reason=f"second signal {name}")
            else:
                log.info("draining", signal=name)
                self._draining.set()

    def _announce_ready(self, listeners: list[trio.SocketListener], elements: int) -> None:
        addresses = [shown_address(listener.socket.getsockname()) for listener in listeners]
        log.info("ready", version=__version__, library=self._library, addresses=addresses, elements=elements)
        systemd.notify("READY=1\nSTATUS=serving")
        if self._on_ready is not None:
            self._on_ready(addresses)


def run_service(service: Service, host: str, port: int, logging: LogSettings) -> int:
    """Run a controller in this process and return the exit status.

    0: drained. 1: a defect. 3: the drain was forced. Else the errno that kept it from starting.
    """
    configure_logging(logging.level, logging.format, sys.stderr, to_syslog=logging.syslog)
    try:
        return trio.run(service.run, host, port, restrict_keyboard_interrupt_to_checkpoints=True)
    except OSError as error:
        log.error("cannot start", error=describe(error))
        return error.errno or EXIT_FAILED
