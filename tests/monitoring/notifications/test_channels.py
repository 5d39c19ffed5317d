"""Channels of every kind: addresses, Apprise, SMS, and the guard against private addresses."""

from __future__ import annotations

import threading
from datetime import timedelta
from urllib.parse import parse_qs
from zoneinfo import ZoneInfo

import pytest

from monitoring import variables
from monitoring.models import Channel, Credential
from monitoring.notifications import bridge, channels, deadlines, sms
from monitoring.notifications.messages import Line, Message, Story, compose, duration, gather
from monitoring.notifications.problems import ChannelProblem
from monitoring.notifications.routing import What
from providers.twilio import SmsProblem
from tests import servers
from tests.monitoring.factories import make_service
from tests.monitoring.notifications.factories import Sink, in_turn, make_channel
from tests.monitoring.notifications.test_mail import MESSAGE
from wsmon.net import Guard
from wsmon.secrets import encrypt

ANYWHERE = Guard(servers.LOOPBACK)


def problem(address: str, guard: Guard = ANYWHERE, message: Message = MESSAGE) -> ChannelProblem:
    with pytest.raises(ChannelProblem) as found:
        bridge.send(address, message, guard, 2)
    return found.value


class TestAddresses:
    @pytest.mark.parametrize(
        "address",
        [
            "json://example.com/hook",
            "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/",
            "smtps://u:p@example.com/?from=a@b.c&to=d@e.f",
            "twilio:+15551234567,+4915112345678",
            "webpush:*",
            "webpush:ana",
        ],
    )
    def test_these_are_fine(self, address: str) -> None:
        assert channels.check(address) is None

    @pytest.mark.parametrize(
        ("address", "words"),
        [
            ("nothing", "Apprise"),
            ("nosuch://x", "Apprise"),
            ("slack://x", "Apprise"),
            ("syslog://", "nobody but this machine"),
            ("twilio:5551234", "telephone numbers"),
            ("twilio:" + ",".join(["+15551234567"] * 21), "20 numbers"),
            ("webpush:", "user name"),
            ("smtp://h", "from="),
            ("json://a\nb", "one line"),
        ],
    )
    def test_these_are_not(self, address: str, words: str) -> None:
        assert words in (channels.check(address) or "")

    def test_where_it_comes_from(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OPS_URL", "json://example.com")
        assert channels.address_of(Channel(reference="env:OPS_URL")) == "json://example.com"
        assert channels.address_of(Channel(encrypted=encrypt("json://x"))) == "json://x"
        assert channels.address_of(Channel(reference="webpush:*")) == "webpush:*"
        assert channels.kind_of(Channel(reference="webpush:*")) == "browsers"
        assert channels.kind_of(Channel(reference="env:NO_SUCH")) == "not configured"
        with pytest.raises(ChannelProblem, match="NO_SUCH"):
            channels.address_of(Channel(reference="env:NO_SUCH"))

    def test_a_mail_address_that_was_changed_to_nonsense(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OPS_URL", "smtp://h")
        with pytest.raises(ChannelProblem, match="the address must say from="):
            channels.send(Channel(reference="env:OPS_URL"), MESSAGE)


class TestApprise:
    def test_a_private_address_is_refused(self) -> None:
        with Sink() as sink:
            found = problem(sink.address, Guard())
            assert (found.retry, "loopback" in found.text) == (False, True)
            assert "localhost" in problem(f"json://localhost:{sink.port}/", Guard()).text
            assert sink.requests == []

    def test_a_redirect_is_not_followed(self) -> None:
        with Sink() as elsewhere, Sink(servers.redirecting(elsewhere.url("/x"), "307 Temporary")) as sink:
            assert "307" in problem(sink.address).text
            assert elsewhere.requests == []

    def test_a_token_in_the_place_of_a_host_is_no_host(self, monkeypatch: pytest.MonkeyPatch) -> None:
        looked: list[str] = []
        monkeypatch.setattr(bridge, "resolve", lambda host, _exchange: looked.append(host) or ["1.1.1.1"])
        plugin = bridge._plugin("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/")
        bridge._guarded(plugin, Guard(), 1)
        bridge._guarded(bridge._plugin("json://example.com/"), Guard(), 1)
        assert looked == ["example.com"]

    @pytest.mark.parametrize(
        ("status", "retry"),
        [
            ("500 x", True),
            ("503 x", True),
            ("429 x", True),
            ("401 x", False),
            ("403 x", False),
            ("404 x", False),
            ("400 x", False),
        ],
    )
    def test_answers(self, status: str, retry: bool) -> None:
        with Sink(in_turn(servers.http(status=status))) as sink:
            found = problem(sink.address)
        assert (found.retry, found.text) == (retry, f"JSON answered {status[:3]}")

    def test_nobody_there(self) -> None:
        with servers.refusing_port() as port:
            found = problem(f"json://127.0.0.1:{port}/")
        assert (found.retry, found.text) == (True, "no connection to JSON")
        assert problem("json://no-such-host.invalid/").retry

    def test_a_plugin_that_breaks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        plugin = bridge._plugin("json://127.0.0.1:9/")
        monkeypatch.setattr(bridge, "_plugin", lambda _url: plugin)

        def fail(**_: object) -> bool:
            raise RuntimeError("secret")

        monkeypatch.setattr(plugin, "notify", fail)
        assert problem("json://x").text == "JSON failed (RuntimeError)"
        monkeypatch.setattr(plugin, "notify", lambda **_: False)
        assert problem("json://x").text == "JSON did not take it"
        monkeypatch.setattr(bridge, "_plugin", lambda _url: None)
        assert problem("json://x").retry is False

    def test_a_service_that_takes_little_gets_the_short_form(self) -> None:
        class Small:
            body_maxlen = 160

        class Middle:
            body_maxlen = 500

        assert bridge._body(Small(), MESSAGE) == MESSAGE.short
        long = Message("1", "opened", "critical", "t", "x" * 900)
        assert len(bridge._body(Middle(), long)) == 500


class TestDeadlines:
    def test_what_takes_too_long_is_left_behind(self) -> None:
        release = threading.Event()
        with pytest.raises(ChannelProblem, match=r"the channel did not answer within 0.05 s"):
            deadlines.within(0.05, lambda: release.wait(5) and None, "the channel")
        release.set()
        deadlines.within(5, lambda: None, "x")

    def test_too_many_of_them_are_not_added_to(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(deadlines, "MOST_LEFT_BEHIND", 0)
        with pytest.raises(ChannelProblem, match="still hang"):
            deadlines.within(5, lambda: None, "x")


@pytest.mark.django_db
class TestSms:
    def twilio(self, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
        service = make_service("twilio", "twilio")
        values = {
            "TWILIO_ACCOUNT_SID": "AC" + "1" * 32,
            "TWILIO_AUTH_TOKEN": "the-auth-token",
            "TWILIO_FROM": "+15550001111",
        }
        for name, value in values.items():
            Credential.objects.create(service=service, variable=name, encrypted=encrypt(value))
        monkeypatch.setenv("TWILIO_API_BASE", url.rstrip("/"))
        variables.forget()

    def test_each_number_gets_the_short_form(self, loopback_targets: None, monkeypatch: pytest.MonkeyPatch) -> None:
        with Sink(servers.answering(b'{"sid": "SM1"}', "201 Created", {"Content-Type": "application/json"})) as sink:
            self.twilio(monkeypatch, sink.url())
            channels.send(make_channel(address="twilio:+15551234567,+15557654321"), MESSAGE)
        forms = [parse_qs(request.partition(b"\r\n\r\n")[2].decode()) for request in sink.requests]
        assert [form["To"] for form in forms] == [["+15551234567"], ["+15557654321"]]
        assert forms[0]["From"] == ["+15550001111"]
        assert forms[0]["Body"] == ["CRITICAL Stripe is down http://wsmon.test/ack/x/"]
        assert sink.requests[0].startswith(b"POST /2010-04-01/Accounts/AC1111")

    @pytest.mark.parametrize(
        ("status", "body", "retry"),
        [
            ("401 Unauthorized", b'{"code": 20003, "message": "Authenticate"}', False),
            ("400 Bad Request", b'{"code": 21211, "message": "not a valid phone number"}', False),
            ("429 Too Many", b'{"code": 20429, "message": "Too many"}', True),
            ("503 Oops", b"", True),
        ],
    )
    def test_what_twilio_says(
        self, status: str, body: bytes, retry: bool, loopback_targets: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        headers = {"Content-Type": "application/json", "Retry-After": "7"}
        with Sink(servers.answering(body, status, headers)) as sink:
            self.twilio(monkeypatch, sink.url())
            with pytest.raises(ChannelProblem) as found:
                channels.send(make_channel(address="twilio:+15551234567"), MESSAGE)
        assert found.value.retry is retry
        assert "the-auth-token" not in found.value.text
        assert found.value.retry_after == (7 if status.startswith("429") else None)

    def test_what_is_missing_is_named(self) -> None:
        with pytest.raises(ChannelProblem, match="TWILIO_ACCOUNT_SID"):
            channels.send(make_channel(address="twilio:+15551234567"), MESSAGE)

    def test_some_who_did_not_get_it_are_no_reason_to_tell_the_others_again(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def send_sms(_http: object, _values: object, to: str, *_: object) -> None:
            if to.endswith("1"):
                raise SmsProblem("no such number", retry=True)

        monkeypatch.setattr(sms, "send_sms", send_sms)
        with pytest.raises(ChannelProblem, match="1 of 2 did not get it: no such number") as found:
            sms.send("twilio:+15551234561,+15551234562", MESSAGE, 5)
        assert not found.value.retry

    def test_nobody_answers(self, loopback_targets: None, monkeypatch: pytest.MonkeyPatch) -> None:
        with servers.refusing_port() as port:
            self.twilio(monkeypatch, f"http://127.0.0.1:{port}")
            with pytest.raises(ChannelProblem) as found:
                channels.send(make_channel(address="twilio:+15551234567"), MESSAGE)
        assert found.value.retry

    def test_a_credential_that_leads_nowhere(self) -> None:
        service = make_service("twilio", "twilio")
        Credential.objects.create(service=service, variable="TWILIO_AUTH_TOKEN", reference="env:NO_SUCH")
        with pytest.raises(ChannelProblem, match="NO_SUCH"):
            channels.send(make_channel(address="twilio:+15551234567"), MESSAGE)


class TestWords:
    def test_a_message_ends_with_its_links(self) -> None:
        assert MESSAGE.text.splitlines()[-2:] == [
            "Acknowledge: http://wsmon.test/ack/x/",
            "Look at it: http://wsmon.test/incidents/1/",
        ]

    def test_the_short_form_keeps_its_link_whole(self) -> None:
        long = Message("1", "opened", "critical", "x" * 900, "", "http://wsmon.test/" + "y" * 40)
        assert len(long.short) == 300
        assert long.short.endswith("y" * 40)
        over = Message("1", "resolved", "critical", "Resolved: Stripe", "")
        assert over.short == "Resolved: Stripe"

    def test_an_end_says_how_long_it_took(self) -> None:
        opened = MESSAGE.at
        assert opened is not None
        story = Story("critical", "Stripe", "", "Stripe", opened, opened + timedelta(minutes=41))
        title, body = compose(What.RESOLVED, story, ZoneInfo("Europe/Berlin"))
        assert title == "Resolved: Stripe"
        assert body == "Service: Stripe\nFrom 10 Jun 14:00 CEST to 10 Jun 14:41 CEST (41 min)"

    @pytest.mark.parametrize(
        ("seconds", "words"),
        [
            (0, "0 s"),
            (119, "119 s"),
            (600, "10 min"),
            (7200, "2 h"),
            (7500, "2 h 5 min"),
            (172_800, "2 d"),
            (180_000, "2 d 2 h"),
        ],
    )
    def test_durations(self, seconds: float, words: str) -> None:
        assert duration(seconds) == words

    def test_a_gathered_message_names_the_most_urgent(self) -> None:
        at = MESSAGE.at
        assert at is not None
        lines = [Line("opened", "info", f"i{n}", at) for n in range(12)]
        lines += [Line("opened", "critical", "worst", at, over=True), Line("resolved", "warning", "Resolved: w", at)]
        severity, title, body = gather(lines, "storm", ZoneInfo("UTC"))
        assert (severity, title) == ("critical", "13 alerts, 1 resolved (1 critical)")
        assert "worst (over)" in body
        assert "and 4 more" in body
        assert gather(lines[:1], "digest", ZoneInfo("UTC"))[1] == "1 alert"
