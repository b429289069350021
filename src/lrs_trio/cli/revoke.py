"""`lrs revoke`: takes grants away from clients that do not give them back."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from lrs_trio.cli.output import counted, human_age, print_json, say
from lrs_trio.cli.site import Site, pass_site

if TYPE_CHECKING:
    from lrs_trio.client import Client
    from lrs_trio.wire.messages import Revoke


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
    is only planned, or is being synced, is not touched.

    The daemon goes on as if the client had gone: a medium that was granted for writing is synced, and nothing is
    counted. But nothing keeps the client from using the medium until it releases it, which is then refused with
    EINVAL. End the process first if it must not write any more. A client that has not read yet that it was granted
    the medium is refused with ECANCELED instead.

    It takes the right admin. The exit status is 1 if there is no such grant, or if some are left that were given
    meanwhile.
    """
    if not media and client is None and pid is None:
        raise click.UsageError("name media, --client or --pid")
    from lrs_trio.wire.messages import Revoke

    revoked: list[dict[str, Any]] = []
    more = untouched = 0
    with site.connect() as connection:
        for answer in _answers(connection, Revoke(media, library, client, pid)):
            revoked += answer["revoked"]
            more, untouched = answer.get("more", 0), answer.get("untouched", 0)
            for grant in () if as_json else answer["revoked"]:
                click.echo(f"{grant['medium']}: revoked; {_described(grant)}")
    if as_json:
        print_json(revoked)
    if untouched:
        say(f"{counted(untouched, 'grant')} left: only planned, or being synced for a partial release")
    if more:
        say(f"{counted(more, 'grant')} left that were given meanwhile; lock the media first, or end the processes")
    if not revoked and not untouched:
        say("nothing is revoked: no client holds such a grant; lrs status shows those that there are")
    if more or not revoked:
        sys.exit(1)


def _answers(connection: Client, body: Revoke) -> Iterator[dict[str, Any]]:
    """Ask until as many are taken as there were at first: the daemon takes only so many at once.

    Not until there are none: that would take the media from all who have waited for them, too.
    """
    wanted: int | None = None
    taken = 0
    while wanted is None or taken < wanted:
        answer = connection.revocation(body)
        yield answer
        taken += len(answer["revoked"])
        wanted = wanted or taken + answer.get("more", 0)
        if not answer.get("more"):
            return


def _described(grant: dict[str, Any]) -> str:
    holder = f"client {grant['client']}, pid {grant['pid']}, uid {grant['uid']}"
    age = human_age(grant["held_s"])
    if grant.get("state") == "ready":
        return f"{holder} has not read for {age} that it was granted for a {grant['kind']}, and is refused"
    return f"{holder} had it for a {grant['kind']} since {age}"
