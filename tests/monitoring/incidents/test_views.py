"""The incidents' pages: who may see and act, what they show, fragments and forms."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from monitoring import fragments, overview
from monitoring.incidents import judging
from monitoring.models import Alert, Channel, Incident, Notification, Service
from tests.callers import colleague, person
from tests.monitoring.factories import make_service
from tests.monitoring.incidents.makers import open_incident, probe, vendor
from wsmon.vocabulary import Category

pytestmark = pytest.mark.django_db
LIVE = {"X-Wsmon-Live": "1"}
READ, OPERATE = "monitoring.view_service", "monitoring.operate"


@pytest.fixture(autouse=True)
def alone(settings: Any) -> None:
    settings.CONTROL_TARGETS = []


@pytest.fixture
def viewer() -> Client:
    return person(READ)


@pytest.fixture
def operator() -> Client:
    return person(READ, OPERATE)


@pytest.fixture
def incident() -> Incident:
    """One that came about by probes, judged."""
    probe(vendor("twilio", "twilio", name="Twilio"), "hhhccc", message="answered 503", http_status=503)
    judging.rejudge()
    return Incident.objects.get()


def page(client: Client, url: str, **headers: str) -> str:
    response = client.get(url, headers=headers)
    assert response.status_code == 200, response.content[:300]
    return str(response.content.decode())


def url(incident: Incident, verb: str = "") -> str:
    if verb:
        return reverse("incident-act", args=[incident.id, verb])
    return reverse("incident", args=[incident.id])


PAGES = ["/incidents/", "/incidents/sla/", "/incidents/sla.csv", "/incidents/{}/", "/incidents/{}/export.md"]


class TestWhoGetsThem:
    @pytest.mark.parametrize("path", PAGES)
    def test_strangers_are_sent_to_the_login(self, path: str, incident: Incident) -> None:
        response = Client().get(path.format(incident.id))
        assert response.status_code == 302
        assert "/login" in response["Location"]

    @pytest.mark.parametrize("path", PAGES)
    def test_staff_without_the_permission_do_not_get_them(self, path: str, incident: Incident) -> None:
        assert person().get(path.format(incident.id)).status_code == 403

    @pytest.mark.parametrize("path", PAGES)
    def test_nothing_is_changed_by_other_methods(self, path: str, operator: Client, incident: Incident) -> None:
        assert operator.post(path.format(incident.id)).status_code == 405

    @pytest.mark.parametrize("verb", ["acknowledge", "assign", "note", "resolve", "reopen"])
    def test_viewers_do_not_act(self, verb: str, viewer: Client, operator: Client, incident: Incident) -> None:
        assert viewer.post(url(incident, verb), {"reason": "x", "text": "x"}).status_code == 403
        assert operator.get(url(incident, verb)).status_code == 405
        assert not incident.entries.filter(kind=verb).exists()

    @pytest.mark.parametrize("path", ["/incidents/99999999/", f"/incidents/{10**30}/", "/incidents/1/export.md"])
    def test_one_that_does_not_exist(self, path: str, viewer: Client) -> None:
        assert viewer.get(path).status_code == 404

    def test_an_action_that_does_not_exist(self, operator: Client, incident: Incident) -> None:
        assert operator.post(url(incident, "delete")).status_code == 404


class TestList:
    def test_without_any_it_says_when_one_opens(self, viewer: Client) -> None:
        assert "No incident so far" in page(viewer, "/incidents/")

    def test_it_shows_what_whose_and_who(self, viewer: Client, incident: Incident) -> None:
        text = page(viewer, "/incidents/")
        assert "Twilio answers with errors of its own" in text
        for words in ("1 open", "theirs", "nobody yet", "not yet", f'id="inc-{incident.id}"'):
            assert words in text, words

    def test_filters_are_links_and_an_old_one_still_works(self, viewer: Client, incident: Incident) -> None:
        make_service("other")
        for query, found in (
            ("state=open", True), ("state=closed", False), ("verdict=ours", False), ("verdict=theirs", True),
            ("service=twilio", True), ("service=other", False), ("state=loud&verdict=x", True),
        ):  # fmt: skip
            text = page(viewer, f"/incidents/?{query}")
            assert (f'id="inc-{incident.id}"' in text) is found, query
            assert ("No incident fits" in text) is not found

    def test_a_nonsense_cursor_leads_to_the_newest(self, viewer: Client, incident: Incident) -> None:
        response = viewer.get("/incidents/?state=open&before=x")
        assert (response.status_code, response["Location"]) == (302, "/incidents/?state=open")

    def test_older_ones_are_on_the_next_page(self, viewer: Client) -> None:
        now = timezone.now()
        service = vendor().service
        for number in range(53):
            began = now - timedelta(days=number + 1)
            open_incident(service, began_at=began, closed_at=began + timedelta(minutes=1))
        text = page(viewer, "/incidents/")
        assert text.count("data-row") == 50
        older = text.split('href="/incidents/?before=')[1].split('"')[0]
        text = page(viewer, f"/incidents/?before={older}")
        assert text.count("data-row") == 3
        assert "Newest" in text

    def test_an_open_page_asks_for_what_changes_only(self, viewer: Client, incident: Incident) -> None:
        text = page(viewer, "/incidents/", **LIVE)
        assert "<html" not in text
        assert f'id="inc-{incident.id}"' in text
        assert 'id="inc-lead"' in text

    def test_it_costs_no_more_with_more_incidents(self, viewer: Client, django_assert_max_num_queries: Any) -> None:
        for number in range(30):
            open_incident(vendor(f"s{number}").service)
        with django_assert_max_num_queries(20):
            page(viewer, "/incidents/")


class TestPage:
    def test_it_tells_everything(self, viewer: Client, incident: Incident) -> None:
        Notification.objects.create(
            channel=Channel.objects.create(slug="ops-room"), incident=incident, kind="opened", once="1",
            severity="critical", title="T", state="sent", sent_at=timezone.now(),
        )  # fmt: skip
        text = page(viewer, url(incident))
        for words in (
            "It is Twilio, not us.", "Us or them?", "they answer with an error of their own (503), 3 of 3",
            "First failing probe: answered 503", "Incident opened: functionality critical", "ops-room",
            "nobody has it yet", "Time to detect", "Open a ticket text for Twilio", "Subject: Twilio answers",
            "How this is worked out", "no other incident", "They have not admitted it",
        ):  # fmt: skip
            assert words in text, words

    def test_each_thing_is_read_once_and_only_when_it_is_shown(
        self, viewer: Client, operator: Client, incident: Incident, django_assert_max_num_queries: Any
    ) -> None:
        for client, people in ((viewer, 0), (operator, 1)):
            with django_assert_max_num_queries(38) as asked:
                page(client, url(incident))
            texts = [query["sql"] for query in asked.captured_queries]
            assert sum('FROM "monitoring_notification"' in text for text in texts) == 1
            assert sum('ORDER BY "auth_user"."username"' in text for text in texts) == people

    def test_viewers_see_no_buttons_that_act(self, viewer: Client, operator: Client, incident: Incident) -> None:
        for words in ("Acknowledge</button>", "Assign…", "Resolve…", "Add note"):
            assert words not in page(viewer, url(incident))
            assert words in page(operator, url(incident))

    def test_words_of_others_are_escaped(self, viewer: Client) -> None:
        incident = open_incident(reason="<script>alert(1)</script>", title="<b>x</b>")
        text = page(viewer, url(incident))
        assert "<script>alert(1)" not in text
        assert "&lt;b&gt;x" in text

    def test_a_young_one_has_no_verdict_yet(self, viewer: Client) -> None:
        text = page(viewer, url(open_incident()))
        assert "Not judged yet." in text
        assert "Evidence is gathered" in text

    def test_one_of_ours_and_one_that_is_unclear(self, viewer: Client) -> None:
        probe(vendor(), "hhccc", category=Category.CLIENT_ERROR)
        judging.rejudge()
        text = page(viewer, url(Incident.objects.get()))
        assert "It is us, not stripe." in text
        assert "They have not admitted" not in text
        Incident.objects.update(evidence=[])
        site = make_service("site", "http")
        assert "Open a ticket" not in page(viewer, url(open_incident(site)))

    def test_one_that_is_over(self, operator: Client, incident: Incident) -> None:
        probe(incident.service.checks.get(), "hh", timezone.now() + timedelta(seconds=1))
        text = page(operator, url(incident))
        assert "Over" in text
        assert "Reopen…" in text
        assert "Resolve…" not in text

    def test_one_resolved_while_it_fails_says_so(self, operator: Client, incident: Incident) -> None:
        operator.post(url(incident, "resolve"), {"reason": "known"})
        assert "is still critical: it opens again when that gets worse" in page(operator, url(incident))

    def test_why_nobody_is_told(self, viewer: Client, incident: Incident) -> None:
        Alert.objects.update(inhibited_by="maintenance: moves")
        text = page(viewer, url(incident))
        assert "nobody is told: maintenance: moves" in text
        assert "Nobody: maintenance: moves." in text

    @pytest.mark.parametrize(("show", "shown"), [("notes", False), ("messages", False), ("all", True), ("x", True)])
    def test_the_timeline_can_be_filtered(self, show: str, shown: bool, viewer: Client, incident: Incident) -> None:
        assert ("Incident opened: functionality" in page(viewer, f"{url(incident)}?show={show}")) is shown

    def test_an_open_page_asks_for_what_changes_only(self, viewer: Client, incident: Incident) -> None:
        text = page(viewer, url(incident), **LIVE)
        assert "<html" not in text
        for part in ("head", "acts", "verdict", "shows", "lines", "affected", "told"):
            assert f'id="inc-{part}"' in text

    def test_it_costs_a_bounded_number_of_queries(
        self, viewer: Client, incident: Incident, django_assert_max_num_queries: Any
    ) -> None:
        with django_assert_max_num_queries(38):
            page(viewer, url(incident))


class TestActing:
    def test_acknowledging_without_javascript(self, operator: Client, incident: Incident) -> None:
        response = operator.post(url(incident, "acknowledge"), follow=True)
        assert response.redirect_chain == [(url(incident), 302)]
        assert f"You have incident #{incident.id}" in response.content.decode()

    def test_acknowledging_as_a_fragment(self, operator: Client, incident: Incident) -> None:
        headers = {"HX-Request": "true", "HX-Target": "inc-acts"}
        response = operator.post(url(incident, "acknowledge"), headers=headers)
        text = response.content.decode()
        assert response.status_code == 200
        assert "<html" not in text
        assert "ws-toast" in text
        assert "Acknowledge</button>" not in text

    def test_the_second_one_is_told(self, operator: Client, incident: Incident) -> None:
        assert colleague("ann", superuser=True).post(url(incident, "acknowledge")).status_code == 302
        headers = {"HX-Request": "true", "HX-Target": "inc-acts"}
        response = operator.post(url(incident, "acknowledge"), headers=headers)
        assert response.status_code == 409
        assert "acknowledged it before you" in response.content.decode()

    def test_from_the_overview_only_a_word_comes_back(self, operator: Client, incident: Incident) -> None:
        response = operator.post(url(incident, "acknowledge"), headers={"HX-Request": "true"})
        text = response.content.decode()
        assert "hx-swap-oob" in text
        assert 'id="inc-acts"' not in text

    def test_assigning(self, operator: Client, incident: Incident) -> None:
        ann = User.objects.create_user("ann", is_staff=True, is_superuser=True)
        outsider = User.objects.create_user("stranger")
        assert ">ann</option>" in page(operator, url(incident))
        assert "stranger" not in page(operator, url(incident))
        operator.post(url(incident, "assign"), {"to": str(ann.pk)})
        incident.refresh_from_db()
        assert incident.assignee == ann
        response = operator.post(url(incident, "assign"), {"to": str(outsider.pk)})
        assert response.status_code == 422
        assert "There is no such person any more." in response.content.decode()
        operator.post(url(incident, "assign"), {"to": ""})
        incident.refresh_from_db()
        assert incident.assignee is None

    def test_a_note(self, operator: Client, incident: Incident) -> None:
        headers = {"HX-Request": "true", "HX-Target": "inc-note"}
        response = operator.post(url(incident, "note"), {"text": "switched region"}, headers=headers)
        assert 'id="inc-note"' in response.content.decode()
        assert "switched region" in page(operator, url(incident))
        response = operator.post(url(incident, "note"), {"text": " "}, headers=headers)
        assert response.status_code == 422
        assert "A note needs words." in response.content.decode()

    @pytest.mark.parametrize("htmx", [True, False])
    def test_resolving_needs_a_reason(self, htmx: bool, operator: Client, incident: Incident) -> None:
        headers = {"HX-Request": "true", "HX-Target": "inc-acts"} if htmx else {}
        response = operator.post(url(incident, "resolve"), {"reason": ""}, headers=headers)
        text = response.content.decode()
        assert response.status_code == 422
        assert "Say why: others will read it." in text
        assert ("<html" in text) is not htmx
        assert '<details class="ws-confirm" id="resolve" open>' in text

    def test_resolving_and_reopening(self, operator: Client, incident: Incident) -> None:
        operator.post(url(incident, "resolve"), {"reason": "known"})
        incident.refresh_from_db()
        assert incident.closed_at is not None
        response = operator.post(url(incident, "resolve"), {"reason": "again"}, follow=True)
        assert "It is over already." in response.content.decode()
        operator.post(url(incident, "reopen"), {"reason": "not over"})
        incident.refresh_from_db()
        assert incident.closed_at is None

    def test_acknowledging_what_is_over(self, operator: Client, incident: Incident) -> None:
        operator.post(url(incident, "resolve"), {"reason": "known"})
        response = operator.post(url(incident, "acknowledge"), headers={"HX-Request": "true"})
        assert (response.status_code, "It is over already" in response.content.decode()) == (409, True)


class TestFiles:
    def test_markdown_comes_as_a_file(self, viewer: Client, incident: Incident) -> None:
        response = viewer.get(f"/incidents/{incident.id}/export.md")
        assert response["Content-Type"] == "text/markdown; charset=utf-8"
        assert response["Content-Disposition"] == f'attachment; filename="incident-{incident.id}.md"'
        assert response.content.decode().startswith(f"# Incident #{incident.id}: Twilio")

    def test_the_statement_of_a_month(self, viewer: Client, incident: Incident) -> None:
        text = page(viewer, "/incidents/sla/?month=2026-02")
        assert "What vendors delivered in February 2026" in text
        assert "Twilio" in text
        assert "until now" in page(viewer, "/incidents/sla/?month=nonsense")
        response = viewer.get("/incidents/sla.csv?month=2026-02")
        assert response["Content-Disposition"] == 'attachment; filename="wsmon-sla-2026-02.csv"'
        assert response.content.startswith(b"month,vendor,")

    def test_without_services_the_statement_is_empty(self, viewer: Client) -> None:
        assert "There is no service yet" in page(viewer, "/incidents/sla/")


class TestElsewhere:
    def test_the_overviews_row_leads_to_it(self, operator: Client, incident: Incident) -> None:
        text = page(operator, "/")
        assert f'href="/incidents/{incident.id}/"' in text
        assert "nobody has it" in text
        assert f'hx-post="/incidents/{incident.id}/acknowledge/"' in text
        Incident.objects.update(acknowledged_by="ann", acknowledged_at=timezone.now())
        row = fragments.changed([incident.service_id])[f"svc-{incident.service_id}"]
        assert "ann has it" in row
        assert "acknowledge/" not in row

    def test_the_services_page_leads_to_it(self, viewer: Client, incident: Incident) -> None:
        text = page(viewer, "/services/twilio/")
        assert f'href="/incidents/{incident.id}/"' in text
        assert overview.view("twilio").incident is not None  # type: ignore[union-attr]

    def test_a_healthy_service_has_none(self, viewer: Client) -> None:
        probe(vendor(), "hh")
        text = page(viewer, "/services/stripe/").split("<main")[1].split("</main>")[0]
        assert "/incidents/" not in text
        assert Service.objects.get().status == "healthy"
