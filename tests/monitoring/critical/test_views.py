from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.template.loader import render_to_string
from django.test import Client
from django.utils import timezone

from monitoring.critical import actions, freeze, inforce, reads
from monitoring.models import CalendarFeed, CriticalOverride, CriticalRule, DeployPass, Emergency, Posture
from monitoring.templatetags import wsmon_critical
from tests.callers import person
from tests.monitoring.critical.calendars import NOW, SATURDAYS, at
from tests.monitoring.factories import make_check, make_service
from wsmon.audit import Actor
from wsmon.models import AuditEntry

pytestmark = pytest.mark.django_db
PAGE = "/critical-days/"
HTMX = {"HX-Request": "true"}
LIVE = {"X-Wsmon-Live": "1"}
HOUR = timedelta(hours=1)
ANNA = Actor.system("anna")
DAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]


def viewer() -> Client:
    return person("monitoring.view_service")


def operator() -> Client:
    return person("monitoring.view_service", "monitoring.operate")


def always(**fields: Any) -> CriticalRule:
    """Every day is a critical day."""
    row = CriticalRule.objects.create(slug="always", spec={"every": DAYS} | fields)
    inforce.refresh(force=True)
    return row


def switched_on() -> None:
    actions.override(True, timezone.now() + HOUR, "the launch", ANNA)


def text_of(answer: Any) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.content.decode()))


class TestPage:
    def test_on_a_usual_day_it_says_so_and_how_to_begin(self):
        said = text_of(viewer().get(PAGE))
        assert "Usual policies There is no rule yet: add one under Rules" in said
        assert "as on any usual day" in said
        assert "saturdays: every: saturday lead: 2h trail: 2h" in said

    def test_it_says_what_is_in_force_why_and_until_when(self):
        make_check(make_service("shop", criticality="critical"), interval=30, timeout=5)
        always()
        answer = viewer().get(PAGE)
        said = text_of(answer)
        assert "In force now because of rule always (every day, 2 h before): " in said
        assert "7 differ from a usual day" in said
        assert "Check interval, critical and high" in said
        assert "30 s 15 s" in said
        assert "every: - monday" in said
        assert "<html" in answer.content.decode()

    def test_a_persons_word_is_told_with_its_reason(self):
        switched_on()
        said = text_of(viewer().get(PAGE))
        assert "because of anna , who switched it on until" in said
        assert "“the launch”" in said

    def test_what_is_switched_off_is_told_with_its_reason(self):
        always()
        actions.override(False, timezone.now() + HOUR, "no launch", ANNA)
        said = text_of(viewer().get(PAGE))
        assert "It would be a critical day: anna switched it off until" in said

    def test_what_comes_next_is_told(self):
        tomorrow = timezone.localdate() + timedelta(days=3)
        CriticalRule.objects.create(slug="launch", name="Launch", spec={"dates": [tomorrow.isoformat()]})
        said = text_of(viewer().get(PAGE))
        assert "The next critical day begins" in said
        assert "Launch" in said

    def test_emergencies_are_told(self):
        actions.start_emergency(make_service("stripe", name="Stripe"), "payments fail", ANNA)
        actions.start_emergency(None, "fire", ANNA)
        said = text_of(viewer().get(PAGE))
        assert "On Stripe until" in said
        assert "On all services until" in said
        assert "Emergency mode because of anna : “fire”" in said

    def test_feeds_say_when_they_were_read_and_what_is_wrong(self):
        CriticalRule.objects.create(slug="fairs", spec={"ical": "env:FAIRS"})
        assert "not read yet" in text_of(viewer().get(PAGE))
        feed = CalendarFeed.objects.create(owner="critical:fairs", problem="it answered 410")
        assert "never read: it answered 410" in text_of(viewer().get(PAGE))
        CalendarFeed.objects.filter(owner=feed.owner).update(read_at=timezone.now(), problem="")
        assert re.search(r"read (now|\d s ago)", text_of(viewer().get(PAGE)))

    @pytest.mark.parametrize(
        ("asked", "words"),
        [
            ([], "No pipeline asked today"),
            ([False], "1 pipeline asked today, it got 423 and waited."),
            ([False, False], "2 pipelines asked today, both got 423 and waited."),
            ([False, False, False], "3 pipelines asked today, all got 423 and waited."),
            ([True], "1 pipeline asked today, it got 200."),
            ([True, False], "2 pipelines asked today, 1 got 423 and waited."),
        ],
    )
    def test_who_asked_for_a_deploy_is_counted(self, asked: list[bool], words: str):
        from monitoring.models import DeployRequest  # noqa: PLC0415

        for allowed in asked:
            DeployRequest.objects.create(by="x", allowed=allowed)
        assert words in text_of(viewer().get(PAGE))

    def test_a_permission_that_waits_is_told(self):
        always()
        actions.allow_deploy("the fix", ANNA)
        said = text_of(operator().get(PAGE))
        assert "“the fix”, anna" in said
        assert "Allow one deploy…" not in said

    def test_viewers_are_offered_nothing_to_do(self):
        always()
        for words in ("Switch on now", "End this critical day", "Allow one deploy", "Start emergency", "Add rule"):
            assert words not in text_of(viewer().get(PAGE))
        assert "End this critical day early…" in text_of(operator().get(PAGE))
        assert "Add rule" in text_of(person(is_superuser=True).get(PAGE))

    def test_who_may_not_read_sees_nothing(self):
        assert Client().get(PAGE).status_code == 302
        assert person().get(PAGE).status_code == 403
        assert viewer().post(PAGE).status_code == 405

    def test_looking_for_news_is_answered_with_the_parts_that_change(self):
        always()
        answer = viewer().get(PAGE, headers=LIVE)
        body = answer.content.decode()
        assert "<html" not in body
        page = viewer().get(PAGE).content.decode()
        wanted = re.findall(r'id="(cd-[a-z]+)" data-live', page)
        assert len(wanted) == 10
        assert set(wanted) <= set(re.findall(r'id="([^"]+)"', body))

    def test_looking_for_news_rehearses_nothing_again(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(reads, "_rehearse", lambda *_given: pytest.fail("it stands there already"))
        assert viewer().get(PAGE, {"rehearse": "critical"}, headers=LIVE).status_code == 200

    def test_no_id_stands_twice(self):
        always()
        actions.start_emergency(None, "fire", ANNA)
        ids = re.findall(r'\sid="([^"]+)"', operator().get(PAGE).content.decode())
        assert sorted(ids) == sorted(set(ids))

    def test_what_people_wrote_is_escaped(self):
        actions.override(True, timezone.now() + HOUR, "<script>alert(1)</script>", ANNA)
        CriticalRule.objects.create(slug="x", name="<b>x</b>", spec={"every": DAYS})
        body = operator().get(PAGE).content.decode()
        assert "<script>alert" not in body
        assert "<b>x</b>" not in body

    def test_many_checks_cost_no_further_query(self, django_assert_max_num_queries: Any):
        service = make_service(criticality="critical")
        for _ in range(30):
            make_check(service)
        always()
        client = viewer()
        client.get(PAGE)
        with django_assert_max_num_queries(40):
            client.get(PAGE)


class TestRehearsal:
    @pytest.fixture(autouse=True)
    def _checks(self):
        make_check(make_service("shop", name="Shop", criticality="critical"), interval=30, timeout=5)
        make_check(make_service("blog", name="Blog", criticality="low", provider="github"), "repo", interval=60)

    def test_it_says_what_would_differ_and_does_nothing(self):
        said = text_of(viewer().get(PAGE, {"rehearse": "critical"}))
        assert "A critical day, as if all services were healthy now. 2 checks would be made in another way." in said
        assert "github 1 becomes 0.3" in said
        assert "http 2 becomes 4" in said
        assert not Posture.objects.filter(critical=True).exists()
        assert not AuditEntry.objects.exists()

    def test_an_emergency_can_be_rehearsed(self):
        said = text_of(viewer().get(PAGE, {"rehearse": "emergency"}))
        assert "asked for read-only" in said
        assert "github 1 becomes 12" in said

    def test_a_moment_can_be_looked_at(self):
        CriticalRule.objects.create(slug="saturdays", spec=SATURDAYS, time_zone="Europe/Berlin", lead=0)
        said = text_of(viewer().get(PAGE, {"rehearse": "at", "at": "2031-10-18T12:00"}))
        assert "a critical day, because of rule saturdays : Sat 18 Oct." in said
        said = text_of(viewer().get(PAGE, {"rehearse": "at", "at": "2031-10-20T12:00"}))
        assert "usual policies; no rule has that day." in said

    @pytest.mark.parametrize("moment", ["soon", "9999-12-31T23:59", "1900-01-01T00:00", "2026-13-01T00:00"])
    def test_a_moment_that_is_none_is_told(self, moment: str):
        answer = viewer().get(PAGE, {"rehearse": "at", "at": moment})
        assert answer.status_code == 200
        assert "Enter a day and a time between the years 2000 and 2100." in text_of(answer)

    @pytest.mark.parametrize("query", [{"rehearse": "x"}, {"rehearse": "at"}, {"at": "2026-10-18T12:00"}])
    def test_without_a_question_there_is_no_rehearsal(self, query: dict[str, str]):
        assert "nothing is changed" not in text_of(viewer().get(PAGE, query))

    def test_of_very_many_checks_the_first_are_shown(self):
        service = make_service(criticality="critical")
        for _ in range(70):
            make_check(service)
        assert "The first 60 of 72 are shown." in text_of(viewer().get(PAGE, {"rehearse": "critical"}))


def act(client: Client, action: str, htmx: bool = True, **fields: Any) -> Any:
    return client.post(f"{PAGE}{action}/", fields, headers=HTMX if htmx else {})


class TestActs:
    def test_each_asks_before_it_does_anything(self):
        always()
        actions.start_emergency(make_service("stripe"), "x", ANNA)
        actions.override(True, timezone.now() + HOUR, "x", ANNA)
        client = operator()
        for action in ("longer", "off", "calendar", "allow", "emergency", "calm"):
            answer = client.get(
                f"{PAGE}{action}/", headers=HTMX | {"HX-Target": "cd-panel", "HX-Trigger": f"do-{action}"}
            )
            body = answer.content.decode()
            assert answer.status_code == 200
            assert "<html" not in body
            assert f'data-asked="do-{action}"' in body
            page = client.get(f"{PAGE}{action}/").content.decode()
            assert "<html" in page
            assert "csrfmiddlewaretoken" in page

    def test_on(self):
        client = operator()
        assert "Switch a critical day on now?" in text_of(client.get(f"{PAGE}on/", headers=HTMX))
        answer = act(client, "on", reason="the launch", until="6")
        assert "A critical day is in force until" in text_of(answer)
        row = CriticalOverride.objects.get()
        assert timedelta(hours=5.9) < row.ends_at - timezone.now() <= 6 * HOUR
        assert Posture.objects.get().critical

    def test_off_until_its_end(self):
        always()
        found = inforce.now_in_force()
        act(operator(), "off", reason="cancelled", until="end")
        assert not Posture.objects.get().critical
        assert found.until is not None
        assert abs(CriticalOverride.objects.get().ends_at - min(found.until, found.at + 31 * 24 * HOUR)) < HOUR

    def test_off_for_some_hours(self):
        always()
        act(operator(), "off", reason="cancelled", until="2")
        assert CriticalOverride.objects.get().ends_at - timezone.now() <= 2 * HOUR

    def test_longer(self):
        switched_on()
        before = CriticalOverride.objects.get().ends_at
        act(operator(), "longer", reason="the party goes on", until="2")
        assert CriticalOverride.objects.get(ended_at=None).ends_at == before + 2 * HOUR

    def test_the_calendar_decides_again(self):
        switched_on()
        answer = act(operator(), "calendar")
        assert "The calendar decides again" in text_of(answer)
        assert not Posture.objects.get().critical

    def test_allow(self):
        always()
        answer = act(operator(), "allow", reason="the fix")
        assert "The next pipeline that asks before" in text_of(answer)
        assert freeze.ask(ANNA).allowed
        assert DeployPass.objects.get().used_at

    def test_emergency_of_one_service_and_its_end(self):
        make_service("stripe", name="Stripe")
        client = operator()
        answer = act(client, "emergency", service="stripe", reason="payments fail")
        assert "Emergency mode of Stripe is on until" in text_of(answer)
        row = Emergency.objects.get()
        assert (row.service.slug if row.service else "") == "stripe"
        answer = act(client, "calm", emergency=row.id, reason="")
        assert "Emergency mode of Stripe is over" in text_of(answer)
        assert not Posture.objects.filter(emergency=True).exists()

    def test_emergency_of_all(self):
        act(operator(), "emergency", service="", reason="fire")
        assert Posture.objects.get().emergency

    def test_without_javascript_it_answers_with_the_page(self):
        answer = act(operator(), "on", htmx=False, reason="the launch", until="6")
        assert (answer.status_code, answer["Location"]) == (302, PAGE)

    @pytest.mark.parametrize(
        ("action", "fields", "words"),
        [
            ("on", {"until": "6"}, "Say why: others will read it."),
            ("on", {"reason": "x", "until": "7"}, "Choose when it ends."),
            ("on", {"reason": "x"}, "Choose when it ends."),
            ("emergency", {"reason": "x", "service": "nobody"}, "This service does not exist any more."),
            ("emergency", {}, "Say why: others will read it."),
        ],
    )
    @pytest.mark.parametrize("htmx", [True, False])
    def test_what_is_missing_is_asked_for(self, action: str, fields: dict[str, str], words: str, htmx: bool):
        answer = act(operator(), action, htmx, **fields)
        assert answer.status_code == 422
        assert words in text_of(answer)
        assert not CriticalOverride.objects.exists()
        assert not Emergency.objects.exists()

    def test_what_is_refused_says_why(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(actions, "LONGEST_OVERRIDE", HOUR)
        answer = act(operator(), "on", reason="x", until="6")
        assert answer.status_code == 422
        assert "An override may last 0 days at most." in text_of(answer)

    @pytest.mark.parametrize(
        ("action", "words"),
        [
            ("longer", "no critical day is in force any more"),
            ("off", "no critical day is in force any more"),
            ("calendar", "the calendar decides already"),
            ("allow", "deployments are not frozen any more"),
            ("calm", "no emergency is on any more"),
        ],
    )
    def test_what_is_over_cannot_be_acted_on(self, action: str, words: str):
        for answer in (
            act(operator(), action, reason="x", until="2"),
            operator().get(f"{PAGE}{action}/", headers=HTMX),
        ):
            assert answer.status_code == 409
            assert words in text_of(answer)
        assert act(operator(), action, htmx=False).status_code == 302

    def test_on_is_not_offered_twice(self):
        switched_on()
        assert act(operator(), "on", reason="x", until="2").status_code == 409

    def test_who_may_not_operate_does_nothing(self):
        assert act(viewer(), "on", reason="x", until="6").status_code == 403
        assert viewer().get(f"{PAGE}on/").status_code == 403
        assert act(Client(), "on", reason="x", until="6").status_code == 401
        assert act(Client(), "on", htmx=False, reason="x", until="6").status_code == 302
        assert operator().put(f"{PAGE}on/").status_code == 405
        assert operator().get(f"{PAGE}party/").status_code == 404
        assert not CriticalOverride.objects.exists()


class TestBanner:
    def said(self) -> str:
        return re.sub(
            r"\s+",
            " ",
            re.sub(r"<[^>]+>", " ", render_to_string("monitoring/critical/_banner.html", {"b": reads.banner()})),
        ).strip()

    def test_on_a_usual_day_there_is_none(self, django_assert_num_queries: Any):
        inforce.refresh()
        with django_assert_num_queries(1):
            assert reads.banner() is None
        assert self.said() == ""

    def test_it_says_what_is_in_force(self):
        always()
        assert self.said().startswith("Critical day : always , until")
        assert "intervals halved alerts within 15 s deploys frozen" in self.said()

    def test_without_a_freeze_it_does_not_say_so(self):
        always(freeze=False, read_only=True)
        assert "deploys frozen" not in self.said()
        assert "read-only asked for" in self.said()

    def test_an_emergency_is_graver(self):
        always()
        actions.start_emergency(None, "fire", ANNA)
        assert self.said().startswith("Emergency mode : Emergency mode and always , until")
        assert "checks every 5 s" in self.said()
        assert 'data-s="critical"' in render_to_string("monitoring/critical/_banner.html", {"b": reads.banner()})

    def test_one_of_one_service_names_it(self):
        actions.start_emergency(make_service("stripe", name="Stripe"), "payments fail", ANNA)
        assert self.said().startswith("Emergency mode : Stripe , until")
        assert "deploys frozen" not in self.said()
        always()
        assert self.said().startswith("Emergency mode : Stripe ; Critical day : always , until")

    @pytest.mark.parametrize("longest", ["github", "resend", "stripe"])
    def test_of_several_it_says_when_the_last_one_ends(self, longest: str):
        for slug in ("github", "resend", "stripe"):
            lasts = HOUR if slug == longest else HOUR / 2
            actions.start_emergency(make_service(slug), "x", ANNA, lasts=lasts)
        ends_at = Emergency.objects.get(service__slug=longest).ends_at
        banner = reads.banner()
        assert banner is not None
        assert banner.until == ends_at
        actions.start_emergency(None, "fire", ANNA, lasts=HOUR / 2)
        banner = reads.banner()
        assert banner is not None
        assert (banner.critical, banner.until) == (True, ends_at)

    def test_what_nobody_keeps_up_to_date_is_not_shown(self):
        always()
        assert reads.banner(timezone.now() + HOUR) is None


class TestPictures:
    def drawn(self, now: datetime, *rules: dict[str, Any]) -> reads.Page:
        for place, spec in enumerate(rules):
            fields = {"slug": f"rule-{place}", "time_zone": "Europe/Berlin", "lead": 7200, "trail": 7200}
            CriticalRule.objects.create(spec=spec, **fields)
        with timezone.override("Europe/Berlin"):
            return reads.page(now)

    def test_every_day_of_14_weeks_says_what_it_is(self):
        page = self.drawn(NOW, SATURDAYS, {"holidays": {"country": "DE"}})
        with timezone.override("Europe/Berlin"):
            svg = wsmon_critical.calendar_of(page.days, "Next", "wide")
        assert svg.count("<rect") == 98
        assert '<rect class="now" x="34" y="172"' in svg
        assert "<title>Sat 17 Oct: rule-0, today</title>" in svg
        assert "<title>Fri 25 Dec: rule-1: Christmas Day</title>" in svg
        assert "<title>Mon 12 Oct: usual policies</title>" in svg
        assert svg.count('class="hol"') == 3
        months = re.findall(r'y="14">(\w+)<', svg)
        assert months == ["Oct", "Nov", "Dec", "Jan"]

    @pytest.mark.parametrize("day", range(1, 29, 3))
    def test_no_month_is_named_over_another(self, day: int):
        page = self.drawn(datetime(2026, 7, day, 12, tzinfo=UTC))
        for size in ("wide", "narrow"):
            svg = wsmon_critical.calendar_of(page.days, "Next", size)
            places = [int(x) for x in re.findall(r'<text x="(\d+)" y="14"', svg)]
            assert len(places) >= 3
            assert places == sorted(set(places))

    def test_the_line_says_where_now_is(self):
        page = self.drawn(NOW, SATURDAYS)
        with timezone.override("Europe/Berlin"):
            svg = wsmon_critical.line_of(page.found)
        assert "lead of 2 h" in svg
        assert "ends in 11 h 48 min" in svg
        assert "58% over" in svg
        assert "Sat 00:00" in svg
        assert "Sun 00:00" in svg

    @pytest.mark.parametrize("moment", ["2026-10-16 22:00", "2026-10-16 22:30", "2026-10-18 01:59"])
    def test_near_the_ends_now_gives_way(self, moment: str):
        page = self.drawn(at(moment), SATURDAYS)
        with timezone.override("Europe/Berlin"):
            svg = wsmon_critical.line_of(page.found)
        assert re.search(r'class="tx-i" x="[\d.]+" y="11" text-anchor="(start|end)"', svg)

    def test_on_a_usual_day_there_is_no_line(self):
        assert wsmon_critical.line_of(self.drawn(NOW).found) == ""

    def test_a_change_of_clocks_is_told(self):
        page = self.drawn(NOW, SATURDAYS)
        assert page.clocks == (
            "Sun 25 Oct: clocks go back during rule-0, which lasts 28 h and ends at 02:00 CEST."
            if "CEST" in page.clocks
            else ""
        )
        CriticalRule.objects.all().update(trail=6 * 3600)
        inforce.forget()
        with timezone.override("Europe/Berlin"):
            page = reads.page(NOW)
        assert page.clocks == "Sun 25 Oct: clocks go back during rule-0, which lasts 32 h and ends at 05:00 CET."
        with timezone.override("Europe/Berlin"):
            page = reads.page(at("2027-03-20 12:00"))
        assert page.clocks == "Sun 28 Mar: clocks go forward during rule-0, which lasts 32 h and ends at 07:00 CEST."


class TestUpkeep:
    def test_each_minute_feeds_are_read_and_what_is_old_is_forgotten(self):
        from monitoring.critical import upkeep  # noqa: PLC0415

        CriticalRule.objects.create(slug="fairs", spec={"ical": "env:NOT_SET_ANYWHERE"})
        inforce.refresh(NOW)
        assert upkeep.run(NOW) == 1
        assert Posture.objects.get().until is None
        assert CalendarFeed.objects.get().owner == "critical:fairs"
        assert upkeep.run(NOW) == 0
        CriticalRule.objects.update(archived_at=NOW)
        upkeep.run(NOW)
        assert not CalendarFeed.objects.exists()
