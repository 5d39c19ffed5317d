"""GitHub."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from providers import payloads, signing
from providers.answers import Answer, Complaint, Dialect, Meaning, Talk, conversation, reachable, three
from providers.base import NotConfigured, ProbeOutcome, Provider, StatusPage, Variable
from providers.details import dig
from providers.hooks import Found, Inbound, Scheme, Unlisted, Verified, nothing_known
from wsmon.http import Client, Headers, HttpError, Response
from wsmon.vocabulary import JSON


class FunctionalityOptions(BaseModel):
    """With ``repo`` it is read; with ``hook_id`` its webhook's latest deliveries too."""

    model_config = ConfigDict(extra="forbid")

    repo: str | None = Field(default=None, pattern=r"^[\w.-]+/[\w.-]+$", max_length=150)
    hook_id: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _hook_has_a_repo(self) -> FunctionalityOptions:
        if self.hook_id and not self.repo:
            raise ValueError("hook_id needs repo")
        return self


def _complaint(data: JSON) -> Complaint | None:
    message = dig(data, "message")
    return Complaint("", message) if isinstance(message, str) else None


# https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api
# ("403 or 429", with x-ratelimit-remaining 0 or, for secondary limits, retry-after)
def _limited(response: Response, complaint: Complaint | None) -> Meaning | None:
    if response.status != 403 or complaint is None:
        return None
    spent = response.headers.get("x-ratelimit-remaining") == "0"
    return Meaning.LIMITED if spent or "retry-after" in response.headers else None


GITHUB = Dialect(
    vendor="GitHub",
    complaint=_complaint,
    variables=(Variable("GITHUB_TOKEN", "a personal, fine-grained or installation token"),),
    bases={"GITHUB_API_BASE": "https://api.github.com"},
    special=_limited,
    headers={
        "x-ratelimit-limit": "rate_limit_limit",
        "x-ratelimit-remaining": "rate_limit_remaining",
        "x-ratelimit-reset": "rate_limit_reset",
        "x-github-request-id": "request_id",
        "x-oauth-scopes": "scopes",
    },
)


def _get(talk: Talk, path: str) -> Answer:
    return talk.ask("GET", talk.base("GITHUB_API_BASE") + path, headers=_token(talk))


def _token(talk: Talk) -> dict[str, str]:
    (token,) = talk.need("GITHUB_TOKEN")
    return {"Authorization": f"Bearer {token}", "Accept": "application/vnd.github+json"}


@conversation(GITHUB)
def connectivity(talk: Talk) -> ProbeOutcome:
    """The rate limit without a token, which is free of charge against it."""
    return reachable(talk, "GET", f"{talk.base('GITHUB_API_BASE')}/rate_limit")


# https://docs.github.com/rest/rate-limit/rate-limit (open to every kind of token)
@conversation(GITHUB)
def authentication(talk: Talk) -> ProbeOutcome:
    """The rate limit with the token, and whose it is where the token may say so."""
    answer = _get(talk, "/rate_limit")
    talk.must(isinstance(answer.get("resources", "core"), dict), "its rate limits")
    user = talk.try_ask("user", "GET", f"{talk.base('GITHUB_API_BASE')}/user", headers=_token(talk))
    return talk.healthy(
        "the token works",
        login=user.get("login") if user else None,
        rate_limit_limit=answer.get("resources", "core", "limit"),
        rate_limit_remaining=answer.get("resources", "core", "remaining"),
    )


# https://docs.github.com/rest/repos/repos#get-a-repository
@conversation(GITHUB)
def functionality(talk: Talk) -> ProbeOutcome:
    """The repository (or the first one the token sees), and its webhook's deliveries."""
    options = talk.options if isinstance(talk.options, FunctionalityOptions) else FunctionalityOptions()
    if not options.repo:
        answer = _get(talk, "/user/repos?per_page=1")
        talk.must(isinstance(answer.data, list), "a list of repositories")
        return talk.healthy("repositories can be read")
    repo = _get(talk, f"/repos/{options.repo}")
    talk.must(repo.text("full_name") is not None, "the repository's name")
    if options.hook_id:
        _deliveries(talk, options.repo, options.hook_id)
    return talk.healthy(
        f"{options.repo} can be read",
        visibility=repo.get("visibility"),
        archived=repo.get("archived"),
        pushed_at=repo.get("pushed_at"),
    )


# https://docs.github.com/rest/repos/webhooks#list-deliveries-for-a-repository-webhook
def _deliveries(talk: Talk, repo: str, hook: int) -> None:
    url = f"{talk.base('GITHUB_API_BASE')}/repos/{repo}/hooks/{hook}/deliveries?per_page=30"
    answer = talk.try_ask("webhook deliveries", "GET", url, headers=_token(talk))
    if answer is None:
        return
    codes = [row.get("status_code") for row in answer.rows()]
    failed = sum(not (isinstance(code, int) and 200 <= code < 300) for code in codes)
    talk.details |= {"webhook_deliveries": len(codes), "webhook_deliveries_failed": failed}
    if failed:
        talk.warn(f"{failed} of the last {len(codes)} webhook deliveries failed")


class HookOptions(BaseModel):
    """Where to look for deliveries that never arrived: the repository and its webhook's id."""

    model_config = ConfigDict(extra="forbid")

    repository: str | None = Field(default=None, pattern=r"^[\w.-]+/[\w.-]+$", max_length=150)
    hook_id: int | None = Field(default=None, ge=1)


# https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries (the sha1 header is legacy)
SIGNATURE = signing.OverBody("x-hub-signature-256", prefix="sha256=")


def verify(inbound: Inbound, secrets: Sequence[str], _options: Any = None) -> Verified:
    """HMAC-SHA256 of the body, a form's as much as JSON's."""
    return SIGNATURE.verify(inbound, secrets)


# https://docs.github.com/webhooks/webhook-events-and-payloads#delivery-headers
def read(inbound: Inbound, _secrets: Sequence[str] = (), _options: Any = None) -> list[Found]:
    """One event; X-GitHub-Delivery is its key, unchanged when it is redelivered."""
    event, delivery = (inbound.headers.get(f"x-github-{name}", "") for name in ("event", "delivery"))
    body = inbound.body
    if payloads.is_form(inbound):
        form = dict(payloads.read_form(body))
        body = signing.raw_form(form.get("payload", ""))
    data = payloads.read_object(body)
    return [
        Found(
            key=payloads.event_key(inbound.body, delivery),
            type=payloads.event_type(event, dig(data, "action")),
            occurred_at=_when(event, data),
            subject=_subject(data),
        )
    ]


def _subject(data: Mapping[str, JSON]) -> str:
    """The repository, with the number of what happened in it (``owner/repo#12``); else the organisation."""
    name = payloads.text(dig(data, "repository", "full_name")) or payloads.text(dig(data, "organization", "login"))
    number = data.get("number") or dig(data, "issue", "number") or dig(data, "pull_request", "number")
    return f"{name[:240]}#{number}" if name and isinstance(number, int) and 0 < number < 10**9 else name


def _when(event: str, data: Mapping[str, JSON]) -> datetime | None:
    """GitHub names no time of the event itself: its object's last change, or a push's newest commit."""
    changed = dig(data, event, "updated_at") or dig(data, "comment", "updated_at") or dig(data, "issue", "updated_at")
    return payloads.from_iso(changed or dig(data, "head_commit", "timestamp"))


PAGES = 20
_NEXT = re.compile(r'<([^<>]+)>;\s*rel="next"')


# https://docs.github.com/rest/repos/webhooks#list-deliveries-for-a-repository-webhook (newest first)
# https://docs.github.com/rest/repos/webhooks#get-a-delivery-for-a-repository-webhook
def missed(
    http: Client,
    variables: Mapping[str, str],
    options: Any,
    since: datetime,
    timeout: float,
    known: Callable[[str], bool] = nothing_known,
) -> Iterator[tuple[Found, dict[str, str], bytes]]:
    """The webhook's deliveries, at most 2,000 attempts. See :class:`providers.hooks.Missed`.

    GitHub shows a payload as JSON, not its bytes: the body says the same, but its signature would not fit.
    """
    token = variables.get("GITHUB_TOKEN")
    if not token:
        raise NotConfigured("GITHUB_TOKEN")
    if not isinstance(options, HookOptions) or not options.repository or not options.hook_id:
        raise Unlisted("GitHub lists deliveries of one webhook only: set repository and hook_id")
    base = (variables.get("GITHUB_API_BASE") or GITHUB.bases["GITHUB_API_BASE"]).rstrip("/")
    url = f"{base}/repos/{options.repository}/hooks/{options.hook_id}/deliveries"
    seen: set[str] = set()
    for row in _attempts(http, f"{url}?per_page=100", base, token, since, timeout):
        key, number = payloads.event_key(b"", row.get("guid")), row.get("id")
        if key in seen or known(key) or not isinstance(number, int):
            continue  # redeliveries have the first attempt's guid
        seen.add(key)
        delivery = _read(http, f"{url}/{number}", token, timeout).json()
        headers = _headers(dig(delivery, "request", "headers"))
        body = payloads.compact(dig(delivery, "request", "payload"))
        if body is None:
            continue
        inbound = Inbound("POST", "", Headers({"x-github-delivery": key, **headers}.items()), body, 0.0)
        yield read(inbound)[0], headers, body


def _attempts(
    http: Client, url: str, base: str, token: str, since: datetime, timeout: float
) -> Iterator[Mapping[str, JSON]]:
    for _ in range(PAGES):
        answer = _read(http, url, token, timeout)
        for row in payloads.rows(answer.json()):
            delivered = payloads.from_iso(row.get("delivered_at"))
            if delivered and delivered < since:
                return
            yield row
        more = _NEXT.search(answer.headers.get("link", ""))
        if not more or not more[1].startswith(f"{base}/"):  # the token goes nowhere else
            return
        url = more[1]


def _read(http: Client, url: str, token: str, timeout: float) -> Response:
    """An answer of 200 with JSON; raise Unlisted."""
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/vnd.github+json"}
    try:
        answer = http.get(url, headers=headers, timeout=timeout, max_bytes=HOOKS.max_bytes, secrets=(token,))
        answer.json()
    except HttpError as error:
        raise Unlisted(f"GitHub does not list its deliveries: {error.message}") from None
    if not answer.ok:
        raise Unlisted(f"GitHub does not list its deliveries: it answered {answer.status}")
    return answer


def _headers(value: JSON) -> dict[str, str]:
    """What was sent, without the signatures; the payload is JSON here even where the webhook sends a form."""
    pairs = value.items() if isinstance(value, dict) else ()
    kept = {name.lower(): text for name, text in pairs if isinstance(text, str) and "signature" not in name.lower()}
    return kept | {"content-type": "application/json"}


HOOKS = Scheme(
    verify=verify,
    read=read,
    options=HookOptions,
    secrets=("GITHUB_WEBHOOK_SECRET",),
    signed_headers=(SIGNATURE.header,),
    max_bytes=25 * 1_048_576,
    hint="GitHub waits 10 s for an answer and never tries again by itself.",
    secret_problem=signing.plain_problem,
    missed=missed,
)

PROVIDER = Provider(
    slug="github",
    label="GitHub",
    kinds=three(
        connectivity=connectivity,
        authentication=authentication,
        functionality=functionality,
        needs=("GITHUB_TOKEN",),
        options=FunctionalityOptions,
    ),
    variables=GITHUB.variables,
    base_urls=GITHUB.bases,
    status_page=StatusPage(
        "https://www.githubstatus.com/api/v2/summary.json", components=("API Requests", "Webhooks")
    ),
    docs_url="https://docs.github.com/rest",
    hooks=HOOKS,
)
