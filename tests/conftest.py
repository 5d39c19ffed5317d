"""What every test may ask for: a database, a browser, Redis, the whole program."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings

from wsmon.embedded import Server

CHROMIUM = "/usr/bin/chromium"
STRICT = os.environ.get("WSMON_TEST_STRICT") == "1"
NEEDS = {"browser": CHROMIUM, "redis": "redis-server"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this machine cannot run; with WSMON_TEST_STRICT=1 let it fail instead."""
    if STRICT:
        return
    missing = {marker: program for marker, program in NEEDS.items() if shutil.which(program) is None}
    for item in items:
        for marker, program in missing.items():
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=f"{program} is not installed"))


def pytest_unconfigure() -> None:
    """Take the run's data directory away."""
    shutil.rmtree(settings.DATA_DIR, ignore_errors=True)


@pytest.fixture(scope="session")
def embedded_database() -> Iterator[Server]:
    """The one PostgreSQL of this run."""
    server = Server(Path(settings.DATA_DIR), durable=False, options={"max_connections": "120"})
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def django_db_modify_db_settings(embedded_database: Server) -> None:
    """pytest-django calls this before it makes the test database."""


@pytest.fixture
def loopback_targets(settings: object) -> Iterator[None]:
    """Let probes reach loopback, which is refused by default."""
    before = settings.ALLOW_PRIVATE_TARGETS  # type: ignore[attr-defined]
    settings.ALLOW_PRIVATE_TARGETS = ["127.0.0.0/8", "::1/128"]  # type: ignore[attr-defined]
    yield
    settings.ALLOW_PRIVATE_TARGETS = before  # type: ignore[attr-defined]
