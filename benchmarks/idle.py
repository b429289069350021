"""Whether the idle daemon sleeps: its system calls in ten seconds, beside those of a process that only sleeps.

``python -m benchmarks.idle [--dss postgres]``; needs strace. Ends with status 1 if anything wakes the daemon.
"""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
from collections import Counter
from itertools import islice
from random import Random
from time import sleep
from typing import Final

import click

from benchmarks.harness import format_media, running
from benchmarks.load import Ledger, orders, run_load, write_all
from benchmarks.sites import NAMES, DssKind, dss_option, temporary_sites

CYCLES: Final = 200
SETTLE_S: Final = 15.0
"""Trio's idle worker threads end ten seconds after their last job. Seconds."""

SLEEPER: Final = "import trio; trio.run(trio.sleep_forever)"


def count_system_calls(pid: int, seconds: float) -> Counter[str]:
    """The calls of all threads of `pid` in so many seconds, what attaching and detaching costs included.

    Raises:
        RuntimeError: strace could not attach.
    """
    command = ["strace", "-c", "-f", "-S", "name", "-U", "calls,name", "-p", str(pid)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        try:
            attached = tracer.stderr.readline() if tracer.stderr else ""
            if "attached" not in attached:
                raise RuntimeError(f"strace cannot trace process {pid}: {attached.strip()}")
            sleep(seconds)
        finally:
            tracer.send_signal(signal.SIGINT)
        _, table = tracer.communicate()
    rows = [words for words in map(str.split, table.splitlines()) if len(words) == 2 and words[0].isdigit()]
    return Counter({name: int(calls) for calls, name in rows if name != "total"})


def of_a_sleeper(seconds: float) -> Counter[str]:
    """As `count_system_calls`, of a trio program that does nothing."""
    with subprocess.Popen([sys.executable, "-c", SLEEPER]) as sleeper:
        try:
            sleep(1)  # until it sleeps
            return count_system_calls(sleeper.pid, seconds)
        finally:
            sleeper.kill()


def shown(calls: Counter[str]) -> str:
    names = ", ".join(f"{name} {count}" for name, count in sorted(calls.items()))
    return f"{calls.total()} system calls ({names})" if calls else "no system call"


@click.command()
@dss_option
@click.option("--directories", type=click.IntRange(2), default=16, show_default=True)
@click.option("--seconds", type=click.FloatRange(1), default=10.0, show_default=True, help="How long to count.")
def main(dss: DssKind, directories: int, seconds: float) -> None:
    """Count the wake-ups of a daemon that has served and has nothing to do any more."""
    if shutil.which("strace") is None:
        raise click.ClickException("strace is not installed; it counts the system calls")
    with (
        temporary_sites(dss) as sites,
        sites.temporary(directories) as site,
        running(site) as daemon,
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as idle_client,
    ):
        format_media(site)
        idle_client.connect(str(site.socket))
        ledger = Ledger()
        wanted = islice(orders(Random(1), copies=[1, 2]), CYCLES)
        run_load(site.socket, ledger, 16, lambda client: write_all(client, wanted), seconds=60)
        sleep(SETTLE_S)
        cpu = daemon.cpu_seconds()
        calls = count_system_calls(daemon.pid, seconds)
        cpu = daemon.cpu_seconds() - cpu
    sleeper = of_a_sleeper(seconds)
    woken = calls - sleeper
    print(f"{NAMES[dss]}, {directories} directories, {len(ledger.acknowledged)} cycles, then {SETTLE_S:g} s of rest")
    print(f"lrsd in {seconds:g} s: {shown(calls)}, {cpu:.2f} s of CPU")
    print(f"a sleeping process, which shows what strace itself costs: {shown(sleeper)}")
    print(f"woken: {shown(woken)}")
    sys.exit(1 if woken else 0)


if __name__ == "__main__":
    main()
