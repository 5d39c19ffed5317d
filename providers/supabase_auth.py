"""Supabase Auth (GoTrue)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from providers import payloads
from providers.answers import Complaint, Dialect, Talk, conversation, reachable, three
from providers.base import ProbeOutcome, Provider, StatusPage, Variable
from providers.details import dig
from providers.hooks import Found, Inbound, Reply, Scheme
from providers.standardwebhooks import STANDARD, Family, secret_problem
from wsmon.vocabulary import JSON

STATUS_URL = "https://status.supabase.com/api/v2/summary.json"


def complaint(data: JSON) -> Complaint | None:
    """GoTrue says ``msg`` or ``message`` with a code, Supabase's gateway a bare ``message`` or ``error``."""
    for key in ("msg", "message", "error_description", "error"):
        text = dig(data, key)
        if isinstance(text, str):
            code = dig(data, "error_code") or dig(data, "code") or ""
            return Complaint(str(code) if isinstance(code, str) else "", text)
    return None


VARIABLES = (
    Variable(
        "SUPABASE_URL",
        "https://<project>.supabase.co",
        secret=False,
        aliases=("NEXT_PUBLIC_SUPABASE_URL",),
    ),
    Variable(
        "SUPABASE_ANON_KEY",
        "the anon or publishable key",
        aliases=("NEXT_PUBLIC_SUPABASE_ANON_KEY",),
    ),
    Variable("SUPABASE_SERVICE_ROLE_KEY", "the service role or secret key"),
)
KEYS = (("SUPABASE_ANON_KEY",), ("SUPABASE_SERVICE_ROLE_KEY",))

# Error codes: https://supabase.com/docs/guides/auth/debugging/error-codes
SUPABASE = Dialect(
    vendor="Supabase",
    complaint=complaint,
    variables=VARIABLES,
    bases={"SUPABASE_AUTH_BASE": "{SUPABASE_URL}/auth/v1"},
    headers={"sb-request-id": "request_id"},
)


def headers(key: str) -> Mapping[str, str]:
    """What the gateway (apikey) and the service behind it (Bearer) want."""
    return {"apikey": key, "Authorization": f"Bearer {key}"}


def any_key(talk: Talk) -> str:
    """The anon key, else the service role key."""
    return talk.value("SUPABASE_ANON_KEY") or talk.value("SUPABASE_SERVICE_ROLE_KEY")


@conversation(SUPABASE)
def connectivity(talk: Talk) -> ProbeOutcome:
    """GoTrue's health without a key: the gateway's own 401 proves that the project answers."""
    return reachable(talk, "GET", f"{talk.base('SUPABASE_AUTH_BASE')}/health")


# GoTrue's admin API: https://supabase.com/docs/reference/api (touches the database, proves the role)
@conversation(SUPABASE)
def authentication(talk: Talk) -> ProbeOutcome:
    """One page of users with the service role key; only their number is kept."""
    (key,) = talk.need("SUPABASE_SERVICE_ROLE_KEY")
    url = f"{talk.base('SUPABASE_AUTH_BASE')}/admin/users?page=1&per_page=1"
    answer = talk.ask("GET", url, headers=headers(key))
    talk.must(isinstance(answer.get("users"), list), "a list of users")
    count = answer.response.headers.get("x-total-count", "")
    return talk.healthy(
        "the service role key works", users=int(count) if count.isascii() and count.isdigit() else None
    )


# Fields: GoTrue's internal/api/settings.go
@conversation(SUPABASE)
def functionality(talk: Talk) -> ProbeOutcome:
    """GoTrue's version and the settings that decide who may sign in."""
    key, base = any_key(talk), talk.base("SUPABASE_AUTH_BASE")
    settings = talk.ask("GET", f"{base}/settings", headers=headers(key))
    external = settings.get("external")
    talk.must(isinstance(external, dict), "its sign-in settings")
    health = talk.ask("GET", f"{base}/health", headers=headers(key))
    enabled = sorted(name for name, on in external.items() if on is True)
    return talk.healthy(
        f"sign-in by {', '.join(enabled) or 'nothing'}",
        version=health.get("version"),
        sign_in_methods=enabled,
        disable_signup=settings.get("disable_signup"),
        mailer_autoconfirm=settings.get("mailer_autoconfirm"),
        phone_autoconfirm=settings.get("phone_autoconfirm"),
        sms_provider=settings.get("sms_provider"),
        saml_enabled=settings.get("saml_enabled"),
    )


# Auth hooks are Standard Webhooks: https://supabase.com/docs/guides/auth/auth-hooks
# With several secrets GoTrue joins the signatures by ", ", and webhook-id is new in each of its three
# attempts (its internal/hooks/hookshttp): no key to know a repeated call by.
SIGNATURES = Family((STANDARD,), commas=True)
SHAPES = {"sms": "send-sms", "email_data": "send-email", "claims": "custom-access-token"}
"""What a body without metadata (older GoTrue) is, by the member only it has."""


def read(inbound: Inbound, _secrets: Sequence[str] = (), _options: Any = None) -> list[Found]:
    """One call of a hook; ``metadata.uuid`` is its key, else the body."""
    body = payloads.read_object(inbound.body)
    guess = next((name for member, name in SHAPES.items() if member in body), None)
    return [
        Found(
            key=payloads.event_key(inbound.body, dig(body, "metadata", "uuid")),
            type=payloads.event_type(dig(body, "metadata", "name") or guess),
            occurred_at=payloads.from_iso(dig(body, "metadata", "time")),
            subject=payloads.text(dig(body, "user", "id") or dig(body, "user_id")),
        )
    ]


HOOKS = Scheme(
    verify=SIGNATURES.verify,
    read=read,
    secrets=("SUPABASE_AUTH_HOOK_SECRET",),
    accepted=Reply(200, b"{}", "application/json"),
    signed_headers=SIGNATURES.headers(),
    hint="GoTrue waits for the answer, and takes a 2xx for consent; it tries three times within 5 s.",
    secret_problem=secret_problem,
)

PROVIDER = Provider(
    slug="supabase_auth",
    label="Supabase Auth",
    kinds=three(
        connectivity=connectivity,
        authentication=authentication,
        functionality=functionality,
        connectivity_needs=("SUPABASE_URL",),
        needs=("SUPABASE_URL",),
        credentials=KEYS,
        authentication_needs=("SUPABASE_URL", "SUPABASE_SERVICE_ROLE_KEY"),
    ),
    variables=SUPABASE.variables,
    base_urls=SUPABASE.bases,
    status_page=StatusPage(STATUS_URL, components=("Auth", "API Gateway")),
    docs_url="https://supabase.com/docs/guides/auth",
    hooks=HOOKS,
)
