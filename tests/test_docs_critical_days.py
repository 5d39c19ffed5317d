"""docs/critical-days.md is right: its yaml applies, its requests are taken, its numbers are the code's."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from monitoring.critical import actions, effects, expanding, feeds, icalevents, rules, schema
from monitoring.critical.schema import RuleEntry
from monitoring.models import CriticalRule
from tests.callers import program
from tests.monitoring.factories import make_service
from tests.test_rooms import ROOT
from wsmon.config.applying import apply_file

TEXT = (ROOT / "docs" / "critical-days.md").read_text()
(YAML,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.django_db
def test_its_rules_apply(tmp_path: Path) -> None:
    file = tmp_path / "wsmon.yaml"
    file.write_text("services: {}\n" + YAML)
    apply_file(file)
    assert CriticalRule.objects.count() == len(re.findall(r"^  [\w-]+: \{", YAML, re.MULTILINE)) == 8
    assert {expanding.kind_of(rule.spec) for rule in CriticalRule.objects.all()} == set(expanding.KINDS)
    assert apply_file(file).changes == []


def test_every_key_is_told() -> None:
    keys = {field.alias or name for name, field in RuleEntry.model_fields.items()}
    assert [key for key in keys if f"`{key}`" not in TEXT] == []


@pytest.mark.django_db
@pytest.mark.parametrize("place", [0, 1])
def test_its_requests_are_taken(place: int) -> None:
    make_service("stripe")
    calls: list[tuple[str, str]] = re.findall(r"--json '(.*?)' \\\n  https://ops.example.com(\S+)", TEXT)
    body, path = calls[place]
    answer = program("monitoring:admin").post(path, json.loads(body), content_type="application/json")
    assert answer.status_code == 200


@pytest.mark.django_db
def test_its_question_is_answered() -> None:
    (path,) = re.findall(r'"https://ops.example.com(/api/admin/freeze\?\S+)"', TEXT)
    assert program("monitoring:read").get(path).status_code == 200


# (what the code has, what the text says of it)
NUMBERS: list[tuple[Any, Any, str]] = [
    (rules.LEAD, 7200, "2 h and nothing, unless the rule says otherwise"),
    (rules.TRAIL, 0, "2 h and nothing, unless the rule says otherwise"),
    (rules.LONGEST_AROUND, 7 * 86_400, "at most 7 days"),
    (schema.RuleEntry.model_fields["lasts"].default, 86_400, "(one day, unless it says otherwise)"),
    (feeds.EVERY.total_seconds(), 900, "every 15 minutes"),
    (feeds.LARGEST, 2 * 1_048_576, "larger than 2 MiB"),
    (feeds.PATIENCE.total_seconds(), 3600, "after an hour"),
    (icalevents.MOST_EVENTS, 5000, "more than 5,000 events"),
    (effects.CRITICAL_DAY, effects.Factors(0.5, 3.0, 0.5, 0.5, 0.5), "| 3 times, at most 10 min |"),
    (effects.EMERGENCY, effects.Factors(0.5, 1.0, 0.5, 0.0, 0.25), "| a quarter |"),
    (effects.SHORTEST_INTERVAL, 1, "half, at least 1 s"),
    (effects.SHORTEST_TIMEOUT, 1, "nor 1 s"),
    (effects.LONGEST_SPARED, 600, "at most 10 min"),
    (effects.EMERGENCY_INTERVAL, 5, "half, at most 5 s"),
    (effects.ALERT_WITHIN, 15, "an alert within 15 s"),
    (effects.RETRY_FACTOR, 0.5, "half, of waits up to 10 min"),
    (actions.LONGEST_OVERRIDE.days, 31, "31 days at most"),
    (actions.EMERGENCY_LASTS.total_seconds(), 7200, "ends by itself after 2 h"),
    (actions.PASS_LASTS.total_seconds(), 3600, "within the hour"),
]


@pytest.mark.parametrize(("found", "expected", "words"), NUMBERS)
def test_its_numbers_are_the_codes(found: Any, expected: Any, words: str) -> None:
    assert found == expected
    assert words in " ".join(TEXT.split())


def test_its_routes_are_there() -> None:
    assert {"/api/admin/freeze", "/api/admin/critical-days"} <= set(settings.API_ROUTERS)
