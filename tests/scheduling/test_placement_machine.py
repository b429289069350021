"""Placement as a family uses it, in any order of arrivals, passes and ends: a state machine for hypothesis."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from lrs_trio.wire.messages import ReadAllocation, WriteAllocation

from .test_placement import Grants, read, write

CAPACITY = 100
DEVICES = "abc"

sizes = st.lists(st.integers(0, CAPACITY), min_size=1, max_size=3)
reads = st.builds(lambda order, required: read(required, *order), st.permutations(DEVICES), st.integers(1, 3))


class Placing(RuleBasedStateMachine):
    """A queue, devices that share volumes or do not, and clients that give back what they hold when they like."""

    @initialize(slots=st.integers(1, 3), mixes=st.booleans(), shared=st.booleans())
    def begin(self, slots: int, mixes: bool, shared: bool) -> None:
        volumes = {"ab": 3 * CAPACITY, "c": CAPACITY * 3} if shared else dict.fromkeys(DEVICES, 3 * CAPACITY)
        devices = {name: "ab" if shared and name in "ab" else name for name in DEVICES}
        self.grants = Grants(volumes, devices, slots, mixes)
        self.waiting: list[tuple[int, WriteAllocation | ReadAllocation]] = []
        self.ongoing: list[int] = []
        self.arrived = 0

    @rule(wanted=sizes)
    def ask_to_write(self, wanted: list[int]) -> None:
        self._ask(write(*wanted))

    @rule(request=reads)
    def ask_to_read(self, request: ReadAllocation) -> None:
        self._ask(request)

    @rule()
    def decide(self) -> None:
        first = self.waiting[0][0] if self.waiting else None
        nothing_held = not self.ongoing
        served = self.grants.one_pass(self.waiting)
        assert first is None or not nothing_held or first in served, "nobody holds anything and the first one waits"
        self.ongoing += served
        self.waiting = [entry for entry in self.waiting if entry[0] not in served]

    @precondition(lambda self: self.ongoing)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(self.ongoing))
        self.ongoing.remove(number)
        self.grants.end(number)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        self.waiting.remove(data.draw(st.sampled_from(self.waiting)))

    @invariant()
    def nobody_holds_what_is_not_theirs(self) -> None:
        assert {held[3] for held in self.grants.held} == set(self.ongoing)

    def teardown(self) -> None:
        """Once everybody gives back what he has, everybody is served."""
        for _ in range(len(self.waiting) + 1):
            for number in self.ongoing:
                self.grants.end(number)
            self.ongoing = []
            self.decide()
        assert self.waiting == []

    def _ask(self, request: WriteAllocation | ReadAllocation) -> None:
        self.waiting.append((self.arrived, request))
        self.arrived += 1


TestPlacing = pytest.mark.note("10.2")(Placing.TestCase)
TestPlacing.settings = settings(max_examples=60, stateful_step_count=30)
