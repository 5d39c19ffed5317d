"""``webhooks.search``: finding encrypted events by what stands in them."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from tests.webhooks.factories import JSON_TYPE, make_delivery, make_event, make_source
from webhooks import search
from webhooks.filters import Filter
from webhooks.models import Event, EventTokens
from webhooks.sealing import Content

PAYMENT = {
    "id": "evt_payment",
    "livemode": False,
    "data": {
        "object": {
            "id": "pi_3Abc",
            "amount": 4200,
            "rate": 1.50,
            "customer": "cus_1",
            "name": "Anna Müller-Lüdenscheidt",
            "note": "Deposit for the wedding (hall 7).",
            "items": [{"price": "price_1", "tags": ["a", "b"]}, {"price": "price_2"}],
            "nothing": None,
            "empty": "",
        }
    },
}
FORM = [("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")]

pytestmark = pytest.mark.django_db


def found(query: str) -> set[Any]:
    return set(Filter(q=query).events().values_list("id", flat=True))


@pytest.mark.parametrize("few", [0, 1, 2, 200])
def test_it_finds_the_same_whether_few_fit_or_many(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "FEW", few)
    source = make_source()
    events = [make_event(source, key=f"evt_{n}", body=b'{"hall": "seven"}') for n in range(2)]
    deliveries = {make_delivery(event).id for event in events}
    search.index_some()
    assert found("seven") == {event.id for event in events}
    assert set(Filter(q="seven").deliveries().values_list("id", flat=True)) == deliveries
    assert found("evt_1 seven") == {events[1].id}
    assert found("eight") == set()
    assert not Filter(q="eight").deliveries().exists()


def test_what_nobody_has_takes_no_query_of_deliveries() -> None:
    make_delivery()
    search.index_some()
    rows = Filter(q="nowhere").deliveries()
    with CaptureQueriesContext(connection) as queries:
        assert not rows.exists()
    assert len(queries) == 0


class TestFinding:
    """What a query finds."""

    @pytest.mark.parametrize(
        "query",
        [
            "evt_payment",
            "pi_3Abc",
            "PI_3abc",
            "4200",
            "cus_1",
            "price_2",
            "Anna",
            "anna müller-lüdenscheidt",
            "müller-lüdenscheidt",
            "lüdenscheidt",
            '"Anna Müller-Lüdenscheidt"',
            '"anna  müller-lüdenscheidt"',
            "wedding deposit",
            "hall",
            "(hall",
            "7",
            "data.object.customer=cus_1",
            "$.data.object.customer=CUS_1",
            "data.object.items.price=price_1",
            "data.object.items[0].price=price_2",
            "data.object.items[*].price=price_2",
            "$.data.object.items.1.price=price_2",
            "data.object.items.tags=b",
            "data.object.amount=4200",
            "data.object.rate=1.5",
            "livemode=false",
            'data.object.name="Anna Müller-Lüdenscheidt"',
            "type.of.it",
            "type.*",
            "*.it cus_1",
            "Subject-9",
            "the-key",
            "cus_1 data.object.amount=4200 wedding",
        ],
    )
    def test_it_finds_an_event_by(self, query: str) -> None:
        source = make_source()
        wanted = make_event(source, PAYMENT, key="the-key", type="type.of.it", subject="subject-9")
        make_event(source, {"data": {"object": {"name": "somebody else"}}}, type="other")
        assert search.index_some() == 2
        assert found(query) == {wanted.id}

    @pytest.mark.parametrize(
        "query",
        [
            "cus_2",
            "cus",
            "cus_1 nobody",
            "customer=cus_1",
            "data.object.customer=cus_2",
            "data.object.items.price=cus_1",
            '"Anna"x',
            "otype.*",
            "type.* zzz.*",
            "=",
            "a=",
            "=b",
            "...",
            "%",
        ],
    )
    def test_it_finds_nothing_by(self, query: str) -> None:
        make_event(make_source(), PAYMENT, type="type.of.it")
        search.index_some()
        assert found(query) == set()

    @pytest.mark.parametrize("query", ["", "  ", "*"])
    def test_it_finds_everything_by_nothing(self, query: str) -> None:
        event = make_event()
        assert found(query) == {event.id}

    def test_a_lone_quote_is_left_out(self) -> None:
        wanted = make_event(data={"name": "anna"})
        search.index_some()
        assert found('anna"') == {wanted.id}
        assert found('"') == set()

    def test_it_finds_what_a_form_holds(self) -> None:
        body = b"MessageSid=SM1&MessageStatus=delivered&To=%2B4930123&Body=see+you"
        wanted = make_event(body=body, headers=FORM)
        search.index_some()
        for query in ("MessageStatus=delivered", "SM1", "+4930123", "To=+4930123", '"see you"', "you"):
            assert found(query) == {wanted.id}, query

    def test_it_finds_words_of_a_body_that_is_no_json(self) -> None:
        wanted = make_event(body=b'{"broken": anna', headers=JSON_TYPE)
        binary = make_event(body=b"\xff\x00\xfe", headers=JSON_TYPE)
        search.index_some()
        assert found("anna") == {wanted.id}
        assert Event.objects.get(id=binary.id).indexed

    def test_it_finds_an_event_by_its_id_before_it_is_indexed(self) -> None:
        wanted = make_event(key="evt_new")
        make_event()
        assert found(str(wanted.id)) == {wanted.id}
        assert found("evt_new") == {wanted.id}

    def test_two_sources_may_know_the_same_key(self) -> None:
        both = {make_event(key="evt_1").id, make_event(key="evt_1").id}
        assert found("evt_1") == both

    def test_it_finds_an_erased_event_by_its_names_only(self) -> None:
        wanted = make_event(data=PAYMENT, key="evt_gone", sealed=None)
        search.index_some()
        assert found("evt_gone") == {wanted.id}
        assert found("cus_1") == set()


class TestIndexing:
    """``index_some``."""

    def test_it_takes_as_many_as_it_is_told_the_oldest_first(self) -> None:
        source = make_source()
        made = sorted(make_event(source).id for _ in range(5))
        assert search.index_some(2) == 2
        assert set(Event.objects.filter(indexed=True).values_list("id", flat=True)) == {made[0], made[1]}
        assert [search.index_some(2), search.index_some(2), search.index_some(2)] == [2, 1, 0]
        assert EventTokens.objects.count() == 5

    def test_it_costs_the_same_queries_for_one_and_for_many(self) -> None:
        source = make_source()
        make_event(source)
        with CaptureQueriesContext(connection) as one:
            search.index_some()
        for _ in range(20):
            make_event(source)
        with CaptureQueriesContext(connection) as many:
            search.index_some()
        assert len(one) == len(many)

    def test_an_event_indexed_again_has_its_new_tokens(self) -> None:
        event = make_event(data={"a": "old"})
        search.index_some()
        Event.objects.filter(id=event.id).update(indexed=False, sealed=None)
        search.index_some()
        assert found("old") == set()

    @pytest.mark.django_db(transaction=True)
    def test_two_at_once_do_not_take_the_same_events(self) -> None:
        source = make_source()
        for _ in range(4):
            make_event(source)
        taken: list[int] = []

        def other() -> None:
            taken.append(search.index_some(10))
            connection.close()

        with transaction.atomic():
            assert search.index_some(2) == 2
            thread = threading.Thread(target=other)
            thread.start()
            thread.join(20)
        assert taken == [2]

    def test_nothing_readable_is_stored(self) -> None:
        make_event(make_source(), PAYMENT)
        search.index_some()
        with connection.cursor() as cursor:
            cursor.execute("SELECT t::text FROM webhooks_eventtokens t")
            (text,) = cursor.fetchone()
        assert not [word for word in ("anna", "cus_1", "livemode", "pi_3abc") if word in text.lower()]

    def test_another_key_makes_other_tokens(self, settings: Any) -> None:
        before = search.tokens_of("cus_1")
        settings.SECRET_KEY = "another-secret-key-" + "y" * 40
        assert search.tokens_of("cus_1") != before


class TestTokens:
    """``tokens_in`` and ``tokens_of``."""

    def content(self, value: Any) -> Content:
        return Content(JSON_TYPE, "", json.dumps(value).encode())

    def test_a_query_is_read_as_an_event_is(self) -> None:
        tokens = set(search.tokens_in(["k"], self.content({"a": {"b": ["x y"]}})))
        assert set(search.tokens_of('a.b="x y" x y k')) <= tokens
        assert len(search.tokens_of('a.b="x y" x y k')) == 4

    def test_tokens_fit_bigint(self) -> None:
        tokens = search.tokens_in([], self.content(PAYMENT))
        assert all(-(2**63) <= token < 2**63 for token in tokens)
        assert min(tokens) < 0 < max(tokens)

    def test_there_are_not_too_many(self) -> None:
        tokens = search.tokens_in(["the-key"], self.content({f"k{n}": f"v{n} w{n}" for n in range(5000)}))
        assert len(tokens) == search.MOST_TOKENS
        assert search.tokens_of("the-key")[0] in tokens

    def test_paths_come_before_words(self) -> None:
        long = " ".join(f"word{n}" for n in range(1000))
        tokens = search.tokens_in([], self.content({"text": long, "last": "value"}))
        assert search.tokens_of("last=value")[0] in tokens

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"[" * 100_000,
            b'{"a":' * 500 + b"1" + b"}" * 500,
            b"null",
            b'"text"',
            b"1e999",
            b'{"a": 1' + b"0" * 5000 + b"}",
            b'{"\\ud800": "\\ud800"}',
            b"\x00" * 100,
            b"a" * 1_000_000,
        ],
    )
    def test_it_survives(self, body: bytes) -> None:
        assert len(search.tokens_in(["k"], Content(JSON_TYPE, "", body))) <= search.MOST_TOKENS

    def test_a_query_has_a_limited_number_of_terms(self) -> None:
        assert len(search.tokens_of(" ".join(f"w{n}" for n in range(100)))) == search.MOST_TERMS
