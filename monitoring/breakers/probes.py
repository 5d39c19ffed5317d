"""wsmon's own probes and a service's breaker: they feed it, and while it is open its trial is the only probe.

A breaker that a person has forced says nothing to the probes: they go on, so that one sees when to end it.
"""

from __future__ import annotations

from monitoring.breakers import judging
from monitoring.breakers.guard import breaker
from monitoring.breakers.local import Pass
from monitoring.breakers.policy import NEUTRAL, Ending
from monitoring.claims import Claim
from providers.base import NOT_A_CALL, ProbeOutcome


class Admission:
    """A probe that may be made; :meth:`end` it once."""

    def __init__(self, claim: Claim, passed: Pass | None) -> None:
        self._claim = claim
        self._passed = passed

    def end(self, outcome: ProbeOutcome | None) -> None:
        """Count what it found; None: nothing that says anything about the service."""
        passed, self._passed = self._passed, None
        if passed is not None:
            ending: Ending = NEUTRAL if outcome is None else judging.of_probe(self._claim.kind, outcome)
            breaker(self._claim.service).end(passed, ending)


def admit(claim: Claim) -> Admission | None:
    """Ask the service's breaker; None: not now, somebody else makes the trial."""
    if claim.kind in NOT_A_CALL:
        return Admission(claim, None)
    guard = breaker(claim.service)
    if guard.is_forced:
        return Admission(claim, None)
    passed = guard.trial()
    return None if passed is None else Admission(claim, passed)
