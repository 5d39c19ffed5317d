"""webhooks/sealing.py: payloads at rest."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhooks.sealing import Content, Exchanged, seal, seal_exchange, unseal, unseal_exchange
from wsmon.secrets import Unresolvable

pairs = st.lists(st.tuples(st.text(max_size=20), st.text(max_size=50)), max_size=5)
CONTENT = Content(
    [("x-signature", "s1gned"), ("x-signature", "twice")], "https://ops.example/in", b"\x00\xff card 4242"
)


@given(pairs, st.text(max_size=50), st.binary(max_size=500))
def test_what_is_sealed_is_read_to_the_byte(headers: list[tuple[str, str]], url: str, body: bytes):
    content = Content(headers, url, body)
    assert unseal(seal(content)) == content


@given(pairs, pairs, st.binary(max_size=500), st.booleans())
def test_so_is_what_an_attempt_sent_and_got(
    sent: list[tuple[str, str]], answered: list[tuple[str, str]], body: bytes, truncated: bool
):
    exchanged = Exchanged(sent, answered, body, truncated)
    assert unseal_exchange(seal_exchange(exchanged)) == exchanged


def test_nothing_of_it_stands_there_in_clear():
    sealed = seal(CONTENT)
    for clear in (b"4242", b"s1gned", b"ops.example", b"x-signature"):
        assert clear not in sealed
    assert seal(CONTENT) != sealed  # nor can equal ones be told


def test_nothing_of_it_shows_in_its_representation():
    for shown in (repr(CONTENT), repr(Exchanged([("authorization", "s1gned")], body=b"s1gned"))):
        assert "s1gned" not in shown
        assert "4242" not in shown


@pytest.mark.parametrize("place", [0, 20, -1])
def test_what_was_changed_is_not_read(place: int):
    sealed = bytearray(seal(CONTENT))
    sealed[place] ^= 1
    with pytest.raises(Unresolvable):
        unseal(bytes(sealed))


def test_an_older_key_still_opens_it_and_no_key_does_not(settings):
    sealed = seal(CONTENT)
    settings.ENCRYPTION_KEYS = ["a-new-key", *settings.ENCRYPTION_KEYS]
    assert unseal(sealed) == CONTENT
    renewed = seal(CONTENT)
    settings.ENCRYPTION_KEYS = ["a-new-key"]
    assert unseal(renewed) == CONTENT
    with pytest.raises(Unresolvable):
        unseal(sealed)
    settings.ENCRYPTION_KEYS = []
    with pytest.raises(Unresolvable):
        seal(CONTENT)


def test_a_memoryview_as_the_database_gives_it_is_read():
    assert unseal(memoryview(seal(CONTENT))) == CONTENT
