"""`lrs status` and `lrs stats`: what the daemon is doing, and what it has counted."""

from __future__ import annotations

import errno
from typing import Final

import click

from lrs_trio.cli.family_report import Report, print_family
from lrs_trio.cli.output import counted, human_age, print_json, print_table
from lrs_trio.cli.site import Site, pass_site
from lrs_trio.errors import LrsError, describe

ADVICE: Final = {
    errno.EINVAL: "--tags is KEY=VALUE[,KEY=VALUE]..., such as family=dir",
    errno.EMSGSIZE: "there are more than one answer has room for: name one, such as dev.effective_sync, or give --tags",
}
"""What to do about the errors that statistics may be refused with."""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the whole report as JSON.")
@click.option("--all", "everything", is_flag=True, help="Print all rows, however many there are.")
@pass_site
def status(site: Site, as_json: bool, everything: bool) -> None:
    """Show what the daemon is doing.

    For each family: its devices with their media, requests that wait, I/O, and releases to sync. Of very many only
    those that matter most are printed: devices that are out of order or busy, the oldest requests.
    """
    with site.connect() as client:
        report = client.status()
    if as_json:
        print_json(report)
        return
    print_daemon(report)
    for family in report["families"]:
        click.echo()
        print_family(family, everything=everything)


@click.command()
@click.argument("metric", required=False, metavar="[NS[.NAME]]")
@click.option("--tags", help="Only metrics with all these tags: KEY=VALUE[,KEY=VALUE]...")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_site
def stats(site: Site, metric: str | None, tags: str | None, as_json: bool) -> None:
    """Show what the daemon has counted.

    All since its start. NS is a namespace (req, dev), NAME one metric of it: lrs stats dev.effective_sync
    """
    ns, _, name = (metric or "").partition(".")
    with site.connect() as client:
        try:
            found = client.stats(ns or None, name or None, tags)
        except LrsError as error:
            if error.errno not in ADVICE:
                raise
            raise LrsError(error.errno, f"{describe(error)}; {ADVICE[error.errno]}") from error
    if as_json:
        print_json(found)
        return
    print_table(
        ["metric", "tags", "value"],
        [[entry["name"], entry.get("tags", ""), str(entry["value"])] for entry in found],
        right=frozenset({"value"}),
    )


def print_daemon(report: Report) -> None:
    daemon = report["daemon"]
    state = "draining" if daemon["draining"] else "serving"
    click.echo(
        f"lrsd on {daemon['host']}, pid {daemon['pid']}: {state}, up {human_age(daemon['uptime_s'])}, "
        f"{counted(report['connections'], 'connection')}, DSS {daemon['dss']['url']}"
    )
    unavailable = daemon["dss"]["unavailable_s"]
    if unavailable is not None:
        click.echo(f"the DSS has not answered for {human_age(unavailable)}; requests wait for it")
    for waits in daemon["dss"]["waits_for"]:
        click.echo(
            f"{counted(waits['operations'], 'change')} of {waits['resource']} wait for the {waits['lock']} lock that"
            f" pid {waits['pid']} on {waits['host']} has held for {human_age(waits['age_s'])} or longer"
        )
