"""Tells systemd how the daemon is doing, when systemd asks to be told."""

from __future__ import annotations

import os
import socket

import structlog

log = structlog.get_logger()


def notify(state: str) -> None:
    """Send `state` (``READY=1``, ``STOPPING=1``, ``STATUS=...``) to the service manager.

    Does nothing outside a unit of type ``notify``. Never fails and never blocks: a manager that does
    not listen must not stop the daemon.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as manager:
            manager.sendto(state.encode(errors="replace"), address)
    except OSError as error:
        log.debug("service manager not notified", state=state, error=str(error))
