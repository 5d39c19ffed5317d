"""``python -m benchmarks [NAME ...] [--quick]``: run the benchmarks, each in a process of its own."""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys

NAMES = ("probes", "lateness", "pages", "viewers", "breakers", "webhooks", "deliveries", "events", "alerts", "start")


def main() -> int:
    """Run the named benchmarks, all by default; return how many failed."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *NAMES], metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--quick", action="store_true", help="shorter runs and less data; figures are rough")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        importlib.import_module(f"benchmarks.bench_{arguments.names[0]}").main(arguments)
        return 0
    options = ["--quick"] if arguments.quick else []
    commands = [[sys.executable, "-m", "benchmarks", name, "--inside", *options] for name in arguments.names or NAMES]
    return sum(subprocess.run(command, check=False).returncode != 0 for command in commands)


if __name__ == "__main__":
    sys.exit(main())
