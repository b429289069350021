"""`lrs ping`: is the daemon there?"""

from __future__ import annotations

import click

from lrs_trio.cli.site import Site, pass_site


@click.command()
@pass_site
def ping(site: Site) -> None:
    """Ask the daemon for a sign of life.

    The exit status is 0 if it answers.
    """
    with site.connect() as client:
        client.ping()
    click.echo("the daemon answers")
