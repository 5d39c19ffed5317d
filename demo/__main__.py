"""`make demo`: the stand-in vendors, an application that calls them, and wsmon between, in one process."""

from __future__ import annotations

import os
import sys

import providers
from demo import vendors
from demo.traffic import Traffic
from demo.webhooks import Senders
from wsmon.launcher import entry
from wsmon.launcher.ground import Address

DEFAULTS = {"WSMON_DATA_DIR": "var/demo", "WSMON_CONFIG": "demo/wsmon.yaml"}
ELSEWHERE = ("DATABASE_URL", "CELERY_BROKER_URL")
"""A demo has a database and a broker of its own."""
PASSWORD = "wsmon-demo"  # noqa: S105
"""Known to everybody, so only where nobody else can come: on loopback."""


def prepare(environment: dict[str, str]) -> None:
    """Put ``environment`` in the place of whatever this shell has of real vendors.

    Real credentials must not reach stand-ins, nor the demo real vendors.
    """
    for provider in map(providers.get, providers.names()):
        names = [name for each in provider.variables for name in (each.name, *each.aliases)]
        for name in (*names, *provider.base_urls, *ELSEWHERE):
            os.environ.pop(name, None)
            os.environ.pop(f"{name}_FILE", None)
    os.environ.update(environment)
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)


def main() -> int:
    """Run until a signal comes; the exit code."""
    stand_ins = vendors.start()
    prepare(stand_ins.environment())
    address = Address.parse(os.environ.get("WSMON_BIND") or "127.0.0.1:8000")
    traffic = Traffic(stand_ins.environment(), address.url)
    senders = Senders(stand_ins.environment(), address.url)
    entry.say(f"stand-in vendors on {stand_ins.url} play the story in demo/script.py")
    if address.is_loopback and os.environ.setdefault("WSMON_ADMIN_PASSWORD", PASSWORD) == PASSWORD:
        entry.say(f"sign in as admin, password {PASSWORD}")
    try:
        return entry.main(["manage.py", "run"])
    finally:
        traffic.stop()
        senders.stop()
        stand_ins.stop()


if __name__ == "__main__":
    sys.exit(main())
