"""`lrs ping`: is the daemon there?

Scripts and service managers ask this often and want to know quickly. So it speaks the two messages that it
needs by itself: importing the client library would take longer than all the rest.
"""

from __future__ import annotations

import errno
import math
import socket
from pathlib import Path
from typing import Final

import click

from lrs_trio.cli.site import Site, connection_closed, no_connection, pass_site
from lrs_trio.errors import LrsError, ProtocolError
from lrs_trio.wire.framing import FrameDecoder, encode_frame

REQUEST: Final = b"\x08\x01\x48\x00"
"""A ping request with id 1, and its value: field 1 is 1, field 9 is false."""

RESPONSE: Final = b"\x08\x01\x48"
"""How the answer to it begins; the value that follows means nothing."""

LONGEST_S: Final = 86_400.0


def _number(ctx: click.Context, param: click.Parameter, value: float) -> float:
    if math.isnan(value):  # it is in every range
        raise click.BadParameter("nan is not a number of seconds", ctx, param)
    return value


@click.command()
@click.option(
    "--timeout",
    type=click.FloatRange(0.001, LONGEST_S),
    default=10.0,
    callback=_number,
    show_default=True,
    help="How long to wait, in seconds.",
)
@pass_site
def ping(site: Site, timeout: float) -> None:
    """Ask the daemon for a sign of life.

    The exit status is 0 if it answers.
    """
    path = site.socket_path
    try:
        answer = _exchange(path, timeout)
    except TimeoutError:
        raise LrsError(errno.ETIMEDOUT, f"the daemon on {path} has not answered within {timeout:g} s") from None
    if not answer.startswith(RESPONSE):
        raise LrsError(errno.EPROTO, f"what listens on {path} is no daemon of ours: it answers {answer[:16]!r}")
    click.echo("the daemon answers")


def _exchange(path: Path, timeout: float) -> bytes:
    """Send the request and return the message that comes back.

    Raises:
        OSError: nobody listens there, nothing comes in time, or the connection ends instead.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as connection:
        connection.settimeout(timeout)
        try:
            connection.connect(str(path))
        except OSError as error:
            raise no_connection(path, error) from error
        try:
            connection.sendall(encode_frame(REQUEST))
            return _receive(connection)
        except ConnectionError as error:
            raise connection_closed(path) from error


def _receive(connection: socket.socket) -> bytes:
    """The next message, or what is none.

    Raises:
        OSError: nothing comes in time, or the connection ends instead.
    """
    decoder = FrameDecoder()
    while data := connection.recv(4096):
        try:
            for message in decoder.feed(data):
                return message
        except ProtocolError:
            return data
    raise ConnectionResetError
