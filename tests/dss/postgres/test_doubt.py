"""Whether a COMMIT without an answer was done: decided from what the server and the rows say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrs_trio.dss.books import updated_medium
from lrs_trio.dss.operations import MediumUpdate
from lrs_trio.dss.postgres.doubt import Doubt, Evidence, Fate, ServerState, evidence_in, lost_in_crash, was_committed
from lrs_trio.dss.postgres.transaction import Change, Number
from lrs_trio.model import AdmStatus, Medium, MediumStats, ResourceId
from tests.dss.samples import directory, medium_id

SURE, RESTARTED = True, False
"""Whether the server has been running ever since."""

DECISIONS = {
    # A number that was aborted was never committed, whoever had it.
    (Fate.ABORTED, SURE, Evidence.DONE): (False, False),
    (Fate.ABORTED, SURE, Evidence.NOT_DONE): (False, False),
    (Fate.ABORTED, SURE, Evidence.NONE): (False, False),
    (Fate.ABORTED, RESTARTED, Evidence.DONE): (False, False),
    (Fate.ABORTED, RESTARTED, Evidence.NOT_DONE): (False, False),
    (Fate.ABORTED, RESTARTED, Evidence.NONE): (False, False),
    # One that is committed, and that nobody else can have had, was.
    (Fate.COMMITTED, SURE, Evidence.DONE): (True, True),
    (Fate.COMMITTED, SURE, Evidence.NOT_DONE): (True, True),
    (Fate.COMMITTED, SURE, Evidence.NONE): (True, True),
    # After a crash somebody else may have got the number and committed with it.
    (Fate.COMMITTED, RESTARTED, Evidence.DONE): (True, False),
    (Fate.COMMITTED, RESTARTED, Evidence.NOT_DONE): (False, False),
    (Fate.COMMITTED, RESTARTED, Evidence.NONE): (True, False),
    # Too long ago.
    (Fate.UNKNOWN, SURE, Evidence.DONE): (True, False),
    (Fate.UNKNOWN, SURE, Evidence.NOT_DONE): (False, False),
    (Fate.UNKNOWN, SURE, Evidence.NONE): (True, False),
    # Or another server.
    (Fate.UNKNOWN, RESTARTED, Evidence.DONE): (True, False),
    (Fate.UNKNOWN, RESTARTED, Evidence.NOT_DONE): (False, False),
    (Fate.UNKNOWN, RESTARTED, Evidence.NONE): (True, False),
}
"""By what the server and the rows say: what is decided for what may not be repeated, and for what may."""


@pytest.mark.parametrize("fate", list(Fate))
def test_every_case_is_decided(fate: Fate) -> None:
    cases = {(same_life, evidence) for same_life in (SURE, RESTARTED) for evidence in Evidence}
    # What is in progress is waited for, and never decided.
    decided = {case: DECISIONS[fate, *case] for case in cases} if fate is not Fate.IN_PROGRESS else {}
    assert len(decided) == sum(known is fate for known, _, _ in DECISIONS)
    for (same_life, evidence), decisions in decided.items():
        for repeatable in (False, True):
            found = was_committed(fate, evidence, same_life=same_life, repeatable=repeatable)
            assert found is decisions[repeatable], (same_life, evidence, repeatable)


# What the log says


@pytest.mark.parametrize(
    ("recovered_to", "lost"),
    [
        (None, False),  # the server was stopped in order
        ("1/9", True),  # the log ends before it
        ("1/FFFFFFF", True),
        ("1/10000000", False),
        ("A/0", False),
        ("F/0", False),
    ],
)
def test_a_crash_has_lost_what_was_not_in_the_log(recovered_to: str | None, lost: bool) -> None:
    doubt = Doubt(Number("1", "1/10000000"), ServerState("1", "monday", "0/5"), 0, {}, [], repeatable=False)
    assert lost_in_crash(doubt, ServerState("1", "tuesday", recovered_to)) is lost


def test_a_crash_before_a_transaction_has_lost_nothing_of_it() -> None:
    life = ServerState("1", "monday", "0/5")
    assert not lost_in_crash(Doubt(Number("1", "1/0"), life, 0, {}, [], repeatable=False), life)


# What rows say

MEDIUM = directory().medium


def changed(name: str = "/srv/a") -> tuple[ResourceId, Change]:
    before = replace(MEDIUM, id=medium_id(name))
    return before.id, Change(before, updated_medium(before, MediumUpdate(before.id, add_objects=1)))


def test_a_row_as_it_was_left_or_found_speaks_for_the_whole_transaction() -> None:
    (a, on_a), (b, on_b) = changed("/srv/a"), changed("/srv/b")
    changes = {a: on_a, b: on_b}
    somebody_elses = updated_medium(on_a.after, MediumUpdate(a, add_objects=1))

    assert evidence_in(changes, {a: on_a.after, b: on_b.after}) is Evidence.DONE
    assert evidence_in(changes, {a: on_a.before, b: on_b.before}) is Evidence.NOT_DONE
    assert evidence_in(changes, {a: somebody_elses, b: on_b.after}) is Evidence.DONE
    assert evidence_in(changes, {a: somebody_elses, b: on_b.before}) is Evidence.NOT_DONE
    assert evidence_in(changes, {b: on_b.after}) is Evidence.DONE


def test_rows_that_are_gone_or_changed_since_or_were_never_to_change_say_nothing() -> None:
    a, on_a = changed()
    unchanged = Change(MEDIUM, MEDIUM)

    assert evidence_in({}, {}) is Evidence.NONE
    assert evidence_in({a: on_a}, {}) is Evidence.NONE
    assert evidence_in({a: on_a}, {a: updated_medium(on_a.after, MediumUpdate(a, add_objects=1))}) is Evidence.NONE
    half = MediumUpdate(a, add_objects=1, add_logical=1)
    both = Change(on_a.before, updated_medium(on_a.before, half))
    assert evidence_in({a: both}, {a: on_a.after}) is Evidence.NONE
    assert evidence_in({a: unchanged}, {a: MEDIUM}) is Evidence.NONE


def test_what_somebody_else_has_changed_beside_our_change_does_not_matter() -> None:
    a, on_a = changed()
    flags = MediumUpdate(a, put=False, tags=("new",), phys_spc_free=7)
    assert evidence_in({a: on_a}, {a: updated_medium(on_a.after, flags)}) is Evidence.DONE
    assert evidence_in({a: on_a}, {a: updated_medium(on_a.before, flags)}) is Evidence.NOT_DONE


def test_a_change_of_any_column_is_evidence() -> None:
    a, on_a = MEDIUM.id, Change(MEDIUM, replace(MEDIUM, adm_status=AdmStatus.FAILED))
    assert evidence_in({a: on_a}, {a: on_a.after}) is Evidence.DONE
    assert evidence_in({a: on_a}, {a: on_a.before}) is Evidence.NOT_DONE


NAMES = st.sampled_from(["/srv/a", "/srv/b", "/srv/c"])
AMOUNTS = st.integers(-3, 3)


def after(media: Mapping[ResourceId, Medium], amounts: Mapping[str, int]) -> dict[ResourceId, Medium]:
    result = dict(media)
    for name, amount in amounts.items():
        medium = medium_id(name)
        result[medium] = updated_medium(result[medium], MediumUpdate(medium, add_logical=amount, add_objects=1))
    return result


@given(st.dictionaries(NAMES, AMOUNTS, min_size=1), st.dictionaries(NAMES, AMOUNTS), st.booleans())
def test_the_rows_never_say_the_opposite(ours: dict[str, int], theirs: dict[str, int], committed: bool) -> None:
    """Whatever somebody else has added since, where objects are only ever added."""
    media = {
        medium_id(name): replace(MEDIUM, id=medium_id(name), stats=MediumStats(100, 100))
        for name in ("/srv/a", "/srv/b", "/srv/c")
    }
    done = after(media, ours)
    changes = {medium_id(name): Change(media[medium_id(name)], done[medium_id(name)]) for name in ours}

    evidence = evidence_in(changes, after(done if committed else media, theirs))

    # Who changes the same figures in the same way cannot be told from us.
    same = any(theirs.get(name) == amount or (amount == 0 and name in theirs) for name, amount in ours.items())
    if committed or not same:
        assert evidence is not (Evidence.NOT_DONE if committed else Evidence.DONE)
    if not theirs:
        assert evidence is (Evidence.DONE if committed else Evidence.NOT_DONE)
