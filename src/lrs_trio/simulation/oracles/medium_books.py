"""What the books of one medium must say, as far as the releases tell that clients have sent. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from lrs_trio.simulation.oracles.books import Counted


@dataclass(slots=True, eq=False)
class Claim:
    """What one release asks to be counted on one medium."""

    counted: Counted


class MediumBooks:
    """Bounds of what may be counted on a medium: what was acknowledged is, what is uncertain may be, nothing else."""

    def __init__(self) -> None:
        self.acknowledged = Counted()
        self._uncertain: dict[Claim, None] = {}

    def claim(self, claim: Claim) -> None:
        """A release was sent: it is counted from now on, or later, or never."""
        self._uncertain[claim] = None

    def acknowledge(self, claim: Claim) -> None:
        """It is counted; nothing happens if `settle` has taken that in already."""
        if claim in self._uncertain:
            del self._uncertain[claim]
            self.acknowledged += claim.counted

    def refuse(self, claim: Claim) -> None:
        """It is not counted, and never will be."""
        self._uncertain.pop(claim, None)

    def settle(self, counted: Counted) -> None:
        """Whatever is uncertain is decided now: `counted` is what is in the books."""
        self.acknowledged = counted
        self._uncertain.clear()

    def flaw(self, counted: Counted) -> str:
        """What is wrong if the books say `counted`; "" if nothing is."""
        claims = [claim.counted for claim in self._uncertain]
        for what, value, sure, unsure in (
            ("extents", counted.objects, self.acknowledged.objects, [claim.objects for claim in claims]),
            ("bytes", counted.size, self.acknowledged.size, [claim.size for claim in claims]),
        ):
            least = sure + sum(number for number in unsure if number < 0)
            most = sure + sum(number for number in unsure if number > 0)
            if not least <= value <= most:
                return f"{value} {what} are counted; {sure} were acknowledged, {least} to {most} are possible"
        return ""
