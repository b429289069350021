"""The shelf that is kept from pass to pass is what a look at all media would find."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from lrs_trio.errors import LrsError
from lrs_trio.model import FsStatus, Medium, ResourceId
from lrs_trio.scheduling.catalog import Shelved
from lrs_trio.scheduling.piles import Fit, Pile, PileName, ShelfMedium, Wish, class_of, piled
from lrs_trio.scheduling.shelf import MOST_WISHES, Shelf
from tests.fakes.stock import tape, tape_id

WISHES = [Wish((), False, None, None), Wish(("x",), False, None, None), Wish((), True, "lib", None)]
FITS = [Fit(0), Fit(30), Fit(30, largest=True), Fit(30, first=True)]


def any_tape(random: Random, name: str) -> Medium:
    return tape(
        name,
        random.randrange(60),
        model=random.choice(["LTO8", "LTO9"]),
        fs_status=random.choice([FsStatus.USED, FsStatus.EMPTY, FsStatus.FULL]),
        tags=random.choice([(), ("x",)]),
    )


def contents(piles: dict[PileName, Pile]) -> dict[PileName, tuple[list[list[str]], int]]:
    """What a write finds in each pile, and the room in it."""
    return {
        name: ([[m.id.name for m in pile.best(3, fit, ())] for fit in FITS], pile.room) for name, pile in piles.items()
    }


@given(st.randoms(use_true_random=False))
def test_law_it_is_what_a_look_at_all_media_would_find(random: Random) -> None:
    names = [f"T{number}" for number in range(8)]
    shelf, rows, places = Shelf(), dict[ResourceId, Shelved](), dict[ResourceId, int]()
    in_drives = set[ResourceId]()
    for _ in range(8):
        changed = random.sample(names, random.randrange(len(names)))
        for name in changed:
            if random.random() < 0.2:
                rows.pop(tape_id(name), None)
            else:
                refusal = LrsError(11, "in use elsewhere") if random.random() < 0.2 else None
                rows[tape_id(name)] = Shelved(any_tape(random, name), refusal)
        before, in_drives = in_drives, {tape_id(name) for name in random.sample(names, 2)}
        alone = {tape_id(name) for name in random.sample(names, random.randrange(3))}
        moved = sorted(before ^ in_drives)
        shelf.update(rows, [*(tape_id(name) for name in changed), *moved], in_drives, alone)
        for medium, shelved in shelf.media.items():
            places.setdefault(medium, shelved.place)
        expected = {
            medium: ShelfMedium(row.medium, row.refusal, places[medium])
            for medium, row in rows.items()
            if medium not in in_drives
        }
        assert shelf.media == expected
        assert shelf.classes == {medium: class_of(shelved.medium) for medium, shelved in expected.items()}
        for wish in random.sample(WISHES, 2):
            media = sorted(expected.values(), key=lambda shelved: shelved.place)
            fresh = piled(media, wish, alone)
            if wish in shelf.piles:
                assert contents(shelf.piles[wish]) == contents(fresh)
            else:
                shelf.piles[wish] = fresh


def test_wishes_are_not_remembered_for_ever() -> None:
    shelf = Shelf()
    for number in range(MOST_WISHES + 1):
        shelf.piles[Wish((str(number),), False, None, None)] = {}
    shelf.update({}, (), (), ())
    assert shelf.piles == {}
