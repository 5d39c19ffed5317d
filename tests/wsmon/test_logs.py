"""Log lines: one format, a request's id, no secret."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from wsmon import logs
from wsmon.redact import remember

SECRET = "planted-secret-3f9a2c"


@pytest.fixture
def restored() -> Iterator[None]:
    """Give the test run its own logging back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in logs.QUIET}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.fixture
def lines(restored: None, capsys: pytest.CaptureFixture[str]) -> pytest.CaptureFixture[str]:
    logs.configure(json=True)
    return capsys


def _last(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    text = capsys.readouterr().err
    return dict(json.loads(text.strip().splitlines()[-1]))


def test_production_lines_are_json_with_time_level_and_logger(lines: pytest.CaptureFixture[str]) -> None:
    logging.getLogger("some.where").warning("%s happened", "something")
    line = _last(lines)
    assert line["event"] == "something happened"
    assert line["level"] == "warning"
    assert line["logger"] == "some.where"
    assert str(line["timestamp"]).endswith("Z")


def test_a_requests_id_is_on_each_of_its_lines(lines: pytest.CaptureFixture[str]) -> None:
    structlog.contextvars.bind_contextvars(request_id="r-1")
    logging.getLogger("x").error("plain")
    assert _last(lines)["request_id"] == "r-1"
    structlog.get_logger("y").error("structured")
    assert _last(lines)["request_id"] == "r-1"


@pytest.mark.parametrize("as_json", [True, False])
def test_secrets_are_masked_in_messages_values_and_tracebacks(
    restored: None, capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    logs.configure(json=as_json)
    remember(SECRET)
    try:
        raise ValueError(f"https://api.example.com/?token={SECRET}")
    except ValueError:
        logging.getLogger("x").exception("it failed with %s", SECRET)
    structlog.get_logger("y").error("and", url=f"https://user:{SECRET}@example.com", deep={"list": [SECRET]})
    text = capsys.readouterr().err
    assert "ValueError" in text
    assert SECRET not in text


def test_lines_at_a_terminal_are_for_people(restored: None, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(json=False)
    structlog.get_logger("x").warning("late", seconds=3)
    text = capsys.readouterr().err
    assert "late" in text
    assert "seconds" in text
    assert not text.startswith("{")


def test_libraries_that_talk_too_much_are_quiet(lines: pytest.CaptureFixture[str]) -> None:
    logging.getLogger("urllib3.connectionpool").warning("retrying")
    logging.getLogger("celery.worker").info("ready")
    assert lines.readouterr().err == ""
