"""The sections ``rotations`` and ``escalations``: what is refused and how, and what comes back out."""

from __future__ import annotations

from datetime import date, time
from pathlib import Path

import pytest
import yaml
from django.utils import timezone

from monitoring.models import Channel, Escalation, Rotation
from tests.monitoring.factories import make_service
from wsmon.config import ConfigError, apply_file, export_text
from wsmon.models import AuditEntry

WHOLE = """rotations:
  ops:
    people:
      - {name: Ana, channels: [ana-sms]}
      - {name: Ben, channels: [ben-sms, chat]}
    starts_on: 2026-01-05
    handover: 10:30
    time_zone: Europe/Berlin
    ical: https://calendar.example/ops.ics
escalations:
  ops:
    steps:
      - {after: 0s, notify: [chat]}
      - {after: 5m, notify: ["rotation:ops"]}
    remind_every: 15m
    services: [stripe]
    min_severity: warning
"""
PERSON = "{name: Ana, channels: [chat]}"
STEP = "{notify: [chat]}"

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def channels() -> None:
    for slug in ("chat", "ana-sms", "ben-sms"):
        Channel.objects.create(slug=slug, reference="webpush:*")
    Channel.objects.create(slug="gone", archived_at=timezone.now())
    make_service("stripe")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "wsmon.yaml"


def apply(path: Path, text: str, *, prune: bool = False) -> list[str]:
    path.write_text(text)
    return apply_file(path, prune=prune).changes


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("people: []", "rotations.ops.people: "),
        ("starts_on: 2026-01-05", "rotations.ops.people: is missing"),
        ("people: [{name: Ana}]", "rotations.ops.people[0].channels: is missing"),
        ("people: [{name: Ana, channels: [nochat]}]", 'channels[0]: "nochat" is not a channel; did you mean "chat"?'),
        ("people: [{name: Ana, channels: [gone]}]", 'channels[0]: "gone" is not a channel'),
        ("people: [{name: ' ', channels: [chat]}]", "people[0].name: "),
        (f"people: [{PERSON}, {PERSON}]", 'people[1].name: "Ana" stands here twice'),
        (f"people: [{PERSON}]\n    handover: 25:00", 'rotations.ops.handover: "25:00" is not a time of day'),
        (f"people: [{PERSON}]\n    handover: noon", 'rotations.ops.handover: "noon" is not a time of day'),
        (f"people: [{PERSON}]\n    starts_on: monday", 'rotations.ops.starts_on: "monday" is not a date'),
        (f"people: [{PERSON}]\n    starts_on: 1900-01-01", "is not between the years"),
        (f"people: [{PERSON}]\n    time_zone: Mars/Base", '"Mars/Base" is not a time zone'),
        (f"people: [{PERSON}]\n    ical: somewhere", 'rotations.ops.ical: "somewhere" is not the URL of a calendar'),
        (f"people: [{PERSON}]\n    weeks: 2", "rotations.ops.weeks: unknown key"),
        ("5", "rotations.ops: 5 stands where a mapping"),
    ],
)
def test_rotations_that_are_refused(entry: str, problem: str, path: Path) -> None:
    text = f"rotations:\n  ops:\n    {entry}\n" if ":" in entry else f"rotations:\n  ops: {entry}\n"
    with pytest.raises(ConfigError) as caught:
        apply(path, text)
    assert any(problem in str(one) for one in caught.value.problems), caught.value.problems
    assert not Rotation.objects.exists()


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("steps: []", "escalations.ops.steps: "),
        ("steps: [{after: 5m}]", "escalations.ops.steps[0].notify: is missing"),
        ("steps: [{notify: [nochat]}]", 'steps[0].notify[0]: "nochat" is not a channel; did you mean "chat"?'),
        ('steps: [{notify: ["rotation:opps"]}]', 'steps[0].notify[0]: "rotation:opps" is not a rotation'),
        ('steps: [{notify: ["mailto:x@y"]}]', "is neither a channel nor rotation:NAME"),
        ("steps: [{after: 5m, notify: [chat]}, {after: 5m, notify: [chat]}]", "steps[1].after: is not later than"),
        ("steps: [{after: 8d, notify: [chat]}]", "steps[0].after: 8d is not between 0s and 7d"),
        (f"steps: [{STEP}]\n    remind_every: 1s", "escalations.ops.remind_every: 1s is not between 1m and 7d"),
        (f"steps: [{STEP}]\n    services: [strpe]", 'services[0]: "strpe" is not a service; did you mean "stripe"?'),
        (f"steps: [{STEP}]\n    min_severity: loud", 'min_severity: "loud" is not a severity'),
        (f"steps: [{STEP}]\n    renamed_from: 'a b'", "renamed_from: "),
    ],
)
def test_escalations_that_are_refused(entry: str, problem: str, path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        apply(path, f"escalations:\n  ops:\n    {entry}\n")
    assert any(problem in str(one) for one in caught.value.problems), caught.value.problems
    assert not Escalation.objects.exists()


@pytest.mark.parametrize("key", ["rotations", "escalations"])
def test_they_must_be_mappings_of_names(key: str, path: Path) -> None:
    for text in (f"{key}: [a]\n", f"{key}:\n  'a b': {{}}\n"):
        with pytest.raises(ConfigError):
            apply(path, text)


def test_what_went_in_comes_back_out(path: Path) -> None:
    assert apply(path, WHOLE) == ["+ rotation ops (Ana, Ben)", "+ escalation ops (2 steps)"]
    rotation, escalation = Rotation.objects.get(), Escalation.objects.get()
    assert (rotation.starts_on, rotation.handover) == (date(2026, 1, 5), time(10, 30))
    assert escalation.steps == [{"after": 0.0, "notify": ["chat"]}, {"after": 300.0, "notify": ["rotation:ops"]}]
    exported = yaml.safe_load(export_text())
    wanted = yaml.safe_load(WHOLE.replace("2026-01-05", "'2026-01-05'").replace("10:30", "'10:30'"))
    assert {key: exported[key] for key in wanted} == wanted
    assert apply(path, WHOLE) == []
    assert apply(path, export_text()) == []


def test_changes_are_told_in_words(path: Path) -> None:
    apply(path, WHOLE)
    changed = (
        WHOLE.replace("10:30", "11:00").replace("    remind_every: 15m\n", "").replace("5m, notify", "6m, notify")
    )
    assert apply(path, changed) == [
        "~ rotation ops: handover 10:30 -> 11:00",
        "~ escalation ops: steps changed, remind_every 15m -> none",
    ]
    assert AuditEntry.objects.filter(action="configuration.apply").count() == 2


def test_defaults_are_left_out(path: Path) -> None:
    apply(path, f"rotations: {{a: {{people: [{PERSON}]}}}}\nescalations: {{a: {{steps: [{STEP}]}}}}\n")
    exported = yaml.safe_load(export_text())
    assert exported["rotations"] == {"a": {"people": [{"name": "Ana", "channels": ["chat"]}]}}
    assert exported["escalations"] == {"a": {"steps": [{"after": "0s", "notify": ["chat"]}]}}


def test_what_is_not_in_the_file_stays_or_is_archived_and_comes_back(path: Path) -> None:
    apply(path, WHOLE)
    other = "rotations: {}\nescalations: {}\n"
    assert apply(path, other) == []
    path.write_text(other)
    assert apply_file(path).not_in_file == ["rotation ops", "escalation ops"]
    assert apply(path, other, prune=True) == ["- rotation ops (archived)", "- escalation ops (archived)"]
    assert not Escalation.objects.filter(archived_at=None).exists()
    assert apply(path, WHOLE) == ["+ rotation ops: revived", "+ escalation ops: revived"]
    assert Rotation.objects.count() == 1


def test_a_name_can_be_changed_and_one_that_is_archived_makes_room(path: Path) -> None:
    apply(path, WHOLE)
    Rotation.objects.create(slug="team", people=[], archived_at=timezone.now())
    renamed = WHOLE.replace("  ops:\n    people", "  team:\n    renamed_from: ops\n    people", 1).replace(
        "rotation:ops", "rotation:team"
    )
    changes = apply(path, renamed)
    assert changes == ["~ rotation team: renamed from ops", "~ escalation ops: steps changed"]
    assert set(Rotation.objects.values_list("slug", flat=True)) == {"team", "team-archived"}
    assert apply(path, renamed) == []


def test_one_cannot_be_renamed_and_stay(path: Path) -> None:
    apply(path, WHOLE)
    text = WHOLE.replace("rotations:\n", f"rotations:\n  b: {{people: [{PERSON}], renamed_from: ops}}\n", 1)
    with pytest.raises(ConfigError) as caught:
        apply(path, text)
    assert "it cannot be renamed and stay" in str(caught.value)


def test_a_rotation_that_the_same_file_archives_cannot_be_named(path: Path) -> None:
    apply(path, WHOLE)
    with pytest.raises(ConfigError) as caught:
        apply(path, WHOLE.replace("  ops:\n    people", "  other:\n    people", 1), prune=True)
    assert '"rotation:ops" is not a rotation' in str(caught.value)


def test_a_literal_calendar_with_a_secret_in_it_is_refused_or_masked(path: Path) -> None:
    secret = "sk_live_" + "a1b2c3d4e5f6a7b8"
    with pytest.raises(ConfigError):
        apply(path, WHOLE.replace("ops.ics", secret))
    row = Rotation.objects.create(slug="x", people=[], ical=f"https://calendar.example/{secret}")
    assert secret not in export_text()
    row.delete()
    reference = WHOLE.replace("https://calendar.example/ops.ics", "env:ONCALL_URL")
    apply(path, reference)
    assert "env:ONCALL_URL" in export_text()
