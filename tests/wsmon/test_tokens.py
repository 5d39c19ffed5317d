"""API tokens: made, verified, revoked, and the one from the environment."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import pytest
import time_machine
from django.core.management import CommandError, call_command

from wsmon import tokens
from wsmon.audit import Actor
from wsmon.models import ApiToken, AuditEntry

pytestmark = pytest.mark.django_db

ACTOR = Actor.system("test")
NOW = datetime(2026, 11, 21, 10, 0, tzinfo=UTC)


def test_it_keeps_only_the_hash_of_a_token() -> None:
    token, text = tokens.create("grafana", ["monitoring:read"], ACTOR)
    assert text.startswith("wsm_")
    assert len(text) == 4 + 43  # 256 bits in base64url
    row = ApiToken.objects.filter(pk=token.pk).values().get()
    assert row["digest"] == hashlib.sha256(text.encode()).hexdigest()
    assert text not in str(row)
    assert text not in str(AuditEntry.objects.values().get())


def test_it_never_makes_the_same_token_twice() -> None:
    texts = {tokens.create(f"t{number}", ["monitoring:read"], ACTOR)[1] for number in range(20)}
    assert len(texts) == 20


def test_it_verifies_its_own_tokens_and_no_others() -> None:
    token, text = tokens.create("grafana", ["monitoring:read"], ACTOR)
    assert tokens.verify(text) == token
    for wrong in ("", text[:-1], text + "x", text.upper(), token.digest, "wsm_", "x" * 10_000, "\x00", "\ud800"):
        assert tokens.verify(wrong) is None


def test_it_forgets_a_revoked_token_at_once() -> None:
    token, text = tokens.create("grafana", ["monitoring:read"], ACTOR)
    assert tokens.revoke(token, ACTOR, "left the company") is True
    assert tokens.verify(text) is None
    assert tokens.revoke(token, ACTOR) is False
    assert list(AuditEntry.objects.order_by("id").values_list("action", "target", "reason")) == [
        ("token.create", "token:grafana", ""),
        ("token.revoke", "token:grafana", "left the company"),
    ]


def test_it_notes_the_last_use_once_a_minute_at_most() -> None:
    token, text = tokens.create("grafana", ["monitoring:read"], ACTOR)
    seen = []
    for seconds in (0, 30, 59, 61):
        with time_machine.travel(NOW + timedelta(seconds=seconds), tick=False):
            tokens.verify(text)
        token.refresh_from_db()
        assert token.last_used_at is not None
        seen.append((token.last_used_at - NOW).total_seconds())
    assert seen == [0, 0, 0, 61]


@pytest.mark.parametrize(
    ("name", "scopes", "why"),
    [
        ("x", ["monitoring:write"], "unknown scope"),
        ("x", [], "at least one scope"),
        ("", ["monitoring:read"], "1 to 100"),
        ("  ", ["monitoring:read"], "1 to 100"),
        ("x" * 101, ["monitoring:read"], "1 to 100"),
        ("a\x00b", ["monitoring:read"], "1 to 100"),
        ("bootstrap", ["monitoring:read"], "WSMON_BOOTSTRAP_TOKEN"),
    ],
)
def test_it_refuses_a_wrong_name_or_scope(name: str, scopes: list[str], why: str) -> None:
    with pytest.raises(tokens.TokenError, match=why):
        tokens.create(name, scopes, ACTOR)
    assert not ApiToken.objects.exists()


def test_it_refuses_a_name_that_is_taken() -> None:
    tokens.create("grafana", ["monitoring:read"], ACTOR)
    with pytest.raises(tokens.TokenError, match="exists already"):
        tokens.create("grafana", ["monitoring:read"], ACTOR)
    assert AuditEntry.objects.count() == 1


class TestTheBootstrapToken:
    """``WSMON_BOOTSTRAP_TOKEN``."""

    first = "first-value-of-the-bootstrap-token"
    second = "second-value-of-the-bootstrap-token"

    def test_it_has_every_scope_and_is_made_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WSMON_BOOTSTRAP_TOKEN", self.first)
        made = tokens.ensure_bootstrap_token()
        assert tokens.ensure_bootstrap_token() == made
        assert ApiToken.objects.count() == 1
        verified = tokens.verify(self.first)
        assert verified is not None
        assert set(verified.scopes) == set(tokens.SCOPES)

    def test_it_is_replaced_when_its_value_changes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WSMON_BOOTSTRAP_TOKEN", self.first)
        tokens.ensure_bootstrap_token()
        monkeypatch.setenv("WSMON_BOOTSTRAP_TOKEN", self.second)
        tokens.ensure_bootstrap_token()
        assert tokens.verify(self.first) is None
        assert tokens.verify(self.second) is not None

    def test_it_goes_when_the_variable_goes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WSMON_BOOTSTRAP_TOKEN", self.first)
        tokens.ensure_bootstrap_token()
        monkeypatch.delenv("WSMON_BOOTSTRAP_TOKEN")
        assert tokens.ensure_bootstrap_token() is None
        assert tokens.verify(self.first) is None

    def test_it_stays_revoked_until_its_value_changes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WSMON_BOOTSTRAP_TOKEN", self.first)
        made = tokens.ensure_bootstrap_token()
        assert made is not None
        tokens.revoke(made, ACTOR)
        tokens.ensure_bootstrap_token()
        assert tokens.verify(self.first) is None
        monkeypatch.setenv("WSMON_BOOTSTRAP_TOKEN", self.second)
        tokens.ensure_bootstrap_token()
        assert tokens.verify(self.second) is not None

    def test_making_replacing_and_removing_it_leave_an_audit_row_each(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for value in ("", self.first, self.first, self.second, "", ""):
            monkeypatch.setenv("WSMON_BOOTSTRAP_TOKEN", value)
            tokens.ensure_bootstrap_token()
        rows = list(AuditEntry.objects.order_by("id"))
        assert [row.action for row in rows] == ["token.create", "token.replace", "token.remove"]
        assert {(row.actor_name, row.target) for row in rows} == {("wsmon", "token:bootstrap")}
        assert all("WSMON_BOOTSTRAP_TOKEN" in row.reason for row in rows)
        assert self.first not in str(list(AuditEntry.objects.values()))

    def test_new_scopes_of_a_new_version_leave_an_audit_row(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WSMON_BOOTSTRAP_TOKEN", self.first)
        tokens.ensure_bootstrap_token()
        ApiToken.objects.update(scopes=["monitoring:read"])
        tokens.ensure_bootstrap_token()
        newest = AuditEntry.objects.order_by("-id")[0]
        assert (newest.action, newest.details) == ("token.change", {"scopes": sorted(tokens.SCOPES)})

    def test_it_is_read_from_a_file_too(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        (tmp_path / "token").write_text(self.first + "\n")
        monkeypatch.setenv("WSMON_BOOTSTRAP_TOKEN_FILE", str(tmp_path / "token"))
        tokens.ensure_bootstrap_token()
        assert tokens.verify(self.first) is not None

    def test_it_may_not_be_the_text_of_another_token(self, monkeypatch: pytest.MonkeyPatch) -> None:
        _, text = tokens.create("grafana", ["monitoring:read"], ACTOR)
        monkeypatch.setenv("WSMON_BOOTSTRAP_TOKEN", text)
        with pytest.raises(tokens.TokenError, match="another token"):
            tokens.ensure_bootstrap_token()


class TestTheCommand:
    """``manage.py createtoken``."""

    def test_it_prints_the_token_alone_on_standard_output(self) -> None:
        out, err = StringIO(), StringIO()
        call_command("createtoken", "grafana", "--scope", "monitoring:read", stdout=out, stderr=err)
        token = tokens.verify(out.getvalue().strip())
        assert token is not None
        assert token.scopes == ["monitoring:read"]
        assert out.getvalue().strip() not in err.getvalue()

    def test_it_takes_several_scopes_in_either_way(self) -> None:
        options = ["--scope", "monitoring:read", "monitoring:admin", "--scope", "webhooks:read"]
        call_command("createtoken", "ci", *options, stdout=StringIO(), stderr=StringIO())
        assert ApiToken.objects.get().scopes == ["monitoring:admin", "monitoring:read", "webhooks:read"]

    def test_it_leaves_an_audit_row(self) -> None:
        call_command("createtoken", "ci", "--scope", "events:publish", stdout=StringIO(), stderr=StringIO())
        entry = AuditEntry.objects.get()
        assert (entry.actor_name, entry.action, entry.target) == (
            "manage.py createtoken",
            "token.create",
            "token:ci",
        )
        assert entry.details == {"scopes": ["events:publish"]}

    @pytest.mark.parametrize(
        "arguments", [["ci"], ["ci", "--scope"], ["ci", "--scope", "all"], ["--scope", "monitoring:read"]]
    )
    def test_it_refuses_wrong_arguments(self, arguments: list[str]) -> None:
        with pytest.raises(CommandError):
            call_command("createtoken", *arguments, stdout=StringIO(), stderr=StringIO())
        assert not ApiToken.objects.exists()

    def test_it_refuses_a_name_that_is_taken(self) -> None:
        tokens.create("ci", ["monitoring:read"], ACTOR)
        with pytest.raises(CommandError, match="exists already"):
            call_command("createtoken", "ci", "--scope", "monitoring:read", stdout=StringIO(), stderr=StringIO())
