"""The README is right: its yaml applies, its commands exist, and every variable is listed."""

from __future__ import annotations

import ast
import io
import re
from base64 import b64encode
from functools import cache
from pathlib import Path

import pytest
import yaml
from django.core.management import CommandError, call_command, get_commands

import providers
from wsmon.celery import app

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
READERS = {
    *(f"env.{kind}" for kind in ("str", "bool", "int", "float", "list", "db_url")),
    "os.environ.get",
    "_kept_secret",
    "lookup",
    "secrets.lookup",
}
"""Functions whose first argument is a variable's name."""
NOT_OURS = {"DATABASE_URL_FILE", "PATH"}  # NAME_FILE is explained once for all


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@cache
def _variables_in_code() -> frozenset[str]:
    """The names that the settings, or anything else, reads from the environment."""
    found = set()
    for room in ("wsmon", "providers", "monitoring"):
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                    value = node.args[0].value
                    if ast.unparse(node.func) in READERS and isinstance(value, str):
                        found.add(value)
    return frozenset(found - NOT_OURS)


def test_every_variable_of_the_settings_is_listed() -> None:
    assert "WSMON_BIND" in _variables_in_code()
    assert {name for name in _variables_in_code() if f"`{name}`" not in README} == set()


def test_every_variable_and_base_url_of_every_provider_is_listed() -> None:
    names = set()
    for slug in providers.names():
        provider = providers.get(slug)
        names |= set(provider.base_urls)
        for variable in provider.variables:
            names |= {variable.name, *variable.aliases}
    assert {name for name in names if f"`{name}`" not in README} == set()


def test_every_variable_of_every_vendors_webhooks_is_listed() -> None:
    schemes = [scheme for slug in providers.names() if (scheme := providers.get(slug).hooks)]
    names = {name for scheme in schemes for name in scheme.secrets}
    assert len(names) > 10
    assert {name for name in names if f"`{name}`" not in README} == set()


def test_every_provider_is_named() -> None:
    assert {slug for slug in providers.names() if f"`{slug}`" not in README} == set()


def test_no_variable_is_listed_that_nobody_reads() -> None:
    listed = set(re.findall(r"`(WSMON_[A-Z_]+)`", README))
    read = _variables_in_code() | {"WSMON_BOOTSTRAP_TOKEN"}
    assert listed - read == set()


@pytest.mark.django_db
@pytest.mark.parametrize("text", _blocks("yaml"))
def test_its_yaml_is_accepted(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in re.findall(r"env:([A-Z_]+)", text):
        secret = f"whsec_{b64encode(name.encode().ljust(32)).decode()}"  # good for every scheme
        monkeypatch.setenv(name, "json://hooks.example.com/x" if name.endswith("_APPRISE_URL") else secret)
    file = tmp_path / "wsmon.yaml"
    file.write_text(text)
    output = io.StringIO()
    try:
        call_command("apply", str(file), "--dry-run", stdout=output, stderr=output)
    except CommandError:
        pytest.fail(output.getvalue())
    for service in yaml.safe_load(text)["services"]:
        assert service in output.getvalue()


def test_its_management_commands_exist() -> None:
    named = set(re.findall(r"manage\.py (\w+)", README))
    assert {"run", "apply", "export", "prepare", "createtoken"} <= named
    assert named <= set(get_commands())


def test_its_make_targets_exist() -> None:
    named = set(re.findall(r"\bmake ([a-z-]+)\b", "\n".join(_blocks("sh")))) | set(
        re.findall(r"`make ([a-z-]+)", README)
    )
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"run", "demo", "test", "lint", "bench", "requirements"} <= named
    assert named <= targets


def test_its_paths_exist() -> None:
    for path in ("docs", "compose.yaml", "Dockerfile", "deploy/systemd/wsmon-web.service", ".ci/run", "requirements"):
        assert (ROOT / path).exists(), path
    assert "docs/overview.png" in README


def test_units_and_compose_run_the_commands_that_it_gives() -> None:
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    for kind in ("worker", "beat"):
        command = " ".join(compose["services"][kind]["command"])
        assert f"\n{command}\n" in README
        unit = (ROOT / "deploy" / "systemd" / f"wsmon-{kind}.service").read_text()
        assert f"ExecStart=/opt/wsmon/.venv/bin/{command}\n" in unit
    assert "uvicorn wsmon.asgi:application" in README


def test_the_whole_schedule_names_tasks_that_exist() -> None:
    app.loader.import_default_modules()
    assert {entry["task"] for entry in app.conf.beat_schedule.values()} <= set(app.tasks)


def test_no_committed_file_names_the_host_of_a_package_registry() -> None:
    hosts = ("pypi" + ".org", "pythonhosted" + ".org", "npmjs" + ".org")
    for path in (
        "Makefile",
        "Dockerfile",
        "README.md",
        "pyproject.toml",
        ".ci/run",
        "requirements/base.txt",
        "requirements/test.txt",
        "requirements/bench.txt",
    ):
        text = (ROOT / path).read_text()
        assert not any(host in text for host in hosts), path
