"""Files that are wrong in their form, whatever stands in them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from wsmon.config import ConfigError
from wsmon.config.document import load, parse
from wsmon.config.problems import did_you_mean, dotted, show
from wsmon.durations import format_duration, parse_duration


def problems(content: bytes | str, tmp_path: Path) -> str:
    """What loading such a file complains of, without its directory."""
    path = tmp_path / "wsmon.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    try:
        found = load(path).problems
    except ConfigError as error:
        found = error.problems
    return "\n".join(map(str, found)).replace(f"{tmp_path}/", "")


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("services:\n  a: [1\n", "wsmon.yaml:3: is not valid YAML"),
        ("services:\n\ta: 1\n", "wsmon.yaml:2: there is a tab at the start of the line"),
        ("services:\n  a: b: c\n", "wsmon.yaml:2: is not valid YAML: mapping values are not allowed"),
        ("a: 'x\n", "is not valid YAML"),
        ("a: 1\n---\nb: 2\n", "expected a single document"),
        ("a: *nobody\n", "wsmon.yaml:1: is not valid YAML: found undefined alias"),
        (b"a: \xff\xfe\n", "wsmon.yaml:1: is not UTF-8 text"),
        ("a: 1\nb: b\n".encode("utf-16"), "is not UTF-8 text"),
        (b"x: 1\na: \x00\n", "wsmon.yaml:2: there is a control character"),
        (b"a: \x1b[31m\n", "wsmon.yaml:1: there is a control character"),
        ('a: "\\0"\n', "wsmon.yaml:1: a: there is a character in it that cannot be stored"),
        ("a: 1\n" * 300_000, "is larger than 1 MiB"),
        (BOMB, "holds more than 200000 values"),
        ("a: &a [*a]\n", "is nested deeper than 40 levels"),
        ("a:\n  " + "[" * 900 + "]" * 900, "wsmon.yaml:2: is nested deeper than 40 levels"),
        ("a: " + "[" * 1_000_000, "is nested deeper than 40 levels"),
        ("a: " + "{a: " * 200_000, "is nested deeper than 40 levels"),
        ("".join(" " * depth + "a:\n" for depth in range(1_000)), "wsmon.yaml:41: is nested deeper than 40 levels"),
        ("a: " + "{x: " * 50 + "1" + "}" * 50, "is nested deeper than 40 levels"),
        ("a: 1\nb: 2\na: 3\n", "wsmon.yaml:3: a: this key stands here twice, first on line 1"),
        ("s:\n  x: 1\n  x: 1\n", "wsmon.yaml:3: s.x: this key stands here twice, first on line 2"),
        ("a:\n  404: x\n", 'wsmon.yaml:2: a: the key "404" must be text: put it in quotes'),
        ("on: x\n", 'wsmon.yaml:1: the key "on" must be text'),
        ("null: x\n", 'wsmon.yaml:1: the key "null" must be text'),
        ("? [a]\n: x\n", "wsmon.yaml:1: a key must be text, not a list"),
        ("a: !!python/object/apply:os.system [x]\n", "wsmon.yaml:1: a: the tag"),
        ("a: !secret x\n", 'wsmon.yaml:1: a: the tag "!secret" is not supported'),
        ("a: !!binary aGVsbG8=\n", "wsmon.yaml:1: a: the tag"),
        ("a: .inf\n", 'wsmon.yaml:1: a: ".inf" is not a number'),
        ("a: .nan\n", 'wsmon.yaml:1: a: ".nan" is not a number'),
        ("a: " + "9" * 40 + "\n", "wsmon.yaml:1: a: "),
        ("a: " + "9" * 5000 + "\n", "wsmon.yaml:1: a: "),
        ("a:\n  <<: 5\n", "wsmon.yaml:2: a: << needs a mapping"),
    ],
)
def test_it_names_the_line_of_what_is_no_configuration(content: bytes | str, complaint: str, tmp_path: Path) -> None:
    assert complaint in problems(content, tmp_path)


def test_it_does_not_run_what_a_tag_asks_for(tmp_path: Path) -> None:
    target = tmp_path / "made"

    problems(f"a: !!python/object/apply:os.mkdir [{target}]\n", tmp_path)

    assert not target.exists()


def test_a_lone_half_of_a_surrogate_pair_is_refused(tmp_path: Path) -> None:
    assert problems('a: "\\ud800"\n', tmp_path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere.yaml: cannot be read: no such file"):
        load(tmp_path / "nowhere.yaml")


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read|is not a regular file"):
        load(tmp_path)


def test_a_pipe_is_refused_instead_of_being_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(ConfigError, match="is not a regular file"):
        load(tmp_path / "pipe")


def test_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="is not the name of a file"):
        load("a\0b")


def test_it_tells_every_mistake_of_form() -> None:
    document = parse("a: 1\na: 2\nb: !x 1\n1: c\n")

    assert [problem.line for problem in document.problems] == [2, 3, 4]


def test_it_reads_what_people_mean() -> None:
    text = "a: 2026-11-21\nb: 1:30\nc: yes\nd: 0x10\ne: 1_000\nf: ~\ng: 1.5\nh: '5'\n"

    assert parse(text).data == {
        "a": "2026-11-21", "b": "1:30", "c": True, "d": 16, "e": 1000, "f": None, "g": 1.5, "h": "5",
    }  # fmt: skip


def test_it_follows_aliases_and_merges() -> None:
    document = parse("a: &a {x: 1, y: 2}\nb:\n  <<: *a\n  y: 3\nc: *a\n")

    assert document.data == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}, "c": {"x": 1, "y": 2}}
    assert not document.problems


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "wsmon.yaml"
    path.write_bytes(b"\xef\xbb\xbfa:\r\n  b: 1\r\n")

    assert load(path).data == {"a": {"b": 1}}


def test_it_knows_the_line_of_every_value() -> None:
    document = parse("services:\n  a:\n    checks:\n      - kind: x\n        interval: 5s\n      - kind: y\n")

    assert document.line(("services", "a")) == 2
    assert document.line(("services", "a", "checks", 0, "interval")) == 5
    assert document.line(("services", "a", "checks", 1)) == 6
    assert document.line(("services", "a", "checks", 1, "interval")) == 6
    assert document.line(()) is None


def test_paths_read_like_the_file() -> None:
    assert dotted(("services", "our-site", "checks", 0, "expect", "status", 1)) == (
        "services.our-site.checks[0].expect.status[1]"
    )
    assert "\n" not in dotted(("a\nb: forged",))


def test_values_in_messages_are_short_and_hold_no_secret() -> None:
    assert len(show("x" * 5000)) < 80
    assert "sk_live_" + "a" * 20 not in show("sk_live_" + "a" * 20)
    assert show(True) == "true"


def test_near_misses_are_suggested_whatever_their_case() -> None:
    assert did_you_mean("Intervall", ["interval", "timeout"]) == '; did you mean "interval"?'
    assert did_you_mean("zzz", ["interval", "timeout"]) == "; known: interval, timeout"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("5s", 5), ("2m", 120), ("1h", 3600), ("1d", 86_400), ("1.5s", 1.5), ("1m30s", 90), (7, 7)],
)
def test_durations_are_read_and_written(text: str | int, seconds: float) -> None:
    assert parse_duration(text) == seconds
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize(
    "value",
    ["5 parsecs", "", "s", "-5s", "5", "1e3s", "5s 5", "٣s", "9" * 400 + "s", True, None, [], {}, -1, 1e300],
)
def test_what_is_no_duration_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="is not a duration such as 250ms, 5s, 2m, 1h"):
        parse_duration(value)
