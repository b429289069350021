"""`lrs tape`: the tapes of the libraries."""

from __future__ import annotations

import errno
import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from lrs_trio.cli.access import ACCESS_HELP, Access
from lrs_trio.cli.labels import LABELS_HELP, expand_labels
from lrs_trio.cli.output import counted, print_json, print_table, say, say_error
from lrs_trio.cli.results import Result, finish, first, kept, report
from lrs_trio.cli.rows import shown_medium, used_by
from lrs_trio.cli.site import Site, pass_site
from lrs_trio.errors import LrsError
from lrs_trio.model import AdmStatus
from lrs_trio.sizes import human_size

if TYPE_CHECKING:
    from lrs_trio.dss.operations import MediumRow

WORDS = click.argument("words", metavar="LABEL...", nargs=-1, required=True)
LIBRARY = click.option(
    "--library", help="Library that they are in; by default the only one that the settings have, or legacy."
)


@click.group(epilog=LABELS_HELP)
def tapes() -> None:
    """Administer tapes.

    A new tape is added, then formatted; it takes part once it is unlocked.
    """


@tapes.command(epilog=LABELS_HELP)
@click.argument("words", metavar="[LABEL...]", nargs=-1)
@click.option("--model", required=True, help="Model of the tapes, such as LTO8.")
@click.option("--from-library", is_flag=True, help="Those that the library has and the DSS does not.")
@click.option("--unlock", is_flag=True, help="Let them be used as soon as they are formatted.")
@click.option("--tag", "tags", multiple=True, help="Tag of the tapes; may be repeated.")
@LIBRARY
@pass_site
def add(
    site: Site,
    words: tuple[str, ...],
    model: str,
    from_library: bool,
    unlock: bool,
    tags: tuple[str, ...],
    library: str | None,
) -> None:
    """Make tapes known.

    They are blank, and locked unless asked otherwise.
    """
    from lrs_trio.cli.administration import open_administration
    from lrs_trio.cli.tape_administration import TapeAdministration

    if from_library == bool(words):
        raise click.UsageError("name the labels, or let --from-library do it")
    labels = expanded(words)
    with open_administration(TapeAdministration, site, library, create=True) as admin:
        if from_library:
            labels = admin.new_labels(model)
            if not labels:
                say(f"the library has no tape for {model} that the DSS does not know")
        failed = report(admin.add(labels, model, unlock=unlock, tags=tags), "added")
    sys.exit(first(failed))


@tapes.command(epilog=LABELS_HELP)
@WORDS
@click.option("--unlock", is_flag=True, help="Unlock them as well.")
@click.option("--force", is_flag=True, help="Also tapes that are not blank: what is on them is lost.")
@click.option(
    "--streams",
    metavar="N",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="How many the daemon is asked for at once; 0: all.",
)
@LIBRARY
@pass_site
def format(site: Site, words: tuple[str, ...], unlock: bool, force: bool, streams: int, library: str | None) -> None:
    """Make filesystems on blank tapes. The daemon does it, on as many drives as it may use."""
    from lrs_trio.cli.administration import open_administration
    from lrs_trio.cli.tape_administration import TapeAdministration

    labels = expanded(words)
    with open_administration(TapeAdministration, site, library) as admin:
        results: list[Result] = []
        failed = report(kept(admin.format(labels, unlock=unlock, force=force, streams=streams), results), "formatted")
        locked = admin.locked(result.name for result in results if result.error is None)
    if locked:
        say(f"{counted(len(locked), 'tape')} not in use until unlocked: lrs tape unlock {shlex.join(words)}")
    sys.exit(first(failed))


@tapes.command(epilog=LABELS_HELP)
@WORDS
@LIBRARY
@pass_site
def lock(site: Site, words: tuple[str, ...], library: str | None) -> None:
    """Take tapes out of service. I/O and syncs that are going on there end first."""
    _set_status(site, words, library, AdmStatus.LOCKED, "it will leave them alone when it starts")


@tapes.command(epilog=LABELS_HELP)
@WORDS
@LIBRARY
@pass_site
def unlock(site: Site, words: tuple[str, ...], library: str | None) -> None:
    """Put tapes into service.

    Those that had failed included.
    """
    _set_status(site, words, library, AdmStatus.UNLOCKED, "it will use them when it starts")


# What looks like options may be an access: -D.
@tapes.command("set-access", epilog=f"{ACCESS_HELP} {LABELS_HELP}", context_settings={"ignore_unknown_options": True})
@click.argument("access")
@WORDS
@LIBRARY
@pass_site
def set_access(site: Site, access: str, words: tuple[str, ...], library: str | None) -> None:
    """Say what may be done with tapes.

    Forbidding it does not end what is going on.
    """
    from lrs_trio.cli.administration import open_administration
    from lrs_trio.cli.tape_administration import TapeAdministration

    try:
        change = Access.parse(access)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="ACCESS") from error
    labels = expanded(words)
    with open_administration(TapeAdministration, site, library) as admin:
        failed = report(admin.set_access(labels, change), "changed")
    sys.exit(first(failed))


@tapes.command(epilog=LABELS_HELP)
@WORDS
@click.option("--tags", metavar="TAG[,TAG]...", required=True, help='The tags that they have from now on; "" for none.')
@LIBRARY
@pass_site
def update(site: Site, words: tuple[str, ...], tags: str, library: str | None) -> None:
    """Change the tags of tapes."""
    from lrs_trio.cli.administration import open_administration
    from lrs_trio.cli.tape_administration import TapeAdministration

    labels = expanded(words)
    with open_administration(TapeAdministration, site, library) as admin:
        failed = report(admin.set_tags(labels, split_tags(tags)), "changed")
    sys.exit(first(failed))


@tapes.command(epilog=LABELS_HELP)
@WORDS
@click.option("--force", is_flag=True, help="Also tapes that hold objects.")
@LIBRARY
@pass_site
def delete(site: Site, words: tuple[str, ...], force: bool, library: str | None) -> None:
    """Forget tapes that are in no daemon's drive. What is on them stays there."""
    from lrs_trio.cli.administration import open_administration
    from lrs_trio.cli.tape_administration import TapeAdministration

    labels = expanded(words)
    with open_administration(TapeAdministration, site, library) as admin:
        failed = report(admin.delete(labels, force=force), "deleted from the DSS")
    sys.exit(first(failed))


@tapes.command("list", epilog=LABELS_HELP)
@click.argument("words", metavar="[LABEL...]", nargs=-1)
@click.option("--tags", metavar="TAG[,TAG]...", default="", help="Only those that have all these tags.")
@click.option("--library", help="Only this library's.")
@click.option("--json", "as_json", is_flag=True, help="Print all fields as JSON.")
@pass_site
def list_(site: Site, words: tuple[str, ...], tags: str, library: str | None, as_json: bool) -> None:
    """Show the tapes in the DSS.

    "access" is what may be done: P put, G get, D delete; "used by" whose daemon has them in a drive.
    """
    from lrs_trio.cli.administration import open_administration
    from lrs_trio.cli.tape_administration import TapeAdministration

    labels = expanded(words)
    with open_administration(TapeAdministration, site) as admin:
        rows = [row for row in admin.tapes() if library in (None, row.medium.id.library)]
    there = {row.medium.id.name for row in rows}
    missing = [label for label in labels if label not in there]
    wanted = [
        _shown(row)
        for row in rows
        if (not labels or row.medium.id.name in labels) and set(split_tags(tags)) <= set(row.medium.tags)
    ]
    _print(wanted, as_json)
    failed = [say_error(LrsError(errno.ENOENT, f"{label}: the DSS knows no such tape")) for label in missing]
    sys.exit(first(failed))


def expanded(words: Sequence[str]) -> list[str]:
    """The labels that the command line names.

    Raises:
        click.BadParameter: they cannot be read.
    """
    try:
        return expand_labels(words)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="LABEL") from error


def split_tags(text: str) -> tuple[str, ...]:
    return tuple(tag for tag in text.split(",") if tag)


def _set_status(site: Site, words: Sequence[str], library: str | None, status: AdmStatus, later: str) -> None:
    from lrs_trio.cli.administration import open_administration
    from lrs_trio.cli.tape_administration import TapeAdministration

    labels = expanded(words)
    with open_administration(TapeAdministration, site, library) as admin:
        failed = report(admin.set_status(labels, status), status.value)
        untold = admin.untold
    finish(failed, len(labels), untold, later)


def _shown(row: MediumRow) -> dict[str, Any]:
    """A tape with all that the DSS says of it. Sizes are bytes."""
    shown = shown_medium(row)
    return {"label": shown.pop("name"), "model": row.medium.model, "library": row.medium.id.library} | shown


def _print(rows: Sequence[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json(rows)
        return
    print_table(
        [
            "label",
            "model",
            "library",
            "status",
            "filesystem",
            "objects",
            "written",
            "free",
            "tags",
            "groupings",
            "access",
            "loads",
            "errors",
            "used by",
        ],
        map(_cells, rows),
        right=frozenset({"objects", "written", "free", "loads", "errors"}),
    )


def _cells(row: dict[str, Any]) -> list[str]:
    stats = row["stats"]
    return [
        row["label"],
        row["model"] or "",
        row["library"],
        row["adm_status"],
        row["fs_status"],
        str(stats["nb_obj"]),
        human_size(stats["logc_spc_used"]),
        human_size(stats["phys_spc_free"]),
        " ".join(row["tags"]),
        " ".join(row["groupings"]),
        str(Access(row["put"], row["get"], row["delete"])),
        str(stats["nb_load"]),
        str(stats["nb_errors"]),
        used_by(row["lock"]),
    ]
