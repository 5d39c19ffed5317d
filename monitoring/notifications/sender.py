"""The sender: the threads of one process that send what the outbox holds.

One *look* thread listens for NOTIFY and claims; *send* threads, as many as are needed, send and store what came of
it. A tick of the scheduler only makes sure that it runs: work is in rows, and a lost nudge delays it by a moment.
"""

from __future__ import annotations

import queue
import threading
import time

import structlog

from monitoring.models import Notification
from monitoring.notifications import claims, outbox, sending, settling
from wsmon.connections import AWAY, drop_connection, own_connection
from wsmon.ears import Ears

log = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0
"""How often it looks for what has become due, when nothing tells it."""
GATHER_SECONDS = 0.1
"""Between a nudge and the look: what fails at once is told at once, and not its first one by itself."""
SWEEP_SECONDS = 5.0
THREADS = 16
"""Messages at once; a channel has three at most, so one that hangs leaves room for others."""
IDLE_SECONDS = 30.0
"""After which a send thread without work ends."""
STOP_SECONDS = 8.0


class Sender:
    """All sending of one process. ``start()`` once, ``stop()`` at the end."""

    def __init__(self, threads: int = THREADS) -> None:
        self.room = threads
        self.free = threads
        self.ready: queue.SimpleQueue[Notification | None] = queue.SimpleQueue()
        self.lock = threading.Lock()
        self.waiting = 0
        """Send threads without work."""
        self.threads: set[threading.Thread] = set()
        self.stopping = False
        self.swept_at = float("-inf")
        self.ears = Ears(outbox.NOTIFY)
        self._look = threading.Thread(target=self._look_forever, name="notify-look", daemon=True)

    def start(self) -> None:
        """Start looking."""
        self._look.start()

    def wake(self) -> None:
        """There may be something to send."""
        self.ears.ring()

    def stop(self) -> None:
        """Claim no more, and wait a moment for what is being sent; the rest is sent again when its lease is over."""
        self.stopping = True
        self.wake()
        deadline = time.monotonic() + STOP_SECONDS
        self._look.join(STOP_SECONDS)
        threads = list(self.threads)
        for _ in threads:
            self.ready.put(None)
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self.ears.close()

    # -- the look thread ----------------------------------------------------------------------------

    def _look_forever(self) -> None:
        own_connection("-c statement_timeout=15s -c lock_timeout=5s")
        pause, rest = 0.0, 0.0
        while not self.stopping:
            try:
                if self.ears.wait(rest) and not self.stopping:
                    time.sleep(GATHER_SECONDS)
                self.ears.hear()
                self.ears.listen()
                self.step()
                pause, rest = 0.0, LOOK_SECONDS
            except Exception as problem:  # whatever it is, sending must go on
                pause = min(max(pause * 2, 0.5), 5.0)
                rest = max(pause, LOOK_SECONDS)
                self.ears.deaf()
                unknown = not isinstance(problem, AWAY)
                log.warning("claiming messages failed", error=type(problem).__name__, exc_info=unknown)
                drop_connection()
                time.sleep(pause if not self.stopping else 0)
        drop_connection()

    def step(self) -> None:
        """Claim what is due and hand it to the send threads; what finds no room waits for one that is free again."""
        if time.monotonic() > self.swept_at + SWEEP_SECONDS:
            self.swept_at = time.monotonic()
            for lost in claims.release_expired():
                log.warning("a message of a process that died is sent again", notification=str(lost.id))
                settling.failed(lost, settling.LOST, retry=True)
        with self.lock:
            free = self.free
        for one in claims.claim(free) if free > 0 else ():
            self._hand_over(one)

    def _hand_over(self, claimed: Notification) -> None:
        with self.lock:
            self.free -= 1
            idle = self.waiting - self.ready.qsize()
            if idle <= 0 and len(self.threads) < self.room:
                thread = threading.Thread(target=self._send_forever, name="notify-send", daemon=True)
                self.threads.add(thread)
                thread.start()
        self.ready.put(claimed)

    # -- send threads -------------------------------------------------------------------------------

    def _send_forever(self) -> None:
        own_connection()  # none of the pool: a channel that hangs would keep it from everybody else
        try:
            while True:
                with self.lock:
                    self.waiting += 1
                try:
                    claimed = self.ready.get(timeout=IDLE_SECONDS)
                except queue.Empty:
                    with self.lock:
                        if self.ready.empty():
                            self.threads.discard(threading.current_thread())
                            return
                    continue
                finally:
                    with self.lock:
                        self.waiting -= 1
                if claimed is None:
                    return
                self._send(claimed)
        finally:
            self.threads.discard(threading.current_thread())
            drop_connection()

    def _send(self, claimed: Notification) -> None:
        try:
            sending.attempt(claimed)
        except AWAY as problem:  # its lease runs out by itself
            log.warning("storing what came of a message failed", error=type(problem).__name__)
        except Exception:
            log.exception("a message failed inside wsmon", notification=str(claimed.id))
        finally:
            drop_connection()  # send threads are many, connections few
            with self.lock:
                self.free += 1
            self.wake()


_sender: Sender | None = None
_lock = threading.Lock()


def tick() -> None:
    """Each second: make sure that this process's sender runs."""
    global _sender  # noqa: PLW0603  one per process by design
    with _lock:
        if _sender is None:
            _sender = Sender()
            _sender.start()


def stop() -> None:
    """Stop this process's sender, if it runs."""
    global _sender
    with _lock:
        running, _sender = _sender, None
    if running is not None:
        running.stop()
