"""Acting on the room's pages: replaying, cancelling, publishing, destinations, jobs; who may, and what is kept."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.test import Client

from tests.webhooks.factories import make_delivery, make_destination, make_event, make_route, make_source
from tests.webhooks.pages import ACT, HTMX, READ, signed_in, text, toward
from tests.webhooks.story import tell
from webhooks.models import Delivery, DestinationState, Event, Replay
from webhooks.replaying import step
from wsmon.models import AuditEntry

pytestmark = pytest.mark.django_db

PUBLISH = {"type": "order.paid", "content": '{"id": "o1"}', "key": ""}
UNKNOWN = "01a2d1fe-b1fd-787a-85f2-2edb409679fe"
PATHS = ["replay/?d=1", "cancel/?d=1", "publish/", "destinations/ledger/pause/"]


@pytest.fixture
def operator() -> Client:
    return signed_in("operator", *ACT)


def post(client: Client, path: str, data: dict[str, Any], htmx: bool = True) -> Any:
    return client.post(f"/webhooks/{path}", data, headers=toward("box") if htmx else {})


def ask(client: Client, path: str, htmx: bool = True) -> str:
    return text(client.get(f"/webhooks/{path}", headers=toward("box") if htmx else {}))


class TestWhoMay:
    @pytest.mark.parametrize("path", PATHS)
    def test_strangers_viewers_and_novices_may_not(self, client: Client, path: str) -> None:
        tell()
        assert client.post(f"/webhooks/{path}").status_code == 302
        for who in (signed_in("viewer", *READ), signed_in("novice")):
            assert who.get(f"/webhooks/{path}").status_code == 403
            assert who.post(f"/webhooks/{path}").status_code == 403
        assert not AuditEntry.objects.exists()

    @pytest.mark.parametrize("path", PATHS)
    def test_other_methods_are_refused(self, operator: Client, path: str) -> None:
        assert operator.put(f"/webhooks/{path}").status_code == 405
        assert operator.delete(f"/webhooks/{path}").status_code == 405

    @pytest.mark.parametrize("path", PATHS)
    def test_a_form_of_another_site_is_refused(self, path: str) -> None:
        client = Client(enforce_csrf_checks=True)
        client.cookies = signed_in("operator", *ACT).cookies
        assert client.post(f"/webhooks/{path}", {"d": "1"}).status_code == 403


class TestAskingForAReplay:
    def test_of_one_it_names_the_destination(self, operator: Client) -> None:
        failed = tell().failed[0]
        panel = ask(operator, f"replay/?d={failed.id}")
        assert "<html" not in panel
        assert "Replay this event to ledger?" in panel
        assert "ledger, as before" in panel
        assert "Show what would go" not in panel
        assert 'data-asked="opener"' in panel
        assert 'id="box-form"' in panel

    def test_of_many_it_says_how_many_would_go_and_why_not(self, operator: Client) -> None:
        told = tell()
        ids = "&".join(f"d={row.id}" for row in [*told.failed, told.waiting[1]])
        panel = ask(operator, f"replay/?{ids}")
        assert "Replay 4 deliveries?" in panel
        assert "<b>3 of 4 would go.</b> 1 would not: still under way." in panel
        assert "Per second" not in panel
        assert "<th" not in panel
        assert "<th" in ask(operator, f"replay/?{ids}&show=1")

    def test_of_all_that_match_it_is_paced(self, operator: Client) -> None:
        tell()
        panel = ask(operator, "replay/?all=1&status=failed&back=/webhooks/failures/")
        assert "Replay all 3 deliveries that match?" in panel
        assert "Per second, at most" in panel
        assert '<input type="hidden" name="status" value="failed">' in panel
        assert '<input type="hidden" name="back" value="/webhooks/failures/">' in panel

    def test_of_an_event_without_a_route_a_destination_is_to_be_named(self, operator: Client) -> None:
        event = make_event()
        assert "delivered nowhere, and no destination named" in ask(operator, f"replay/?event={event.id}")

    def test_what_holds_the_destination_is_told(self, operator: Client) -> None:
        told = tell()
        row = make_delivery(make_event(told.stripe), told.app, "failed")
        assert "app’s breaker is OPEN: the replay waits until a trial succeeds." in ask(
            operator, f"replay/?d={row.id}"
        )
        row = make_delivery(make_event(told.stripe), told.mailer, "failed")
        assert "mailer is paused" in ask(operator, f"replay/?d={row.id}")

    def test_without_javascript_it_is_a_page(self, operator: Client) -> None:
        failed = tell().failed[0]
        page = ask(operator, f"replay/?d={failed.id}", htmx=False)
        assert "<html" in page
        assert f'href="/webhooks/events/{failed.event_id}/"' in page

    @pytest.mark.parametrize("back", ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:x"])
    def test_it_leads_back_to_no_other_site(self, operator: Client, back: str) -> None:
        failed = tell().failed[0]
        page = text(operator.get("/webhooks/replay/", {"d": failed.id, "back": back}))
        assert "evil" not in page
        assert "javascript:x" not in page

    @pytest.mark.parametrize(
        "query", ["d=999999", "event=x", f"event={UNKNOWN}", "all=1&status=odd", "all=1&status=unrouted"]
    )
    def test_what_is_not_there_is_not_found(self, operator: Client, query: str) -> None:
        assert operator.get(f"/webhooks/replay/?{query}").status_code == 404

    @pytest.mark.parametrize("path", ["replay/", "replay/?d=x", "cancel/"])
    def test_nothing_selected_is_said(self, operator: Client, path: str) -> None:
        assert "Nothing is selected" in ask(operator, path)
        response = operator.get(f"/webhooks/{path}", follow=True)
        assert response.redirect_chain == [("/webhooks/", 302)]
        assert "Tick the deliveries" in text(response)


class TestReplaying:
    def test_one_goes_out_again(self, operator: Client) -> None:
        failed = tell().failed[0]
        said = text(post(operator, "replay/", {"d": failed.id, "max_retries": 2, "reason": "rates fixed"}))
        assert "<html" not in said
        assert "Replayed 1 delivery" in said
        assert 'hx-swap-oob="beforeend:#toasts"' in said
        again = Delivery.objects.get(replay__isnull=False)
        assert (again.event_id, again.destination_id, again.max_tries) == (failed.event_id, failed.destination_id, 2)
        entry = AuditEntry.objects.get()
        assert (entry.action, entry.actor_name, entry.reason) == ("replay.start", "operator", "rates fixed")

    def test_without_javascript_it_leads_back_to_the_event(self, operator: Client) -> None:
        failed = tell().failed[0]
        response = post(operator, "replay/", {"d": failed.id, "max_retries": 3}, htmx=False)
        assert (response.status_code, response["Location"]) == (302, f"/webhooks/events/{failed.event_id}/")
        assert "Replayed 1 delivery. It goes out now." in text(operator.get(response["Location"]))

    def test_several_and_what_would_not_go_is_told(self, operator: Client) -> None:
        told = tell()
        ids = [row.id for row in [*told.failed, told.waiting[1]]]
        said = text(post(operator, "replay/", {"d": ids, "max_retries": 3}))
        assert "Replayed 3 deliveries" in said
        assert "1 would not go." in said

    def test_to_another_destination(self, operator: Client) -> None:
        told = tell()
        post(operator, "replay/", {"d": told.failed[0].id, "max_retries": 3, "to": "mailer"})
        assert Delivery.objects.get(replay__isnull=False).destination == told.mailer

    def test_an_event_without_a_route(self, operator: Client) -> None:
        event, to = make_event(), make_destination("inbox")
        post(operator, "replay/", {"event": event.id, "max_retries": 3, "to": "inbox"})
        assert Delivery.objects.get(event=event).destination == to

    def test_all_that_match_become_a_job(self, operator: Client) -> None:
        told = tell()
        Replay.objects.all().delete()
        data = {"all": 1, "status": "failed", "max_retries": 3, "per_second": 50, "back": "/webhooks/"}
        assert "Replay of 3 deliveries started" in text(post(operator, "replay/", data))
        job = Replay.objects.get()
        assert (job.total, job.per_second, job.selection) == (3, 50, {"status": "failed"})
        assert step(job.id, told.now.replace(year=told.now.year + 1))
        assert Delivery.objects.filter(replay=job).count() == 3
        response = post(operator, "replay/", data | {"force": "on"}, htmx=False)
        assert response["Location"] == "/webhooks/failures/#jobs"

    def test_a_filter_by_destination_is_kept_beside_the_destination_to_replay_to(self, operator: Client) -> None:
        told = tell()
        Replay.objects.all().delete()
        panel = ask(operator, "replay/?all=1&destination=app&status=delivered")
        names = re.findall(r'<(?:input|select|textarea)[^>]* name="(\w+)"', panel)
        assert sorted(names) == sorted(set(names)), "no two fields have the same name"
        data = {
            "all": 1,
            "destination": "app",
            "status": "delivered",
            "to": "mailer",
            "max_retries": 3,
            "force": "on",
        }
        post(operator, "replay/", data)
        job = Replay.objects.get()
        assert (job.selection, job.destination) == ({"destination": "app", "status": "delivered"}, told.mailer)

    def test_showing_what_would_go_changes_nothing(self, operator: Client) -> None:
        told = tell()
        ids = [row.id for row in told.failed]
        said = text(post(operator, "replay/", {"d": ids, "max_retries": 3, "to": "mailer", "show": 1}))
        assert "<b>3 of 3 would go.</b>" in said
        assert "<td>mailer</td>" in said
        assert not Delivery.objects.filter(replay__isnull=False).exists()
        assert not AuditEntry.objects.exists()

    def test_what_was_delivered_goes_only_when_that_is_wanted(self, operator: Client) -> None:
        row = make_delivery(status="delivered")
        said = text(post(operator, "replay/", {"d": row.id, "max_retries": 3}), 422)
        assert "Nothing of it may go: 1 delivered already." in said
        assert "Tick “Also what was delivered”" in said
        assert Delivery.objects.count() == 1
        text(post(operator, "replay/", {"d": row.id, "max_retries": 3, "force": "on"}))
        assert Delivery.objects.count() == 2

    def test_twice_in_a_row_sends_once(self, operator: Client) -> None:
        failed = tell().failed[0]
        post(operator, "replay/", {"d": failed.id, "max_retries": 3})
        assert "still under way" in text(post(operator, "replay/", {"d": failed.id, "max_retries": 3}), 422)
        assert Delivery.objects.filter(replay__isnull=False).count() == 1

    @pytest.mark.parametrize(
        ("data", "words"),
        [
            ({"max_retries": 0}, "Enter a number from 1 to 5."),
            ({"max_retries": 6}, "Enter a number from 1 to 5."),
            ({"max_retries": "x"}, "Enter a number from 1 to 5."),
            ({}, "Enter a number from 1 to 5."),
            ({"max_retries": 3, "to": "moon"}, "There is no such destination."),
            ({"max_retries": 3, "reason": "x" * 501}, "at most 500 characters"),
            ({"max_retries": 3, "all": 1, "status": "failed", "per_second": 0}, "Enter a number above 0"),
            ({"max_retries": 3, "all": 1, "status": "failed", "per_second": 101}, "Enter a number above 0"),
        ],
    )
    @pytest.mark.parametrize("htmx", [True, False])
    def test_bad_values_are_explained_and_change_nothing(
        self, operator: Client, data: dict[str, Any], words: str, htmx: bool
    ) -> None:
        failed = tell().failed[0]
        response = post(operator, "replay/", {"d": failed.id} | data, htmx)
        assert words in text(response, 422)
        assert response.headers.get("HX-Retarget") == ("#box" if htmx else None)
        assert not AuditEntry.objects.exists()


class TestCancelling:
    def test_it_asks_with_the_number_that_waits(self, operator: Client) -> None:
        told = tell()
        panel = ask(operator, f"cancel/?d={told.waiting[1].id}")
        assert "Cancel 1 delivery to app?" in panel
        assert "The events stay, and can be replayed." in panel
        ids = "&".join(f"d={row.id}" for row in [*told.waiting, *told.failed])
        assert "Cancel 4 deliveries?" in ask(operator, f"cancel/?{ids}")
        assert "Cancel 5 deliveries?" in ask(operator, "cancel/?all=1")

    def test_it_cancels_what_waits_and_keeps_why(self, operator: Client) -> None:
        told = tell()
        ids = [row.id for row in [*told.waiting, *told.failed]]
        assert "Cancelled 4 deliveries" in text(post(operator, "cancel/", {"d": ids, "reason": "wrong data"}))
        assert Delivery.objects.filter(status="cancelled").count() == 4
        assert AuditEntry.objects.get().reason == "wrong data"

    def test_by_event_and_by_filter(self, operator: Client) -> None:
        told = tell()
        post(operator, "cancel/", {"event": told.waiting[0].event_id, "reason": "x"})
        assert Delivery.objects.filter(status="cancelled").count() == 1
        post(operator, "cancel/", {"all": 1, "destination": "app", "reason": "x"})
        assert Delivery.objects.filter(status="cancelled").count() == 4

    def test_a_reason_is_wanted(self, operator: Client) -> None:
        told = tell()
        said = text(post(operator, "cancel/", {"d": told.waiting[1].id, "reason": " "}), 422)
        assert "Say why: others will read it." in said
        assert not AuditEntry.objects.exists()

    def test_when_nothing_waits_any_more_that_is_said(self, operator: Client) -> None:
        failed = tell().failed[0]
        assert "Nothing to cancel" in text(post(operator, "cancel/", {"d": failed.id, "reason": "x"}))
        response = post(operator, "cancel/", {"d": failed.id, "reason": "x"}, htmx=False)
        assert response["Location"] == f"/webhooks/events/{failed.event_id}/"


class TestPublishing:
    def test_it_goes_where_the_routes_lead(self, operator: Client) -> None:
        make_route(make_source("published", "published", []), make_destination("inbox"), ["order.*"])
        said = text(post(operator, "publish/", PUBLISH))
        assert "Published order.paid" in said
        assert "It goes to 1 destination." in said
        event = Event.objects.get()
        assert (event.type, event.subject, event.verification["by"]) == ("order.paid", "o1", "operator")

    def test_without_javascript_it_leads_to_the_event(self, operator: Client) -> None:
        response = post(operator, "publish/", PUBLISH, htmx=False)
        assert response["Location"] == f"/webhooks/events/{Event.objects.get().id}/"
        assert "No route takes it." in text(operator.get(response["Location"]))

    def test_the_same_key_publishes_once(self, operator: Client) -> None:
        post(operator, "publish/", PUBLISH | {"key": "k1"})
        assert "nothing new was published" in text(post(operator, "publish/", PUBLISH | {"key": "k1"}))
        assert Event.objects.count() == 1
        said = text(post(operator, "publish/", PUBLISH | {"key": "k1", "content": "{}"}), 422)
        assert "This key was used for another event." in said

    @pytest.mark.parametrize(
        ("data", "words"),
        [
            ({"type": ""}, "Enter what happened"),
            ({"type": "order paid"}, "The type has 1 to 200 letters"),
            ({"content": "{"}, "This is no JSON, line 1."),
            ({"content": ""}, "Enter JSON, at least {}."),
            ({"content": "[" * 200_000}, "nested too deeply"),
            ({"content": "NaN"}, "The data is not JSON."),
            ({"key": "two words"}, "without spaces"),
        ],
    )
    def test_bad_values_are_explained(self, operator: Client, data: dict[str, str], words: str) -> None:
        assert words in text(post(operator, "publish/", PUBLISH | data), 422)
        assert not Event.objects.exists()

    def test_asking_says_where_it_goes(self, operator: Client) -> None:
        assert "routes of the source “published”" in ask(operator, "publish/")
        assert "<html" in ask(operator, "publish/", htmx=False)


class TestDestinations:
    @pytest.mark.parametrize(
        ("action", "words"),
        [
            ("pause", "Nothing is sent there until somebody resumes it."),
            ("disable", "Nothing is sent there until it is enabled."),
            ("resume", "What waits goes out at once"),
            ("enable", "how long it has been failing counts anew"),
        ],
    )
    def test_they_ask_with_what_waits(self, operator: Client, action: str, words: str) -> None:
        tell()
        panel = ask(operator, f"destinations/app/{action}/")
        assert words in panel
        assert "4 deliveries wait for it now." in panel
        assert "1 delivery waits for it now." in ask(operator, f"destinations/mailer/{action}/")

    def test_pausing_and_resuming(self, operator: Client) -> None:
        tell()
        assert "ledger is paused" in text(post(operator, "destinations/ledger/pause/", {"reason": "moving"}))
        state = DestinationState.objects.get(destination__slug="ledger")
        assert (state.paused_by, state.paused_reason) == ("operator", "moving")
        assert "ledger is paused already" in text(post(operator, "destinations/ledger/pause/", {"reason": "x"}))
        response = post(operator, "destinations/ledger/resume/", {"reason": ""}, htmx=False)
        assert response["Location"] == "/webhooks/sources/"
        state.refresh_from_db()
        assert state.paused_at is None
        assert [entry.action for entry in AuditEntry.objects.order_by("id")] == [
            "destination.pause",
            "destination.resume",
        ]

    def test_disabling_and_enabling(self, operator: Client) -> None:
        tell()
        assert "ledger is disabled" in text(post(operator, "destinations/ledger/disable/", {"reason": "gone"}))
        assert DestinationState.objects.get(destination__slug="ledger").disabled_by == "operator"
        assert "ledger is enabled" in text(post(operator, "destinations/ledger/enable/", {"reason": "is back"}))
        assert AuditEntry.objects.latest("id").reason == "is back"

    @pytest.mark.parametrize("action", ["pause", "disable"])
    def test_stopping_one_needs_a_reason(self, operator: Client, action: str) -> None:
        tell()
        assert "Say why" in text(post(operator, f"destinations/ledger/{action}/", {"reason": ""}), 422)
        assert not AuditEntry.objects.exists()

    def test_an_unknown_one_or_action_is_not_found(self, operator: Client) -> None:
        told = tell()
        assert operator.get("/webhooks/destinations/moon/pause/").status_code == 404
        assert operator.get("/webhooks/destinations/ledger/explode/").status_code == 404
        told.ledger.archived_at = told.now
        told.ledger.save()
        assert operator.post("/webhooks/destinations/ledger/pause/").status_code == 404


class TestJobs:
    @pytest.fixture
    def job(self) -> Replay:
        tell()
        return Replay.objects.get()

    def test_asking_says_what_is_left(self, operator: Client, job: Replay) -> None:
        assert "The remaining 72 are not replayed" in ask(operator, f"replays/{job.id}/cancel/")
        assert "those it made go on" in ask(operator, f"replays/{job.id}/pause/")
        assert "the remaining 72, at 5 per second" in ask(operator, f"replays/{job.id}/resume/")

    def test_pause_resume_cancel(self, operator: Client, job: Replay) -> None:
        def now() -> str:
            job.refresh_from_db()
            return job.status

        assert "The replay is paused" in text(post(operator, f"replays/{job.id}/pause/", {}))
        assert now() == "paused"
        assert "The replay goes on" in text(post(operator, f"replays/{job.id}/resume/", {}))
        assert now() == "running"
        make_delivery(status="pending", replay=job)
        said = text(post(operator, f"replays/{job.id}/cancel/", {"reason": "enough"}))
        assert "The replay is cancelled, and 1 delivery of it that waited" in said
        assert now() == "cancelled"
        assert "Nothing to do" in text(post(operator, f"replays/{job.id}/resume/", {}))
        assert AuditEntry.objects.filter(target=f"replay:{job.id}").count() == 3

    def test_who_may_and_how(self, operator: Client, job: Replay) -> None:
        path = f"/webhooks/replays/{job.id}/pause/"
        assert signed_in("viewer", *READ).post(path).status_code == 403
        assert operator.put(path).status_code == 405
        assert operator.post(f"/webhooks/replays/{job.id}/explode/").status_code == 404
        assert operator.post(path)["Location"] == "/webhooks/failures/#jobs"


def test_ids_that_htmx_tells_are_never_markup(operator: Client) -> None:
    failed = tell().failed[0]
    odd = HTMX | {"HX-Target": '"><script>', "HX-Trigger": "<b>"}
    panel = text(operator.get(f"/webhooks/replay/?d={failed.id}", headers=odd))
    assert "<script" not in panel
    assert re.search(r'hx-target="#ask-panel"', panel)
