"""Providers that do as they are told: ``fake`` and ``slow`` are vendors, ``plain`` is a generic one."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

import providers
from monitoring import variables
from providers.base import Kind, ProbeContext, ProbeOutcome, Provider, Variable
from providers.options import Options
from wsmon.vocabulary import Outcome, Timings


class TargetOptions(Options):
    """Which target a check probes."""

    target: str = ""


class Vendor:
    """Counts what is asked of it, and how much at once; answers when its gate is open."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.running = 0
        self.peak = 0
        self.gate = threading.Event()
        self.gate.set()
        self.answer: Callable[[ProbeContext], ProbeOutcome] = healthy
        self._lock = threading.Lock()

    def probe(self, context: ProbeContext) -> ProbeOutcome:
        """One probe of ``context.options.target``."""
        with self._lock:
            self.calls[context.options.target] += 1
            self.running += 1
            self.peak = max(self.peak, self.running)
        try:
            self.gate.wait(20)
            return self.answer(context)
        finally:
            with self._lock:
                self.running -= 1

    @property
    def total(self) -> int:
        """All probes begun."""
        return sum(self.calls.values())


def healthy(context: ProbeContext) -> ProbeOutcome:
    """What works."""
    return ProbeOutcome(Outcome.HEALTHY, message="fine", timings=Timings(total_ms=5.0))


def down(context: ProbeContext) -> ProbeOutcome:
    """What does not."""
    return ProbeOutcome(Outcome.CRITICAL, message="refused", timings=Timings(total_ms=5.0))


class Vendors:
    """The fakes by slug."""

    def __init__(self) -> None:
        self.fake, self.slow, self.plain = Vendor(), Vendor(), Vendor()

    def providers(self) -> dict[str, Provider]:
        """Them as providers."""
        return {
            slug: Provider(
                slug,
                slug.title(),
                {
                    "ping": Kind(vendor.probe, TargetOptions),
                    "login": Kind(vendor.probe, TargetOptions, needs=("FAKE_KEY",)),
                },
                variables=(Variable("FAKE_KEY", aliases=("PUBLIC_FAKE_KEY",)), Variable("FAKE_USER", secret=False)),
                base_urls={"FAKE_API_BASE": "https://fake.example"},
                generic=slug == "plain",
            )
            for slug, vendor in (("fake", self.fake), ("slow", self.slow), ("plain", self.plain))
        }


def install(patch: pytest.MonkeyPatch) -> Vendors:
    """Make the fakes known as providers."""
    vendors = Vendors()
    known, real_get, real_names = vendors.providers(), providers.get, providers.names
    patch.setattr(providers, "get", lambda slug: known.get(slug) or real_get(slug))
    patch.setattr(providers, "names", lambda: (*real_names(), *known))
    variables.forget()
    return vendors


def opened(vendors: Vendors) -> Iterator[Vendors]:
    """Let nothing hang at the end of a test."""
    yield vendors
    for vendor in (vendors.fake, vendors.slow, vendors.plain):
        vendor.gate.set()
