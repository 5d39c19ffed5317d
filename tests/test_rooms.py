"""The rooms: dependencies point one way, and files and functions stay small enough to read."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("wsmon", "providers", "monitoring", "webhooks")
"""Each may import itself and what stands before it."""
LONGEST_FILE = 560
"""Lines; about 500."""
LONGEST_FUNCTION = 50
GENERATED = "migrations"


def _sources(*rooms: str) -> list[Path]:
    found = [path for room in rooms for path in sorted((ROOT / room).rglob("*.py"))]
    return [path for path in found if GENERATED not in path.parts]


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute, so that they can be read and checked"
            yield node.module or ""


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_no_room_above_it(room: str) -> None:
    above = set(ROOMS[ROOMS.index(room) + 1 :])
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in _sources(room)
        for name in _imports(path)
        if name.split(".")[0] in above
    ]
    assert wrong == []


def test_nothing_but_tests_imports_tests() -> None:
    wrong = [
        str(path.relative_to(ROOT))
        for path in _sources(*ROOMS)
        if any(name.split(".")[0] in {"tests", "demo", "benchmarks"} for name in _imports(path))
    ]
    assert wrong == []


def test_providers_are_plain_python_without_django() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in _sources("providers")
        for name in _imports(path)
        if name.split(".")[0] in {"django", "celery", "ninja"}
    ]
    assert wrong == []


def test_only_the_http_client_talks_http() -> None:
    allowed = {"wsmon/http.py", "wsmon/net.py", "wsmon/wire.py"}
    clients = {"requests", "urllib3", "httpx", "aiohttp", "http.client", "urllib.request"}
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in _sources(*ROOMS)
        for name in _imports(path)
        if (name in clients or name.split(".")[0] in clients - {"http.client", "urllib.request"})
        and str(path.relative_to(ROOT)) not in allowed
    ]
    assert wrong == []


def test_the_embedded_database_and_the_launchers_first_steps_need_no_django() -> None:
    early = ["embedded.py", *(f"launcher/{name}.py" for name in ("__init__", "ground", "database"))]
    wrong = [
        f"{name} imports {module}"
        for name in early
        for module in _imports(ROOT / "wsmon" / name)
        if module.split(".")[0] in {"django", "celery", "psycopg"}
    ]
    assert wrong == []


def test_no_file_is_longer_than_a_head_can_hold() -> None:
    lengths = {str(path.relative_to(ROOT)): path.read_text().count("\n") for path in _sources(*ROOMS, "demo")}
    assert {name: length for name, length in lengths.items() if length > LONGEST_FILE} == {}


def test_no_function_is_longer_than_a_page() -> None:
    long = []
    for path in _sources(*ROOMS, "demo"):
        for node in ast.walk(_tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
                length = node.end_lineno - node.lineno + 1
                if length > LONGEST_FUNCTION:
                    long.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name} ({length} lines)")
    assert long == []


def test_each_vendor_has_a_test_and_says_where_its_rules_come_from() -> None:
    import providers  # noqa: PLC0415

    missing = []
    for name in providers.names():
        provider = providers.get(name)
        if provider.generic:
            continue
        if not (ROOT / "tests" / "providers" / f"test_{name}.py").exists():
            missing.append(f"{name}: no tests/providers/test_{name}.py")
        if not provider.docs_url:
            missing.append(f"{name}: no docs_url")
    assert missing == []
