"""``manage.py apply`` and ``export``: what they do to the database, and what they say."""

from __future__ import annotations

import io
import threading
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, connections, transaction
from django.utils import timezone

from monitoring import actions
from monitoring.models import Check, CheckState, Credential, Heartbeat, Service, StateChange
from wsmon import live, secrets
from wsmon.audit import Actor
from wsmon.config import ConfigError, apply_file
from wsmon.config.applying import lock_configuration
from wsmon.models import AuditEntry

pytestmark = pytest.mark.django_db

SITE = """services:
  our-site:
    provider: http
    checks:
      - {kind: http, name: health, url: "http://127.0.0.1:9001/health", interval: 5s, timeout: 2s}
"""
TWO = SITE + "  stripe: {checks: [{kind: connectivity}, {kind: authentication}]}\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "wsmon.yaml"


def apply(path: Path, text: str, *, prune: bool = False) -> list[str]:
    """Apply ``text``; return the lines of the plan."""
    path.write_text(text)
    return apply_file(path, prune=prune).changes


def command(*arguments: object) -> str:
    """What the command prints."""
    out = io.StringIO()
    call_command(*map(str, arguments), stdout=out)
    return out.getvalue()


# The command -------------------------------------------------------------------------------------


def test_it_prints_the_plan_and_then_that_there_is_nothing_to_change(path: Path) -> None:
    path.write_text(SITE)

    assert command("apply", path) == (
        "+ service our-site (provider http)\n+ check our-site/health: http every 5s, timeout 2s\n"
    )
    assert command("apply", path) == "nothing to change\n"


def test_a_dry_run_says_the_same_and_changes_nothing(path: Path) -> None:
    path.write_text(SITE)

    said = command("apply", path, "--dry-run")

    assert "+ service our-site" in said
    assert said.endswith("dry run: nothing was changed\n")
    assert not Service.objects.exists()
    assert not AuditEntry.objects.exists()


def test_a_bad_file_ends_with_code_1_and_every_problem_on_stderr(path: Path) -> None:
    path.write_text("services:\n  strpe: {}\n  gthub: {}\n")
    err = io.StringIO()

    with pytest.raises(CommandError, match="nothing was changed: 2 problems") as caught:
        call_command("apply", str(path), stderr=err)

    assert caught.value.returncode == 1
    assert [line.split(": ")[1] for line in err.getvalue().splitlines()] == ["services.strpe", "services.gthub"]


def test_a_file_without_services_leaves_them_alone(path: Path) -> None:
    apply(path, SITE)

    assert apply(path, "channels: {}\n", prune=True) == []
    assert Service.objects.get().archived_at is None


def test_export_prints_what_apply_takes(path: Path) -> None:
    apply(path, TWO)

    path.write_text(command("export"))

    assert command("apply", path, "--prune") == "nothing to change\n"


# What it makes -----------------------------------------------------------------------------------


def test_every_check_gets_its_rows_and_is_due_at_once(path: Path) -> None:
    apply(path, TWO + "  job: {provider: heartbeat, checks: [{kind: heartbeat, period: 1h}]}\n")

    assert CheckState.objects.filter(next_due_at__lte=timezone.now()).count() == Check.objects.count() == 4
    assert Heartbeat.objects.get().check_ref.name == "heartbeat"


def test_a_service_without_checks_gets_its_default_ones(path: Path) -> None:
    apply(path, "services:\n  stripe: {}\n  resend: {checks: []}\n")

    assert [str(check) for check in Check.objects.order_by("id")] == [
        "stripe/connectivity",
        "stripe/authentication",
        "stripe/functionality",
    ]


def test_it_leaves_one_audit_row(path: Path) -> None:
    apply(path, SITE)

    entry = AuditEntry.objects.get()
    assert (entry.actor_name, entry.action, entry.target) == ("apply", "configuration.apply", f"file:{path}")
    assert entry.details["count"] == 2
    apply(path, SITE)
    assert AuditEntry.objects.count() == 1


def test_a_changed_check_is_due_at_once_and_only_that(path: Path) -> None:
    apply(path, TWO)
    later = timezone.now() + timedelta(hours=1)
    CheckState.objects.update(next_due_at=later)

    plan = apply(path, TWO.replace("interval: 5s", "interval: 10s"))

    assert plan == ["~ check our-site/health: interval 5s -> 10s"]
    due = CheckState.objects.filter(next_due_at__lte=timezone.now())
    assert [state.check_ref.name for state in due] == ["health"]


def test_pages_are_told_which_services_changed(path: Path) -> None:
    apply(path, TWO)

    with patch.object(live, "publish") as publish:
        apply(path, TWO.replace("interval: 5s", "interval: 10s"))
        apply(path, TWO.replace("interval: 5s", "interval: 10s"))

    site = Service.objects.get(slug="our-site")
    publish.assert_called_once_with("state", {"services": [site.id]})


def test_it_says_what_it_changes(path: Path) -> None:
    apply(path, TWO)
    text = TWO.replace("health,", "health, confirm_down: 5, degraded_over: 1s, method: POST,")
    text = text.replace("  stripe: {", "  stripe: {name: Money, criticality: high, breaker: {policy: counting}, ")

    assert apply(path, text) == [
        '~ check our-site/health: degraded_over none -> 1s, confirm_down 2 -> 5, method default -> "POST"',
        "~ service stripe: name none -> Money, criticality normal -> high, breaker changed",
    ]
    assert apply(path, text) == []
    assert apply(path, TWO) == [
        '~ check our-site/health: degraded_over 1s -> none, confirm_down 5 -> 2, method "POST" -> default',
        "~ service stripe: name Money -> none, criticality high -> normal, breaker changed",
    ]


# What is not in the file -------------------------------------------------------------------------


def test_what_the_file_does_not_mention_is_left_and_listed(path: Path) -> None:
    apply(path, TWO)
    path.write_text(SITE.replace("name: health", "name: other"))

    said = command("apply", path)

    assert said == (
        "+ check our-site/other: http every 5s, timeout 2s\n"
        "not in the file, left as they are (--prune archives all but secrets):\n"
        "  check our-site/health\n  service stripe\n"
    )
    assert not Service.objects.exclude(archived_at=None).exists()


def test_prune_archives_and_the_name_brings_everything_back(path: Path) -> None:
    apply(path, TWO)
    check = Check.objects.get(name="connectivity")
    StateChange.objects.create(
        at=timezone.now(), service=check.service, check_ref=check, old="unknown", new="healthy"
    )

    plan = apply(path, SITE, prune=True)

    assert plan == ["- service stripe (archived, its history is kept)"]
    check.refresh_from_db()
    assert check.archived_at is not None
    assert apply(path, SITE, prune=True) == []

    plan = apply(path, TWO.replace("{kind: connectivity}", "{kind: connectivity, interval: 2m}"))

    assert plan == [
        "+ service stripe: revived with its history",
        "+ check stripe/connectivity: revived with its history, interval 30s -> 2m",
        "+ check stripe/authentication: revived with its history",
    ]
    back = Check.objects.get(name="connectivity")
    assert (back.id, back.archived_at, back.changes.count()) == (check.id, None, 1)


def test_prune_archives_a_check(path: Path) -> None:
    apply(path, TWO)

    plan = apply(path, TWO.replace(", {kind: authentication}", ""), prune=True)

    assert plan == ["- check stripe/authentication (archived, its history is kept)"]
    assert Check.objects.get(name="authentication").archived_at is not None
    assert Service.objects.get(slug="stripe").archived_at is None


def test_archiving_the_worst_check_settles_the_service(path: Path) -> None:
    apply(path, TWO)
    CheckState.objects.filter(check_ref__name="connectivity").update(status="healthy")
    CheckState.objects.filter(check_ref__name="authentication").update(status="critical")
    Service.objects.filter(slug="stripe").update(status="critical")

    apply(path, TWO.replace(", {kind: authentication}", ""), prune=True)

    assert Service.objects.get(slug="stripe").status == "healthy"


# Renaming ----------------------------------------------------------------------------------------


def test_renaming_keeps_the_rows_and_may_stay_in_the_file(path: Path) -> None:
    apply(path, SITE)
    service, check = Service.objects.get(), Check.objects.get()
    text = SITE.replace("our-site:", "shop:\n    renamed_from: our-site").replace(
        "name: health", "name: alive, renamed_from: health"
    )

    assert apply(path, text, prune=True) == [
        "~ service shop: renamed from our-site",
        "~ check shop/alive: renamed from health",
    ]
    assert (Service.objects.get().id, Check.objects.get().id) == (service.id, check.id)
    assert apply(path, text, prune=True) == []


def test_renaming_something_unknown_makes_it(path: Path) -> None:
    assert apply(path, SITE.replace("our-site:", "our-site:\n    renamed_from: never-was"))[0].startswith("+ service")


def test_an_archived_holder_of_the_new_name_makes_room(path: Path) -> None:
    apply(path, TWO)
    apply(path, SITE, prune=True)
    archived = Service.objects.get(slug="stripe")
    service = Service.objects.get(slug="our-site")

    apply(path, SITE.replace("our-site:", "stripe:\n    renamed_from: our-site"))

    archived.refresh_from_db()
    service.refresh_from_db()
    assert (archived.slug, service.slug) == ("stripe-archived", "stripe")


def test_an_archived_check_may_be_renamed_back_into_use(path: Path) -> None:
    apply(path, TWO)
    apply(path, TWO.replace(", {kind: authentication}", ""), prune=True)
    check = Check.objects.get(name="authentication")

    apply(
        path,
        TWO.replace("{kind: authentication}", "{kind: authentication, name: login, renamed_from: authentication}"),
    )

    check.refresh_from_db()
    assert (check.name, check.archived_at) == ("login", None)


# Pauses ------------------------------------------------------------------------------------------


def test_paused_pauses_every_check_and_ends_with_the_key(path: Path) -> None:
    apply(path, TWO)
    paused = TWO.replace("  stripe: {", "  stripe: {paused: true, ")

    assert apply(path, paused) == ["~ service stripe: paused"]
    assert Check.objects.filter(paused_by="apply").count() == 2
    assert Service.objects.get(slug="stripe").status == "paused"
    assert apply(path, paused) == []
    assert apply(path, TWO) == ["~ service stripe: resumed"]
    assert not Check.objects.exclude(paused_at=None).exists()


def test_a_service_may_be_made_paused(path: Path) -> None:
    apply(path, TWO.replace("  stripe: {", "  stripe: {paused: true, "))

    assert Check.objects.exclude(paused_at=None).count() == 2


def test_a_pause_made_by_a_person_stays_unless_the_file_says_otherwise(path: Path) -> None:
    apply(path, TWO)
    actions.pause(Check.objects.filter(service__slug="stripe"), Actor.system("olga"), "moving house")

    assert apply(path, TWO) == []
    assert Check.objects.exclude(paused_at=None).count() == 2
    assert apply(path, TWO.replace("  stripe: {", "  stripe: {paused: false, ")) == ["~ service stripe: resumed"]
    assert not Check.objects.exclude(paused_at=None).exists()


# Credentials -------------------------------------------------------------------------------------


def stripe(reference: str) -> str:
    return f"services:\n  stripe: {{credentials: {{STRIPE_SECRET_KEY: '{reference}'}}, checks: []}}\n"


def test_credentials_are_references_that_change_and_go(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY_A", "first-secret")
    monkeypatch.setenv("KEY_B", "second-secret")

    assert apply(path, stripe("env:KEY_A"))[1] == "+ credential stripe/STRIPE_SECRET_KEY: env:KEY_A"
    assert apply(path, stripe("env:KEY_B")) == ["~ credential stripe/STRIPE_SECRET_KEY: env:KEY_A -> env:KEY_B"]
    assert Credential.objects.get().reference == "env:KEY_B"
    assert apply(path, "services:\n  stripe: {checks: []}\n") == ["- credential stripe/STRIPE_SECRET_KEY: env:KEY_B"]
    assert not Credential.objects.exists()


def test_a_stored_value_is_never_taken_away_only_replaced(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY_A", "first-secret")
    apply(path, "services:\n  stripe: {checks: []}\n")
    Credential.objects.create(
        service=Service.objects.get(), variable="STRIPE_SECRET_KEY", encrypted=secrets.encrypt("the-stored-secret")
    )

    assert apply(path, stripe("stored"), prune=True) == []
    report = apply_file(path.with_name("wsmon.yaml"), prune=True)
    assert report.not_in_file == []
    path.write_text("services:\n  stripe: {checks: []}\n")
    report = apply_file(path, prune=True)
    assert (report.changes, report.not_in_file) == ([], ["credential stripe/STRIPE_SECRET_KEY (stored in the admin)"])
    assert apply(path, stripe("env:KEY_A")) == ["~ credential stripe/STRIPE_SECRET_KEY: stored -> env:KEY_A"]
    assert (Credential.objects.get().reference, Credential.objects.get().encrypted) == ("env:KEY_A", None)


def test_a_changed_credential_makes_the_checks_due(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY_A", "first-secret")
    apply(path, TWO)
    CheckState.objects.update(next_due_at=timezone.now() + timedelta(hours=1))

    apply(path, TWO.replace("  stripe: {", "  stripe: {credentials: {STRIPE_SECRET_KEY: env:KEY_A}, "))

    due = CheckState.objects.filter(next_due_at__lte=timezone.now())
    assert {state.check_ref.service.slug for state in due} == {"stripe"}


def test_no_secret_is_printed_or_audited(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY_A", "planted-secret-4711")
    path.write_text(stripe("env:KEY_A"))

    said = command("apply", path) + command("export")

    assert "planted-secret-4711" not in said + str(list(AuditEntry.objects.values()))


# All or nothing ----------------------------------------------------------------------------------


def test_a_failure_in_the_middle_changes_nothing(path: Path) -> None:
    path.write_text(TWO)

    with patch("monitoring.changes.equip", side_effect=RuntimeError), pytest.raises(RuntimeError):
        apply_file(path)

    assert not Service.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_two_applies_at_once_serialise(tmp_path: Path) -> None:
    text = "services:\n" + "".join(
        f"  s{number}: {{provider: http, checks: [{{kind: http, url: 'http://127.0.0.1:{number}'}}]}}\n"
        for number in range(1, 30)
    )
    (tmp_path / "wsmon.yaml").write_text(text)
    start = threading.Barrier(4)
    counts: list[int] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            start.wait(20)
            counts.append(len(apply_file(tmp_path / "wsmon.yaml").changes))
        except BaseException as error:
            errors.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert errors == []
    assert sorted(counts) == [0, 0, 0, 58]
    assert Service.objects.count() == 29
    assert AuditEntry.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_an_apply_waits_for_another_one(path: Path) -> None:
    path.write_text(SITE)
    done = threading.Event()

    def run() -> None:
        try:
            apply_file(path)
            done.set()
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    with transaction.atomic():
        lock_configuration()
        thread.start()
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        while not done.is_set():
            with connection.cursor() as cursor:
                cursor.execute(waiting)
                row = cursor.fetchone()
            if row and row[0]:
                break
        assert not done.is_set()
    thread.join(30)
    assert done.is_set()


def test_a_bad_file_names_what_is_wrong_to_the_launcher(path: Path) -> None:
    path.write_text("services:\n  strpe: {}\n")

    with pytest.raises(ConfigError) as caught:
        apply_file(path)

    (problem,) = caught.value.problems
    assert (problem.file, problem.line, problem.path) == (str(path), 2, ("services", "strpe"))
