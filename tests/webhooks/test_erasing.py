"""webhooks/erasing.py, mentions.py, traces.py and ``manage.py erase``: afterwards a person is nowhere."""

from __future__ import annotations

import contextlib
import io
import json
import uuid
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.webhooks.factories import make_attempt, make_delivery, make_event, make_source
from webhooks import erasing, sealing, search
from webhooks.mentions import BadSubject, Subject
from webhooks.models import Attempt, Delivery, Erasure, Event, EventTokens, IdempotencyKey, Message, Replay
from webhooks.sealing import Content, Exchanged
from webhooks.vocabulary import DeliveryStatus
from wsmon import secrets
from wsmon.audit import Actor, record
from wsmon.ids import uuid7
from wsmon.models import AuditEntry

JANE = "jane.doe@example.com"
OTHER = "john@example.com"
OPERATOR = Actor.system("operator")


# What mentions somebody ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("subject", "text"),
    [
        (JANE, '{"to": "Jane.Doe@Example.com"}'),
        (JANE, "To=jane.doe%40example.com&x=1"),
        (JANE, r'{"to": "jane.doe\u0040example.com"}'),
        (JANE, r'{"raw": "{\"to\":\"jane.doe@example.com\"}"}'),
        (JANE, r'{"raw": "{\"to\":\"jane.doe\\u0040example.com\"}"}'),
        (JANE, "Write to jane.doe@example.com."),
        (JANE, "<jane.doe@example.com>"),
        (JANE, r'"\njane.doe@example.com\n"'),
        ("jane+x@example.com", "To=jane%2Bx%40example.com"),
        ("cus_1", '{"customer": "cus_1"}'),
        ("cus_1", "/v1/customers/cus_1/sources"),
        ("ab/cd", r'{"id": "ab\/cd"}'),
        ("+49 170 1234567", '{"from": "491701234567"}'),
        ("+491701234567", "call +49 (170) 123-4567 now"),
        ("+491701234567", "From=whatsapp%3A%2B491701234567"),
        ("0049 170 1234567", "tel:+491701234567"),
        ("Jane Doe", "name=Jane+Doe"),
        ("Jane Doe", "name=Jane%20Doe"),
        ("Müller", '{"name": "M\\u00fcller"}'),
    ],
)
def test_a_subject_is_found_in_every_writing(subject: str, text: str) -> None:
    assert Subject(subject).in_text(text)
    assert Subject(subject).in_bytes(text.encode())


@pytest.mark.parametrize(
    ("subject", "text"),
    [
        (JANE, "mary.jane.doe@example.com"),
        (JANE, "mary-jane.doe@example.com"),
        (JANE, "jane.doe@example.com.au"),
        (JANE, "jane.doe@example.commerce"),
        (JANE, "janeXdoe@example.com"),
        ("cus_1", "cus_12"),
        ("cus_1", "xcus_1"),
        ("+491701234567", "4917012345678"),
        ("+491701234567", "id 1491701234567"),
    ],
)
def test_somebody_else_is_not_taken_for_the_subject(subject: str, text: str) -> None:
    assert not Subject(subject).in_text(text)


@settings(deadline=None)
@given(st.emails(), st.sampled_from(["", " ", "\n", '"', "ü", "=", "&"]))
def test_an_address_is_found_however_it_is_escaped(address: str, beside: str) -> None:
    subject = Subject(address)
    text = f" {beside} {address} {beside} "
    for written in (text, json.dumps(text), json.dumps(json.dumps(text)), quote(text), quote_plus(text)):
        assert subject.in_bytes(written.encode())
    assert subject.in_bytes(text.encode("utf-16"))


@pytest.mark.parametrize("text", ["", "a@b", "   \n ", "x" * 256, "....", "ab\x00cd"])
def test_what_means_nobody_in_particular_is_refused(text: str) -> None:
    with pytest.raises(BadSubject) as refused:
        Subject(text)
    assert not text.strip() or text not in str(refused.value)


def test_a_subject_shows_itself_nowhere() -> None:
    assert JANE not in repr(Subject(JANE))
    assert Subject(JANE).digest == Subject(JANE.upper()).digest
    assert Subject(JANE).digest != Subject(OTHER).digest


# Erasing ------------------------------------------------------------------------------------------


def finish(erasure: Erasure) -> Erasure:
    while erasing.step(erasure.id):
        pass
    erasure.refresh_from_db()
    return erasure


def erase(subject: str = JANE, reason: str = "she asked") -> Erasure:
    return finish(erasing.start(Subject(subject), OPERATOR, reason))


def everything() -> str:
    """All text in all tables, with what is encrypted decrypted."""
    texts: list[str] = []
    with connection.cursor() as cursor:
        tables = connection.introspection.table_names(cursor)
        for table in tables:
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
            for row in cursor.fetchall():
                texts += [_plain(value) for value in row if value is not None]
    return "\n".join(texts).casefold()


def _plain(value: Any) -> str:
    if not isinstance(value, bytes | memoryview):
        return str(value)
    raw = bytes(value)
    with contextlib.suppress(secrets.Unresolvable):
        raw = secrets.unseal(raw)
    return raw.decode("utf-8", "replace")


@pytest.mark.django_db
def test_afterwards_the_subject_is_in_no_table() -> None:
    source = make_source("resend", provider="resend")
    in_body = make_event(source, {"to": [JANE], "from": OTHER}, key=f"evt:{JANE}", subject=JANE)
    in_url = make_event(source, url=f"https://example.com/hook?who={JANE}")
    in_header = make_event(source, headers=[("x-customer", JANE)], verification={"seen": JANE})
    in_answer = make_event(source, {"to": OTHER})
    answer = Exchanged([("x", "y")], [("content-type", "text/plain")], f"no mailbox {JANE}".encode())
    make_attempt(make_delivery(in_answer), exchanged=answer, message=f"refused {JANE}")
    make_delivery(in_body, order_key=JANE, message=f"for {JANE}")
    make_attempt(make_delivery(in_body, status=DeliveryStatus.FAILED))
    Message.objects.create(
        source=source, subject=JANE, status="sent", rank=1, changed_at=timezone.now(), event_id=in_body.id
    )
    Replay.objects.create(created_by="x", reason=f"for {JANE}", selection={"q": JANE, "types": [JANE]})
    IdempotencyKey.objects.create(scope="publish", key="k", digest="", answer={"to": JANE})
    record(OPERATOR, "replay.start", "replay:1", f"{JANE} complained", q=f"to={JANE}")
    search.index_some()
    assert f'{{"to": ["{JANE}"]' in everything()
    assert f"no mailbox {JANE}" in everything()

    receipt = erase(reason=f"on behalf of {JANE}")

    assert JANE not in everything()
    assert (receipt.events, receipt.attempts, receipt.status) == (3, 2, "done")
    assert receipt.messages == 1
    assert receipt.mentions == 3
    for event in (in_body, in_url, in_header):
        event.refresh_from_db()
        assert event.sealed is None
        assert event.erased_at is not None
        assert not EventTokens.objects.filter(event=event).exists()
    in_answer.refresh_from_db()
    assert in_answer.sealed is not None


@pytest.mark.django_db
def test_what_does_not_mention_the_subject_stays_as_it_is() -> None:
    other = make_event(data={"to": OTHER, "cc": f"mary-{JANE}"})
    attempt = make_attempt(make_delivery(other))
    before = Event.objects.filter(id=other.id).values().get()
    assert erase().events == 0
    assert Event.objects.filter(id=other.id).values().get() == before
    attempt.refresh_from_db()
    assert attempt.sealed is not None
    assert attempt.message


@pytest.mark.django_db
def test_metadata_of_an_erased_event_stays() -> None:
    event = make_event(data={"to": JANE}, subject="msg_1", message_status="sent")
    erase()
    after = Event.objects.get(id=event.id)
    assert (after.key, after.type, after.subject, after.message_status) == (event.key, event.type, "msg_1", "sent")
    assert after.received_at == event.received_at


@pytest.mark.django_db
def test_keys_that_named_the_subject_stay_unique_and_the_same() -> None:
    source = make_source()
    first, second = (make_event(source, key=f"{number}:{JANE}") for number in (1, 2))
    erase()
    keys = [Event.objects.get(id=event.id).key for event in (first, second)]
    assert keys == [erasing.replacement(f"{number}:{JANE}") for number in (1, 2)]
    assert len(set(keys)) == 2


@pytest.mark.django_db
def test_what_was_still_to_be_delivered_is_cancelled() -> None:
    delivery = make_delivery(make_event(data={"to": JANE}), status=DeliveryStatus.RETRYING)
    erase()
    delivery.refresh_from_db()
    assert delivery.status == DeliveryStatus.CANCELLED
    assert delivery.finished_at is not None


@pytest.mark.django_db
def test_the_request_of_a_batch_goes_when_any_of_its_events_mentions_the_subject() -> None:
    source = make_source(provider="sendgrid")
    whole = sealing.seal(Content([], "", json.dumps([{"email": OTHER}, {"email": JANE}]).encode()))
    first = make_event(source, {"email": OTHER}, request=whole)
    second = make_event(source, {"email": JANE}, batch=first.id)
    erase()
    first.refresh_from_db()
    second.refresh_from_db()
    assert first.request is None
    assert first.sealed is not None
    assert first.erased_at is None
    assert second.sealed is None


@pytest.mark.django_db
def test_it_goes_on_where_it_was_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasing, "CHUNK", 2)
    source = make_source()
    for number in range(7):
        make_event(source, {"to": JANE if number % 2 else OTHER}, indexed=True)
    erasure = erasing.start(Subject(JANE), OPERATOR, "")
    assert erasing.step(erasure.id)  # by the index: nothing
    assert erasing.step(erasure.id)
    erasure.refresh_from_db()
    assert erasure.scanned == 2
    monkeypatch.setattr(erasing, "look", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        erasing.step(erasure.id)
    monkeypatch.undo()
    monkeypatch.setattr(erasing, "CHUNK", 2)
    assert erasing.run_due() > 0
    erasure.refresh_from_db()
    assert (erasure.scanned, erasure.events, erasure.status) == (7, 3, "done")
    assert erasing.run_due() == 0


@pytest.mark.django_db
def test_the_index_finds_most_of_it_in_the_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasing, "CHUNK", 1)
    source = make_source()
    for _ in range(3):
        make_event(source, {"to": OTHER})
    last = make_event(source, {"data": {"to": JANE}})
    search.index_some()
    erasure = erasing.start(Subject(JANE), OPERATOR, "")
    erasing.step(erasure.id)
    last.refresh_from_db()
    assert last.sealed is None
    assert finish(erasure).events == 1


@pytest.mark.django_db
def test_the_same_subject_twice_at_once_is_one_erasure() -> None:
    first = erasing.start(Subject(JANE), OPERATOR, "")
    assert erasing.start(Subject(JANE.upper()), OPERATOR, "") == first
    finish(first)
    assert erasing.start(Subject(JANE), OPERATOR, "") != first
    assert AuditEntry.objects.filter(action="webhooks.erase").count() == 2


@pytest.mark.django_db
def test_the_subject_is_kept_encrypted_while_it_runs_and_not_longer() -> None:
    erasure = erasing.start(Subject(JANE), OPERATOR, "x")
    assert JANE.encode() not in bytes(erasure.sealed or b"")
    finish(erasure)
    assert erasure.sealed is None
    assert AuditEntry.objects.get().details == {"subject": Subject(JANE).digest}


@pytest.mark.django_db
def test_what_a_try_under_way_wrote_afterwards_is_swept() -> None:
    event = make_event(data={"to": JANE})
    delivery = make_delivery(event, status=DeliveryStatus.DELIVERING)
    erase()
    late = make_attempt(delivery, exchanged=Exchanged([("to", JANE)]))
    other = make_attempt()
    assert erasing.sweep() == 1
    late.refresh_from_db()
    other.refresh_from_db()
    assert late.sealed is None
    assert other.sealed is not None


@pytest.mark.django_db
def test_what_no_key_opens_is_counted(settings: Any) -> None:
    make_attempt(make_delivery(make_event(data={"to": JANE})))
    settings.ENCRYPTION_KEYS = ["another-key"]
    receipt = erase()
    assert (receipt.events, receipt.unreadable) == (0, 2)


@pytest.mark.django_db
def test_events_that_come_later_are_not_touched() -> None:
    erasure = erasing.start(Subject(JANE), OPERATOR, "")
    later = make_event(data={"to": JANE}, id=uuid7(timezone.now().timestamp() + 60))
    finish(erasure)
    later.refresh_from_db()
    assert later.sealed is not None


@pytest.mark.django_db
def test_a_dry_run_counts_and_changes_nothing() -> None:
    event = make_event(data={"to": JANE})
    make_attempt(make_delivery(event), exchanged=Exchanged([("to", JANE)]))
    found = erasing.dry_run(Subject(JANE))
    assert (found.events, found.attempts, found.scanned) == (1, 1, 1)
    event.refresh_from_db()
    assert event.sealed is not None
    assert not Erasure.objects.exists()
    assert not AuditEntry.objects.exists()


# The command --------------------------------------------------------------------------------------


def command(*arguments: str, **options: Any) -> tuple[dict[str, Any], str]:
    out, err = io.StringIO(), io.StringIO()
    call_command("erase", *arguments, stdout=out, stderr=err, **options)
    return json.loads(out.getvalue()), out.getvalue() + err.getvalue()


@pytest.mark.django_db
def test_the_command_erases_and_prints_a_receipt_without_the_subject() -> None:
    make_event(data={"to": JANE})
    receipt, printed = command(JANE, "--reason", "she asked")
    assert receipt["events"] == 1
    assert receipt["status"] == "done"
    assert JANE not in printed
    assert Erasure.objects.get(id=uuid.UUID(receipt["id"])).by == "manage.py erase"


@pytest.mark.django_db
def test_the_command_takes_the_subject_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    make_event(data={"to": JANE})
    monkeypatch.setattr("sys.stdin", io.StringIO(JANE + "\n"))
    assert command("-", "--reason", "she asked")[0]["events"] == 1


@pytest.mark.django_db
def test_the_command_tells_what_would_go() -> None:
    make_event(data={"to": JANE})
    assert command(JANE, "--dry-run")[0]["events"] == 1
    assert not Event.objects.filter(sealed=None).exists()


@pytest.mark.django_db
@pytest.mark.parametrize("arguments", [("ab", "--reason", "x"), (JANE,), (JANE, "--reason", " ")])
def test_the_command_wants_a_subject_and_a_reason(arguments: tuple[str, ...]) -> None:
    with pytest.raises(CommandError):
        command(*arguments)


@pytest.mark.django_db
def test_attempts_and_deliveries_are_counted_once() -> None:
    event = make_event(data={"to": JANE})
    make_attempt(make_delivery(event), exchanged=Exchanged([("to", JANE)]))
    search.index_some()
    receipt = erase()
    assert (receipt.events, receipt.attempts) == (1, 1)
    assert Attempt.objects.get().sealed is None
    assert Delivery.objects.get().status == DeliveryStatus.CANCELLED
