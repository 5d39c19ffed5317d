"""`make demo`: the stand-in vendors, and wsmon watching them, in one process."""

from __future__ import annotations

import os
import sys

from demo import vendors
from wsmon.launcher import entry
from wsmon.launcher.ground import Address

DEFAULTS = {"WSMON_DATA_DIR": "var/demo", "WSMON_CONFIG": "demo/wsmon.yaml"}
PASSWORD = "wsmon-demo"
"""Known to everybody, so only where nobody else can come: on loopback."""


def main() -> int:
    """Run until a signal comes; the exit code."""
    stand_ins = vendors.start()
    # Theirs win: real credentials of this shell must not reach stand-ins, nor the demo real vendors.
    os.environ.update(stand_ins.environment())
    os.environ.pop("DATABASE_URL", None)
    os.environ.pop("CELERY_BROKER_URL", None)
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    if Address.parse(os.environ.get("WSMON_BIND") or "127.0.0.1:8000").is_loopback:
        os.environ.setdefault("WSMON_ADMIN_PASSWORD", PASSWORD)
        entry.say(f"a demo, in {os.environ['WSMON_DATA_DIR']}: sign in as admin, password {PASSWORD}")
    try:
        return entry.main(["manage.py", "run"])
    finally:
        stand_ins.stop()


if __name__ == "__main__":
    sys.exit(main())
