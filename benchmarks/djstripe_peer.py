"""The peer: dj-stripe's webhook view in a Django site of its own, under gunicorn, on a given PostgreSQL.

Signatures are verified, each event is stored as dj-stripe stores it; what it would do with the event
afterwards (fetch objects from Stripe) is left out.
"""

from __future__ import annotations

import os
from typing import Any

SECRET = "whsec_benchmark"
UUID = "11111111-1111-4111-8111-111111111111"
PATH = f"/stripe/webhook/{UUID}/"
SETTINGS = "benchmarks.djstripe_peer"

DEBUG = False
SECRET_KEY = "benchmark"
ALLOWED_HOSTS = ["*"]
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "djstripe"]
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
ROOT_URLCONF = "benchmarks.djstripe_peer"
STRIPE_TEST_SECRET_KEY = "sk_test_benchmark"
STRIPE_LIVE_MODE = False
DJSTRIPE_FOREIGN_KEY_TO_FIELD = "id"
DJSTRIPE_WEBHOOK_EVENT_CALLBACK = "benchmarks.djstripe_peer.leave_it"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": os.environ.get("PEER_HOST", ""),
        "NAME": "peer",
        "USER": "wsmon",
        "CONN_MAX_AGE": None,
    }
}
LOGGING_CONFIG = None


def leave_it(*_: Any, **__: Any) -> None:
    """Process nothing."""


def __getattr__(name: str) -> Any:
    if name == "urlpatterns":  # the settings module is the site map too
        from django.urls import include, path  # noqa: PLC0415

        return [path("stripe/", include("djstripe.urls", namespace="djstripe"))]
    if name == "application":
        from django.core.wsgi import get_wsgi_application  # noqa: PLC0415

        return get_wsgi_application()
    raise AttributeError(name)


def prepare() -> None:
    """Migrate, and make the endpoint."""
    import django  # noqa: PLC0415

    django.setup()
    from django.core.management import call_command  # noqa: PLC0415
    from djstripe.models import WebhookEndpoint  # noqa: PLC0415

    call_command("migrate", verbosity=0)
    WebhookEndpoint.objects.create(
        id="we_1", djstripe_uuid=UUID, secret=SECRET, url="http://localhost/", enabled_events=["*"], status="enabled"
    )


if __name__ == "__main__":
    prepare()
