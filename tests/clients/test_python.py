"""clients/python/wsmon_breaker.py against a fake wsmon: what callers meet, what is told, and what a fault does."""

from __future__ import annotations

import ast
import asyncio
import os
import pickle
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import wsmon_breaker
from wsmon_breaker import Breakers, CircuitOpen, Guard

from tests.clients.fake import TOKEN, Fake
from tests.whole import eventually, free_port

FILE = Path(wsmon_breaker.__file__)


@pytest.fixture
def wsmon() -> Iterator[Fake]:
    fake = Fake("stripe", "github")
    yield fake
    fake.stop()


@pytest.fixture
def connect() -> Iterator[Callable[..., Breakers]]:
    made: list[Breakers] = []

    def connect(url: str, token: str = TOKEN) -> Breakers:
        made.append(Breakers(url, token))
        return made[-1]

    yield connect
    for breakers in made:
        breakers.close()


@pytest.fixture
def stripe(wsmon: Fake, connect: Callable[..., Breakers]) -> Guard:
    """The breaker of stripe, once wsmon has spoken."""
    guard = connect(wsmon.url)("stripe")
    eventually(lambda: known(guard) is not None and wsmon.streams == 1, "wsmon's first word")
    return guard


def known(guard: Guard) -> Any:
    return guard._local.word


def hear(wsmon: Fake, guard: Guard, *args: Any, **more: Any) -> None:
    """wsmon says something; wait until it is known."""
    wsmon.say(guard.name, *args, **more)
    generation = wsmon.items[guard.name]["generation"]
    eventually(lambda: known(guard).generation == generation, "the word is known")


def fine() -> str:
    return "fine"


def fails() -> None:
    raise TimeoutError("no answer")


class Refused(Exception):
    def __init__(self, status: int, retry_after: str | None = None) -> None:
        self.status_code = status
        self.headers = {"Retry-After": retry_after} if retry_after else {}


def refuses(status: int, retry_after: str | None = None) -> None:
    raise Refused(status, retry_after)


def attempt(guard: Guard, fn: Callable[..., Any], *args: Any) -> None:
    with pytest.raises((TimeoutError, Refused)):
        guard.call(fn, *args)


def alone(guard: Guard) -> bool:
    return bool(guard._local.owner.unheard)


# The file ----------------------------------------------------------------------------------------


def test_it_is_one_file_of_python_3_9_that_needs_nothing_else() -> None:
    tree = ast.parse(FILE.read_text(), feature_version=(3, 9))
    names = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert {str(name).split(".")[0] for name in names} <= sys.stdlib_module_names


def test_a_url_that_cannot_be_a_wsmon_is_refused() -> None:
    for url in ("wsmon.example", "ftp://wsmon.example", "https://"):
        with pytest.raises(ValueError, match="not the URL"):
            Breakers(url, TOKEN)


def test_a_refusal_survives_pickling() -> None:
    refused = pickle.loads(pickle.dumps(CircuitOpen("stripe", 2.0)))
    assert (refused.name, refused.retry_in) == ("stripe", 2.0)


# Closed ------------------------------------------------------------------------------------------


class TestClosed:
    def test_results_and_exceptions_pass_through(self, stripe: Guard) -> None:
        assert stripe.call(fine) == "fine"
        attempt(stripe, fails)

    def test_a_success_takes_no_lock_and_does_no_io(self, stripe: Guard, monkeypatch: pytest.MonkeyPatch) -> None:
        owner = stripe._local.owner
        owner.close(5)  # so that nobody else wants the lock
        with monkeypatch.context() as nothing:
            nothing.setattr(stripe._local, "lock", None)
            nothing.setattr(owner, "_jobs", None)
            assert [stripe.call(fine) for _ in range(100)] == ["fine"] * 100
        assert stripe._local.era.take() == 100

    def test_many_successes_are_told_as_one(self, wsmon: Fake, stripe: Guard) -> None:
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda _number: [stripe.call(fine) for _ in range(5_000)], range(8)))
        eventually(lambda: wsmon.count("stripe", ok=True) == 40_000, "all are told")
        assert len(wsmon.outcomes("stripe")) < 20

    def test_failures_are_told_soon_with_their_status(self, wsmon: Fake, stripe: Guard) -> None:
        stripe.call(fine)
        time.sleep(0.1)
        attempt(stripe, refuses, 503, "7")
        attempt(stripe, fails)
        eventually(lambda: wsmon.count("stripe", ok=False) == 2, "both are told")
        first, second = (one for one in wsmon.outcomes("stripe") if not one["ok"])
        assert (first["status"], first["retry_after"], first["count"]) == (503, 7.0, 1)
        assert "status" not in second

    @pytest.mark.parametrize(("status", "counts"), [(404, 0), (402, 0), (401, 1), (408, 1), (429, 1), (500, 1)])
    def test_a_4xx_is_the_requests_own_fault(self, wsmon: Fake, stripe: Guard, status: int, counts: int) -> None:
        attempt(stripe, refuses, status)
        stripe.call(fine)
        eventually(lambda: wsmon.count("stripe", ok=True) == 1, "the success is told")
        assert wsmon.count("stripe", ok=False) == counts

    def test_statuses_that_the_policy_ignores_count_neither_way(self, wsmon: Fake, stripe: Guard) -> None:
        hear(wsmon, stripe, parameters={"ignore_status": [503], "a_later_one": 1})
        attempt(stripe, refuses, 503)
        stripe.call(fine)
        eventually(lambda: wsmon.count("stripe", ok=True) == 1, "the success is told")
        assert wsmon.count("stripe", ok=False) == 0

    def test_what_is_excluded_or_cancelled_counts_neither_way(self, wsmon: Fake, stripe: Guard) -> None:
        owner = stripe._local.owner
        for guard in (
            owner("stripe", exclude=(TimeoutError,)),
            owner("stripe", exclude=(lambda error: "no answer" in str(error),)),
        ):
            attempt(guard, fails)
        with pytest.raises(KeyboardInterrupt):
            stripe.call(interrupted)
        stripe.call(fine)
        eventually(lambda: wsmon.count("stripe", ok=True) == 1, "the success is told")
        assert wsmon.count("stripe", ok=False) == 0

    def test_answers_count_by_their_status_where_asked_for(self, wsmon: Fake, stripe: Guard) -> None:
        guard = stripe._local.owner("stripe", answers=True)
        for status in (200, 404, 502):
            assert guard.call(Refused, status).status_code == status
        eventually(lambda: wsmon.count("stripe", ok=False) == 1, "the failure is told")
        assert wsmon.count("stripe", ok=True) == 1
        assert next(one for one in wsmon.outcomes("stripe") if not one["ok"])["status"] == 502

    def test_slow_calls_count_as_failed(self, wsmon: Fake, stripe: Guard) -> None:
        stripe._local.owner("stripe", slow_over=0.01).call(time.sleep, 0.03)
        hear(wsmon, stripe, parameters={"slow_over": 0.01})
        stripe.call(time.sleep, 0.03)
        stripe.call(fine)
        eventually(lambda: wsmon.count("stripe", ok=True) == 1, "they are told")
        assert wsmon.count("stripe", ok=False) >= 1

    def test_counting_is_told_in_the_order_of_the_calls(self, wsmon: Fake, stripe: Guard) -> None:
        hear(wsmon, stripe, policy="counting")
        for step in "fffsffs":
            stripe.call(fine) if step == "s" else attempt(stripe, fails)
        eventually(lambda: wsmon.count("stripe", ok=True) == 2, "they are told")
        told = [(one["ok"], one["count"]) for one in wsmon.outcomes("stripe")]
        flat = "".join(("s" if ok else "f") * count for ok, count in told)
        assert flat == "fffsffs"

    def test_blocks_decorators_and_coroutines(self, wsmon: Fake, stripe: Guard) -> None:
        @stripe
        def plain(number: int) -> int:
            """Doubles."""
            return number * 2

        @stripe
        async def later(number: int) -> int:
            return number * 3

        async def scenario() -> int:
            async with stripe:
                pass
            with pytest.raises(TimeoutError):
                await stripe.acall(asyncio.wait_for, asyncio.sleep(5), 0.01)
            return await later(2) + int(await stripe.acall(later, 1))

        assert (plain(4), plain.__doc__) == (8, "Doubles.")
        assert asyncio.run(scenario()) == 9
        with stripe, stripe:
            pass
        with pytest.raises(TimeoutError), stripe:
            fails()
        # plain, the async block, later twice and acall around it, two blocks
        eventually(lambda: wsmon.count("stripe", ok=True) == 7, "the successes are told")
        eventually(lambda: wsmon.count("stripe", ok=False) == 2, "the failures are told")

    def test_what_was_counted_is_told_at_the_end(self, wsmon: Fake, stripe: Guard) -> None:
        stripe.call(fine)
        stripe._local.owner.close(5)
        assert wsmon.count("stripe", ok=True) == 1
        stripe._local.owner("stripe").call(fine)  # and it starts again


def interrupted() -> None:
    raise KeyboardInterrupt


# Open --------------------------------------------------------------------------------------------


class TestOpen:
    def test_calls_are_refused_and_told_of(self, wsmon: Fake, stripe: Guard) -> None:
        hear(wsmon, stripe, "OPEN", 30)
        assert stripe.is_open
        for _ in range(3):
            with pytest.raises(CircuitOpen, match="stripe: the circuit breaker is open") as refused:
                stripe.call(pytest.fail, "called")
        assert 28 < refused.value.retry_in <= 30
        eventually(lambda: sum(body["rejected"] for _name, body in wsmon.reports) == 3, "refusals are told")
        assert wsmon.trial_asks == []

    @pytest.mark.parametrize("ahead", [3600.0, -86_400.0])
    def test_the_servers_clock_counts_and_not_ours(self, wsmon: Fake, stripe: Guard, ahead: float) -> None:
        wsmon.ahead = ahead
        hear(wsmon, stripe, "OPEN", 30)
        with pytest.raises(CircuitOpen) as refused:
            stripe.call(fine)
        assert 28 < refused.value.retry_in <= 30

    def test_a_fallback_stands_in(self, wsmon: Fake, stripe: Guard) -> None:
        hear(wsmon, stripe, "OPEN", 30)
        guard = stripe._local.owner("stripe", fallback=lambda refused: refused.name)

        async def later(_refused: CircuitOpen) -> str:
            return "later"

        assert guard.call(fine) == "stripe"
        assert asyncio.run(guard.acall(asyncio.sleep, 0)) == "stripe"
        other = stripe._local.owner("stripe", fallback=later)
        assert asyncio.run(other.acall(asyncio.sleep, 0)) == "later"

    def test_other_breakers_are_not_touched(self, wsmon: Fake, stripe: Guard) -> None:
        hear(wsmon, stripe, "OPEN", 30)
        assert stripe._local.owner("github").call(fine) == "fine"

    def test_a_breaker_first_asked_for_later_is_open_at_once(self, wsmon: Fake, stripe: Guard) -> None:
        wsmon.say("github", "OPEN", 30)
        eventually(lambda: "github" in stripe._local.owner._locals, "it is heard")
        eventually(lambda: stripe._local.owner("github").is_open, "it is open")

    def test_forced_open_lets_nothing_through_until_it_is_over(self, wsmon: Fake, stripe: Guard) -> None:
        hear(wsmon, stripe, "OPEN", forced="OPEN")
        with pytest.raises(CircuitOpen) as refused:
            stripe.call(fine)
        assert refused.value.retry_in == wsmon_breaker.LONGEST_WAIT
        hear(wsmon, stripe, "OPEN", forced="OPEN", forced_until=wsmon.now(60))
        with pytest.raises(CircuitOpen) as refused:
            stripe.call(fine)
        assert 55 < refused.value.retry_in <= 60
        eventually(lambda: wsmon.reports, "the refusals are told")  # its answer says nothing of what is forced
        with pytest.raises(CircuitOpen) as refused:
            stripe.call(fine)
        assert 50 < refused.value.retry_in < 60
        hear(wsmon, stripe)
        assert stripe.call(fine) == "fine"

    def test_an_older_word_changes_nothing(self, wsmon: Fake, stripe: Guard) -> None:
        hear(wsmon, stripe, "OPEN", 30)
        hear(wsmon, stripe, "OPEN", 60)
        # Read a little later, but before the last change was committed.
        wsmon.push("breaker", wsmon.items["stripe"] | {"generation": 0, "state": "CLOSED", "now": wsmon.now(1)})
        wsmon.say("github", "OPEN", 30)
        eventually(lambda: stripe._local.owner("github").is_open, "what was said after it is known")
        assert stripe.is_open

    def test_a_restored_wsmon_is_believed_although_its_generation_is_lower(self, wsmon: Fake, stripe: Guard) -> None:
        hear(wsmon, stripe, "OPEN", 30)
        wsmon.push("breaker", wsmon.items["stripe"] | {"generation": 0, "state": "CLOSED", "now": wsmon.now(60)})
        eventually(lambda: not stripe.is_open, "it is closed")

    def test_a_call_of_before_the_opening_counts_nothing_after_it(self, wsmon: Fake, stripe: Guard) -> None:
        def slow() -> None:
            hear(wsmon, stripe, "OPEN", 30)
            hear(wsmon, stripe)
            raise TimeoutError

        attempt(stripe, slow)
        stripe.call(fine)
        eventually(lambda: wsmon.count("stripe", ok=True) == 1, "the later call is told")
        assert wsmon.count("stripe", ok=False) == 0


# Trials ------------------------------------------------------------------------------------------


class TestTrials:
    def test_one_of_many_threads_makes_it_and_closes_the_breaker(self, wsmon: Fake, stripe: Guard) -> None:
        hear(wsmon, stripe, "OPEN", 0)
        made: list[str] = []
        ready = threading.Barrier(8)

        def call(_number: int) -> bool:
            ready.wait()
            try:
                stripe.call(lambda: (made.append("x"), time.sleep(0.3)))
            except CircuitOpen:
                return False
            return True

        with ThreadPoolExecutor(8) as threads:
            passed = list(threads.map(call, range(8)))
        assert passed.count(True) == len(made) == 1
        assert [(name, body.get("trial")) for name, body in wsmon.reports if "trial" in body] == [
            ("stripe", "trial-1")
        ]
        assert stripe.call(fine) == "fine"  # the end of the trial is known when it returns

    def test_a_failed_trial_opens_it_again(self, wsmon: Fake, stripe: Guard) -> None:
        hear(wsmon, stripe, "HALF_OPEN", -5)
        attempt(stripe, refuses, 500)
        with pytest.raises(CircuitOpen) as refused:
            stripe.call(fine)
        assert refused.value.retry_in > 50
        ((_name, body),) = [one for one in wsmon.reports if "trial" in one[1]]
        assert body["outcomes"] == [{"ok": False, "count": 1, "status": 500}]

    def test_one_that_is_not_granted_is_refused_and_not_asked_for_again_at_once(
        self, wsmon: Fake, stripe: Guard
    ) -> None:
        hear(wsmon, stripe, "OPEN", 0)
        wsmon.grant = False
        for _ in range(5):
            with pytest.raises(CircuitOpen):
                stripe.call(pytest.fail, "called")
        assert len(wsmon.trial_asks) == 1

    def test_one_whose_call_counts_neither_way_gives_its_place_back(self, wsmon: Fake, stripe: Guard) -> None:
        hear(wsmon, stripe, "OPEN", 0)
        with pytest.raises(KeyboardInterrupt):
            stripe.call(interrupted)
        ((_name, body),) = [one for one in wsmon.reports if "trial" in one[1]]
        assert (body["trial"], body["outcomes"]) == ("trial-1", [])

    def test_a_long_one_is_renewed(self, wsmon: Fake, stripe: Guard) -> None:
        hear(wsmon, stripe, "OPEN", 0)
        stripe.call(time.sleep, 5)
        assert wsmon.trial_asks == [("stripe", {}), ("stripe", {"trial": "trial-1"})]

    def test_a_coroutine_does_not_block_its_loop(self, wsmon: Fake, stripe: Guard) -> None:
        hear(wsmon, stripe, "OPEN", 0)
        wsmon.hang.set()

        async def scenario() -> tuple[BaseException | None, int]:
            call = asyncio.ensure_future(stripe.acall(asyncio.sleep, 0))
            ticks = 0
            while not call.done():
                await asyncio.sleep(0.01)
                ticks += 1
            return call.exception(), ticks

        error, ticks = asyncio.run(scenario())
        assert isinstance(error, CircuitOpen)
        assert ticks > 20

    def test_a_wsmon_that_hangs_holds_a_call_up_for_half_a_second(self, wsmon: Fake, stripe: Guard) -> None:
        hear(wsmon, stripe, "OPEN", 0)
        wsmon.hang.set()
        started = time.monotonic()
        with pytest.raises(CircuitOpen):
            stripe.call(pytest.fail, "called")
        assert 0.4 < time.monotonic() - started < 5

    def test_a_place_that_is_granted_too_late_is_given_back(self, wsmon: Fake, stripe: Guard) -> None:
        hear(wsmon, stripe, "OPEN", 0)
        wsmon.hang.set()
        with pytest.raises(CircuitOpen):
            stripe.call(pytest.fail, "called")
        wsmon.hang.clear()
        wsmon.released.set()
        eventually(lambda: any("trial" in body for _name, body in wsmon.reports), "it is given back")
        assert wsmon.outcomes("stripe") == []


# Without wsmon -----------------------------------------------------------------------------------


class TestAway:
    def test_its_absence_neither_fails_nor_holds_up_a_call(self, connect: Callable[..., Breakers]) -> None:
        stripe = connect(f"http://127.0.0.1:{free_port()}")("stripe")
        started = time.monotonic()
        assert [stripe.call(fine) for _ in range(1000)] == ["fine"] * 1000
        assert time.monotonic() - started < 10  # half a second for each would be minutes

    def test_its_own_calls_open_it_and_a_trial_closes_it(
        self, connect: Callable[..., Breakers], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stripe = connect(f"http://127.0.0.1:{free_port()}")("stripe")
        stripe._local.policy = wsmon_breaker.Policy(recovery_timeout=0.3)
        for _ in range(10):
            stripe.call(fine)
        for number in range(10):
            assert not stripe.is_open, number
            attempt(stripe, fails)
        with pytest.raises(CircuitOpen) as refused:
            stripe.call(fine)
        assert 0.1 <= refused.value.retry_in <= 0.3
        time.sleep(0.35)
        attempt(stripe, fails)  # the trial: open again, for twice as long
        with pytest.raises(CircuitOpen) as refused:
            stripe.call(fine)
        assert 0.4 < refused.value.retry_in <= 0.6
        time.sleep(0.65)
        assert stripe.call(fine) == "fine"
        assert not stripe.is_open

    def test_counting_opens_at_its_threshold(self, connect: Callable[..., Breakers]) -> None:
        stripe = connect(f"http://127.0.0.1:{free_port()}")("stripe")
        stripe._local.policy = wsmon_breaker.Policy(policy="counting")
        for step in "ffffsff":
            assert not stripe.is_open
            stripe.call(fine) if step == "s" else attempt(stripe, fails)
        assert stripe.is_open

    def test_what_it_last_said_holds_until_its_time_and_then_one_trial_is_made(
        self, wsmon: Fake, stripe: Guard
    ) -> None:
        hear(wsmon, stripe, "OPEN", 1.5)
        wsmon.stop()
        with pytest.raises(CircuitOpen):
            stripe.call(fine)
        eventually(lambda: stripe._local.owner.away, "wsmon is away")
        eventually(lambda: not refused_now(stripe), "a trial")
        assert stripe.call(fine) == "fine"
        assert not stripe.is_open

    def test_failures_that_it_did_not_hear_of_open_the_breaker_here(self, wsmon: Fake, stripe: Guard) -> None:
        wsmon.hang.set()
        for _ in range(30):
            attempt(stripe, fails)
        assert not stripe.is_open  # so far it may answer
        eventually(lambda: stripe.is_open, "it opens", within=4)

    def test_what_it_did_not_hear_is_told_when_it_is_back_with_its_time(self, wsmon: Fake, stripe: Guard) -> None:
        wsmon.broken = 503
        attempt(stripe, fails)
        time.sleep(1.5)
        wsmon.broken = None
        eventually(lambda: wsmon.count("stripe", ok=False) == 1, "it is told")
        (one,) = [one for one in wsmon.outcomes("stripe") if not one["ok"]]
        age = wsmon_breaker._time(wsmon.now()) - wsmon_breaker._time(one["at"])
        assert 1.2 < age.total_seconds() < 5
        eventually(lambda: not alone(stripe), "it is heard again")

    def test_a_wsmon_that_asks_to_wait_gets_everything_later(self, wsmon: Fake, stripe: Guard) -> None:
        wsmon.broken = 429
        for _ in range(7):
            attempt(stripe, fails)
        eventually(lambda: alone(stripe), "the answer", within=3)
        wsmon.broken = None
        eventually(lambda: wsmon.count("stripe", ok=False) == 7, "all are told")

    def test_while_there_is_no_stream_it_asks_with_an_etag(
        self, wsmon: Fake, stripe: Guard, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(wsmon_breaker, "POLL", 0.2)
        wsmon.no_stream = True
        wsmon.cut_streams()
        eventually(lambda: ("status", 304) in wsmon.requests, "an answer without content")
        wsmon.say("stripe", "OPEN", 30)
        eventually(lambda: stripe.is_open, "the opening is known")
        wsmon.no_stream = False
        eventually(lambda: wsmon.streams == 1, "a stream again")
        hear(wsmon, stripe)
        assert not stripe.is_open

    def test_a_stream_without_a_byte_is_dead(
        self, wsmon: Fake, stripe: Guard, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(wsmon_breaker, "SILENCE", 0.1)
        wsmon.cut_streams()
        eventually(lambda: wsmon.streams >= 2, "another stream")

    def test_a_wrong_token_leaves_it_alone(self, wsmon: Fake, connect: Callable[..., Breakers]) -> None:
        stripe = connect(wsmon.url, "another-token")("stripe")
        for _ in range(20):
            attempt(stripe, fails)
        assert stripe.is_open
        assert wsmon.reports == []

    def test_a_service_that_it_does_not_know_is_guarded_here(self, wsmon: Fake, stripe: Guard) -> None:
        nowhere = stripe._local.owner("nowhere")
        for _ in range(20):
            attempt(nowhere, fails)
        assert nowhere.is_open
        time.sleep(1.5)
        assert not any(name == "nowhere" for name, _body in wsmon.reports)
        wsmon.say("nowhere", "OPEN", 30)
        eventually(lambda: known(nowhere) is not None, "it has become known")

    def test_a_child_after_fork_has_a_thread_of_its_own(self, wsmon: Fake, stripe: Guard) -> None:
        stripe.call(fine)
        pid = os.fork()
        if pid == 0:
            try:
                for _ in range(3):
                    stripe.call(fine)
                stripe._local.owner.close(5)
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        eventually(lambda: wsmon.count("stripe", ok=True) == 4, "both are told, nothing twice")
        time.sleep(1.2)
        assert wsmon.count("stripe", ok=True) == 4


def refused_now(guard: Guard) -> bool:
    return guard._local._due() > time.monotonic()
