"""`make demo`: the stand-in vendors, and wsmon watching them, in one process."""

from __future__ import annotations

import os
import sys

from demo import vendors
from wsmon.launcher import entry

DEFAULTS = {"WSMON_DATA_DIR": "var/demo", "WSMON_CONFIG": "demo/wsmon.yaml"}


def main() -> int:
    """Run until a signal comes; the exit code."""
    stand_ins = vendors.start()
    # Theirs win: real credentials of this shell must not reach stand-ins, nor the demo real vendors.
    os.environ.update(stand_ins.environment())
    os.environ.pop("DATABASE_URL", None)
    os.environ.pop("CELERY_BROKER_URL", None)
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    try:
        return entry.main(["manage.py", "run"])
    finally:
        stand_ins.stop()


if __name__ == "__main__":
    sys.exit(main())
