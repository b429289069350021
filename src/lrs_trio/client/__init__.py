"""Clients of the daemon: this one blocks; `lrs_trio.client.asynchronous` is its twin on trio.

with connect("/run/lrs-trio/lrs") as client:
    with client.write(size=1024) as allocation:
        ...
"""

from lrs_trio.client.blocking import Allocation, Client, connect
from lrs_trio.client.common import HeldMedium

__all__ = ["Allocation", "Client", "HeldMedium", "connect"]
