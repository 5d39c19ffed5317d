"""A booking application beside the demo: it calls the vendors all the time, each call behind its breaker."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from django.apps import apps

PATIENCE = 1.0
"""Seconds the application waits for an answer."""


@dataclass(frozen=True, slots=True)
class Customer:
    """Calls of one kind: to which service, where, how often, and with which credential."""

    service: str
    url: str
    per_second: float
    headers: Mapping[str, str]


def customers(environment: Mapping[str, str]) -> list[Customer]:
    """What the application calls, at the stand-ins that ``environment`` points to."""

    def bearer(name: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {environment[name]}"}

    return [
        Customer("stripe", f"{environment['STRIPE_API_BASE']}/v1/balance", 6, bearer("STRIPE_SECRET_KEY")),
        Customer("resend", f"{environment['RESEND_API_BASE']}/domains", 2, bearer("RESEND_API_KEY")),
        Customer("our-site", environment["DEMO_SITE_URL"], 4, {}),
    ]


class Traffic:
    """The application's threads, two for each kind of call; they begin when wsmon (its URL) is there."""

    def __init__(self, environment: Mapping[str, str], wsmon: str) -> None:
        self._wsmon = wsmon
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._call_on, args=(customer,), name=f"traffic-{customer.service}", daemon=True)
            for customer in customers(environment)
            for _ in range(2)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the calls; returns at once."""
        self._stopping.set()

    def _is_up(self) -> bool:
        from wsmon.http import HttpError, http_client  # noqa: PLC0415  needs Django set up

        try:
            return http_client().get(f"{self._wsmon}healthz", timeout=PATIENCE).ok
        except HttpError:
            return False

    def _call_on(self, customer: Customer) -> None:
        while not (apps.ready and self._is_up()):
            if self._stopping.wait(0.2):
                return
        from monitoring.breakers import CircuitOpen, breaker  # noqa: PLC0415  needs Django set up
        from wsmon.http import HttpError, http_client  # noqa: PLC0415

        guard = breaker(customer.service, answers=True)
        while not self._stopping.wait(random.expovariate(customer.per_second / 2)):
            with contextlib.suppress(CircuitOpen, HttpError):
                guard.call(http_client().get, customer.url, headers=dict(customer.headers), timeout=PATIENCE)
            if guard.is_open:
                time.sleep(0.2)  # a customer who was turned away comes again later
