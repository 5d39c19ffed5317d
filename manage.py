#!/usr/bin/env python
"""Django's command line, on the embedded PostgreSQL unless DATABASE_URL is set. See wsmon/launcher."""

import sys

from wsmon.launcher import entry

if __name__ == "__main__":
    sys.exit(entry.main(sys.argv))
