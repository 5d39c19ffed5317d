"""Another process that uses a breaker, for tests: ``python -m ...another DATABASE HOST LEASE WHAT [NUMBER]``.

It prints one JSON value a line.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def say(value: Any) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def wait_until(look: Callable[[], T]) -> T:
    """What `look` returns, once that is something."""
    deadline = time.monotonic() + 20
    while not (found := look()) and time.monotonic() < deadline:
        time.sleep(0.005)
    return found


def fail() -> None:
    raise ConnectionRefusedError


def hammer(guard: Any, seconds: int) -> None:
    """Four threads that call without a pause; when each call that was let through began and ended."""
    made: list[tuple[float, float]] = []

    def trial() -> None:
        began = time.monotonic()
        time.sleep(0.003)
        made.append((began, time.monotonic()))

    def work() -> None:
        from monitoring.breakers import CircuitOpen  # noqa: PLC0415

        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                guard.call(trial)
            except CircuitOpen:
                time.sleep(0.0005)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    say(made)


def failing(guard: Any, times: int) -> None:
    """So many failures; then whether it opens, and whether this process opened it by itself."""
    for _ in range(times):
        try:
            guard.call(fail)
        except ConnectionRefusedError:
            continue
    say("done")
    say(wait_until(lambda: guard.is_open))


def hold(guard: Any, _number: int) -> None:
    """Take a trial and never end it."""
    wait_until(lambda: guard.is_open)
    say(wait_until(guard.trial) is not None)
    time.sleep(60)


def fork(guard: Any, times: int) -> None:
    """Two calls here, some in a child, which then waits until it is open; the child's exit code."""
    guard.call(int)
    guard.call(int)
    child = os.fork()
    if child == 0:
        for _ in range(times):
            guard.call(int)
        say("forked")
        sys.exit(0 if wait_until(lambda: guard.is_open) else 1)
    say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def short(guard: Any, times: int) -> None:
    """A program that makes its calls and ends at once."""
    for _ in range(times):
        guard.call(int)


def main() -> None:
    database, host, lease, what, number = sys.argv[1:]
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    import django  # noqa: PLC0415
    from django.conf import settings  # noqa: PLC0415

    settings.DATABASES["default"] |= {"NAME": database, "HOST": host}
    atexit.register(shutil.rmtree, settings.DATA_DIR, ignore_errors=True)
    django.setup()
    from monitoring.breakers import breaker, machine, sync  # noqa: PLC0415

    machine.LEASE = float(lease)
    sync.RENEW_SECONDS = float(lease) / 3
    guard = breaker("vendor")
    if what != "short":
        wait_until(lambda: guard._local.shared)
    {"hammer": hammer, "failing": failing, "hold": hold, "fork": fork, "short": short}[what](guard, int(number))


if __name__ == "__main__":
    main()
