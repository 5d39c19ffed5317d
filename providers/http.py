"""Generic HTTP check: one request, and what its answer must look like."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator
from functools import cached_property
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from providers.base import Kind, ProbeContext, ProbeOutcome, Provider
from providers.expectations import check_condition, check_path, check_pattern, find, holds, matches
from providers.options import Options, Texts, Url
from wsmon.http import MAX_BYTES, Redirects, Response
from wsmon.redact import redact
from wsmon.vocabulary import JSON, Category, Outcome

SAMPLE = 200
_STATUS = re.compile(r"[1-5](?:xx|[0-9]{2})", re.IGNORECASE)
_CREDENTIALS = re.compile(r"authorization|cookie|key|token|secret|signature|password|auth", re.IGNORECASE)


def _statuses(value: Any) -> Any:
    items = value if isinstance(value, list | tuple) else [value]
    for item in items:
        if isinstance(item, bool) or not _STATUS.fullmatch(str(item)):
            raise ValueError('must be a status such as 200, a class such as "2xx", or a list of them')
    if not items:
        raise ValueError("must name at least one status")
    return tuple(str(item).lower() for item in items)


def _pattern(text: str) -> str:
    check_pattern(text)
    return text


def _conditions(value: dict[str, JSON]) -> dict[str, JSON]:
    for path, condition in value.items():
        check_path(path)
        check_condition(condition)
    return value


class Expect(Options):
    """What makes an answer good. Everything given must hold."""

    status: Annotated[tuple[str, ...], BeforeValidator(_statuses)] = ("2xx",)
    body_contains: Texts = ()
    body_not_contains: Texts = ()
    regex: Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_pattern)] | None = None
    json_: Annotated[dict[str, Any], AfterValidator(_conditions)] = Field(default_factory=dict, alias="json")
    header: dict[str, str] = Field(default_factory=dict)
    """Header -> text that its value must contain, in any case of letters; "" only asks for the header."""


class BasicAuth(Options):
    """Name and password for HTTP Basic authentication."""

    username: str
    password: str = ""


class HttpOptions(Options):
    """The options of kind ``http``."""

    url: Url
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"] = "GET"
    headers: dict[str, str] = Field(default_factory=dict)
    body: str | None = Field(default=None, max_length=1_000_000)
    json_: Any = Field(default=None, alias="json")
    basic_auth: BasicAuth | None = None
    expect: Expect = Field(default_factory=Expect)
    max_bytes: int = Field(default=MAX_BYTES, ge=1, le=16 * 1_048_576)
    redirects: Redirects | None = None
    """Followed on the same host, unless a 3xx is what is expected."""
    verify: bool | str = True
    tls_days_left: int = Field(default=14, ge=0, le=3_650)
    """Degraded when the certificate has fewer days; 0 switches it off."""

    @field_validator("method", mode="before")
    @classmethod
    def _upper(cls, value: Any) -> Any:
        return value.upper() if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_body(self) -> HttpOptions:
        if self.body is not None and self.json_ is not None:
            raise ValueError("body and json exclude each other")
        return self

    @cached_property
    def secret_values(self) -> tuple[str, ...]:
        """What may be a credential in these options, for masking."""
        return tuple(value for value in self._candidates() if value)

    def _candidates(self) -> Iterator[str]:
        parts = urlsplit(self.url)
        yield from (unquote(part) for part in (parts.password, parts.username) if part)
        yield from (value for name, value in parse_qsl(parts.query) if _CREDENTIALS.search(name))
        if self.basic_auth:
            yield self.basic_auth.password
        for name, value in self.headers.items():
            if _CREDENTIALS.search(name):
                yield value
                yield value.rpartition(" ")[2]

    def sends_credentials(self) -> bool:
        """True when a 401 speaks about our credential."""
        named = any(_CREDENTIALS.search(name) for name in self.headers)
        return named or self.basic_auth is not None or "@" in urlsplit(self.url).netloc

    def redirect_policy(self) -> Redirects:
        """``redirects``, or what suits the expected statuses."""
        expected = any(status.startswith("3") for status in self.expect.status)
        return self.redirects or ("none" if expected else "same-host")


def probe(context: ProbeContext) -> ProbeOutcome:
    """Send the request and compare the answer with what is expected."""
    options: HttpOptions = context.options
    headers = dict(options.headers)
    if options.basic_auth:
        pair = f"{options.basic_auth.username}:{options.basic_auth.password}"
        headers["Authorization"] = "Basic " + b64encode(pair.encode()).decode()
    response = context.http.request(
        options.method,
        options.url,
        headers=headers,
        body=options.body,
        json=options.json_,
        timeout=context.timeout,
        max_bytes=options.max_bytes,
        redirects=options.redirect_policy(),
        verify=options.verify,
    )
    return judge(options, response)


def judge(options: HttpOptions, response: Response) -> ProbeOutcome:
    """The outcome of an answer."""
    details: dict[str, JSON] = {"bytes": len(response.body)}
    if response.truncated:
        details["truncated"] = True
    if response.status == 429 and "retry-after" in response.headers:
        details["retry_after"] = response.headers["retry-after"][:40]
    if response.redirects:
        details["redirects"] = len(response.redirects)
    if response.tls:
        details |= {"tls_days_left": response.tls.days_left, "tls_issuer": response.tls.issuer}
    verdict = _status_verdict(options, response) or _body_verdict(options.expect, response)
    if verdict is None:
        verdict = _tls_verdict(options, response) or (Outcome.HEALTHY, None, f"answered {response.status}")
    elif response.body:
        # Masked before it is cut, or else the first half of a secret could remain.
        text = redact(response.text()[: 20 * SAMPLE], options.secret_values)
        details["body"] = " ".join(text.split())[:SAMPLE]
    return ProbeOutcome(*verdict, response.timings, response.status, details)


_Verdict = tuple[Outcome, Category | None, str]


def _status_verdict(options: HttpOptions, response: Response) -> _Verdict | None:
    status = str(response.status)
    expected = options.expect.status
    if any(status == each or (each.endswith("xx") and each[0] == status[0]) for each in expected):
        return None
    message = f"answered {status}, expected {' or '.join(expected)}"
    if status[0] == "5":
        return Outcome.CRITICAL, Category.SERVER_ERROR, message
    if status == "429":
        return Outcome.DEGRADED, Category.RATE_LIMITED, message
    if status in ("401", "403") and options.sends_credentials():
        refused = "refused our credential" if status == "401" else "says our credential lacks a permission"
        return Outcome.ERROR, Category.AUTHENTICATION_ERROR, f"answered {status}: it {refused}"
    if status[0] == "4":
        return Outcome.CRITICAL, Category.CLIENT_ERROR, message
    return Outcome.CRITICAL, Category.VALIDATION_ERROR, message


def _body_verdict(expect: Expect, response: Response) -> _Verdict | None:
    lacking = next(_unmet(expect, response), None)
    return None if lacking is None else (Outcome.CRITICAL, Category.VALIDATION_ERROR, lacking)


def _unmet(expect: Expect, response: Response) -> Iterator[str]:
    """What does not hold, most telling first."""
    for name, wanted in expect.header.items():
        if name not in response.headers:
            yield f"the header {name} is missing"
        elif wanted.lower() not in response.headers[name].lower():
            yield f"the header {name} does not contain {wanted!r}"
    if expect.body_contains or expect.body_not_contains or expect.regex:
        text = response.text()
        yield from (f"the body does not contain {wanted!r}" for wanted in expect.body_contains if wanted not in text)
        yield from (f"the body contains {bad!r}" for bad in expect.body_not_contains if bad in text)
        if expect.regex and not matches(expect.regex, text):
            yield f"the body does not match {expect.regex!r}"
    if expect.json_:
        body = response.json()
        for path, condition in expect.json_.items():
            found, value = find(body, path)
            why = holds(found, value, condition)
            if why:
                yield f"{path} {why}"


def _tls_verdict(options: HttpOptions, response: Response) -> _Verdict | None:
    if response.tls is None or response.tls.days_left >= options.tls_days_left:
        return None
    message = f"answered {response.status}, but the certificate expires in {response.tls.days_left} days"
    return Outcome.DEGRADED, Category.TLS_ERROR, message


PROVIDER = Provider(
    slug="http",
    label="HTTP",
    kinds={"http": Kind(probe, HttpOptions, default_interval=30, help="one request, and what its answer must be")},
    generic=True,
)
