"""`lrs status` and `lrs stats`: what the daemon is doing, and what it has counted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import click

from lrs_trio.cli.output import counted, human_age, human_size, print_json, print_table
from lrs_trio.cli.site import Site, pass_site

Report = dict[str, Any]
"""A part of the daemon's own report, as it came: sizes are bytes, ages seconds."""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the whole report as JSON.")
@pass_site
def status(site: Site, as_json: bool) -> None:
    """Show what the daemon is doing.

    For each family: its devices with their media, requests that wait, I/O, and releases to sync.
    """
    with site.connect() as client:
        report = client.status()
    if as_json:
        print_json(report)
        return
    print_daemon(report)
    for family in report["families"]:
        click.echo()
        print_family(family)


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
        found = client.stats(ns or None, name or None, tags)
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


def print_family(family: Report) -> None:
    """A family's devices, and where there are any, its waiting requests and its I/O."""
    devices = family["devices"]
    print_table(
        ["device", "library", "status", "medium", "filesystem", "I/O", "planned", "to sync", "free", "remark"],
        map(_device_cells, devices),
        right=frozenset({"I/O", "planned", "free"}),
        title=f"family {family['family']}: {_queues(family['queued'])}, {_space(family)}",
    )
    waiting = family["waiting"]
    if waiting:
        click.echo()
        print_table(
            ["request", "state", "client", "pid", "age"],
            [[w["kind"], w.get("state", ""), *_client(w), human_age(w["age_s"])] for w in waiting],
            right=frozenset({"age"}),
            title=counted(len(waiting), "request") + " without an answer yet",
        )
    grants = list(_grants(devices))
    if grants:
        click.echo()
        print_table(
            ["medium", "I/O", "state", "client", "pid", "age"],
            grants,
            right=frozenset({"age"}),
            title=counted(len(grants), "grant"),
        )


def _space(family: Report) -> str:
    """Directories of one filesystem share its space, which counts once."""
    return f"{human_size(family['free'])} free on {counted(family['volumes'], 'filesystem')}"


def _queues(queued: Report) -> str:
    parts = [f"{count} {kind}" for kind, count in queued.items() if count]
    return ", ".join(parts) + " queued" if parts else "no request queued"


def _device_cells(device: Report) -> list[str]:
    to_sync = device["to_sync"]
    waiting = "-"
    if to_sync["requests"]:
        waiting = f"{counted(to_sync['requests'], 'release')}, {human_size(to_sync['bytes'])}"
    if to_sync["age_s"] is not None:
        waiting += f", {human_age(to_sync['age_s'])} old"
    medium_status = device.get("medium_adm_status") or ""
    io = f"{device['ongoing']}/{device['max_concurrent_io']}"
    return [
        device["path"],
        device["library"],
        device["status"],
        medium_status if device["medium"] else "none",
        device["fs_status"] or "",
        f"{io}+{device['reserved']}" if device["reserved"] else io,
        str(device["planned"]),
        waiting,
        human_size(device["free"]) if device["medium"] else "",
        "; ".join(_remarks(device)),
    ]


def _remarks(device: Report) -> Iterator[str]:
    if device.get("stopping"):
        yield "stopping"
    if device["syncing"]:
        yield "syncing"
    if device["reserved_bytes"]:
        yield f"{human_size(device['reserved_bytes'])} reserved"
    if device["reason"]:
        yield str(device["reason"])


def _grants(devices: Iterable[Report]) -> Iterator[list[str]]:
    for device in devices:
        for grant in device["grants"]:
            yield [
                device["medium"] or device["path"],
                grant["kind"],
                grant["state"],
                *_client(grant),
                human_age(grant["age_s"]),
            ]


def _client(entry: Report) -> tuple[str, str]:
    return str(entry["client"]), "-" if entry["pid"] is None else str(entry["pid"])
