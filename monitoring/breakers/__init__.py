"""Circuit breakers that every process shares. Read ``guard`` for their use, ``machine`` for what they do.

``guard`` and ``local`` run in the caller's thread, ``sync`` in one thread of the process, ``store`` in
PostgreSQL; ``policy``, ``machine`` and ``judging`` are pure.
"""

from monitoring.breakers.guard import CircuitOpen, Guard, breaker
from monitoring.breakers.policy import Ending, Kind

__all__ = ["CircuitOpen", "Ending", "Guard", "Kind", "breaker"]
