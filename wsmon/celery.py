"""The Celery app and the whole beat schedule.

A message is only a nudge: what is due stands in the database. So nothing is acknowledged late, no result
is kept, and a nudge that waited too long expires.
"""

from __future__ import annotations

import os
import time
from typing import Any

from celery import Celery, signals
from celery.beat import Scheduler
from django.utils.module_loading import import_string

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "wsmon.settings")

ON_WORKER_SHUTDOWN = (
    "webhooks.dispatcher.stop",
    "monitoring.prober.stop",
    "monitoring.notifications.sender.stop",
    "monitoring.breakers.sync.stop",
)
"""Called when a worker stops, so that it finishes what it has begun and writes what it counted."""

EXPIRES = 7200.0
"""Seconds after which a nudge that nobody took is dropped, so that the broker cannot fill up.

Beat's clock sets the time and the worker's judges it: a worker whose clock is ahead, even by a whole hour,
must still take fresh ones.
"""

SCHEDULE: dict[str, dict[str, Any]] = {
    "tick": {"task": "monitoring.tasks.tick", "schedule": 1.0, "options": {"expires": EXPIRES}},
    "alert": {"task": "monitoring.tasks.alert", "schedule": 1.0, "options": {"expires": EXPIRES}},
    "look": {"task": "monitoring.tasks.look", "schedule": 5.0, "options": {"expires": EXPIRES}},
    "ask": {"task": "monitoring.tasks.ask", "schedule": 60.0, "options": {"expires": EXPIRES}},
    "housekeep": {"task": "monitoring.tasks.housekeep", "schedule": 60.0, "options": {"expires": EXPIRES}},
    "webhooks-tick": {"task": "webhooks.tasks.tick", "schedule": 1.0, "options": {"expires": EXPIRES}},
    "webhooks-catch-up": {"task": "webhooks.tasks.catch_up", "schedule": 5.0, "options": {"expires": EXPIRES}},
    "webhooks-housekeep": {"task": "webhooks.tasks.housekeep", "schedule": 60.0, "options": {"expires": EXPIRES}},
    "webhooks-ask": {"task": "webhooks.tasks.ask", "schedule": 60.0, "options": {"expires": EXPIRES}},
}

app = Celery("wsmon")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.update(
    beat_schedule=SCHEDULE,
    beat_scheduler="wsmon.celery:MemoryScheduler",
    beat_max_loop_interval=1.0,
    task_default_queue="wsmon",
    task_ignore_result=True,
    task_store_errors_even_if_ignored=False,
    worker_pool="threads",
    worker_concurrency=12,  # a slow minute's work of each room must not keep the ticks waiting
    worker_prefetch_multiplier=1,
    worker_enable_remote_control=False,
    worker_send_task_events=False,
    worker_hijack_root_logger=False,
    worker_redirect_stdouts=False,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    # memory:// is polled; a tick must not wait.
    broker_transport_options={"polling_interval": 0.05},
    enable_utc=True,
    timezone="UTC",
)
app.autodiscover_tasks()


class MemoryScheduler(Scheduler):  # type: ignore[misc]
    """Beat by the monotonic clock and without a file.

    Celery's own scheduler goes by the wall clock: set back an hour, it would send nothing for an hour.
    Every entry here is short, so nothing is worth remembering over a restart.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._next: dict[str, float] = {}
        super().__init__(*args, **kwargs)

    def tick(self, *_: Any, **__: Any) -> float:
        """Send what is due; seconds until the next look."""
        for name, entry in self.schedule.items():
            period = entry.schedule.run_every.total_seconds()
            due = self._next.setdefault(name, time.monotonic())
            if due <= time.monotonic():
                self.apply_entry(entry, producer=self.producer)
                # After a stall (a stopped process, a broker that was away) missed ticks are left out.
                self._next[name] = max(due + period, time.monotonic())
        wait: float = max(0.0, min(self._next.values()) - time.monotonic())
        return min(float(self.max_interval), wait)


@app.task(name="wsmon.wake")  # type: ignore[untyped-decorator]
def wake() -> None:
    """Do nothing: any message ends the worker's wait for messages, so that it sees that it shall stop."""


@signals.setup_logging.connect  # type: ignore[untyped-decorator]
def _configure_logging(**_: Any) -> None:
    from django.conf import settings  # noqa: PLC0415

    from wsmon import logs  # noqa: PLC0415

    logs.configure(json=settings.PRODUCTION)


@signals.worker_shutdown.connect  # type: ignore[untyped-decorator]
def _finish(**_: Any) -> None:
    for path in ON_WORKER_SHUTDOWN:
        import_string(path)()
