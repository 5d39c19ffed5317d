"""The one settings file. Everything that differs between installations comes from the environment.

Each secret may also be given as ``NAME_FILE``, a path to a file that holds it. Names and defaults are
listed in the README, "Environment".
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

import environ
from csp.constants import NONE, SELF

from wsmon.embedded import socket_dir

BASE_DIR = Path(__file__).resolve().parent.parent
env = environ.FileAwareEnv()

DEBUG = False
DATA_DIR = Path(env.str("WSMON_DATA_DIR", "var")).absolute()
CONFIG_FILE = Path(env.str("WSMON_CONFIG", "wsmon.yaml")).absolute()
BIND = env.str("WSMON_BIND", "127.0.0.1:8000")
PUBLIC_URL = env.str("WSMON_PUBLIC_URL", "").rstrip("/")
"""Under which others reach wsmon, such as https://ops.example.com; what vendors sign, and what links begin with."""
EMBEDDED_DATABASE = not env.str("DATABASE_URL", "")
EMBEDDED_BROKER = not env.str("CELERY_BROKER_URL", "")
PRODUCTION = env.bool("WSMON_PRODUCTION", not EMBEDDED_DATABASE)
"""True behind TLS: secure cookies, HSTS, redirects. The embedded stack serves plain HTTP on loopback."""


def _kept_secret(name: str, file_name: str) -> str:
    """A secret from the environment, or one generated once and kept in the data directory."""
    value: str = env.str(name, "")
    if value or not EMBEDDED_DATABASE:
        return value
    path = DATA_DIR / file_name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return path.read_text().strip()
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(48))
    return path.read_text().strip()


SECRET_KEY = _kept_secret("WSMON_SECRET_KEY", "secret_key")
ENCRYPTION_KEYS = [
    key.strip() for key in _kept_secret("WSMON_ENCRYPTION_KEYS", "encryption_key").split(",") if key.strip()
]

INSTALLED_APPS = [
    "wsmon",
    "monitoring",
    "webhooks",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_htmx",
    "template_partials",
    "axes",
    "csp",
    "django_otp",
    "django_otp.plugins.otp_totp",
    "django_otp.plugins.otp_static",
    "ninja",
]

MIDDLEWARE = [
    "wsmon.middleware.RequestIdMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "wsmon.middleware.refuse_nul",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_otp.middleware.OTPMiddleware",
    "wsmon.middleware.StaffRequiredMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "axes.middleware.AxesMiddleware",
]

ROOT_URLCONF = "wsmon.urls"
ASGI_APPLICATION = "wsmon.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "monitoring.context.page",
            ],
        },
    }
]


def _database() -> dict[str, Any]:
    if EMBEDDED_DATABASE:
        parts: dict[str, Any] = {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": str(socket_dir(DATA_DIR)),
            "PORT": "5432",
            "NAME": "wsmon",
            "USER": "wsmon",
        }
    else:
        parts = env.db_url("DATABASE_URL")
        parts["ENGINE"] = "django.db.backends.postgresql"
    options: dict[str, Any] = {
        "pool": {
            "min_size": 2,
            "max_size": env.int("WSMON_DATABASE_POOL", 12),
            "timeout": 10,
            "max_idle": 60,
        },
        "connect_timeout": 5,
        "application_name": "wsmon",
        "options": "-c statement_timeout=60s -c lock_timeout=15s",
        # A frozen server never fires statement_timeout; the kernel gives up instead.
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 15_000,
    }
    return parts | {"CONN_MAX_AGE": 0, "CONN_HEALTH_CHECKS": True, "OPTIONS": parts.get("OPTIONS", {}) | options}


DATABASES = {"default": _database()}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

CELERY_BROKER_URL = env.str("CELERY_BROKER_URL", "memory://")

AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "overview"
LOGOUT_REDIRECT_URL = "login"

AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = 0.25  # hours
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_RESET_ON_SUCCESS = True
AXES_LOCKOUT_TEMPLATE = "registration/locked.html"
AXES_VERBOSE = False
AXES_CLIENT_IP_CALLABLE = "wsmon.audit.address_of"
TRUSTED_PROXIES = env.int("WSMON_TRUSTED_PROXIES", 0)
"""How many proxies of ours stand in front; each appends the address it saw to ``X-Forwarded-For``."""
OTP_TOTP_ISSUER = "wsmon"
OTP_ADMIN_HIDE_SENSITIVE_DATA = True

_PUBLIC_HOSTS = env.list("WSMON_ALLOWED_HOSTS", default=[])
ALLOWED_HOSTS = [*_PUBLIC_HOSTS, "127.0.0.1", "localhost", "[::1]"]
"""Loopback always: a container's or a proxy's own health check asks there."""
CSRF_TRUSTED_ORIGINS = [
    f"https://*{host}" if host.startswith(".") else f"https://{host}"
    for host in _PUBLIC_HOSTS
    if PRODUCTION and host != "*"
]
SECURE_SSL_REDIRECT = PRODUCTION
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$", r"^metrics$"]
SECURE_HSTS_SECONDS = env.int("WSMON_HSTS_SECONDS", 31_536_000) if PRODUCTION else 0
# Binds names that are not wsmon's, and browsers do not forget it: only when asked for.
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = PRODUCTION and env.bool("WSMON_HSTS_SUBDOMAINS", False)
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if TRUSTED_PROXIES else None
SECURE_REFERRER_POLICY = "same-origin"
SESSION_COOKIE_SECURE = PRODUCTION
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_AGE = 14 * 24 * 3600
CSRF_COOKIE_SECURE = PRODUCTION
CSRF_COOKIE_HTTPONLY = True
X_FRAME_OPTIONS = "DENY"
DATA_UPLOAD_MAX_MEMORY_SIZE = 1_048_576
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],  # Tabler draws carets as data: images
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
        "manifest-src": [SELF],
    }
}

LANGUAGE_CODE = "en-us"
USE_I18N = False
USE_TZ = True
TIME_ZONE = env.str("WSMON_TIME_ZONE", "UTC")

STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "staticfiles": {
        "BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"
        if PRODUCTION
        else "django.contrib.staticfiles.storage.StaticFilesStorage"
    },
}
WHITENOISE_USE_FINDERS = not PRODUCTION
WHITENOISE_MAX_AGE = 3600

ALLOW_PRIVATE_TARGETS = env.list("WSMON_ALLOW_PRIVATE_TARGETS", default=[])
"""Networks (CIDR) that probes may reach although they are loopback, private or link-local."""
CONTROL_TARGETS = env.list("WSMON_CONTROL_TARGETS", default=["one.one.one.one:443", "dns.google:443"])
"""What always answers: when it does not, and services do not either, it is our own network. Empty: none."""
EVIDENCE = ["webhooks.evidence.of_service"]
"""What other rooms know of whose fault an incident is: functions of a service's id and a time, that return
``monitoring.incidents.verdict.Evidence``."""
ALERT_RULES = ["webhooks.alertrules.RULES"]
"""What other rooms look for and raise alerts about: sequences of ``monitoring.alertrules.finding.Rule``."""
PROBE_THREADS = env.int("WSMON_PROBE_THREADS", 64)
PROBES_PER_PROVIDER = env.int("WSMON_PROBES_PER_PROVIDER", 8)
"""At most so many probes at once towards one vendor, or towards one service of a generic provider."""
DELIVERY_THREADS = env.int("WSMON_DELIVERY_THREADS", 32)
"""Deliveries of one worker process at once; retries and replays have a quarter as many each, of their own."""
RESULT_DAYS = env.int("WSMON_RESULT_DAYS", 7)
PAYLOAD_DAYS = env.int("WSMON_PAYLOAD_DAYS", 30)
"""How long payloads of webhooks, headers and answers are kept; then they cannot be replayed any more."""
EVENT_DAYS = env.int("WSMON_EVENT_DAYS", 180)
"""How long events, deliveries and attempts themselves are kept."""
MASK_FIELDS = env.list("WSMON_MASK_FIELDS", default=[])
"""Names of fields that hold personal data besides those in webhooks/personal.py, e.g. ``bride`` or ``venue.name``."""
UNMASK_FIELDS = env.list("WSMON_UNMASK_FIELDS", default=[])
"""Names of fields that hold none, e.g. ``repository.name``."""

CONFIG_SECTIONS = [
    "monitoring.config.services_section",
    "monitoring.notifications.config.channels_section",
    "monitoring.critical.config.critical_days_section",
    "monitoring.escalation.config.rotations_section",
    "monitoring.escalation.config.escalations_section",
    "monitoring.alertrules.config.alerts_section",
    "webhooks.config.sources_section",
    "webhooks.config.destinations_section",
    "webhooks.config.routes_section",
]
"""Who reads which part of wsmon.yaml; each entry is a dotted path to a section (wsmon/config/section.py).

In the order in which they are applied and exported: a section may name what those before it make.
"""
LIVE_PERMISSION = "monitoring.view_service"
"""What staff need to watch live updates."""
LIVE_RENDERER = "monitoring.fragments"
"""What wsmon.hub renders for open pages: a module with ``changed(ids)`` and ``regular()``."""
LIVE_RELAYED = ["deliveries", "incident", "alert", "critical"]
"""Kinds of live notifications that open pages are merely told of, as an event of that name: those who show
such things ask for them."""
LIVE_LOOKED_AT = ["alert"]
"""Of these, those that also change what every page shows: the renderer's ``regular()`` is sent within a second."""
NAV: list[dict[str, Any]] = [
    {"name": "overview", "label": "Overview", "icon": "activity"},
    {
        "name": "incidents", "label": "Incidents", "icon": "flame", "under": "incident",
        "count": "monitoring.incidents.reads.open_count", "counted": "open",
    },
    {
        "name": "breakers", "label": "Breakers", "icon": "bolt", "under": "breaker-",
        "count": "monitoring.breakers.reads.not_closed", "counted": "not closed",
    },
    {"name": "webhooks", "label": "Webhooks", "icon": "webhook", "under": "webhook-"},
    {
        "name": "failures", "label": "Failures", "icon": "alert-octagon",
        "count": "webhooks.reads.failed", "counted": "failed", "tab": False,
    },
    {
        "name": "alerts", "label": "Alerts", "icon": "bell", "under": "alert-", "tab": False,
        "count": "monitoring.notifications.reads.open_count", "counted": "not acknowledged",
    },
    {
        "name": "critical-days", "label": "Critical days", "icon": "calendar-event",
        "under": "critical-day-", "tab": False,
    },
]  # fmt: skip
"""The main navigation (monitoring/nav.py): names of URLs; ``under`` begins the names of the pages below one;
``count`` is a function whose number, unless 0, is shown as so many ``counted``; ``tab``: also on phones."""
ANSWERS = [("webhooks.answers.losses", "webhooks/_answers.html")]
"""The overview's last two answers (monitoring/panels.py): a function that returns the context of a template,
or None when it has nothing to answer yet. Without any, monitoring answers with what it has itself."""
PROGRAM_STREAMS = {
    "/api/admin/circuit-breakers/stream": ("breaker", "monitoring.breakers.stream.stream_events", "monitoring:read")
}
"""Streams for programs (wsmon/streams.py): path -> kind of live notification, the function that returns what
is sent of some services (of all, for an empty set), and the scope that a token needs."""
ASGI_ROUTES = {"/api/webhooks/": "webhooks.inbound.application"}
"""Paths below which an ASGI application of its own answers, past Django."""
ON_WEB_STOP = ["webhooks.ingest.stop"]
"""Called when the web server of `manage.py run` has answered its last request."""
API_ROUTERS = {
    "/api/admin/integrations": "monitoring.api.router",
    "/api/admin/incidents": "monitoring.incidents.api.router",
    "/api/admin/circuit-breakers": "monitoring.breakers.api.router",
    "/api/admin/forecasts": "monitoring.forecasts.api.router",
    "/api/admin/freeze": "monitoring.critical.api.freeze_router",
    "/api/admin/critical-days": "monitoring.critical.api.router",
    "/api/admin/webhooks": "webhooks.api.router",
    "/api/admin/webhooks/erase": "webhooks.erasing_api.router",
}
API_REQUESTS_PER_MINUTE = env.int("WSMON_API_REQUESTS_PER_MINUTE", 600)
"""Of one token or person, in one web process."""
API_REPORTS_PER_MINUTE = env.int("WSMON_API_REPORTS_PER_MINUTE", 6000)
"""The same for the outcomes and trials of breakers, which every process of a program reports each second."""
API_REPLAYS_PER_MINUTE = env.int("WSMON_API_REPLAYS_PER_MINUTE", 60)
API_TESTS_PER_MINUTE = env.int("WSMON_API_TESTS_PER_MINUTE", 30)
API_WRONG_TOKENS_PER_MINUTE = 30
"""From one address; then it gets 429."""
READINESS_CHECKS = {"scheduler": "monitoring.selfwatch.readiness"}
"""What /readyz asks besides database and broker: name -> a function that returns (fine?, why not)."""
METRIC_COLLECTORS = [
    "monitoring.metrics.collect",
    "monitoring.notifications.metrics.collect",
    "webhooks.metrics.collect",
]
"""Functions that yield metric families for /metrics."""

LOGGING_CONFIG = None  # wsmon.logs configures logging, through structlog
