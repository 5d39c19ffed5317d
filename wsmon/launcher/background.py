"""The threads beside the web server: Celery's worker and beat, in this process."""

from __future__ import annotations

import threading
import time
from typing import Any

import structlog
from django.conf import settings

log = structlog.get_logger(__name__)

RESTART_AFTER = 2.0
"""Seconds before a worker or beat that ended by itself is started again."""
STOP_WITHIN = 5.0
"""Seconds, from being asked, that the worker has to finish its probes."""


class Background:
    """Worker and beat; each optional."""

    def __init__(self, *, worker: bool, beat: bool) -> None:
        self._stopping = threading.Event()
        self._deadline = 0.0
        self._beat: Any = None
        runs = ([("worker", self._run_worker)] if worker else []) + ([("beat", self._run_beat)] if beat else [])
        self._threads = [
            threading.Thread(target=self._keep_running, args=(name, run), name=name, daemon=True)
            for name, run in runs
        ]

    def start(self) -> None:
        """Start the threads; returns at once."""
        for thread in self._threads:
            thread.start()

    def ask_to_stop(self) -> None:
        """Begin to stop; returns at once."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        self._deadline = time.monotonic() + STOP_WITHIN
        if self._beat:
            self._beat.stop()
        from celery.worker import state  # noqa: PLC0415

        state.should_stop = 0
        if settings.EMBEDDED_BROKER:
            from wsmon.celery import wake  # noqa: PLC0415

            wake.apply_async()
            wake.apply_async()  # having seen that it shall stop, Celery's loop waits once more

    def stop(self) -> None:
        """Stop and wait: a worker finishes the probes it has begun, for STOP_WITHIN seconds in all."""
        self.ask_to_stop()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, self._deadline - time.monotonic()))

    def _keep_running(self, name: str, run: Any) -> None:
        while not self._stopping.is_set():
            try:
                run()
            except Exception:
                log.exception(f"{name} failed")
            if not self._stopping.wait(RESTART_AFTER):
                log.warning(f"{name} ended by itself; starting it again")

    def _run_worker(self) -> None:
        from celery.worker import WorkController  # noqa: PLC0415

        from wsmon.celery import app  # noqa: PLC0415

        if not self._stopping.is_set():
            WorkController(
                app=app,
                hostname="wsmon",
                without_gossip=True,
                without_mingle=True,
                without_heartbeat=True,
                loglevel="WARNING",
            ).start()

    def _run_beat(self) -> None:
        from celery.beat import Service  # noqa: PLC0415

        from wsmon.celery import app  # noqa: PLC0415

        app.set_current()
        self._beat = Service(app, scheduler_cls=app.conf.beat_scheduler)
        if not self._stopping.is_set():
            self._beat.start()
