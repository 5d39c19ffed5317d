"""Webhooks through the whole of wsmon: vendors' own libraries sign, and whatever dies meanwhile, nothing is lost."""

from __future__ import annotations

import base64
import json
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
import requests
import stripe
from standardwebhooks import Webhook
from svix.webhooks import Webhook as Svix

from tests.stack.test_processes import Fleet
from tests.webhooks import vendors
from tests.webhooks.receivers import Received, Receiver
from tests.whole import PASSWORD, ROOT, Stack, clean_environment, eventually, free_port
from wsmon.embedded import Server, socket_dir

pytestmark = pytest.mark.stack
Make = Callable[..., Stack]
STRIPE, OURS = "whsec_planted_stripe", f"whsec_{base64.b64encode(b'o' * 32).decode()}"
KEY = f"whsec_{base64.b64encode(b'k' * 32).decode()}"
LONG = 60.0
"""Seconds; a lease of a process that died runs out after the destination's timeout and 15 s."""

CONFIG = """
sources:
  stripe: {{secrets: ["env:HOOK_STRIPE"]}}
  resend: {{secrets: ["env:HOOK_KEY"]}}
  standardwebhooks: {{secrets: ["env:HOOK_KEY"]}}
  twilio: {{secrets: ["env:HOOK_TWILIO"]}}
  sendgrid: {{secrets: ["env:HOOK_SENDGRID"]}}
destinations:
  app: {{url: "{url}", timeout: {timeout}, concurrency: 32, signing_secret: "env:HOOK_OURS",
    retry: [1s, 1s, 1s, 1s, 1s, 1s, 1s, 1s, 1s, 1s, 1s, 1s, 1s, 1s, 1s]}}
routes:
  - {{source: stripe, destination: app}}
  - {{source: resend, destination: app}}
  - {{source: standardwebhooks, destination: app}}
  - {{source: twilio, destination: app}}
  - {{source: sendgrid, destination: app, events: ["email.*"]}}
"""
ACCOUNT = vendors.SendGrid()
SECRETS = {
    "HOOK_STRIPE": STRIPE,
    "HOOK_KEY": KEY,
    "HOOK_TWILIO": vendors.TWILIO_TOKEN,
    "HOOK_SENDGRID": ACCOUNT.public,
    "HOOK_OURS": OURS,
}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as one:
        yield one


@pytest.fixture
def make(make_stack: Make, receiver: Receiver) -> Callable[..., Stack]:
    """A maker of wsmons that send everything to the receiver."""

    def with_config() -> Stack:
        stack = make_stack(SECRETS)
        stack.config.write_text(CONFIG.format(url=receiver.url, timeout="1s"))
        return stack

    return with_config


def asked(stack: Stack, query: str) -> Any:
    """What its own PostgreSQL says, once it answers."""

    def ask() -> Any:
        try:
            with psycopg.connect(host=str(socket_dir(stack.data_dir)), user="wsmon", dbname="wsmon") as connection:
                return connection.execute(query).fetchone()
        except psycopg.Error:
            return None

    return eventually(ask, f"PostgreSQL answers {query}", LONG)


def numbers(ask: Callable[[str], Any]) -> tuple[int, int, int]:
    """Events, deliveries, and how many of these are delivered."""
    events = "SELECT (SELECT count(*) FROM webhooks_event), count(*), count(*) FILTER (WHERE status = 'delivered')"
    found = ask(f"{events} FROM webhooks_delivery")
    return int(found[0]), int(found[1]), int(found[2])


def stripe_signed(number: int) -> tuple[bytes, dict[str, str]]:
    body = json.dumps({"id": f"evt_{number}", "object": "event", "type": "charge.updated", "number": number})
    seconds = int(time.time())
    signature = stripe.WebhookSignature._compute_signature(f"{seconds}.{body}", STRIPE)
    return body.encode(), {"Stripe-Signature": f"t={seconds},v1={signature}", "Content-Type": "application/json"}


@dataclass
class Vendor:
    """Sends each event until somebody says that he has it, as Stripe does; only sooner."""

    url: str
    acknowledged: set[int] = field(default_factory=set)
    again: Counter[str] = field(default_factory=Counter)
    """What kept an event from being acknowledged at once, and how often."""

    def send(self, number: int) -> None:
        give_up = time.monotonic() + 2 * LONG
        while time.monotonic() < give_up:
            body, headers = stripe_signed(number)
            try:
                answer = requests.post(f"{self.url}/api/webhooks/stripe", data=body, headers=headers, timeout=15)
            except requests.RequestException as error:
                self.again[type(error).__name__] += 1
                time.sleep(0.1)
                continue
            if answer.status_code == 200:
                self.acknowledged.add(number)
                return
            self.again[str(answer.status_code)] += 1
            time.sleep(0.1)

    def send_all(self, number: int, threads: int = 8, pace: float = 0.0) -> threading.Thread:
        """So many, at the same time as whatever else happens; join the thread to wait for the last one."""

        def paced(one: int) -> None:
            self.send(one)
            time.sleep(pace)

        def work() -> None:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(paced, range(number)))

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        return thread


def arrived(receiver: Receiver) -> Counter[int]:
    """How often each event arrived."""
    return Counter(json.loads(body)["number"] for body in receiver.bodies())


class TestVendors:
    def signed(self, url: str) -> dict[str, tuple[bytes, dict[str, str]]]:
        now, message = datetime.now(UTC), '{"type": "email.sent", "data": {"email_id": "m1"}}'
        seconds = str(int(now.timestamp()))
        signature = Svix(KEY).sign("msg_1", now, message)
        svix = {"svix-id": "msg_1", "svix-timestamp": seconds, "svix-signature": signature}
        standard = {name.replace("svix", "webhook"): value for name, value in svix.items()}
        standard["webhook-signature"] = Webhook(KEY).sign("msg_1", now, message)
        return {
            "stripe": stripe_signed(1),
            "resend": (message.encode(), svix),
            "standardwebhooks": (message.encode(), standard),
            "twilio": vendors.twilio(f"{url}/api/webhooks/twilio"),
            "communications/twilio": vendors.twilio(f"{url}/api/webhooks/communications/twilio", MessageSid="SM2"),
            "sendgrid": ACCOUNT.signed([{"event": word, "sg_event_id": word} for word in ("open", "click")]),
        }

    def test_what_their_libraries_sign_is_accepted_and_arrives_signed_by_us(self, make: Make, receiver: Receiver):
        stack = make().start()
        for source, (body, headers) in self.signed(stack.url).items():
            where = f"{stack.url}/api/webhooks/{source}"
            for wrong in (body.replace(b"1", b"2") + b" ", b""):
                assert requests.post(where, data=wrong, headers=headers, timeout=10).status_code in (400, 401), source
            name = next(name for name in headers if name.lower().endswith("signature"))
            no_signature = {key: value for key, value in headers.items() if key != name}
            assert requests.post(where, data=body, headers=no_signature, timeout=10).status_code == 401, source
            answer = requests.post(where, data=body, headers=headers, timeout=10)
            assert answer.status_code == 200, (source, answer.text)
        eventually(lambda: len(receiver.received) >= 7, "all of them arrive")
        for one in receiver.received:
            signed_at = datetime.fromtimestamp(int(one.headers["webhook-timestamp"]), UTC)
            signature = Webhook(OURS).sign(one.headers["webhook-id"], signed_at, one.body.decode())
            assert one.headers["webhook-signature"] == signature
        assert sum("stripe-signature" in one.headers for one in receiver.received) == 1
        eventually(lambda: numbers(lambda query: asked(stack, query)) == (7, 7, 7), "the numbers agree")
        refused = "SELECT sum(count) FROM webhooks_refusal"
        eventually(lambda: asked(stack, refused)[0] == 3 * 6, "each refusal is counted")


class TestFaults:
    def test_kill_9_at_random_moments_loses_nothing_that_was_acknowledged(self, make: Make, receiver: Receiver):
        stack = make().start()
        vendor, chance = Vendor(stack.url), random.Random()
        sending = vendor.send_all(300, pace=0.15)
        for _ in range(2):
            time.sleep(chance.uniform(0.2, 1.5))
            known = set(vendor.acknowledged)
            stack.kill()
            stack.start()
            assert known <= vendor.acknowledged
        sending.join(LONG)
        assert len(vendor.acknowledged) == 300
        assert vendor.again, "nothing was interrupted"
        eventually(lambda: set(arrived(receiver)) == set(range(300)), "every one arrives at least once", 3 * LONG)
        eventually(lambda: numbers(lambda query: asked(stack, query)) == (300, 300, 300), "the numbers agree", LONG)
        assert stack.stop() == 0

    def test_postgresql_killed_under_load_loses_nothing_either(self, make: Make, receiver: Receiver):
        stack = make().start()
        vendor = Vendor(stack.url)
        sending = vendor.send_all(300, pace=0.05)
        eventually(lambda: len(receiver.received) > 20, "they arrive")
        stack.postgres()[0].kill()
        sending.join(LONG)
        assert len(vendor.acknowledged) == 300
        assert set(vendor.again) <= {"503"}  # asked to come again, never refused and never an error
        eventually(lambda: set(arrived(receiver)) == set(range(300)), "every one arrives at least once", 3 * LONG)
        eventually(lambda: numbers(lambda query: asked(stack, query)) == (300, 300, 300), "the numbers agree", LONG)


@pytest.fixture
def fleet(make_directory: Callable[[], Path], redis_url: str, receiver: Receiver) -> Iterator[Fleet]:
    """Web, workers and beat as processes of their own, on a PostgreSQL and a Redis that listen on TCP."""
    directory, database_port, port = make_directory(), free_port(), free_port()
    server = Server(directory, durable=False, options={"listen_addresses": "127.0.0.1", "port": str(database_port)})
    server.start()
    redis.Redis.from_url(redis_url).flushall()
    config = directory / "wsmon.yaml"
    # Nothing but a crash may be a reason to send anything twice, no slow machine either.
    config.write_text(CONFIG.format(url=receiver.url, timeout="30s"))
    env = clean_environment(
        DATABASE_URL=f"postgres://wsmon@127.0.0.1:{database_port}/wsmon",
        CELERY_BROKER_URL=redis_url,
        WSMON_PRODUCTION="0",  # no TLS proxy here
        WSMON_SECRET_KEY="k" * 60,
        WSMON_ENCRYPTION_KEYS="e" * 40,
        WSMON_ADMIN_PASSWORD=PASSWORD,
        WSMON_CONFIG=str(config),
        WSMON_ALLOW_PRIVATE_TARGETS="127.0.0.0/8",
        **SECRETS,
    )
    made = Fleet(directory, env, port)
    command = [sys.executable, "manage.py", "prepare"]
    prepared = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert prepared.returncode == 0, prepared.stderr
    yield made
    for process in made.processes.values():
        process.kill()
        process.wait()
    server.stop()


@pytest.mark.redis
def test_4000_events_through_two_workers_and_an_emptied_broker_are_neither_lost_nor_sent_twice(
    fleet: Fleet, redis_url: str, receiver: Receiver
) -> None:
    fired: Counter[int] = Counter()

    def count(request: Received) -> tuple[int, dict[str, str], bytes]:
        fired[json.loads(request.body)["number"]] += 1
        return 200, {}, b"ok"

    receiver.answer = count
    for name in ("web", "worker", "worker2", "beat"):
        fleet.run(name)
    vendor = Vendor(f"http://127.0.0.1:{fleet.port}")
    sending = vendor.send_all(4_000, threads=16)
    eventually(lambda: len(fired) > 500, "they arrive", LONG)
    redis.Redis.from_url(redis_url).flushall()
    sending.join(2 * LONG)
    assert len(vendor.acknowledged) == 4_000
    eventually(lambda: len(fired) == 4_000, "every one arrives", LONG)

    def ask(query: str) -> Any:
        with psycopg.connect(fleet.env["DATABASE_URL"]) as connection:
            return connection.execute(query).fetchone()

    eventually(lambda: numbers(ask) == (4_000, 4_000, 4_000), "the numbers agree", LONG)
    assert set(fired.values()) == {1}
    assert ask("SELECT count(*) FROM webhook_delivery_log WHERE ok")[0] == 4_000
    assert ask("SELECT sum(delivered) FROM webhooks_deliverycount WHERE level = 60")[0] == 4_000
    for name in ("worker", "worker2", "beat"):
        assert fleet.stop(name) == 0, fleet.log(name)
        assert "Traceback" not in fleet.log(name), fleet.log(name)
