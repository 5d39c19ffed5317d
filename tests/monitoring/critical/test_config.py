from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from monitoring.critical import wording
from monitoring.critical.config import critical_days_section
from monitoring.critical.schema import read_rule
from monitoring.models import CriticalRule, Posture
from tests.monitoring.critical.calendars import NOW
from wsmon.config.applying import Report, apply_file, export_text
from wsmon.config.problems import ConfigError, dotted

pytestmark = pytest.mark.django_db

# (what the file says, days in words, the rest in words)
GOOD: list[tuple[str, str, str]] = [
    ("{every: saturday, lead: 2h, trail: 2h}", "every Saturday", "2 h before until 2 h after"),
    ("{every: [sat, Sunday]}", "every Saturday and Sunday", "2 h before"),
    ("{every: weekend, lead: 0}", "every Saturday and Sunday", ""),
    ("{every: weekdays, lead: 0, trail: 30m}", "every Monday, Tuesday, Wednesday and 2 more", "30 min after"),
    ("{every: day}", "every day", "2 h before"),
    ("{dates: [2026-12-24, 2026-11-01]}", "1 Nov 2026 and 24 Dec 2026", "2 h before"),
    ("{dates: 2026-12-24, lead: 90m}", "24 Dec 2026", "90 min before"),
    ("{ranges: {from: 2026-12-24, to: 2026-12-26 12:00}}", "24 Dec 2026 to 26 Dec 2026 12:00", "2 h before"),
    (
        "{rrule: 'FREQ=MONTHLY;BYDAY=1SU', starts_at: 2026-11-01 18:00, lasts: 6h, lead: 0}",
        "every month (BYDAY 1SU) from 1 Nov 2026 18:00, 6 h each",
        "",
    ),
    ("{ical: 'env:FAIRS', lead: 0}", "every event of a calendar", ""),
    ("{ical: 'https://x.example/a.ics', match: fair, lead: 0}", "events of a calendar that match “fair”", ""),
    ("{holidays: DE, lead: 0}", "public holidays of DE", ""),
    (
        "{holidays: {country: DE, subdivision: BY, match: [christmas, epiphany]}, lead: 0}",
        "public holidays of DE-BY that match “christmas” and “epiphany”",
        "",
    ),
    ("{every: saturday, except: 2026-10-17, lead: 0}", "every Saturday, but not on 17 Oct 2026", ""),
]

# (what the file says, where, what is wrong)
BAD: list[tuple[str, str, str]] = [
    ("[]", "days", "a list stands where a mapping (key: value) belongs"),
    ("{}", "days", "says no days: it needs one of every, dates, ranges, rrule, ical, holidays"),
    ("{every: saturday, dates: 2026-12-24}", "days.dates", "stands beside `every`: make a rule of its own of each"),
    ("{every: saturdy}", "days.every", '"saturdy" is not a weekday; did you mean "saturday" or "thursday"?'),
    ("{every: []}", "days.every", ""),
    ("{every: saturday, match: fair}", "days.match", "has no use beside `every`"),
    ("{every: saturday, laed: 2h}", "days.laed", 'unknown key; did you mean "lead"?'),
    ("{every: saturday, lead: 8d}", "days.lead", "8d is not between 0s and 7d"),
    ("{every: saturday, lead: -1}", "days.lead", ""),
    ("{every: saturday, time_zone: Mars}", "days.time_zone", '"Mars" is not a time zone such as Europe/Berlin'),
    ("{every: saturday, freeze: maybe}", "days.freeze", '"maybe" is neither true nor false'),
    ("{dates: 24.12.2026}", "days.dates", '"24.12.2026" is not a date such as 2026-12-24'),
    ("{dates: 9999-12-31}", "days.dates", "9999-12-31 is not between the years 2000 and 2100"),
    ("{ranges: {from: 2026-12-24}}", "days.ranges", ""),
    ("{ranges: {from: 2026-12-24, to: 2026-12-23}}", "days.ranges[0].to", "2026-12-23 is before 2026-12-24"),
    ("{ranges: {from: '2026-12-24T10:00:00Z', to: 2026-12-25}}", "days.ranges", "leave out the offset"),
    ("{rrule: FREQ=DAILY}", "days.starts_at", "is missing"),
    ("{rrule: FREQ=SECONDLY, starts_at: 2026-12-24}", "days.rrule", "FREQ must be one of DAILY"),
    ("{rrule: FREQ=DAILY, starts_at: 2026-12-24, lasts: 90d}", "days.lasts", "90d is not between 1m and 60d"),
    ("{ical: ftp://x.example/a}", "days.ical", "is not the URL of a feed"),
    ("{ical: 'https://x.example/a?token=abcdefghij'}", "days.ical", "holds a secret"),
    ("{holidays: Atlantis}", "days.holidays.country", '"Atlantis" is not a country such as DE'),
    ("{holidays: [DE]}", "days.holidays", "is not a country such as DE"),
    ("{holidays: {country: DE, subdivision: XX}}", "days.holidays.subdivision", '"XX" is not a part of DE'),
    ("{holidays: {land: DE}}", "days.holidays", ""),
]


@pytest.mark.parametrize(("text", "days", "around"), GOOD)
def test_a_good_rule_is_read_told_in_words_and_exported_as_it_was_meant(text: str, days: str, around: str):
    spec, findings = read_rule("days", document(text))
    assert findings == []
    assert spec is not None
    assert wording.days_words(spec.spec) == days
    assert wording.around_words(spec.lead, spec.trail) == around
    row = CriticalRule.objects.create(slug="days", **spec.values)
    row.refresh_from_db()
    again, findings = read_rule("days", critical_days_section.export().data["days"])
    assert (again, findings) == (spec, [])


@pytest.mark.parametrize(("text", "place", "words"), BAD)
def test_a_bad_rule_is_refused_with_its_place(text: str, place: str, words: str):
    _specs, findings = critical_days_section.read({"days": document(text)})
    assert findings
    assert any(dotted(one.path).startswith(place) and words in one.message for one in findings), findings


def test_a_name_that_is_none_is_refused():
    _specs, findings = critical_days_section.read({"my days": {"every": "saturday"}})
    assert "is not a name" in findings[0].message
    assert critical_days_section.read([])[1]


def document(text: str) -> Any:
    from wsmon.config.document import parse  # noqa: PLC0415

    return parse(f"a: {text}").data["a"]


class TestApplying:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        return tmp_path / "wsmon.yaml"

    def apply(self, file: Path, rules: dict[str, Any] | None, **options: Any) -> Report:
        wish: dict[str, Any] = {"services": {}} | ({} if rules is None else {"critical_days": rules})
        file.write_text(yaml.safe_dump(wish))
        return apply_file(file, **options)

    def test_a_new_rule_counts_within_a_second(self, file: Path):
        Posture.objects.create(until=NOW)
        report = self.apply(file, {"saturdays": {"every": "saturday", "trail": "2h"}})
        assert report.changes == ["+ critical day saturdays: every Saturday"]
        row = CriticalRule.objects.get()
        assert (row.slug, row.spec, row.lead, row.trail) == ("saturdays", {"every": ["saturday"]}, 7200, 7200)
        assert Posture.objects.get().until is None

    def test_twice_changes_nothing(self, file: Path):
        rules = {"saturdays": {"every": "saturday"}, "x": {"holidays": "DE", "time_zone": "Europe/Berlin"}}
        self.apply(file, rules)
        assert self.apply(file, rules).changes == []

    def test_what_differs_is_said(self, file: Path):
        self.apply(file, {"days": {"every": "saturday"}})
        wish = {"every": "sunday", "lead": "1h", "trail": "1h", "name": "Days", "time_zone": "Europe/Berlin"}
        (change,) = self.apply(file, {"days": wish}).changes
        assert change == (
            "~ critical day days: every Saturday -> every Sunday, name none -> Days,"
            " time_zone none -> Europe/Berlin, lead 2h -> 1h, trail 0s -> 1h"
        )
        (change,) = self.apply(file, {"days": wish | {"freeze": False}}).changes
        assert change == "~ critical day days: its days changed"

    def test_what_is_not_in_the_file_stays_or_is_archived_and_comes_back(self, file: Path):
        self.apply(file, {"days": {"every": "saturday"}})
        assert self.apply(file, {}).not_in_file == ["critical day days"]
        assert self.apply(file, {}, prune=True).changes == ["- critical day days (archived)"]
        assert CriticalRule.objects.get().archived_at is not None
        (change,) = self.apply(file, {"days": {"every": "sunday"}}).changes
        assert change == "+ critical day days: revived, every Saturday -> every Sunday"
        assert CriticalRule.objects.get().archived_at is None

    def test_a_bad_file_names_line_and_key_and_changes_nothing(self, file: Path):
        file.write_text("services: {}\ncritical_days:\n  saturdays: {every: saturday}\n  x: {every: caturday}\n")
        with pytest.raises(ConfigError, match=r"wsmon.yaml:4: critical_days.x.every: \"caturday\" is not a weekday"):
            apply_file(file)
        assert not CriticalRule.objects.exists()

    def test_the_export_can_be_applied_and_changes_nothing(self, file: Path):
        self.apply(
            file,
            {f"rule-{index}": document(text) for index, (text, _days, _around) in enumerate(GOOD)},
        )
        text = export_text()
        assert "rule-0:\n    every: saturday\n    trail: 2h\n" in text
        file.write_text(text)
        assert apply_file(file).changes == []

    def test_a_secret_that_got_in_is_masked(self):
        CriticalRule.objects.create(slug="x", spec={"ical": "https://x.example/a?token=abcdefghij"})
        exported = critical_days_section.export()
        assert exported.data["x"]["ical"] == "***"
        assert "critical_days.x.ical" in exported.remarks[0]
