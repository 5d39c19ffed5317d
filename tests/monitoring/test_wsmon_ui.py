"""How values look: words, times, numbers, sparklines and uptime bars."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
import time_machine
from django.conf import settings
from django.utils import timezone

from monitoring.history import Strip
from monitoring.templatetags import wsmon_ui as ui
from wsmon.vocabulary import Outcome, Status

NOW = datetime(2026, 10, 17, 12, 12, 8, tzinfo=UTC)
MORNING = datetime(2026, 10, 17, 6, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def saturday() -> Iterator[None]:
    with time_machine.travel(NOW, tick=False), timezone.override(ZoneInfo("Europe/Berlin")):
        yield


def plain(html: str) -> str:
    return re.sub(r"<[^>]+>", "", html)


def before(**span: float) -> datetime:
    return NOW - timedelta(**span)


@pytest.mark.parametrize("status", list(Status))
def test_every_status_has_a_word_and_a_shape(status: Status) -> None:
    sprite = (settings.BASE_DIR / "templates/_shared/sprite.html").read_text()
    assert ui.status_word(status)[0].isupper()
    shape = re.search(r"#(g-[\w-]+)", ui.glyph(status))
    assert shape is not None
    assert f'id="{shape[1]}"' in sprite


def test_the_words_of_states() -> None:
    assert ui.status_word("error") == "Error (ours)"
    assert ui.status_word("not_configured") == "Not configured"
    assert plain(ui.pill("critical", before(minutes=14))) == "Critical 14 min, since 13:58"
    assert plain(ui.status_text("healthy", "On <time>")) == "On &lt;time&gt;"


@pytest.mark.parametrize(
    ("span", "words"),
    [
        ({"seconds": 0}, "now"),
        ({"seconds": -5}, "now"),
        ({"seconds": 3}, "3 s ago"),
        ({"seconds": 59.9}, "59 s ago"),
        ({"minutes": 70}, "1 h ago"),
        ({"hours": 30}, "Fri 08:12"),
        ({"days": 20}, "27 Sep 14:12"),
    ],
)
def test_how_long_ago(span: dict[str, float], words: str) -> None:
    assert plain(ui.ago(before(**span))) == words


@pytest.mark.parametrize(
    ("span", "words"),
    [
        ({"seconds": 9}, "9 s"),
        ({"minutes": 41}, "41 min"),
        ({"minutes": 70}, "1 h 10 min"),
        ({"hours": 2}, "2 h"),
        ({"hours": 76}, "3 d 4 h"),
        ({"days": 30, "hours": 5}, "30 d"),
    ],
)
def test_for_how_long(span: dict[str, float], words: str) -> None:
    assert plain(ui.duration(before(**span))) == words


def test_until_when_is_rounded_and_not_cut() -> None:
    assert plain(ui.until(NOW + timedelta(days=2, hours=23, minutes=59))) == "3 d"
    assert plain(ui.until(NOW + timedelta(minutes=89))) == "1 h"


def test_a_time_carries_local_and_utc() -> None:
    html = ui.clock(before(minutes=14))
    assert 'datetime="2026-10-17T11:58:08Z"' in html
    assert 'title="Sat 17 Oct 2026 13:58:08 Europe/Berlin, 11:58:08 UTC"' in html
    with timezone.override(UTC):
        assert 'title="Sat 17 Oct 2026 11:58:08 UTC"' in ui.clock(before(minutes=14))


@pytest.mark.parametrize("show", [ui.ago, ui.duration, ui.until, ui.clock, ui.ms, ui.percent, ui.seconds])
def test_what_is_not_known_is_a_dash(show: object) -> None:
    assert plain(show(None)) == "–"  # type: ignore[operator]


@pytest.mark.parametrize(
    ("value", "words"), [(182.4, "182ms"), (2003.4, "2,003ms"), (0.84, "0.8ms"), (31_000, "31,000ms")]
)
def test_milliseconds_have_their_unit(value: float, words: str) -> None:
    assert plain(ui.ms(value)) == words


@pytest.mark.parametrize(
    ("share", "words"), [(1.0, "100%"), (0.999999, "99.99%"), (0.98932, "98.93%"), (0.0, "0.00%")]
)
def test_a_percentage_is_never_rounded_up_to_100(share: float, words: str) -> None:
    assert plain(ui.percent(share)) == words


@pytest.mark.parametrize(("value", "words"), [(0.8, "0.8s"), (30, "30s"), (90, "90s"), (300, "5min")])
def test_seconds_as_configured(value: float, words: str) -> None:
    assert plain(ui.seconds(value)) == words


# Pictures ----------------------------------------------------------------------------------------


def test_a_sparkline_needs_a_value() -> None:
    assert plain(ui.sparkline([])) == "–"
    assert plain(ui.sparkline([None, None])) == "–"
    assert ET.fromstring(ui.sparkline([5.0])).attrib["aria-label"] == "last 1 response time, now 5 ms"


def test_a_sparkline_stays_in_its_frame_and_says_its_last_value() -> None:
    svg = ET.fromstring(ui.sparkline([100.0, None, 2000.0, 150.0], "degraded", 1500.0))
    assert svg.attrib["aria-label"] == "last 4 response times, now 150 ms, degraded over 1,500 ms"
    assert svg.attrib["data-ms"] == "100,,2000,150"
    points = [tuple(map(float, pair.split(","))) for pair in svg.find("polyline").attrib["points"].split()]  # type: ignore[union-attr]
    assert len(points) == 3
    assert all(0 <= x <= 96 and 0 <= y <= 24 for x, y in points)
    assert points[1][1] < points[2][1] < 24  # larger values stand higher


def test_a_limit_far_away_is_not_drawn() -> None:
    assert 'class="th"' not in ui.sparkline([100.0, 110.0], "healthy", 5000.0)
    assert 'class="th"' in ui.sparkline([100.0, 1400.0], "healthy", 5000.0)


def strip(letters: str) -> Strip:
    return Strip(MORNING, 60, letters, tuple((place, f"<{place}>") for place, _letter in enumerate(letters)))


def test_an_uptime_bar_has_one_path_of_quiet_slots_and_a_tooltip_per_bad_slot() -> None:
    svg = ET.fromstring(ui.uptime_bar(strip("hhhdhhc.." + "h" * 81), "24h", 0.9893))
    assert svg.attrib["aria-label"] == "Last 24 h: 98.93% up, trouble in 2 of 90 slots"
    assert [rect.findtext("title") for rect in svg.findall("rect")] == ["08:03 to 08:04: <3>", "08:06 to 08:07: <6>"]
    assert [path.attrib["class"] for path in svg.findall("path")] == ["h", "n"]
    drawn = sum(path.attrib["d"].count("M") for path in svg.findall("path")) + len(svg.findall("rect"))
    assert drawn == 90


def test_worse_slots_are_taller() -> None:
    svg = ET.fromstring(ui.uptime_bar(strip("dce"), "1h"))
    heights = {rect.attrib["class"]: int(rect.attrib["height"]) for rect in svg.findall("rect")}
    assert heights["c"] > heights["d"] == heights["e"] > ui.SLOT_SHAPES["healthy"][2]
    assert set(Outcome) <= set(ui.SLOT_SHAPES)
    assert svg.attrib["aria-label"] == "Last hour: uptime not known yet, trouble in 3 of 3 slots"


def test_the_times_of_a_bad_slot_name_their_day_once_it_is_over() -> None:
    titles = [ET.fromstring(ui.uptime_bar(strip("c"))).findtext("rect/title")]
    with time_machine.travel(NOW + timedelta(days=1), tick=False):
        titles.append(ET.fromstring(ui.uptime_bar(strip("c"))).findtext("rect/title"))
    assert titles == ["08:00 to 08:01: <0>", "Sat 08:00 to Sat 08:01: <0>"]


def test_where_very_many_slots_are_bad_they_are_drawn_and_not_told_one_by_one() -> None:
    svg = ET.fromstring(ui.uptime_bar(strip("c" * 20 + "hd" * 20 + "h" * 30)))
    assert svg.attrib["aria-label"].endswith("trouble in 40 of 90 slots")
    drawn = {path.attrib["class"]: path.attrib["d"].count("M") for path in svg.findall("path")}
    assert drawn == {"c": 20, "h": 50, "d": 20}
    assert svg.findall("rect") == []


def test_a_bad_slot_without_a_note_says_its_state() -> None:
    svg = ET.fromstring(ui.uptime_bar(Strip(MORNING, 60, "e")))
    assert svg.findtext("rect/title") == "08:00 to 08:01: error"


def test_pictures_carry_no_style_attributes() -> None:
    assert "style" not in ui.uptime_bar(strip("hdc")) + ui.sparkline([1.0, 2.0]) + ui.glyph("healthy")
