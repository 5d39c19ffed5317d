from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import uuid
from collections import Counter
from datetime import timedelta
from typing import Any

import psutil
import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from monitoring import claims
from monitoring.claims import Claim
from monitoring.models import Check, CheckState, Credential, Heartbeat, Process, Service
from tests.monitoring.factories import make_check, make_service
from tests.monitoring.fakes import Vendors
from tests.whole import ROOT

pytestmark = pytest.mark.django_db
OWNER = uuid.uuid4()


def claim(limit: int = 100, room: dict[str, int] | None = None, lane_room: int = 100) -> list[Claim]:
    return claims.claim(OWNER, limit, room or {}, lane_room)


def put(check: Check, **fields: Any) -> Check:
    CheckState.objects.filter(check_ref=check).update(**fields)
    return check


def many(number: int, service: Service | None = None) -> list[Check]:
    service = service or make_service()
    start = service.checks.count()
    Check.objects.bulk_create(
        # Leases that outlast any test, however slow the machine.
        Check(service=service, name=f"c{n}", kind="http", timeout=60)
        for n in range(start, start + number)
    )
    checks = list(service.checks.order_by("id"))
    CheckState.objects.bulk_create([CheckState(check_ref=check) for check in checks], ignore_conflicts=True)
    return checks


def soon(seconds: float) -> Any:
    return Now() + timedelta(seconds=seconds)


# (what, fields of the state, is it claimed?)
DUE = [
    ("due now", {}, True),
    ("long overdue", {"next_due_at": soon(-86_400)}, True),
    ("due within the horizon", {"next_due_at": soon(claims.HORIZON - 0.2)}, True),
    ("due after the horizon", {"next_due_at": soon(claims.HORIZON + 5)}, False),
    ("due in an interval", {"next_due_at": soon(10)}, False),
    ("due so late that the clock must have gone back", {"next_due_at": soon(3600)}, True),
    ("leased", {"lease_until": soon(5), "lease_token": uuid.uuid4()}, False),
    ("leased by one whose lease ran out", {"lease_until": soon(-1), "lease_token": uuid.uuid4()}, True),
    ("leased for longer than any lease lasts", {"lease_until": soon(3600), "lease_token": uuid.uuid4()}, True),
]


@pytest.mark.parametrize(("fields", "claimed"), [case[1:] for case in DUE], ids=[case[0] for case in DUE])
def test_it_claims_what_is_due_and_free(fields: dict[str, Any], claimed: bool):
    check = put(make_check(interval=10), **fields)
    assert [one.check_id for one in claim()] == ([check.id] if claimed else [])


now = timezone.now
PAUSES = [
    ("for good", {"paused_at": now()}, False),
    ("until later", {"paused_at": now(), "paused_until": now() + timedelta(hours=1)}, False),
    ("until a moment ago", {"paused_at": now(), "paused_until": now() - timedelta(seconds=1)}, True),
    ("never", {}, True),
    ("archived", {"archived_at": now()}, False),
]


@pytest.mark.parametrize(("fields", "claimed"), [case[1:] for case in PAUSES], ids=[case[0] for case in PAUSES])
def test_it_leaves_paused_and_archived_checks_alone(fields: dict[str, Any], claimed: bool):
    make_check(**fields)
    assert len(claim()) == claimed


def test_it_leaves_the_checks_of_an_archived_service_alone():
    make_check(make_service(archived_at=timezone.now()))
    assert claim() == []


def test_a_claim_holds_everything_a_probe_needs():
    service = make_service("site")
    Credential.objects.create(service=service, variable="TOKEN", reference="env:TOKEN")
    check = make_check(
        service,
        name="health",
        interval=30,
        timeout=3,
        degraded_over=0.8,
        confirm_down=3,
        options={"url": "http://x/"},
    )
    found = claim()[0]
    assert (found.check_id, found.service_id, found.service) == (check.id, service.id, "site")
    assert (found.provider, found.kind, found.name, found.interval, found.timeout) == (
        "http",
        "http",
        "health",
        30,
        3,
    )
    assert (found.policy.confirm_down, found.policy.confirm_up, found.policy.degraded_over_ms) == (3, 2, 800)
    assert json.loads(found.options) == {"url": "http://x/"}
    assert json.loads(found.credentials) == {"TOKEN": ["env:TOKEN", None]}
    assert found.heartbeat is None
    assert found.lane == f"service:{service.id}"


def test_without_a_limit_of_slowness_there_is_none():
    make_check(degraded_over=None)
    assert claim()[0].policy.degraded_over_ms is None


def test_a_heartbeat_brings_its_calls_along():
    check = make_check(kind="heartbeat")
    called = timezone.now() - timedelta(minutes=1)
    Heartbeat.objects.filter(check_ref=check).update(last_success_at=called)
    facts = claim()[0].heartbeat
    assert facts is not None
    assert (facts.last_success_at, facts.last_start_at, facts.watching_since) == (called, None, None)


def test_it_leases_for_the_timeout_and_a_margin():
    check = make_check(timeout=7)
    one = claim()[0]
    state = CheckState.objects.get(check_ref=check)
    assert (state.lease_token, state.lease_owner) == (one.token, OWNER)
    assert state.lease_until is not None
    lasts = (state.lease_until - one.claimed_at).total_seconds()
    assert lasts == pytest.approx(claims.HORIZON + 7 + claims.LEASE_MARGIN)


def test_what_was_claimed_is_not_claimed_again():
    make_check()
    assert len(claim()) == 1
    assert claim() == []


@pytest.mark.parametrize(("due", "expected"), [(0.5, 0.5), (-30, -30), (3600, 0)])
def test_it_says_when_to_start(due: float, expected: float):
    put(make_check(interval=10), next_due_at=soon(due))
    assert claim()[0].due_in == pytest.approx(expected, abs=0.2)


def test_the_longest_overdue_come_first():
    order = [put(make_check(), next_due_at=soon(-seconds)).id for seconds in (10, 30, 20)]
    assert {one.check_id for one in claim(limit=2)} == {order[1], order[2]}


def test_it_takes_no_more_than_asked_for():
    many(5)
    assert [len(claim(limit=3)), len(claim(limit=3)), len(claim(limit=3))] == [3, 2, 0]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("empty", ["", ", monitoring_heartbeat", ", monitoring_posture", ", circuit_breaker_status"])
def test_a_wrong_guess_of_the_planner_costs_little(empty: str):
    many(500)
    Service.objects.all().delete()
    with connection.cursor() as cursor:  # many pages, no row; and others that never had any
        cursor.execute(f"ANALYZE monitoring_checkstate, monitoring_configuration, monitoring_service{empty}")
    many(500)
    with CaptureQueriesContext(connection) as captured:
        assert len(claim(limit=20)) == 20
    claims.release([OWNER])
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {captured[0]['sql']}")
        plan = cursor.fetchone()[0][0]["Plan"]
    # Which joins are guessed wrong depends on what autovacuum saw last: each may cost a loop within a loop
    # (500 x 500 rows read and thrown away), none a loop within those.
    assert rows_visited(plan) < 5 * 500**2


def rows_visited(node: dict[str, Any]) -> float:
    """How many rows the parts of a plan handed on or threw away."""
    own = node["Actual Rows"] + node.get("Rows Removed by Join Filter", 0) + node.get("Rows Removed by Filter", 0)
    return own * node["Actual Loops"] + sum(map(rows_visited, node.get("Plans", [])))


class TestLanes:
    def test_a_vendor_is_one_lane_for_all_its_services(self, vendors: Vendors):
        for _ in range(3):
            make_check(make_service(provider="fake"), "ping")
        assert {one.lane for one in claim()} == {"fake"}

    def test_a_generic_provider_has_a_lane_for_each_service(self, vendors: Vendors):
        for _ in range(3):
            make_check(make_service(provider="plain"), "ping")
        assert len({one.lane for one in claim()}) == 3

    def test_a_lane_gets_no_more_than_its_room(self, vendors: Vendors):
        service = make_service(provider="fake")
        for _ in range(5):
            make_check(service, "ping")
        assert len(claim(room={"fake": 2})) == 2
        assert len(claim(room={"fake": 0})) == 0
        assert len(claim(lane_room=1)) == 1

    def test_a_lane_with_much_to_do_does_not_crowd_out_the_others(self, vendors: Vendors):
        busy = make_service(provider="slow")
        for _ in range(20):
            put(make_check(busy, "ping"), next_due_at=soon(-60))
        other = make_check(make_service(provider="fake"), "ping")
        found = claim(limit=5, room={"slow": 3})
        assert Counter(one.lane for one in found) == {"slow": 3, "fake": 1}
        assert other.id in {one.check_id for one in found}

    def test_a_full_lane_lets_its_longest_overdue_go_first(self, vendors: Vendors):
        service = make_service(provider="fake")
        checks = [put(make_check(service, "ping"), next_due_at=soon(-age)) for age in (1, 9, 5)]
        assert [one.check_id for one in claim(room={"fake": 1})] == [checks[1].id]


class TestGivingBack:
    def test_a_lease_given_back_can_be_claimed(self):
        make_check()
        claims.give_back(claim()[0])
        assert len(claim()) == 1

    def test_a_lease_taken_over_is_not_given_back(self):
        check = make_check()
        old = claim()[0]
        token = uuid.uuid4()
        put(check, lease_token=token)
        claims.give_back(old)
        assert CheckState.objects.get(check_ref=check).lease_token == token

    def test_release_frees_what_the_dead_held_and_nothing_else(self):
        make_check()
        claim()
        claims.release([uuid.uuid4()])
        assert claim() == []
        claims.release([OWNER])
        assert len(claim()) == 1


class TestRegister:
    def dead_pid(self) -> int:
        with subprocess.Popen([sys.executable, "-c", ""]) as process:
            process.wait()
        return process.pid

    def neighbour(self, **fields: Any) -> tuple[Process, Check]:
        mine = claims.register()
        row = Process.objects.create(**{"role": "worker", "host": mine.host, "pid": os.getppid()} | fields)
        mine.delete()
        check = put(make_check(), lease_owner=row.id, lease_token=uuid.uuid4(), lease_until=soon(60))
        return row, check

    def leased(self, check: Check) -> bool:
        return CheckState.objects.get(check_ref=check).lease_token is not None

    def test_it_records_this_process(self):
        process = claims.register()
        row = Process.objects.get()
        assert (row.id, row.pid, row.role) == (process.id, os.getpid(), "worker")

    def test_the_leases_of_a_dead_neighbour_are_free_at_once(self):
        row, check = self.neighbour(pid=self.dead_pid())
        claims.register()
        assert not self.leased(check)
        assert not Process.objects.filter(id=row.id).exists()
        assert [one.check_id for one in claim()] == [check.id]

    def test_the_leases_of_a_live_neighbour_stay_its_own(self):
        row, check = self.neighbour()
        claims.register()
        assert self.leased(check)
        assert Process.objects.filter(id=row.id).exists()

    def test_a_pid_that_another_program_has_by_now_is_a_dead_neighbours(self):
        born = psutil.Process(os.getppid()).create_time()
        before = timezone.now() - timedelta(seconds=timezone.now().timestamp() - born + 3600)
        row, check = self.neighbour(started_at=before)
        claims.register()
        assert not self.leased(check)
        assert not Process.objects.filter(id=row.id).exists()

    def test_an_earlier_life_with_this_pid_is_dead(self):
        _, check = self.neighbour(pid=os.getpid())
        claims.register()
        assert not self.leased(check)

    def test_a_container_with_our_host_name_and_process_number_is_left_alone(self):
        row, check = self.neighbour(host=f"{socket.gethostname()} 0123abcd", pid=os.getpid())
        claims.register()
        assert self.leased(check)
        assert Process.objects.filter(id=row.id).exists()

    def test_a_process_on_another_host_is_left_alone(self):
        row, check = self.neighbour(host="elsewhere", pid=self.dead_pid())
        claims.register()
        assert self.leased(check)
        assert Process.objects.filter(id=row.id).exists()


@pytest.mark.django_db(transaction=True)
class TestRace:
    def test_eight_threads_claim_each_check_exactly_once(self):
        checks = {check.id for check in many(500)}
        barrier = threading.Barrier(8)
        found: list[int] = []

        def work() -> None:
            try:
                barrier.wait(10)
                for _ in range(200):
                    got = claims.claim(uuid.uuid4(), 20, {}, 10_000)
                    found.extend(one.check_id for one in got)
                    if not got and not self.left():
                        return
            finally:
                connection.close()

        run_all([threading.Thread(target=work) for _ in range(8)])
        assert Counter(found) == dict.fromkeys(checks, 1)

    def test_two_processes_claim_each_check_exactly_once(self):
        checks = {check.id for check in many(300)}
        name = connection.settings_dict["NAME"]
        command = [sys.executable, "-c", CLAIM_ALL, str(name), str(connection.settings_dict["HOST"])]
        processes = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        printed = [json.loads(process.communicate(timeout=60)[0]) for process in processes]
        assert Counter(printed[0] + printed[1]) == dict.fromkeys(checks, 1)

    def left(self) -> int:
        return CheckState.objects.filter(lease_token=None).count()


def run_all(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)


CLAIM_ALL = """
import json, os, shutil, sys, uuid
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
import django
from django.conf import settings
settings.DATABASES["default"] |= {"NAME": sys.argv[1], "HOST": sys.argv[2]}
django.setup()
from monitoring import claims
from monitoring.models import CheckState
found = []
while CheckState.objects.filter(lease_token=None).exists():
    found += [one.check_id for one in claims.claim(uuid.uuid4(), 10, {}, 10_000)]
print(json.dumps(found))
shutil.rmtree(settings.DATA_DIR)
"""
