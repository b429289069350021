"""`lrs revoke`: takes grants away from clients that do not give them back."""

from __future__ import annotations

import sys
from typing import Any

import click

from lrs_trio.cli.output import human_age, print_json, say
from lrs_trio.cli.site import Site, pass_site


@click.command()
@click.argument("media", metavar="[MEDIUM]...", nargs=-1)
@click.option("--library", help="Only media of this library.")
@click.option("--client", type=click.IntRange(0, 2**64 - 1), metavar="N", help="Only grants of this connection.")
@click.option("--pid", type=click.IntRange(0, 2**31 - 1), metavar="PID", help="Only grants of this process.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_site
def revoke(
    site: Site, media: tuple[str, ...], library: str | None, client: int | None, pid: int | None, as_json: bool
) -> None:
    """Take grants away from whoever holds them.

    MEDIUM, client and process are as lrs status shows them. All that is given must be true of a grant. What waits, or
    is being synced, is not touched.

    The daemon goes on as if the client had gone: a medium that was granted for writing is synced, and nothing is
    counted. But nothing keeps the client from using the medium until it releases it, which is then refused with
    EINVAL. End the process first if it must not write any more.

    It takes the right admin. The exit status is 1 if there is no such grant.
    """
    if not media and client is None and pid is None:
        raise click.UsageError("name media, --client or --pid")
    with site.connect() as connection:
        revoked = connection.revoke(media, library=library, client=client, pid=pid)
    if as_json:
        print_json(revoked)
    for grant in () if as_json else revoked:
        click.echo(f"{grant['medium']}: revoked; {_described(grant)}")
    if not revoked:
        say("nothing is revoked: no client holds such a grant; lrs status shows those that there are")
        sys.exit(1)


def _described(grant: dict[str, Any]) -> str:
    holder = f"client {grant['client']}, pid {grant['pid']}, uid {grant['uid']}"
    return f"{holder} had it for a {grant['kind']} since {human_age(grant['held_s'])}"
