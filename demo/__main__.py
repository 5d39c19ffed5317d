"""`make demo`: the stand-in vendors, an application that calls them, and wsmon between, in one process.

``--saturday`` plays a critical day, ``--well`` lets every vendor behave until told otherwise.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading

import providers
from demo import saturday, vendors
from demo.script import NOBODY, SCRIPT
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
        for name in (*names, *provider.base_urls, provider.status_base, *ELSEWHERE):
            os.environ.pop(name, None)
            os.environ.pop(f"{name}_FILE", None)
    os.environ.update(environment)
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)


def main() -> int:
    """Run until a signal comes; the exit code."""
    asked = _asked()
    stand_ins = vendors.start(script=NOBODY if asked.well else SCRIPT)
    prepare(stand_ins.environment())
    address = Address.parse(os.environ.get("WSMON_BIND") or "127.0.0.1:8000")
    traffic = Traffic(stand_ins.environment(), address.url)
    senders = Senders(stand_ins.environment(), address.url)
    stand_ins.wsmon, stand_ins.switch_day = address.url, saturday.switch
    stopping = threading.Event()
    if asked.saturday:
        saturday.switch_soon(True, stopping)
    entry.say(f"stand-in vendors on {stand_ins.url} play the story in demo/script.py")
    entry.say(f"what wsmon tells people arrives at {stand_ins.url}/inbox/")
    if address.is_loopback and os.environ.setdefault("WSMON_ADMIN_PASSWORD", PASSWORD) == PASSWORD:
        entry.say(f"sign in as admin, password {PASSWORD}")
    try:
        return entry.main(["manage.py", "run"])
    finally:
        stopping.set()
        traffic.stop()
        senders.stop()
        stand_ins.stop()


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="demo", description="wsmon against stand-in vendors")
    parser.add_argument("--saturday", action="store_true", help="play a critical day")
    parser.add_argument("--well", action="store_true", help="every vendor behaves until told otherwise")
    asked, _ = parser.parse_known_args()
    return asked


if __name__ == "__main__":
    sys.exit(main())
