"""Weighing evidence, and what the facts of an incident point to."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import hypothesis.strategies as st
import pytest
from django.utils import timezone
from hypothesis import given

from monitoring.incidentmodels import Verdict
from monitoring.incidents import verdict
from monitoring.incidents.connectivity import Reach
from monitoring.incidents.evidence import Calls, Facts, Page, Probes, Sibling, gather
from monitoring.incidents.verdict import Evidence, Judged, Side, judge
from wsmon.vocabulary import Category

NOW = timezone.now()
FINE = Reach(True, 0, 7, 11.0)

pieces = st.builds(
    Evidence,
    key=st.just("x"),
    side=st.sampled_from(list(Side)),
    weight=st.floats(0, 10, allow_nan=False),
    title=st.just("T"),
    text=st.just("t"),
)


def piece(side: Side, weight: float) -> Evidence:
    return Evidence("x", side, weight, "T", "t")


class TestWeighing:
    def test_without_evidence_nothing_is_known(self) -> None:
        found = judge([])
        assert (found.verdict, found.them, found.confidence) == (Verdict.UNCLEAR, 0.5, 0.0)

    @pytest.mark.parametrize(
        ("sides", "result"),
        [
            ([(Side.THEM, 1.0)], Verdict.THEIRS),
            ([(Side.US, 1.0)], Verdict.OURS),
            ([(Side.THEM, 0.4)], Verdict.UNCLEAR),
            ([(Side.THEM, 1.0), (Side.US, 1.0)], Verdict.UNCLEAR),
            ([(Side.UNCLEAR, 5.0)], Verdict.UNCLEAR),
            ([(Side.THEM, 0.5), (Side.THEM, 0.5)], Verdict.THEIRS),
            ([(Side.THEM, 100.0), (Side.US, 2.0)], Verdict.THEIRS),
        ],
    )
    def test_weights_add_up(self, sides: list[tuple[Side, float]], result: Verdict) -> None:
        assert judge(piece(*one) for one in sides).verdict is result

    @given(st.lists(pieces, max_size=12))
    def test_it_is_a_probability_that_is_never_certain(self, found: list[Evidence]) -> None:
        result = judge(found)
        assert 1 - verdict.SUREST <= result.them <= verdict.SUREST
        assert result.them_percent + result.us_percent == 100
        assert not found or result.confidence >= 0.5

    @given(st.lists(pieces, max_size=8), pieces)
    def test_more_evidence_for_a_side_never_speaks_against_it(self, found: list[Evidence], more: Evidence) -> None:
        before, after = judge(found).them, judge([*found, more]).them
        if more.side is Side.THEM:
            assert after >= before - 1e-12
        elif more.side is Side.US:
            assert after <= before + 1e-12
        else:
            assert after == pytest.approx(before)

    @given(st.lists(pieces, max_size=8))
    def test_the_order_does_not_matter(self, found: list[Evidence]) -> None:
        assert judge(found).them == pytest.approx(judge(reversed(found)).them)

    @given(st.lists(pieces, max_size=6))
    def test_it_comes_back_from_its_row_as_it_was(self, found: list[Evidence]) -> None:
        again = verdict.load(verdict.dump(found))
        assert [(one.side, one.text) for one in again] == [(one.side, one.text) for one in found]
        assert judge(again).them == pytest.approx(judge(found).them, abs=0.05)

    def test_what_says_most_comes_first(self) -> None:
        found = judge([piece(Side.UNCLEAR, 0), piece(Side.US, 0.4), piece(Side.THEM, 2)])
        assert [one.weight for one in found.evidence] == [2, 0.4, 0]

    def test_it_is_said_in_a_sentence(self) -> None:
        said = {word: verdict.sentence(Judged(word, 0.5), "Stripe") for word in Verdict}
        site = {word: verdict.sentence(Judged(word, 0.5), "Our site", is_vendor=False) for word in Verdict}
        assert site[Verdict.THEIRS] == "It is Our site itself."
        assert site[Verdict.OURS] == "It is how we reach or probe Our site."
        assert said == {
            Verdict.THEIRS: "It is Stripe, not us.",
            Verdict.OURS: "It is us, not Stripe.",
            Verdict.UNCLEAR: "It is not clear yet.",
        }


def facts(category: str = "", **fields: Any) -> Facts:
    defaults: dict[str, Any] = {
        "began_at": NOW - timedelta(minutes=41),
        "category": category,
        "label": "Twilio",
        "is_vendor": True,
        "probes": Probes(),
        "calls": Calls(),
        "reach": FINE,
    }
    return Facts(**defaults | fields)


def failing(category: Category, **fields: Any) -> Probes:
    return Probes(12, ("functionality",), {category.value: 12}, **fields)


def side_of(found: Facts, key: str) -> Evidence:
    return next(one for one in gather(found) if one.key == key)


SLOW = Probes(
    328, ("authentication", "functionality"),
    now={"dns": 5, "connect": 11, "tls": 30, "first_byte": 2300},
    before={"dns": 5, "connect": 10, "tls": 30, "first_byte": 200},
)  # fmt: skip


class TestStories:
    """What happens to teams, and what the verdict must then be."""

    @pytest.mark.parametrize(
        ("name", "found", "result"),
        [
            ("their servers answer 503", facts("SERVER_ERROR", probes=failing(Category.SERVER_ERROR)), "theirs"),
            (
                "our key was revoked",
                facts("AUTHENTICATION_ERROR", probes=failing(Category.AUTHENTICATION_ERROR)),
                "ours",
            ),
            ("we send nonsense", facts("CLIENT_ERROR", probes=failing(Category.CLIENT_ERROR)), "ours"),
            (
                "nobody answers, everybody else does",
                facts("TIMEOUT_ERROR", probes=failing(Category.TIMEOUT_ERROR)),
                "theirs",
            ),
            (
                "nobody answers anywhere",
                facts("TIMEOUT_ERROR", probes=failing(Category.TIMEOUT_ERROR), reach=Reach(False, 8, 0)),
                "ours",
            ),
            (
                "nobody answers, and nothing else is known",
                facts("TIMEOUT_ERROR", probes=failing(Category.TIMEOUT_ERROR), reach=Reach(None, 1, 0)),
                "unclear",
            ),
            ("they think too long", facts(probes=SLOW), "theirs"),
            (
                "names take long",
                facts(
                    probes=Probes(9, now={"dns": 900, "first_byte": 210}, before={"dns": 5, "first_byte": 200}),
                    reach=Reach(None, 0, 0),
                ),
                "unclear",
            ),
            (
                "a 503, which they admit",
                facts(
                    "SERVER_ERROR",
                    probes=failing(Category.SERVER_ERROR),
                    page=Page("s.test", "major", "API outage", NOW),
                ),
                "theirs",
            ),
            (
                "probes fail by 400, real calls work, the page is green",
                facts(
                    "CLIENT_ERROR",
                    probes=failing(Category.CLIENT_ERROR),
                    calls=Calls(2000, 1),
                    page=Page("s.test", "none", "All good", NOW),
                ),
                "ours",
            ),
            (
                "a person forced the breaker open",
                facts("BREAKER_OPEN", calls=Calls(forced_by="eve")),
                "ours",
            ),
            (
                "we call too often",
                facts("RATE_LIMITED", probes=failing(Category.RATE_LIMITED), calls=Calls(cause="rate_limit")),
                "ours",
            ),
            (
                "nobody answers, and their other product fails too",
                facts(
                    "TIMEOUT_ERROR",
                    probes=failing(Category.TIMEOUT_ERROR),
                    siblings=[Sibling("SendGrid", False, "503")],
                ),
                "theirs",
            ),
        ],
    )
    def test_whose_fault(self, name: str, found: Facts, result: str) -> None:
        assert judge(gather(found)).verdict == result, name

    def test_the_mockups_story(self) -> None:
        found = facts(
            probes=SLOW,
            calls=Calls(1561, 343),
            page=Page("status.twilio.com", "none", "All Systems Operational", NOW, admits_after=1500),
            elsewhere=[Evidence("webhooks", Side.THEM, 1.1, "Webhook flow", "arrives 3 min late")],
        )
        said = {one.key: (one.side.value, one.text) for one in gather(found)}
        assert said == {
            "probes": ("them", "first byte 2.3 s, was 200 ms; DNS, connect and TLS unchanged"),
            "calls": ("them", "18% fail"),
            "webhooks": ("them", "arrives 3 min late"),
            "control": ("them", "reachable in 11 ms, 7 of our other services reachable"),
            "page": ("us", "“All Systems Operational”"),
        }
        assert "admits after 25 min on average" in side_of(found, "page").sub
        assert judge(gather(found)).verdict is Verdict.THEIRS


class TestPieces:
    @pytest.mark.parametrize(
        ("calls", "side", "text"),
        [
            (Calls(5, 4), None, ""),
            (Calls(90, 10), "them", "10% fail"),
            (Calls(100, 0), "us", "100% succeed, so it may be how we probe"),
            (Calls(95, 5), "unclear", "5% fail"),
            (Calls(0, 0, "credential"), "us", "its breaker opened because our credential is refused"),
        ],
    )
    def test_our_real_calls(self, calls: Calls, side: str | None, text: str) -> None:
        found = [one for one in gather(facts(calls=calls)) if one.key == "calls"]
        assert [(one.side, one.text) for one in found] == ([(side, text)] if side else [])

    @pytest.mark.parametrize(
        ("reach", "category", "side"),
        [
            (FINE, "TIMEOUT_ERROR", "them"),
            (FINE, "AUTHENTICATION_ERROR", "unclear"),
            (FINE, "SERVER_ERROR", "them"),
            (Reach(None, 0, 9), "TIMEOUT_ERROR", "them"),
            (Reach(None, 0, 1), "TIMEOUT_ERROR", None),
            (Reach(False, 0, 1), "TIMEOUT_ERROR", "us"),
            (Reach(False, 1, 9), "TIMEOUT_ERROR", "unclear"),
            (Reach(False, 9, 0), "TIMEOUT_ERROR", "us"),
        ],
    )
    def test_our_own_network(self, reach: Reach, category: str, side: str | None) -> None:
        found = [one.side for one in gather(facts(category, reach=reach)) if one.key == "control"]
        assert found == ([side] if side else [])

    @pytest.mark.parametrize(
        ("indicator", "side"), [("none", "us"), ("minor", "them"), ("critical", "them"), ("", "unclear")]
    )
    def test_the_vendors_page(self, indicator: str, side: str) -> None:
        found = side_of(facts(page=Page("s.test", indicator, "words", NOW)), "page")
        assert (found.side, found.url) == (side, "https://s.test/")

    def test_what_they_admitted_counts_although_their_page_is_green_again(self) -> None:
        page = Page("s.test", "none", "All good", NOW, admitted_at=NOW - timedelta(minutes=10))
        found = side_of(facts(page=page), "page")
        assert (found.side, found.text) == ("them", "admitted it after 31 min")

    def test_a_check_that_reads_their_page_is_their_word(self) -> None:
        found = side_of(facts(vendor_word="the vendor says API: major outage"), "page")
        assert (found.side, found.text) == ("them", "the vendor says API: major outage")

    def test_a_job_that_is_late_is_rather_ours(self) -> None:
        assert side_of(facts(late_job="late by 5 min"), "job").side == "us"

    def test_slow_without_a_phase_that_stands_out(self) -> None:
        probes = replace(SLOW, now=SLOW.before)
        assert side_of(facts(probes=probes), "probes").text == "slow, and no phase of it stands out"

    @pytest.mark.parametrize("category", list(Category))
    def test_every_category_is_evidence_of_something(self, category: Category) -> None:
        if category is not Category.BREAKER_OPEN:
            found = side_of(facts(category, probes=failing(category)), "probes")
            assert found.text != "they failed"
            assert "12 of 12" in found.text
