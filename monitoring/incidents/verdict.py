"""Us or them: what pieces of evidence say together. Pure.

Each piece says which side it points to and how strongly, as a weight: the natural logarithm of how many times more
likely it would be seen if that side were at fault than if the other were. Weights of independent pieces add up
(naive Bayes; https://en.wikipedia.org/wiki/Log_odds), from even odds, and the sum is a probability by the logistic
function. Pieces of one incident are not quite independent, so the weights are chosen low, no single one counts for
more than ``MOST``, and nothing is ever more than ``SUREST`` sure.

What the weights mean: 0.4 is a hint (3 to 2), 0.7 is 2 to 1, 1.1 is 3 to 1, 1.6 is 5 to 1, 2.3 is 10 to 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from monitoring.incidentmodels import Verdict

MOST = 3.0
SUREST = 0.97
DECIDED = 0.7
"""From this probability on a side is named; below it is unclear."""


class Side(StrEnum):
    """Whom a piece of evidence points to."""

    US = "us"
    THEM = "them"
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True)
class Evidence:
    """One piece. ``weight`` is not negative, and 0 for what is unclear."""

    key: str
    """What it is: "probes", "calls", "webhooks", "deliveries", "control", "page", "sibling"."""
    side: Side
    weight: float
    title: str
    """Where it comes from, in words: "Our probes"."""
    text: str
    sub: str = ""
    url: str = ""

    @property
    def mark(self) -> str:
        """The status whose shape and colour stand for the side."""
        return {Side.US: "error", Side.THEM: "degraded"}.get(self.side, "unknown")

    @property
    def signed(self) -> float:
        """The weight, positive when it points to them."""
        weight = min(max(self.weight, 0.0), MOST)
        return {Side.US: -weight, Side.THEM: weight}.get(self.side, 0.0)


@dataclass(frozen=True, slots=True)
class Judged:
    """What all pieces say. ``them`` is the probability (0..1) that it is the vendor's fault."""

    verdict: Verdict
    them: float
    evidence: tuple[Evidence, ...] = ()

    @property
    def us(self) -> float:
        """The probability that it is our own fault."""
        return 1.0 - self.them

    @property
    def confidence(self) -> float:
        """How sure it is of what is more likely, 0.5 to 1; 0 without any evidence."""
        return max(self.them, self.us) if self.evidence else 0.0

    @property
    def them_percent(self) -> int:
        """``them`` in whole percent; with ``us_percent`` it is 100."""
        return round(self.them * 100)

    @property
    def us_percent(self) -> int:
        """``us`` in whole percent."""
        return 100 - self.them_percent


def judge(evidence: Iterable[Evidence]) -> Judged:
    """Weigh the pieces. Those that say most come first."""
    pieces = sorted(evidence, key=lambda piece: -abs(piece.signed))
    them = 1 / (1 + math.exp(-sum(piece.signed for piece in pieces)))
    them = min(max(them, 1 - SUREST), SUREST)
    sides = {Verdict.THEIRS: them >= DECIDED, Verdict.OURS: them <= 1 - DECIDED}
    verdict = next((side for side, is_so in sides.items() if is_so), Verdict.UNCLEAR)
    return Judged(verdict, them, tuple(pieces))


def dump(evidence: Iterable[Evidence]) -> list[dict[str, Any]]:
    """As JSON, for the incident's row and the API."""
    return [asdict(piece) | {"weight": round(piece.weight, 2)} for piece in evidence]


def load(rows: Iterable[Mapping[str, Any]]) -> list[Evidence]:
    """What :func:`dump` made."""
    return [Evidence(**{**row, "side": Side(row["side"])}) for row in rows]


def sentence(judged: Judged, label: str, *, is_vendor: bool = True) -> str:
    """The verdict in one sentence. What is no vendor may be ours as well: then it is itself, or the way to it."""
    if not is_vendor and judged.verdict is not Verdict.UNCLEAR:
        itself = judged.verdict is Verdict.THEIRS
        return f"It is {label} itself." if itself else f"It is how we reach or probe {label}."
    if judged.verdict is Verdict.THEIRS:
        return f"It is {label}, not us."
    if judged.verdict is Verdict.OURS:
        return f"It is us, not {label}."
    return "It is not clear yet."
