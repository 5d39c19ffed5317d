"""A deadline for code that has none of its own: it runs in a thread, and is left behind when it takes too long."""

from __future__ import annotations

import threading
from collections.abc import Callable

from monitoring.notifications.problems import ChannelProblem

MOST_LEFT_BEHIND = 32
"""Threads of one process that may hang; beyond it nothing more is tried that way."""

_lock = threading.Lock()
_running = 0


def within(seconds: float, work: Callable[[], None], what: str) -> None:
    """Do ``work``, or raise :class:`ChannelProblem` when it takes longer; what it raises itself is raised here.

    ``work`` must not use the database: its thread may outlive everything.
    """
    global _running  # noqa: PLW0603  one number per process
    with _lock:
        if _running >= MOST_LEFT_BEHIND:
            raise ChannelProblem("too many earlier messages still hang", retry=True)
        _running += 1
    ended = threading.Event()
    raised: list[BaseException] = []

    def run() -> None:
        global _running  # noqa: PLW0603
        try:
            work()
        except BaseException as problem:
            raised.append(problem)
        finally:
            with _lock:
                _running -= 1
            ended.set()

    threading.Thread(target=run, name="notify", daemon=True).start()
    if not ended.wait(seconds):
        raise ChannelProblem(f"{what} did not answer within {seconds:g} s", retry=True)
    if raised:
        raise raised[0]
