"""Overview, wall and changes as answers: who gets them, what they say, how many queries they cost."""

from __future__ import annotations

import json
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from django.contrib.auth.models import Permission, User
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.test import Client
from django.utils import timezone
from django.utils.html import escape
from pytest_django import DjangoAssertNumQueries

from monitoring import fragments, overview, panels
from monitoring.models import Check, CheckState, MaintenanceWindow, Posture, Service, StateChange
from monitoring.views.overview import Params
from tests.browser.story import STORY, Told, beat, tell
from tests.monitoring.factories import make_service

pytestmark = pytest.mark.django_db

PATHS = ["/", "/wall/", "/changes/"]
LIST = {"HX-Request": "true", "HX-Target": "list"}


@pytest.fixture
def reader() -> Client:
    """Staff who may read and nothing else."""
    user = User.objects.create_user("reader", password="only-for-tests-1", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_service"))
    client = Client()
    client.force_login(user)
    return client


def text(response: HttpResponseBase) -> str:
    assert isinstance(response, HttpResponse)
    assert response.status_code == 200
    return response.content.decode()


class TestOddAddresses:
    @pytest.mark.parametrize(
        "path", ["/?q=%00", "/changes/?service=%00", "/services/odd/?show=changes&check=%00&before=%00"]
    )
    def test_characters_the_database_cannot_hold_are_refused(self, reader: Client, path: str) -> None:
        make_service("odd")
        assert reader.get(path).status_code == 400


class TestWhoGetsThem:
    @pytest.mark.parametrize("path", PATHS)
    def test_strangers_are_sent_to_the_login_page(self, path: str) -> None:
        response = Client().get(path)
        assert response.status_code == 302
        assert urlsplit(response["Location"]).path == "/login/"
        assert parse_qs(urlsplit(response["Location"]).query) == {"next": [path]}

    @pytest.mark.parametrize("path", PATHS)
    @pytest.mark.parametrize("staff", [True, False])
    def test_accounts_without_the_permission_are_refused(self, path: str, staff: bool) -> None:
        client = Client()
        client.force_login(User.objects.create_user("other", password="x", is_staff=staff))
        assert client.get(path).status_code == 403

    @pytest.mark.parametrize("path", ["/account/", "/account/password/", "/api/docs"])
    def test_staff_without_the_permission_learn_nothing_from_the_pages_that_they_get(
        self, reader: Client, path: str
    ) -> None:
        tell()
        other = Client()
        other.force_login(User.objects.create_user("other", password="x", is_staff=True))
        for part in ('id="overall"', 'id="banner"', 'id="live"', "wsmon/live.js", "sse-connect"):
            assert part in text(reader.get(path))
            assert part not in text(other.get(path))

    @pytest.mark.parametrize("path", PATHS)
    def test_they_cannot_be_posted_to(self, reader: Client, path: str) -> None:
        assert reader.post(path).status_code == 405

    @pytest.mark.parametrize("path", PATHS)
    def test_readers_get_them_with_and_without_services(self, reader: Client, path: str) -> None:
        assert "<html" in text(reader.get(path))
        tell()
        assert "<html" in text(reader.get(path))


class TestOverview:
    def test_the_empty_one_says_what_to_do_next(self, reader: Client) -> None:
        page = text(reader.get("/"))
        assert "Nothing is watched yet" in page
        assert "python manage.py apply wsmon.yaml" in page
        assert "/admin/monitoring/service/add/" not in page  # this reader may not configure

    def test_htmx_gets_the_list_and_the_filter_alone(self, reader: Client) -> None:
        tell()
        fragment = text(reader.get("/?state=unhealthy", headers=LIST))
        assert "<html" not in fragment
        assert fragment.count('class="svc"') == 3
        assert 'hx-swap-oob="true"' in fragment

    def test_going_back_in_the_history_gets_the_whole_page(self, reader: Client) -> None:
        tell()
        headers = LIST | {"HX-History-Restore-Request": "true"}
        assert "<html" in text(reader.get("/", headers=headers))

    def test_an_unhealthy_service_says_what_why_since_when_and_what_to_do(self, reader: Client) -> None:
        tell()
        fragment = text(reader.get("/?q=booking", headers=LIST))
        for words in ("Critical", "14 min", "SERVER_ERROR", "could not obtain connection", "wait or fall back"):
            assert words in fragment

    def test_a_check_that_is_not_configured_names_its_variable(self, reader: Client) -> None:
        tell()
        assert "set <code>SLACK_BOT_TOKEN</code>" in text(reader.get("/?state=not_configured", headers=LIST))

    def test_a_pause_says_by_whom_until_when_and_why(self, reader: Client) -> None:
        tell()
        fragment = text(reader.get("/?state=paused", headers=LIST))
        assert "Paused by operator until" in fragment
        assert "shop moves to the new account" in fragment

    def test_a_maintenance_window_in_force_is_shown(self, reader: Client) -> None:
        service = tell()["github"]
        now = timezone.now()
        MaintenanceWindow.objects.create(
            service=service, starts_at=now - timedelta(hours=1), ends_at=now + timedelta(hours=1), reason="key change"
        )
        assert "Maintenance: “key change”" in text(reader.get("/?q=github", headers=LIST))

    def test_what_others_wrote_is_escaped_everywhere(self, reader: Client) -> None:
        evil = '<script>alert("x")</script>'
        told = Told("evil", evil, "high", "critical", {"http": "critical"}, message=evil, category="SERVER_ERROR")
        service = tell([told])["evil"]
        Check.objects.update(name=evil)
        StateChange.objects.create(at=timezone.now(), service=service, old="healthy", new="critical", reason=evil)
        for path in (*PATHS, f"/?q={evil}", "/changes/?service=evil", "/?q=nothing<script>"):
            page = text(reader.get(path))
            assert "<script>alert" not in page
            assert "nothing<script>" not in page
        assert escape(evil) in text(reader.get("/"))
        assert all(
            "<script>" not in html for event, html in fragments.changed([service.id]).items() if event != "list"
        )

    @pytest.mark.parametrize(
        "query",
        [
            "page=0",
            "page=999999",
            "page=x",
            "page=²",
            "period=5y",
            "state=evil",
            "density=",
            "q=" + "x" * 5000,
        ],
    )
    def test_nonsense_in_the_address_means_the_default(self, reader: Client, query: str) -> None:
        tell()
        assert "<html" in text(reader.get(f"/?{query}"))

    def test_each_choice_keeps_the_others_and_starts_at_the_first_page(self) -> None:
        params = Params(q="a b", state="unhealthy", period="7d", density="dense", page=3)
        assert params.url(period="90d") == "/?q=a+b&state=unhealthy&period=90d&density=dense"
        assert params.url(page=4).endswith("&page=4")
        assert Params().url() == "/"

    def test_the_number_of_queries_does_not_grow_with_the_services(
        self, reader: Client, django_assert_max_num_queries: DjangoAssertNumQueries
    ) -> None:
        told = [
            Told(f"s-{n}", "", "low", "degraded", {"a": "healthy", "b": "degraded"}, message="m") for n in range(60)
        ]
        tell(told)
        with django_assert_max_num_queries(32):
            page = text(reader.get("/"))
        assert page.count('class="svc"') == 50
        assert "Page 1 of 2, 60 services, 120 checks" in page


class TestWall:
    def test_htmx_gets_the_wall_alone(self, reader: Client) -> None:
        tell()
        fragment = text(reader.get("/wall/", headers={"HX-Request": "true", "HX-Target": "wall"}))
        assert "<html" not in fragment
        assert "3 need attention" in fragment

    def test_it_says_how_many_services_do_not_fit(self, reader: Client) -> None:
        tell([Told(f"s-{n}", "", "low", "healthy", {"a": "healthy"}) for n in range(70)])
        page = text(reader.get("/wall/"))
        assert page.count('class="wt"') == 60
        assert '<b class="num">10</b> more on the overview' in page
        assert "Everything works" in page

    def test_it_says_when_wsmon_itself_has_a_problem(self, reader: Client) -> None:
        tell()
        beat(timezone.now() - timedelta(minutes=5))
        assert "No worker runs" in text(reader.get("/wall/"))

    @pytest.mark.parametrize("headers", [{}, {"HX-Request": "true", "HX-Target": "wall"}], ids=["page", "fragment"])
    def test_it_says_that_a_critical_day_is_in_force(self, reader: Client, headers: dict[str, str]) -> None:
        tell()
        assert "Critical day" not in text(reader.get("/wall/", headers=headers))
        reasons = [{"rule": "saturdays", "name": "Saturdays", "why": "", "until": "", "ends_at": ""}]
        until = timezone.now() + timedelta(minutes=1)
        Posture.objects.create(critical=True, frozen=True, until=until, reasons=reasons)
        page = text(reader.get("/wall/", headers=headers))
        assert 'Critical day<span class="only-lg">: Saturdays</span>' in page
        assert "deploys frozen" in page


class TestChanges:
    def test_they_are_paged_by_a_cursor(self, reader: Client) -> None:
        service = tell()["github"]
        StateChange.objects.all().delete()
        now = timezone.now()
        StateChange.objects.bulk_create(
            StateChange(
                at=now - timedelta(minutes=n), service=service, old="healthy", new="critical", reason=f"no {n}."
            )
            for n in range(120)
        )
        seen = []
        path = "/changes/?service=github"
        for _ in range(3):
            response = reader.get(path)
            page = text(response)
            seen += [n for n in range(120) if f"no {n}." in page]
            path = response.context["older"]
        assert seen == list(range(120))
        assert path == ""

    def test_they_are_filtered_by_service(self, reader: Client) -> None:
        tell()
        page = text(reader.get("/changes/?service=github"))
        assert "timed out after 5 s" in page
        assert "access token has expired" not in page

    def test_a_service_that_was_removed_can_still_be_looked_at(self, reader: Client) -> None:
        tell()
        Service.objects.filter(slug="github").update(archived_at=timezone.now())
        assert "GitHub (removed)" in text(reader.get("/changes/?service=github"))

    def test_a_broken_cursor_leads_to_the_newest(self, reader: Client) -> None:
        tell()
        response = reader.get("/changes/?service=github&before=nonsense")
        assert response.status_code == 302
        assert response["Location"] == "/changes/?service=github"


class TestFragments:
    def test_a_row_is_the_same_as_on_the_page(self, reader: Client) -> None:
        service = tell()["slack"]
        assert fragments.changed([service.id])[f"svc-{service.id}"].strip() in text(reader.get("/"))

    def test_a_change_says_how_many_services_each_filter_shows(self) -> None:
        service = tell()["github"]
        listed = json.loads(fragments.changed([service.id])["list"])
        assert listed["ids"] == [service.id]
        assert {key: listed["counts"][key] for key in ("all", "unhealthy", "paused", "not_configured")} == {
            "all": len(STORY), "unhealthy": 3, "paused": 1, "not_configured": 1,
        }  # fmt: skip

    def test_a_service_that_is_gone_has_no_row(self) -> None:
        assert "svc-424242" not in fragments.changed([424242])

    def test_rows_sort_as_the_overview_does(self) -> None:
        tell()
        shown = overview.page(overview.Filter()).services
        assert [service.slug for service in sorted(shown, key=fragments.order_of)] == [s.slug for s in shown]


class TestPanels:
    def test_the_answers_name_both_sides_and_the_slowest(self) -> None:
        tell()
        found = panels.answers(overview.overall())
        assert (found.ours.names, found.theirs.names) == (["WhatsApp"], ["Twilio", "booking-app"])
        assert found.troubles == [("critical", 1), ("degraded", 1), ("error", 1)]
        assert found.slowest is not None
        assert found.slowest.slug == "twilio"
        assert (found.changes_24h, found.uncounted) == (5, 3)

    def test_there_are_answers_when_nothing_is_known(self) -> None:
        found = panels.answers(overview.overall())
        assert (found.median_ms, found.slowest, found.last_change, found.troubles) == (None, None, None, [])

    def test_what_comes_up_is_sorted_by_time(self) -> None:
        services = tell()
        titles = [ahead.title for ahead in panels.coming_up()]
        assert titles == ["Stripe: maintenance, 30 min", "Public site: TLS certificate ends"]
        state = CheckState.objects.filter(check_ref__service=services["github"])
        state.update(details={"tls_days_left": 1.5})
        first = panels.coming_up()[0]
        assert (first.title, first.urgent) == ("GitHub: TLS certificate ends", True)

    @pytest.mark.parametrize("days", ["soon", None, 400, [1], {"a": 1}])
    def test_other_values_in_details_are_no_end(self, days: object) -> None:
        services = tell()
        CheckState.objects.filter(check_ref__service=services["github"]).update(details={"tls_days_left": days})
        assert len(panels.coming_up()) == 2
