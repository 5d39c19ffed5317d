"""Breakers of what is no service: made, guarded, shown everywhere, renamed, put away."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from monitoring import fragments, housekeeping, metrics
from monitoring.breakermodels import kind_of
from monitoring.breakers import CircuitOpen, Guard, breaker, circuits, glance, reads, store, stream
from monitoring.breakers.machine import Mode, Trial
from monitoring.breakers.policy import FAIL, NEUTRAL, OK
from monitoring.breakers.store import Counted, Counts
from monitoring.breakers.sync import Syncer
from monitoring.models import (
    Breaker,
    BreakerMinute,
    BreakerSlot,
    BreakerTransition,
    Circuit,
    Guarded,
    Service,
    StateChange,
)
from tests.callers import program
from tests.monitoring.breakers.fakes import NOW, Clock, Process, is_open
from tests.monitoring.factories import make_service
from tests.monitoring.test_views_service import signed_in
from tests.whole import eventually
from wsmon.models import AuditEntry

ROOT = "/api/admin/circuit-breakers"
APP = "destination:app"
COUNTING: Any = {"policy": "counting", "failure_threshold": 3, "recovery_timeout": 0.3, "success_threshold": 1}


def make(name: str = APP, label: str = "app", url: str = "/destinations/app/", **policy: Any) -> int:
    return circuits.ensure(name, label=label, policy=policy or COUNTING, url=url)


def wait_of(guard: Guard) -> float | None:
    """Asked anew each time."""
    return guard.retry_in


def shared(name: str = APP) -> store.Shared:
    return store.read([name])[name]


def text(response: Any, status: int = 200) -> str:
    assert response.status_code == status, response.content[:300]
    said: str = response.content.decode()
    return said


def together(works: list[Callable[[], Any]]) -> list[Any]:
    """Run functions in threads, all at the same moment; what they returned."""
    barrier, found = threading.Barrier(len(works)), [None] * len(works)

    def run(number: int) -> None:
        try:
            barrier.wait(10)
            found[number] = works[number]()
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return found


@pytest.mark.django_db
class TestTheStore:
    def test_it_is_read_as_services_are(self) -> None:
        made = make()
        found = shared()
        assert (found.service_id, found.kind) == (made, "destination")
        assert (found.label, found.url) == ("app", "/destinations/app/")
        assert (found.policy.policy, found.policy.failure_threshold) == ("counting", 3)
        make_service("app")
        assert set(store.read()) == {"app", APP}
        assert store.read(["app"])["app"].kind == "service"

    def test_ids_are_never_a_services_too(self) -> None:
        ids = [one for number in range(20) for one in (make(f"destination:d{number}"), make_service().id)]
        assert len(set(ids)) == 40
        assert set(Guarded.objects.values_list("id", flat=True)) == set(ids)
        assert Circuit.objects.create(name="destination:orm", label="x").pk not in ids

    def test_ensuring_the_same_again_writes_nothing(self, django_assert_num_queries: DjangoAssertNumQueries) -> None:
        made = make()
        with django_assert_num_queries(1):
            assert make() == made

    def test_what_is_new_is_taken_over(self) -> None:
        made = make()
        assert circuits.ensure(APP, label="App 2", policy={"min_volume": 7}) == made
        found = shared()
        assert (found.label, found.url, found.policy.policy, found.policy.min_volume) == ("App 2", "", "rolling", 7)

    @pytest.mark.parametrize(
        "name", ["app", "", ":app", "destination:", "destination:a b", "queue:app", "destination:a/b",
                 "Destination:a", "destination:a:b", "destination:a\n", "destination:" + "x" * 80],
    )  # fmt: skip
    def test_other_names_are_refused(self, name: str) -> None:
        with pytest.raises(ValueError, match="is no name of a circuit"):
            make(name)
        assert not Circuit.objects.exists()

    def test_the_table_itself_takes_no_name_that_a_service_may_have(self) -> None:
        with pytest.raises(IntegrityError), transaction.atomic():
            Circuit.objects.create(name="stripe", label="x")

    @pytest.mark.parametrize("policy", [{"window": "10s"}, {"window": 0}, {"window": float("inf")}, {"window": None}])
    def test_a_policy_that_would_break_everybodys_read_is_refused(self, policy: Any) -> None:
        with pytest.raises(ValueError, match=r"policy|window"):
            make(**policy)

    @pytest.mark.parametrize("url", ["javascript:alert(1)", "https://elsewhere.example/", "//elsewhere.example/"])
    def test_its_page_is_one_of_this_site(self, url: str) -> None:
        with pytest.raises(ValueError, match="this site"):
            make(url=url)

    def test_it_opens_at_the_store_and_no_service_changes(self) -> None:
        service, made = make_service("stripe"), make()
        store.count([Counted(made, 0, 1.0, Counts(ok=1, fail=2, rejected=4))])
        assert (BreakerSlot.objects.get().service_id, BreakerMinute.objects.get().rejected) == (made, 4)
        store.force(made, Mode.OPEN, "me", "moving", None)
        assert shared().state.effective is Mode.OPEN
        assert not StateChange.objects.exists()
        service.refresh_from_db()
        assert service.status == "unknown"

    def test_a_deleted_service_takes_its_breaker_along_and_no_circuits(self) -> None:
        service, made = make_service("stripe"), make()
        for one in (service.id, made):
            store.force(one, Mode.OPEN, "me", "moving", None)
        service.delete()
        assert Breaker.objects.get().service_id == made
        assert BreakerTransition.objects.get().service_id == made

    def test_renaming_keeps_state_and_history(self) -> None:
        made = make()
        store.force(made, Mode.OPEN, "me", "moving", None)
        assert circuits.rename(APP, "destination:shop", "Shop", "/destinations/shop/") == made
        assert APP not in store.read()
        found = shared("destination:shop")
        assert (found.state.effective, found.label, found.url) == (Mode.OPEN, "Shop", "/destinations/shop/")
        (one,) = reads.transitions("destination:shop")
        assert (one.of.label, one.row.reason) == ("Shop", "moving")
        assert reads.transitions(APP) == []

    def test_a_name_that_is_taken_is_refused_and_an_archived_one_makes_room(self) -> None:
        make()
        old = make("destination:shop")
        with pytest.raises(ValueError, match="already"):
            circuits.rename(APP, "destination:shop", "Shop")
        circuits.archive("destination:shop")
        circuits.rename(APP, "destination:shop", "Shop")
        assert Circuit.objects.get(id=old).name == f"destination:shop-{old}"
        with pytest.raises(LookupError):
            circuits.rename(APP, "destination:other", "Other")

    def test_a_new_label_is_no_new_name(self) -> None:
        made = make()
        assert circuits.rename(APP, APP, "The app", "/d/") == made
        assert (shared().label, shared().url) == ("The app", "/d/")

    def test_an_archived_one_is_hidden_and_comes_back_with_its_past(self) -> None:
        made = make()
        store.force(made, Mode.OPEN, "me", "moving", None)
        assert reads.not_closed() == 1
        assert circuits.archive(APP)
        assert not circuits.archive(APP)
        assert store.read() == {}
        assert reads.not_closed() == 0
        assert make() == made
        assert shared().state.effective is Mode.OPEN

    def test_housekeeping_sweeps_its_forces_and_drops_its_slots(self) -> None:
        made, gone = make(), make("destination:gone")
        for one in (made, gone):
            store.force(one, Mode.OPEN, "me", "moving", 60)
        circuits.archive("destination:gone")
        Breaker.objects.update(forced_until=timezone.now() - timedelta(seconds=1))
        assert housekeeping.sweep_breakers() == 1
        assert shared().state.effective is Mode.CLOSED
        old = timezone.now() - timedelta(hours=1)
        store.count([Counted(made, 0, 1.0, Counts(ok=1), old), Counted(made, 0, 1.0, Counts(ok=1))])
        assert housekeeping.drop_old_breaker_counts() == 1
        assert BreakerSlot.objects.count() == 1


@pytest.mark.django_db(transaction=True)
class TestAtOnce:
    def test_many_who_ensure_it_make_one(self) -> None:
        found = together([make] * 8)
        assert len(set(found)) == 1
        assert Circuit.objects.get().id == found[0]

    def test_services_and_circuits_made_at_once_have_ids_of_their_own(self) -> None:
        works: list[Callable[[], Any]] = [lambda: make_service().id] * 10
        works += [partial(make, f"destination:d{number}") for number in range(10)]
        found = together(works)
        assert len(set(found)) == 20
        assert None not in found

    def test_renaming_and_archiving_at_once_leaves_one_outcome(self) -> None:
        make()

        def rename() -> str:
            try:
                circuits.rename(APP, "destination:shop", "Shop")
            except LookupError:
                return "gone"
            return "renamed"

        renamed, archived = together([rename, lambda: circuits.archive(APP)])
        row = Circuit.objects.get()
        assert (renamed, archived, row.name, row.archived_at is None) in (
            ("renamed", False, "destination:shop", True),
            ("gone", True, APP, False),
        )


@pytest.mark.django_db(transaction=True)
class TestTheGuard:
    def test_it_opens_tries_and_closes(self, syncer: Syncer) -> None:
        make()
        guard = breaker(APP)
        assert guard.wait_known(10)
        assert wait_of(guard) is None
        for _ in range(3):
            passed = guard.trial()
            assert passed is not None
            guard.end(passed, FAIL)
        assert guard.is_open
        assert guard.trial() is None
        wait = wait_of(guard)
        assert wait is not None
        assert 0 < wait <= 0.3
        with pytest.raises(CircuitOpen, match=APP):
            guard.call(int)
        eventually(lambda: Breaker.objects.filter(state="OPEN").exists(), "the store opened it")
        eventually(lambda: guard.retry_in == 0, "it is time")
        passed = guard.trial()
        assert passed is not None
        assert (guard.retry_in or 0) > 0, "the one place is taken"
        guard.end(passed, OK)
        assert wait_of(guard) is None
        triggers = list(BreakerTransition.objects.order_by("id").values_list("trigger", flat=True))
        assert triggers == ["threshold", "trial admitted", "trial succeeded"]

    def test_a_process_that_never_used_it_first_learns_that_it_is_open(self, syncer: Syncer) -> None:
        made = make()
        store.force(made, Mode.OPEN, "me", "moving", None)
        guard = breaker(APP)
        assert guard.wait_known(10)
        assert guard.known
        assert guard.is_open
        assert guard.retry_in == pytest.approx(3600, abs=5)

    def test_a_new_policy_is_heard_of_at_once(self, syncer: Syncer) -> None:
        make()
        guard = breaker(APP)
        assert guard.wait_known(10)
        make(policy="counting", failure_threshold=99)
        eventually(lambda: guard._local.policy.failure_threshold == 99, "the policy", 2)

    def test_one_that_comes_after_its_guard_is_found(self, syncer: Syncer) -> None:
        guard = breaker(APP)
        assert guard.wait_known(10)
        assert guard._local.shared is None
        made = make()
        eventually(lambda: guard._local.shared and guard._local.shared.service_id == made, "it is found")

    def test_one_that_is_archived_protects_by_itself(self, syncer: Syncer) -> None:
        make()
        guard = breaker(APP)
        assert guard.wait_known(10)
        circuits.archive(APP)
        eventually(lambda: guard._local.shared is None, "it is gone")
        assert guard.call(lambda: "yes") == "yes"


class TestRetryIn:
    """Without a store of its own."""

    def test_it_is_not_known_until_the_store_says_something(self, clock: Clock) -> None:
        process = Process(clock)
        assert [process.guard.known, process.guard.wait_known(0)] == [False, False]
        assert process.guard.retry_in is None
        process.local.learn(None, clock.now)
        assert process.guard.known
        process.local.forget()  # as in a child after fork
        assert process.guard.wait_known(0)

    def test_it_counts_down_and_asks_nobody(self, rolling: Process, clock: Clock) -> None:
        rolling.learn(is_open())
        assert rolling.guard.retry_in == 30
        clock.now += 29
        assert rolling.guard.retry_in == 1
        clock.now += 2
        rolling.learn(is_open(), now=NOW + timedelta(seconds=31))
        assert rolling.guard.retry_in == 0
        assert rolling.store.asked == []
        assert rolling.counts().rejected == 0

    def test_while_others_make_the_trial_it_is_worth_another_look_soon(self, rolling: Process, clock: Clock) -> None:
        trial = Trial("t", NOW + timedelta(seconds=40), "somebody")
        rolling.learn(is_open(trials=(trial,)), now=NOW + timedelta(seconds=31))
        assert rolling.guard.retry_in == 0.25

    def test_a_refused_trial_is_not_asked_for_again_at_once(self, rolling: Process, clock: Clock) -> None:
        rolling.learn(is_open(), now=NOW + timedelta(seconds=31))
        rolling.store.grants = False
        assert rolling.guard.trial() is None
        assert rolling.guard.retry_in == pytest.approx(0.1)

    def test_alone_it_makes_one_trial_at_a_time(self, rolling: Process, clock: Clock) -> None:
        rolling.learn(is_open())
        rolling.store.leave()
        clock.now += 31
        assert rolling.guard.retry_in == 0
        passed = rolling.guard.trial()
        assert passed is not None
        assert rolling.guard.retry_in == 0.25
        rolling.guard.end(passed, NEUTRAL)
        assert rolling.guard.retry_in == 0

    def test_what_this_process_opened_itself_waits_too(self, rolling: Process, clock: Clock) -> None:
        rolling.fails(4)
        assert rolling.guard.retry_in == 30


@pytest.mark.django_db
class TestTheApi:
    def get(self, path: str, **query: Any) -> Any:
        response = program("monitoring:read").get(ROOT + path, query)
        assert response.status_code == 200, response.content
        return response.json()

    def post(self, path: str, body: Any) -> Any:
        return program("monitoring:admin").post(ROOT + path, body, content_type="application/json")

    def test_status_and_metrics_show_it_with_its_kind(self) -> None:
        make_service("stripe")
        make()
        for path in ("/status", "/metrics"):
            kinds = {one["service"]: one["kind"] for one in self.get(path)["breakers"]}
            assert kinds == {"stripe": "service", APP: "destination"}
        (one,) = self.get("/status", service=APP)["breakers"]
        assert (one["service"], one["state"], one["policy"]) == (APP, "CLOSED", "counting")

    def test_outcomes_open_it_and_a_trial_closes_it(self) -> None:
        make()
        said = self.post(f"/outcomes/{APP}", {"outcomes": [{"ok": False, "status": 503, "count": 3}]})
        assert (said.status_code, said.json()["state"]) == (202, "OPEN")
        assert self.post(f"/trial/{APP}", {}).status_code == 409
        time.sleep(0.35)
        trial = self.post("/trial/destination%3Aapp", {}).json()["trial"]
        said = self.post(f"/outcomes/{APP}", {"trial": trial, "outcomes": [{"ok": True}]})
        assert said.json()["state"] == "CLOSED"

    def test_it_is_forced_and_reset(self) -> None:
        make()
        said = self.post(f"/force/{APP}", {"state": "OPEN", "reason": "moving"}).json()
        assert (said["service"], said["kind"], said["forced"]) == (APP, "destination", "OPEN")
        assert self.post(f"/reset/{APP}", {}).json()["state"] == "CLOSED"
        assert {entry.target for entry in AuditEntry.objects.filter(action__startswith="breaker.")} == {
            f"breaker:{APP}"
        }

    @pytest.mark.parametrize("path", ["/reset", "/outcomes", "/trial"])
    def test_an_archived_one_is_not_found(self, path: str) -> None:
        make()
        circuits.archive(APP)
        body: dict[str, Any] = {"outcomes": []} if path == "/outcomes" else {}
        assert self.post(f"{path}/{APP}", body).status_code == 404
        assert self.get("/status")["breakers"] == []

    def test_the_stream_tells_of_it(self) -> None:
        made = make()
        make_service("stripe")
        (item,) = stream.stream_events({made})
        assert (item["service"], item["kind"], item["state"]) == (APP, "destination", "CLOSED")
        assert [one["service"] for one in stream.stream_events(set())] == [APP, "stripe"]

    def test_prometheus_gets_it_by_its_name(self) -> None:
        store.force(make(), Mode.OPEN, "me", "moving", None)
        found = {
            tuple(sample.labels.values()): sample.value
            for family in metrics.collect()
            for sample in family.samples
            if sample.name == "wsmon_breaker_state"
        }
        assert found[APP, "OPEN"] == 1


@pytest.mark.django_db
class TestThePages:
    @pytest.fixture
    def operator(self) -> Client:
        return signed_in("operator", "view_service", "operate")

    def test_the_list_links_to_its_page_and_says_what_it_is(self, operator: Client) -> None:
        made = make(label="The <app>")
        page = text(operator.get("/breakers/"))
        assert f'<a id="brk-{made}-a" href="/destinations/app/">The &lt;app&gt;</a>' in page
        assert '<span class="ws-crits">destination</span>' in page
        assert f"/breakers/{APP}/force-open/" in page

    def test_one_without_a_page_has_no_link(self, operator: Client) -> None:
        made = make(url="")
        page = text(operator.get("/breakers/"))
        assert f'<b id="brk-{made}-a" tabindex="-1">app</b>' in page

    def test_the_navigation_counts_it(self, operator: Client) -> None:
        made = make()
        store.force(made, Mode.OPEN, "me", "moving", None)
        assert '1<span class="vh"> not closed</span>' in text(operator.get("/changes/"))
        assert glance.of([made])[made].forced

    def test_its_transitions_are_listed_and_can_be_chosen(self, operator: Client) -> None:
        make_service("stripe")
        store.force(make(), Mode.OPEN, "me", "moving", None)
        page = text(operator.get("/breakers/transitions/"))
        assert (
            '<a class="ws-link" href="/destinations/app/">app</a> <span class="ws-crits">destination</span>' in page
        )
        assert f'<option value="{APP}">app (destination)</option>' in page
        assert '<option value="stripe">stripe</option>' in page
        one = text(operator.get("/breakers/transitions/", {"service": APP}))
        assert "forced: “moving”" in one
        assert "destination <b>app</b>" in one
        assert "has not changed its state yet" in text(operator.get("/breakers/transitions/?service=stripe"))
        circuits.archive(APP)
        assert "app (destination, removed)" in text(operator.get("/breakers/transitions/", {"service": APP}))

    def test_a_person_forces_and_releases_it(self, operator: Client) -> None:
        made = make()
        path = reverse("breaker-act", args=[APP, "force-open"])
        assert path == f"/breakers/{APP}/force-open/"
        assert "Force app open?" in text(operator.get(path))
        said = text(operator.post(path, {"reason": "moving", "expires": "600"}, headers={"HX-Request": "true"}))
        assert f'id="brk-{made}"' in said
        assert "app is forced open for 10 min" in said
        # It has no card on a page of ours to return to.
        ended = operator.post(reverse("breaker-act", args=[APP, "release"]), {"at": "service"})
        assert (ended.status_code, ended["Location"]) == (302, "/breakers/")
        assert shared().state.effective is Mode.CLOSED

    @pytest.mark.parametrize("name", ["destination:never", "destination:", "a:b:c", "stripe:", ":app"])
    def test_names_that_nothing_has_are_not_found(self, operator: Client, name: str) -> None:
        make()
        assert operator.get(f"/breakers/{name}/reset/").status_code == 404

    def test_an_archived_one_is_on_no_page(self, operator: Client) -> None:
        make()
        circuits.archive(APP)
        assert "There is no breaker yet" in text(operator.get("/breakers/"))
        assert operator.get(f"/breakers/{APP}/reset/").status_code == 404

    def test_open_overviews_take_it_for_no_service(self) -> None:
        service, made = make_service("stripe"), make()
        store.force(made, Mode.OPEN, "me", "moving", None)
        sent = fragments.changed({service.id, made})
        assert json.loads(sent["list"])["ids"] == [service.id]
        assert f"svc-{made}" not in sent
        assert any('1<span class="vh"> not closed' in html for html in sent.values()), "the navigation counts it"


def test_a_name_tells_its_kind() -> None:
    assert [kind_of(name) for name in ("stripe", APP)] == ["service", "destination"]


@pytest.mark.django_db
def test_services_keep_their_labels_and_pages() -> None:
    make_service("stripe", name="Stripe")
    make_service("plain")
    assert {one.slug: (one.label, one.url, one.kind) for one in reads.views()} == {
        "plain": ("plain", "", "service"),
        "stripe": ("Stripe", "", "service"),
    }
    assert Service.objects.count() == Guarded.objects.filter(is_service=True).count() == 2
