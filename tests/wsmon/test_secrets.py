"""References, files and encryption."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from wsmon import secrets
from wsmon.redact import forget, redact
from wsmon.secrets import Unresolvable, decrypt, encrypt, is_reference, lookup, resolve


def test_the_environment_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from the file\n")
    monkeypatch.setenv("SOME_KEY_FILE", str(tmp_path / "key"))
    assert lookup("SOME_KEY") == "from the file"
    monkeypatch.setenv("SOME_KEY", "from the environment")
    assert lookup("SOME_KEY") == "from the environment"
    monkeypatch.setenv("SOME_KEY", "")
    assert lookup("SOME_KEY") == "from the file"


def test_what_is_not_set_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOME_KEY", raising=False)
    assert lookup("SOME_KEY") is None


def test_only_the_line_end_is_stripped(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b" with spaces \r\n")
    assert resolve(f"file:{tmp_path / 'key'}") == " with spaces "


def test_an_unreadable_file_counts_as_absent_and_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(secrets, "_complained", set())
    monkeypatch.setenv("SOME_KEY_FILE", str(tmp_path / "missing"))
    with caplog.at_level(logging.WARNING, logger="wsmon.secrets"):
        assert lookup("SOME_KEY") is None
        assert lookup("SOME_KEY") is None
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "SOME_KEY_FILE" in caplog.text


@pytest.mark.parametrize(
    ("text", "expected"),
    [("env:NAME", True), ("file:/run/x", True), ("env:", True), ("ENV:X", False), ("plain", False), ("", False)],
)
def test_references_are_recognised(text: str, expected: bool) -> None:
    assert is_reference(text) is expected


def test_references_are_resolved_and_remembered_for_masking(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    forget()
    monkeypatch.setenv("SOME_KEY", "hunter2-hunter2")
    (tmp_path / "key").write_text("in-a-file-99")
    assert resolve("env:SOME_KEY") == "hunter2-hunter2"
    assert resolve(f"file:{tmp_path}/key") == "in-a-file-99"
    assert redact("hunter2-hunter2 in-a-file-99") == "*** ***"


@pytest.mark.parametrize(
    ("reference", "why"),
    [
        ("env:NOT_SET_ANYWHERE", "neither NOT_SET_ANYWHERE nor NOT_SET_ANYWHERE_FILE is set"),
        ("env:", "not the name"),
        ("env:A B", "not the name"),
        ("file:", "cannot be read"),
        ("file:/no/such/file", "cannot be read"),
        ("file:/dev/zero", "not a regular file"),
        ("file:/", "cannot be read"),
        ("hunter2", "is no reference"),
    ],
)
def test_references_that_lead_nowhere_say_why(reference: str, why: str) -> None:
    with pytest.raises(Unresolvable) as caught:
        resolve(reference)
    assert why in caught.value.why
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "why"), [(b"", "empty"), (b"\n", "empty"), (b"x" * 70_000, "larger"), (b"\xff\xfe", "UTF-8")]
)
def test_files_that_hold_no_secret_say_why(tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(Unresolvable, match=why):
        resolve(f"file:{tmp_path / 'key'}")


def test_a_fifo_does_not_hang_us(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(Unresolvable, match="not a regular file"):
        resolve(f"file:{tmp_path / 'fifo'}")


def test_what_is_encrypted_can_be_read_again(settings: Any) -> None:
    settings.ENCRYPTION_KEYS = ["some pass phrase"]
    hidden = encrypt("grüße")
    assert "grüße".encode() not in hidden
    assert decrypt(hidden) == "grüße"
    stored: Any = memoryview(hidden)  # what the database gives
    assert decrypt(stored) == "grüße"
    assert encrypt("grüße") != hidden


def test_keys_are_rotated_by_listing_several(settings: Any) -> None:
    settings.ENCRYPTION_KEYS = ["old"]
    hidden = encrypt("value")
    settings.ENCRYPTION_KEYS = ["new", "old"]
    assert decrypt(hidden) == "value"
    newer = encrypt("value")
    settings.ENCRYPTION_KEYS = ["new"]
    assert decrypt(newer) == "value"
    with pytest.raises(Unresolvable, match="no key in WSMON_ENCRYPTION_KEYS"):
        decrypt(hidden)


def test_a_fernet_key_is_used_as_it_is(settings: Any) -> None:
    key = Fernet.generate_key()
    settings.ENCRYPTION_KEYS = [key.decode()]
    assert Fernet(key).decrypt(encrypt("value")) == b"value"


@pytest.mark.parametrize("damaged", [b"", b"garbage", b"gAAAAAB"])
def test_damaged_values_are_told(settings: Any, damaged: bytes) -> None:
    settings.ENCRYPTION_KEYS = ["k"]
    with pytest.raises(Unresolvable):
        decrypt(damaged)


def test_without_keys_nothing_is_stored(settings: Any) -> None:
    settings.ENCRYPTION_KEYS = []
    with pytest.raises(Unresolvable, match="WSMON_ENCRYPTION_KEYS"):
        encrypt("value")


def test_lists_and_numbers_stay_what_they_are_when_references_are_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTHER", "v")
    given = [1, None, "env:OTHER", {"a": ["env:OTHER"]}]
    assert secrets.dereference(given) == [1, None, "v", {"a": ["v"]}]
