"""Settings of a test run: its own data directory, its own secrets, no connection pool.

The database is the embedded PostgreSQL that tests/conftest.py starts in that data directory. Variables of
the machine (a developer's STRIPE_SECRET_KEY, say) are taken out: tests set what they need.
"""

from __future__ import annotations

import os
import tempfile

_KEEP = {"WSMON_TEST_STRICT"}
for _name in list(os.environ):
    if _name.startswith("WSMON_") and _name not in _KEEP:
        del os.environ[_name]
for _name in ("DATABASE_URL", "CELERY_BROKER_URL"):
    os.environ.pop(_name, None)

os.environ["WSMON_DATA_DIR"] = tempfile.mkdtemp(prefix="wsmon-test-")
os.environ["WSMON_CONFIG"] = os.path.join(os.environ["WSMON_DATA_DIR"], "wsmon.yaml")
os.environ["WSMON_SECRET_KEY"] = "only-for-tests-" + "x" * 40
os.environ["WSMON_ENCRYPTION_KEYS"] = "first-test-key,second-test-key"

from wsmon.settings import *  # noqa: E402, F403
from wsmon.settings import DATABASES  # noqa: E402

# Django closes no pool when it drops a test database; plain connections are closed by the test runner.
DATABASES["default"]["OPTIONS"].pop("pool", None)
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
ALLOWED_HOSTS = ["*"]
# Static files are found when they are asked for: each test's client would look for all of them anew, in 10 ms.
WHITENOISE_AUTOREFRESH = True
