"""What the environment makes of the settings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
YEAR = 31_536_000


def values(tmp_path: Path, *names: str, **environment: str) -> list[object]:
    """Settings, as a process of its own with this environment has them."""
    script = f"import json; from wsmon import settings; print(json.dumps([getattr(settings, n) for n in {names}]))"
    given = {"PATH": os.environ["PATH"], "WSMON_DATA_DIR": str(tmp_path)} | environment
    done = subprocess.run(
        [sys.executable, "-c", script], env=given, cwd=ROOT, check=True, capture_output=True, text=True
    )
    return list(json.loads(done.stdout))


@pytest.mark.parametrize(("environment", "hsts"), [
    ({}, [0, False, False]),
    ({"WSMON_HSTS_SECONDS": "60", "WSMON_HSTS_SUBDOMAINS": "1"}, [0, False, False]),
    ({"WSMON_PRODUCTION": "1"}, [YEAR, False, False]),
    ({"WSMON_PRODUCTION": "1", "WSMON_HSTS_SECONDS": "0"}, [0, False, False]),
    ({"WSMON_PRODUCTION": "1", "WSMON_HSTS_SUBDOMAINS": "1"}, [YEAR, True, True]),
])  # fmt: skip
def test_hsts_is_for_production_and_for_this_name_alone_unless_asked(
    tmp_path: Path, environment: dict[str, str], hsts: list[object]
) -> None:
    names = ("SECURE_HSTS_SECONDS", "SECURE_HSTS_INCLUDE_SUBDOMAINS", "SECURE_HSTS_PRELOAD")
    assert values(tmp_path, *names, **environment) == hsts
