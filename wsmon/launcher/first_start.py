"""From an empty (or old) database to one that can be served: each step does nothing when it was done."""

from __future__ import annotations

import os
import secrets as random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog
from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import User
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import connection, connections
from django.db.migrations.recorder import MigrationRecorder
from django.utils.module_loading import import_string

from wsmon import config, roles, secrets, tokens

log = structlog.get_logger(__name__)

ADMIN = "admin"
SHOWN = 20
"""Lines of a configuration's report that the greeting repeats."""
LOCK = 0x77736D6F6E
"""Number of the advisory lock: "wsmon"."""


def prepare() -> list[str]:
    """Migrate, create the first admin and token, apply wsmon.yaml; lines to greet the person with."""
    collect_static_files()
    with _one_at_a_time():
        if migrations_pending():
            call_command("migrate", interactive=False, verbosity=0)
        roles.ensure_roles()
        lines = [*create_first_admin(), *apply_configuration()]
        tokens.ensure_bootstrap_token()
    close_connections()
    return lines


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Hosts that start together take turns; the lock ends with the connection at the latest.

    Neither waiting for another's migrations nor a migration of one's own is cut short by the time limits
    that hold for pages and probes.
    """
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0; SET lock_timeout = 0")
        cursor.execute("SELECT pg_advisory_lock(%s)", [LOCK])
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [LOCK])
            cursor.execute("RESET statement_timeout; RESET lock_timeout")


def migrations_pending() -> bool:
    """Whether a migration file is not recorded in the database. Imports no migration: 0.3 s less to start."""
    recorder = MigrationRecorder(connection)
    applied = set(recorder.applied_migrations()) if recorder.has_table() else set()
    return not _migrations_on_disk() <= applied


def _migrations_on_disk() -> set[tuple[str, str]]:
    return {
        (app.label, file.stem)
        for app in apps.get_app_configs()
        for file in (Path(app.path) / "migrations").glob("[0-9]*.py")
    }


def collect_static_files() -> None:
    """In production pages name files by their content's hash; make those names when they are missing."""
    if settings.PRODUCTION and not (settings.STATIC_ROOT / "staticfiles.json").exists():
        call_command("collectstatic", interactive=False, verbosity=0)


def create_first_admin() -> list[str]:
    """Create `admin` when there is no superuser; lines that show a generated password, once.

    A weak WSMON_ADMIN_PASSWORD is taken all the same, so that wsmon starts, and complained about.
    """
    accounts = get_user_model()._default_manager
    if accounts.filter(is_superuser=True).exists():
        return []
    given = secrets.lookup("WSMON_ADMIN_PASSWORD")
    password = given or random.token_urlsafe(15)
    admin = accounts.create_superuser(ADMIN, password=password)
    if given:
        return [f"first account: {ADMIN}, with WSMON_ADMIN_PASSWORD", *_weaknesses(given, admin)]
    return [f"first account: {ADMIN}, password {password} (shown only now; change it under Account)"]


def _weaknesses(password: str, account: User) -> list[str]:
    """What the rules for passwords say against one; none of them repeats it."""
    try:
        validate_password(password, account)
    except ValidationError as error:
        why = " ".join(error.messages)
        return [f"WARNING: WSMON_ADMIN_PASSWORD IS WEAK, change it under Account: {why}"]
    return []


def apply_configuration() -> list[str]:
    """Apply WSMON_CONFIG if it exists. A bad file changes nothing, and wsmon starts all the same."""
    path = settings.CONFIG_FILE
    if not path.exists():
        if os.environ.get("WSMON_CONFIG"):
            return [f"WSMON_CONFIG={path} does not exist: nothing applied"]
        return [f"no {path.name} here yet: see the README, or add services in the admin"]
    try:
        report = config.apply_file(path)
    except config.ConfigError as error:
        return [f"{path} IS REFUSED, the previous configuration stays in force:", *str(error).splitlines()]
    lines = report.lines()
    more = [f"  ... and {len(lines) - SHOWN} lines more"] if len(lines) > SHOWN else []
    return [f"{path}:", *(f"  {line}" for line in lines[:SHOWN]), *more]


def finish_serving() -> None:
    """Let every room end what it did for the web server; see ``settings.ON_WEB_STOP``."""
    for path in settings.ON_WEB_STOP:
        import_string(path)()


def close_connections() -> None:
    """Give this thread's connections back; the pool stays for whoever comes next."""
    connections.close_all()
