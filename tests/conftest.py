"""What every test may ask for: a database, a browser, Redis, the whole program."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import hypothesis
import pytest
import redis
from django.conf import settings
from django.db import connection, transaction
from django.test import TransactionTestCase
from playwright.sync_api import Browser, sync_playwright

from tests.whole import Stack, eventually, free_port
from wsmon import http
from wsmon.embedded import Server

CHROMIUM = "/usr/bin/chromium"
CHROMIUM_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# Where a test does not say how many: the suite has to end within the quarter of an hour that CI gives it.
hypothesis.settings.register_profile("suite", max_examples=40, deadline=None)
hypothesis.settings.load_profile("suite")
STRICT = os.environ.get("WSMON_TEST_STRICT") == "1"
SLOW = {"browser", "stack", "demo"}
NEEDS = {"browser": CHROMIUM, "redis": "redis-server", "node": "node"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this machine cannot run; with WSMON_TEST_STRICT=1 let it fail instead.

    The slowest files come first: at the end one process would be left alone with them.
    """
    items.sort(key=lambda item: not SLOW & {Path(item.path).parent.name})
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
    http._forget_shared()  # the shared client was made for what was allowed before
    yield
    settings.ALLOW_PRIVATE_TARGETS = before  # type: ignore[attr-defined]
    http._forget_shared()


@pytest.fixture(autouse=True)
def no_calls_counted() -> Iterator[None]:
    """Rates of the API are counted in the process: each test begins with none."""
    from wsmon import callers  # noqa: PLC0415  needs Django set up

    callers.reset_limits()
    yield
    callers.reset_limits()


@pytest.fixture(autouse=True)
def no_breakers_kept(request: pytest.FixtureRequest) -> Iterator[None]:
    """After a test with real transactions its breakers are forgotten, before their rows go."""
    marker = request.node.get_closest_marker("django_db")
    if marker is None or not marker.kwargs.get("transaction"):
        yield
        return
    request.getfixturevalue("transactional_db")
    yield
    forget_breakers()


@pytest.fixture(autouse=True, scope="session")
def quick_flush() -> Iterator[None]:
    """Empty the tables that have rows, instead of truncating all: a quarter of a second for each such test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", lambda _self: empty_tables())
        yield


KEPT = {"django_migrations", "django_content_type", "auth_permission"}
FEW = 200
"""Rows up to which deleting them is quicker than truncating their table."""


def empty_tables() -> None:
    """Delete every row of the test database but for what migrating made."""
    with transaction.atomic(), connection.cursor() as cursor:
        tables = [name for name in connection.introspection.table_names(cursor) if name not in KEPT]
        cursor.execute(
            " UNION ALL ".join(
                f"SELECT '{name}', EXISTS (SELECT FROM {name} OFFSET {FEW}) WHERE EXISTS (SELECT FROM {name})"
                for name in tables
            )
        )
        found = cursor.fetchall()
        many = [name for name, is_many in found if is_many]
        if many:
            cursor.execute(f"TRUNCATE {', '.join(many)} CASCADE")
        for name, is_many in found:
            if not is_many:
                cursor.execute(f"DELETE FROM {name}")


def forget_breakers() -> None:
    """End the thread that keeps this process's breakers in step with the store, and forget them."""
    from monitoring.breakers import guard, sync  # noqa: PLC0415  needs Django set up

    if sync.syncer.breakers:
        sync.syncer.stop()
        sync.syncer.breakers.clear()
        sync.syncer.forget()
        guard._plain.clear()


@pytest.fixture
def make_directory() -> Iterator[Callable[[], Path]]:
    """A maker of directories for servers of other accounts.

    Not pytest's own: each pytest run of root closes their common parent for everybody else.
    """
    made: list[Path] = []

    def make() -> Path:
        made.append(Path(tempfile.mkdtemp(prefix="wsmon-test-")))
        return made[-1]

    yield make
    for directory in made:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def make_stack(make_directory: Callable[[], Path]) -> Iterator[Callable[..., Stack]]:
    """A maker of whole wsmons, each in a directory of its own: ``make_stack({"NAME": "value"}).start()``."""
    made: list[Stack] = []

    def make(env: Mapping[str, str] | None = None) -> Stack:
        made.append(Stack(make_directory(), env))
        return made[-1]

    yield make
    for stack in made:
        stack.clean_up()


@pytest.fixture
def live_stack(make_stack: Callable[..., Stack]) -> Stack:
    """One whole wsmon that runs."""
    return make_stack().start()


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A redis-server of this run's own."""
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with subprocess.Popen(
        ["redis-server", *options], cwd=tmp_path_factory.mktemp("redis"), stdout=subprocess.DEVNULL
    ) as process:
        client = redis.Redis(port=port)
        eventually(lambda: _answers(client), "redis-server answers")
        yield f"redis://127.0.0.1:{port}/0"
        process.terminate()


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


@contextlib.contextmanager
def driven_chromium() -> Iterator[Browser]:
    """Debian's chromium, driven by playwright."""
    with pytest.MonkeyPatch.context() as patch, sync_playwright() as playwright:
        # Playwright's own event loop runs in this thread from here on; Django takes that for async code.
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_OPTIONS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A browser for one module, since others may run event loops of their own."""
    with driven_chromium() as browser:
        yield browser
