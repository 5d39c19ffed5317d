"""The section ``channels`` of wsmon.yaml and the admin: one judge for both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from django.test import Client

from monitoring import alerts
from monitoring.models import Alert, Channel, Notification, Service
from monitoring.notifications.config import channels_section, export_channel
from monitoring.notifications.schema import read_channel
from tests.callers import colleague
from tests.monitoring.factories import make_service
from tests.monitoring.notifications.factories import make_channel
from wsmon.config.applying import apply_file
from wsmon.config.problems import ConfigError
from wsmon.models import AuditEntry
from wsmon.roles import OPERATORS
from wsmon.secrets import decrypt

pytestmark = pytest.mark.django_db
FULL: dict[str, Any] = {
    "url": "env:OPS_APPRISE_URL",
    "min_severity": "critical",
    "services": ["stripe"],
    "quiet_hours": {"from": "22:00", "to": "7:00", "days": ["sunday", "Monday"], "time_zone": "Europe/Berlin"},
    "digest": "15m",
    "max_per_hour": 10,
    "fallback": "mail",
    "direct": False,
}


@pytest.fixture(autouse=True)
def _variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPS_APPRISE_URL", "json://ops.example.com/hook")
    monkeypatch.setenv("MAIL_URL", "smtps://u:p@example.com/?from=a@b.c&to=d@e.f")


def messages(data: Any, slug: str = "ops") -> list[str]:
    return [f"{'.'.join(map(str, one.path))}: {one.message}" for one in read_channel(slug, data)[1]]


class TestReading:
    def test_everything_that_can_be_said(self) -> None:
        spec, findings = read_channel("ops", FULL)
        assert findings == []
        assert spec is not None
        assert spec.values["quiet_hours"] == {
            "from": "22:00",
            "to": "07:00",
            "days": ["monday", "sunday"],
            "time_zone": "Europe/Berlin",
        }
        assert (spec.values["digest"], spec.fallback) == (900.0, "mail")

    @pytest.mark.parametrize(
        "url", ["webpush:*", "webpush:ana", "twilio:+15551234567", "smtp://h/?from=a@b.c&to=d@e.f", "env:MAIL_URL"]
    )
    def test_these_addresses_may_stand_in_the_file(self, url: str) -> None:
        assert messages({"url": url}) == []

    @pytest.mark.parametrize(
        ("data", "words"),
        [
            ({}, "url: is missing"),
            ({"url": None}, "url: has no value"),
            ({"url": 7}, "url: must be env:NAME"),
            ({"url": "json://ops.example.com/secret"}, "a value itself does not belong here"),
            ({"url": "smtp://u:p@h/?from=a@b.c&to=d@e.f"}, "a value itself does not belong here"),
            ({"url": "env:NO_SUCH"}, "leads nowhere"),
            ({"url": "env:PATH"}, "what it leads to is no URL that Apprise knows"),
            ({"url": "twilio:5"}, "telephone numbers"),
            ({"url": "webpush:*", "min_severity": "loud"}, "is not a severity"),
            ({"url": "webpush:*", "min_severty": "critical"}, 'did you mean "min_severity"'),
            ({"url": "webpush:*", "digest": "1s"}, "is not between 10s and 1d"),
            ({"url": "webpush:*", "max_per_hour": 0}, "at least 1"),
            ({"url": "webpush:*", "fallback": "ops"}, "is the channel itself"),
            ({"url": "webpush:*", "quiet_hours": {"from": "22:00"}}, "quiet_hours.to: is missing"),
            ({"url": "webpush:*", "quiet_hours": {"from": 1320, "to": "7:00"}}, "put it in quotes"),
            ({"url": "webpush:*", "quiet_hours": {"from": "25:00", "to": "7:00"}}, "is not a time of day"),
            (
                {"url": "webpush:*", "quiet_hours": {"from": "1:00", "to": "2:00", "time_zone": "Mars"}},
                "is no time zone",
            ),
            ({"url": "webpush:*", "quiet_hours": {"from": "1:00", "to": "2:00", "days": ["funday"]}}, "weekday"),
            ({"url": "webpush:*", "quiet_hours": {"from": "1:00", "to": "1:00"}}, "is always"),
            ("text", "stands where a mapping"),
        ],
    )
    def test_what_is_wrong_is_told_with_its_place(self, data: Any, words: str) -> None:
        assert words in "; ".join(messages(data))

    def test_a_secret_address_is_not_quoted(self) -> None:
        assert "s3cr3t" not in "; ".join(messages({"url": "json://ops:s3cr3t-password@example.com/"}))

    def test_a_name_and_the_whole(self) -> None:
        assert messages({"url": "webpush:*"}, "no name!")
        assert channels_section.read([])[1]
        specs, findings = channels_section.read({"a": {"url": "webpush:*"}, "b": {"renamed_from": "x"}})
        assert ([spec.slug for spec in specs], findings[0].path) == (["a"], ("b", "url"))


class TestApplying:
    def run(self, tmp_path: Path, data: Any, **options: Any) -> list[str]:
        file = tmp_path / "wsmon.yaml"
        file.write_text(yaml.safe_dump(data, sort_keys=False))
        return apply_file(file, **options).changes

    def test_it_makes_changes_renames_and_archives(self, tmp_path: Path) -> None:
        make_service("stripe")
        wish = {"channels": {"ops": dict(FULL), "mail": {"url": "env:MAIL_URL"}}}
        assert self.run(tmp_path, wish) == [
            "+ channel ops (env:OPS_APPRISE_URL)",
            "+ channel mail (env:MAIL_URL)",
            "+ channel ops: fallback none -> mail",
        ]
        assert self.run(tmp_path, wish) == []
        ops = Channel.objects.get(slug="ops")
        assert (ops.reference, ops.digest, ops.direct, str(ops.fallback)) == (
            "env:OPS_APPRISE_URL",
            900,
            False,
            "mail",
        )
        exported = channels_section.export().data
        assert exported["ops"] == {
            **FULL,
            "quiet_hours": {**FULL["quiet_hours"], "to": "07:00", "days": ["monday", "sunday"]},
        }
        assert self.run(tmp_path, {"channels": exported}) == []
        wish["channels"]["team"] = wish["channels"].pop("ops") | {
            "renamed_from": "ops",
            "digest": "1h",
            "services": [],
        }
        (renamed,) = self.run(tmp_path, wish)
        assert renamed == "~ channel team: renamed from ops, services stripe -> none, digest 15m -> 1h"
        del wish["channels"]["team"]
        assert self.run(tmp_path, wish) == []
        assert self.run(tmp_path, wish, prune=True) == ["- channel team (archived, its history is kept)"]
        wish["channels"]["team"] = {"url": "webpush:*"}
        assert self.run(tmp_path, wish)[0].startswith("+ channel team: revived, url env:OPS_APPRISE_URL -> webpush:*")
        assert Channel.objects.count() == 2

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"services": ["strype"]}, 'did you mean "stripe"'),
            ({"services": [], "fallback": "male"}, 'did you mean "mail"'),
            ({"services": [], "url": "stored"}, "no value is stored"),
        ],
    )
    def test_what_only_the_database_shows_refuses_it_too(
        self, change: dict[str, Any], words: str, tmp_path: Path
    ) -> None:
        make_service("stripe")
        with pytest.raises(ConfigError) as found:
            self.run(tmp_path, {"channels": {"ops": FULL | change, "mail": {"url": "env:MAIL_URL"}}})
        assert words in str(found.value)
        assert not Channel.objects.exists()

    def test_an_address_from_the_admin_stays_and_gives_way_to_a_reference(self, tmp_path: Path) -> None:
        make_channel("ops", "json://secret.example.com", min_severity="warning")
        assert channels_section.export().data == {"ops": {"url": "stored"}}
        assert self.run(tmp_path, {"channels": {"ops": {"url": "stored"}}}) == []
        assert self.run(tmp_path, {"channels": {"ops": {"url": "env:OPS_APPRISE_URL"}}}) == [
            "~ channel ops: url stored -> env:OPS_APPRISE_URL"
        ]
        assert Channel.objects.get().encrypted is None

    def test_a_channel_that_takes_an_archived_one_s_name(self, tmp_path: Path) -> None:
        make_channel("ops", archived_at="2026-01-01T00:00Z")
        make_channel("old", min_severity="warning")
        wish = {"channels": {"ops": {"url": "stored", "renamed_from": "old"}}}
        assert self.run(tmp_path, wish) == ["~ channel ops: renamed from old"]
        assert Channel.objects.filter(archived_at=None).get().slug == "ops"
        twice = {
            "ops": {"url": "webpush:*", "renamed_from": "old"},
            "old": {"url": "webpush:*", "renamed_from": "ops"},
        }
        with pytest.raises(ConfigError):
            self.run(tmp_path, {"channels": twice})

    def test_the_alert_about_one_is_over_when_it_is_archived(self, tmp_path: Path) -> None:
        make_channel("ops")
        alerts.raise_alert("channel:ops", "channel", "warning", "Channel ops does not take messages")
        wish = {"channels": {"mail": {"url": "webpush:*"}}}
        self.run(tmp_path, wish)
        assert Alert.objects.get().resolved_at is None, "it is not in the file, and stays"
        self.run(tmp_path, wish, prune=True)
        assert Alert.objects.get().resolved_at is not None

    def test_services_of_the_file_can_be_named(self, tmp_path: Path) -> None:
        wish = {
            "services": {"stripe": {"checks": []}},
            "channels": {"ops": {"url": "webpush:*", "services": ["stripe"]}},
        }
        self.run(tmp_path, wish)
        assert Service.objects.get().slug == "stripe"


class TestAdmin:
    ADD = "/admin/monitoring/channel/add/"

    @pytest.fixture
    def root(self) -> Client:
        return colleague("root", superuser=True)

    def test_an_address_is_entered_once_and_never_shown(self, root: Client) -> None:
        data = {"slug": "ops", "value": "json://u:s3cr3t@example.com/", "settings": "digest: 15m"}
        assert root.post(self.ADD, data).status_code == 302
        row = Channel.objects.get()
        assert (decrypt(row.encrypted), row.digest) == ("json://u:s3cr3t@example.com/", 900)  # type: ignore[arg-type]
        html = root.get(f"/admin/monitoring/channel/{row.id}/change/").content.decode()
        assert "s3cr3t" not in html
        assert "stored, encrypted" in html
        assert "15m" in html
        assert AuditEntry.objects.get().action == "channel.create"

    def test_what_it_does_not_take(self, root: Client) -> None:
        make_channel("there")
        for data, words in [
            ({"slug": "ops", "value": "nosuch://x"}, "no URL that Apprise knows"),
            ({"slug": "ops"}, "Give a reference or a value"),
            ({"slug": "ops", "value": "json://x", "reference": "env:X"}, "either a value or a reference"),
            ({"slug": "ops", "reference": "env:NO_SUCH"}, "leads nowhere"),
            ({"slug": "ops", "reference": "twilio:5"}, "telephone numbers"),
            ({"slug": "ops", "reference": "webpush:*", "settings": "url: x"}, "has no place here"),
            ({"slug": "ops", "reference": "webpush:*", "settings": "digest: 1s"}, "is not between"),
            ({"slug": "ops", "reference": "webpush:*", "settings": "services: [nope]"}, "is not a service"),
            ({"slug": "ops", "reference": "webpush:*", "settings": "fallback: nope"}, "is not a channel"),
            ({"slug": "there", "reference": "webpush:*"}, "already"),
        ]:
            response = root.post(self.ADD, data)
            assert response.status_code == 200, words
            assert words in response.content.decode()
        assert Channel.objects.count() == 1

    def test_it_is_changed_archived_and_comes_back_with_its_history(self, root: Client) -> None:
        row = make_channel("ops", "json://old.example.com", problem="old")
        other = make_channel("mail")
        url = f"/admin/monitoring/channel/{row.id}"
        change = {"slug": "ops", "reference": "env:OPS_APPRISE_URL", "settings": "fallback: mail"}
        assert root.post(f"{url}/change/", change).status_code == 302
        row.refresh_from_db()
        assert (row.reference, row.encrypted, row.fallback, row.problem) == (
            "env:OPS_APPRISE_URL",
            None,
            other,
            "old",
        )
        assert root.post(f"{url}/delete/", {"post": "yes"}).status_code == 302
        row.refresh_from_db()
        assert row.archived_at is not None
        assert root.post(self.ADD, {"slug": "ops", "reference": "webpush:*"}).status_code == 302
        assert Channel.objects.get(slug="ops", archived_at=None).reference == "webpush:*"
        assert [one.action for one in AuditEntry.objects.order_by("id")] == [
            "channel.change",
            "channel.archive",
            "channel.create",
        ]

    def test_the_alert_about_it_is_over_when_it_is_archived(self, root: Client) -> None:
        other, row = make_channel("mail"), make_channel("ops")
        alerts.raise_alert("channel:ops", "channel", "warning", "Channel ops does not take messages")
        alerts.raise_alert("channel:mail", "channel", "warning", "Channel mail does not take messages")
        Notification.objects.update(state="sent")
        assert root.post(f"/admin/monitoring/channel/{row.id}/delete/", {"post": "yes"}).status_code == 302
        assert set(Alert.objects.filter(resolved_at=None).values_list("key", flat=True)) == {"channel:mail"}
        told = Notification.objects.get(kind="resolved")
        assert (told.channel, told.title) == (other, "Resolved: Channel ops does not take messages")

    def test_the_list_and_who_may_not_change(self, root: Client) -> None:
        row = make_channel("ops", reference="webpush:*", encrypted=None)
        Notification.objects.create(channel=row, kind="test", once="x", severity="info", title="A message")
        assert "browsers" in root.get("/admin/monitoring/channel/").content.decode()
        assert "A message" in root.get("/admin/monitoring/notification/").content.decode()
        operator = colleague("olga", OPERATORS)
        html = operator.get(f"/admin/monitoring/channel/{row.id}/change/").content.decode()
        assert "url: webpush" in html
        assert "New URL" not in html
        assert operator.post(self.ADD, {"slug": "x", "reference": "webpush:*"}).status_code == 403
        assert export_channel(row)["url"] == "webpush:*"
