"""From a vendor's answers to a :class:`ProbeOutcome`, by the same rules for every vendor.

A vendor's module declares a :class:`Dialect` (how this vendor complains, and what its codes mean) and
writes each kind as a conversation: calls made through a :class:`Talk`, which shares one deadline, adds
up the timings, and ends the probe with the right verdict as soon as an answer is a refusal.
What is judged: a refused credential is ``error``, never "vendor down"; an answer that is not the
vendor's own (a proxy's page, garbage) is ``critical``/``VALIDATION_ERROR``; 5xx is ``critical``.
"""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, TypeAlias

from pydantic import BaseModel

from providers.base import Kind, NoOptions, NotConfigured, Probe, ProbeContext, ProbeOutcome, Variable
from providers.details import clean, clip, content_type, dig, header_details, retry_after, total
from wsmon.http import NotJson, Response
from wsmon.redact import redact, redact_json
from wsmon.vocabulary import JSON, Category, Outcome, Timings

MESSAGE_LIMIT = 400
PLACEHOLDER = re.compile(r"\{([A-Z_]+)\}")


class Meaning(Enum):
    """What a vendor's complaint means for us."""

    REFUSED = auto()
    """The credential is wrong, expired or revoked."""
    FORBIDDEN = auto()
    """The credential is alive but lacks a permission."""
    LIMITED = auto()
    """Too many requests; nothing is broken."""
    CLIENT = auto()
    """Our request is wrong, e.g. it names something that does not exist."""
    SERVER = auto()
    """The vendor failed."""
    FOREIGN = auto()
    """Not an answer of this vendor at all."""


VERDICTS: Mapping[Meaning, tuple[Outcome, Category, str]] = {
    Meaning.REFUSED: (
        Outcome.ERROR,
        Category.AUTHENTICATION_ERROR,
        "{vendor} refused the credential ({status})",
    ),
    Meaning.FORBIDDEN: (
        Outcome.ERROR,
        Category.AUTHENTICATION_ERROR,
        "{vendor} accepts the credential, but it lacks a permission ({status})",
    ),
    Meaning.LIMITED: (Outcome.DEGRADED, Category.RATE_LIMITED, "{vendor} limits our rate ({status})"),
    Meaning.CLIENT: (
        Outcome.ERROR,
        Category.CLIENT_ERROR,
        "{vendor} did not accept our request ({status})",
    ),
    Meaning.SERVER: (Outcome.CRITICAL, Category.SERVER_ERROR, "{vendor} failed ({status})"),
    Meaning.FOREIGN: (
        Outcome.CRITICAL,
        Category.VALIDATION_ERROR,
        "the answer ({status}, {type}) is not one of {vendor}'s",
    ),
}


@dataclass(frozen=True, slots=True)
class Complaint:
    """A vendor's error, as its own body words it. ``code`` is what :attr:`Dialect.meanings` maps."""

    code: str = ""
    text: str = ""

    def __str__(self) -> str:
        return f"{self.text} ({self.code})" if self.text and self.code else self.text or self.code


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one vendor speaks: its hosts and variables, its error shape and what its codes mean."""

    vendor: str
    complaint: Callable[[JSON], Complaint | None]
    """Reads an error body; ``None`` if it is not of this vendor's shape."""
    variables: tuple[Variable, ...] = ()
    bases: Mapping[str, str] = field(default_factory=dict)
    """Override variable -> default base URL; ``{NAME}`` in it stands for another variable."""
    meanings: Mapping[str, Meaning] = field(default_factory=dict)
    """The codes whose HTTP status would mislead."""
    special: Callable[[Response, Complaint | None], Meaning | None] | None = None
    """For what a code alone cannot tell; asked before ``meanings``."""
    complains_in_200: bool = False
    """True for vendors that answer 200 with an error body (Slack, GraphQL)."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Answer header -> key in the outcome's details."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A good answer with its JSON body; the accessors never raise, whatever the body is."""

    response: Response
    data: JSON

    def get(self, *path: str | int) -> JSON:
        """The value at ``path``, or ``None``."""
        return dig(self.data, *path)

    def text(self, *path: str | int) -> str | None:
        """The string at ``path``, or ``None`` for anything else."""
        found = self.get(*path)
        return found if isinstance(found, str) else None

    def rows(self, *path: str | int) -> list[dict[str, Any]]:
        """The objects in the list at ``path``; empty when there is none."""
        found = self.get(*path)
        return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []


class Verdict(Exception):
    """Ends a conversation early with its outcome; ``complaint`` is the vendor's own word, if it said one."""

    def __init__(self, outcome: ProbeOutcome, complaint: Complaint | None = None) -> None:
        super().__init__(outcome.message)
        self.outcome = outcome
        self.complaint = complaint or Complaint()


class Talk:
    """One probe's conversation with a vendor, within one deadline (``context.timeout`` seconds)."""

    def __init__(self, context: ProbeContext, dialect: Dialect) -> None:
        self.context = context
        self.dialect = dialect
        self.details: dict[str, JSON] = {}
        self._ends = time.monotonic() + context.timeout
        self._timings: list[Timings] = []
        self._status: int | None = None
        self.secrets = [self.value(each.name) for each in dialect.variables if each.secret]

    @property
    def options(self) -> Any:
        """The kind's options, an instance of its pydantic model."""
        return self.context.options

    def value(self, name: str) -> str:
        """A variable's value, or an empty string."""
        return self.context.variables.get(name, "")

    def need(self, *names: str) -> tuple[str, ...]:
        """The values of ``names``; raises :class:`NotConfigured` naming the absent ones."""
        return self.context.need(*names)

    def base(self, name: str) -> str:
        """The base URL ``name``: overridden by a variable, else the vendor's own; no trailing slash."""
        url = self.value(name) or self.dialect.bases[name]
        filled = PLACEHOLDER.sub(lambda match: self.need(match[1])[0].rstrip("/"), url)
        return filled.rstrip("/")

    def remaining(self) -> float:
        """Seconds left of the probe's budget; ends the probe when there are none."""
        left = self._ends - time.monotonic()
        if left <= 0:
            raise Verdict(
                self.say(
                    Outcome.CRITICAL,
                    f"timed out after {round(self.context.timeout, 2):g} s, between two calls",
                    Category.TIMEOUT_ERROR,
                )
            )
        return left

    def took(self, timings: Timings, status: int | None = None) -> None:
        """Count an exchange that was not made by :meth:`ask` (e.g. over a WebSocket)."""
        self._timings.append(timings)
        self._status = status if status is not None else self._status

    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        json: JSON = None,
        body: str | bytes | None = None,
    ) -> Response:
        """Make one call and count it; raises ``HttpError`` when there is no answer."""
        response = self.context.http.request(
            method,
            url,
            headers=dict(headers or {}),
            body=body,
            json=json,
            timeout=self.remaining(),
            secrets=self.secrets,
        )
        self.took(response.timings, response.status)
        self.details |= header_details(response, self.dialect.headers, self.context.now)
        return response

    def ask(
        self, method: str, url: str, *, dialect: Dialect | None = None, empty: bool = False, **request: Any
    ) -> Answer:
        """Make one call whose answer must be good; anything else ends the probe with its verdict.

        ``dialect`` is another one than the probe's, e.g. a token endpoint's; ``empty`` allows no body.
        """
        spoken = dialect or self.dialect
        response = self.send(method, url, **request)
        data = {} if empty and not response.body.strip() else parsed(response)
        complaint = read_complaint(response, data, spoken)
        meaning = meaning_of(response, data, complaint, spoken)
        if meaning:
            raise Verdict(self.failure(meaning, response, complaint), complaint)
        return Answer(response, data)

    def try_ask(self, what: str, method: str, url: str, **request: Any) -> Answer | None:
        """Like :meth:`ask` for a call that only adds details: when it may not be made, note it and go on.

        So too when the resource does not exist: gateways and stand-ins do not offer all of an API.
        """
        spare = {Category.AUTHENTICATION_ERROR, Category.CLIENT_ERROR, Category.RATE_LIMITED}
        status = self._status
        try:
            return self.ask(method, url, **request)
        except Verdict as verdict:
            if verdict.outcome.category not in spare and verdict.outcome.http_status != 404:
                raise
            self._status = status
            self.details.setdefault("not_readable", []).append(what)
            return None

    def failure(self, meaning: Meaning, response: Response, complaint: Complaint | None) -> ProbeOutcome:
        """The outcome of an answer that means trouble."""
        outcome, category, sentence = VERDICTS[meaning]
        message = sentence.format(vendor=self.dialect.vendor, status=response.status, type=content_type(response))
        said = clip(redact(str(complaint), self.secrets)) if complaint else ""
        details = retry_after(response, self.context.now) if meaning is Meaning.LIMITED else {}
        return self.say(outcome, f"{message}: {said}" if said else message, category, **details)

    def say(self, outcome: Outcome, message: str, category: Category | None = None, **details: JSON) -> ProbeOutcome:
        """An outcome with everything gathered so far."""
        gathered = self.details | {key: value for key, value in details.items() if value is not None}
        return ProbeOutcome(
            outcome=outcome,
            category=category,
            message=clip(message, MESSAGE_LIMIT),
            timings=total(self._timings),
            http_status=self._status,
            details=redact_json(clean(gathered), self.secrets),
        )

    def healthy(self, message: str, **details: JSON) -> ProbeOutcome:
        """The good end of a conversation."""
        return self.say(Outcome.HEALTHY, message, **details)

    def must(self, holds: bool, lacks: str) -> None:
        """End the probe with ``VALIDATION_ERROR`` unless the answer has what the vendor always sends."""
        if not holds:
            raise Verdict(
                self.say(
                    Outcome.CRITICAL,
                    f"{self.dialect.vendor} answered {self._status} without {lacks}",
                    Category.VALIDATION_ERROR,
                )
            )

    def ours(self, message: str) -> Verdict:
        """A fault in our own configuration, to be raised."""
        return Verdict(self.say(Outcome.ERROR, message, Category.CONFIGURATION_ERROR))

    def warn(self, message: str) -> None:
        """Note something that works but wants a look; shown under ``warnings``."""
        self.details.setdefault("warnings", []).append(message)


def conversation(dialect: Dialect) -> Callable[[Callable[[Talk], ProbeOutcome]], Probe]:
    """Make a probe of a function that talks to the vendor."""

    def decorate(steps: Callable[[Talk], ProbeOutcome]) -> Probe:
        @functools.wraps(steps)
        def probe(context: ProbeContext) -> ProbeOutcome:
            try:
                return steps(Talk(context, dialect))
            except Verdict as verdict:
                return verdict.outcome

        return probe

    return decorate


def reachable(talk: Talk, method: str, url: str, **request: Any) -> ProbeOutcome:
    """Connectivity: any answer of the vendor's own, even a refusal, proves that it can be reached."""
    response = talk.send(method, url, **request)
    return reached(talk, response, parsed(response))


def reached(talk: Talk, response: Response, data: JSON) -> ProbeOutcome:
    """What an answer to a call without a credential says about connectivity."""
    complaint = read_complaint(response, data, talk.dialect)
    meaning = meaning_of(response, data, complaint, talk.dialect)
    vendor, status = talk.dialect.vendor, response.status
    if meaning is Meaning.LIMITED:
        return talk.say(
            Outcome.HEALTHY,
            f"reachable, but {vendor} limits our rate ({status})",
            Category.RATE_LIMITED,
            **retry_after(response, talk.context.now),
        )
    if meaning in {Meaning.SERVER, Meaning.FOREIGN}:
        return talk.failure(meaning, response, complaint)
    return talk.healthy(f"{status} with {vendor}'s error shape: reachable" if meaning else f"{status}: reachable")


def meaning_of(response: Response, data: JSON, complaint: Complaint | None, dialect: Dialect) -> Meaning | None:
    """What an answer means; ``None`` when it is a good one."""
    if dialect.special and (special := dialect.special(response, complaint)):
        return special
    if complaint and (known := dialect.meanings.get(complaint.code)):
        return known
    if response.status >= 500:
        return Meaning.SERVER
    if response.status == 429:
        return Meaning.LIMITED
    if 200 <= response.status < 300 and not complaint:
        return None if isinstance(data, dict | list) else Meaning.FOREIGN
    if not complaint:
        return Meaning.FOREIGN
    return {401: Meaning.REFUSED, 403: Meaning.FORBIDDEN}.get(response.status, Meaning.CLIENT)


def read_complaint(response: Response, data: JSON, dialect: Dialect) -> Complaint | None:
    """The vendor's error in this answer, if it is one in the vendor's shape."""
    if response.status < 300 and not dialect.complains_in_200:
        return None
    return dialect.complaint(data)


def parsed(response: Response) -> JSON:
    """The JSON body, or ``None`` when it is none (or was cut at the size cap)."""
    if response.truncated:
        return None
    try:
        return response.json()
    except (NotJson, RecursionError):
        return None


def under_error(data: JSON) -> Complaint | None:
    """``{"error": {"code" | "type", "message"}}``: Stripe, Google, Microsoft, Meta."""
    error = dig(data, "error")
    if not isinstance(error, dict) or not isinstance(error.get("message"), str):
        return None
    code = error.get("code") or error.get("type") or ""
    return Complaint(str(code), error["message"])


def oauth_complaint(data: JSON) -> Complaint | None:
    """A token endpoint's error: https://www.rfc-editor.org/rfc/rfc6749#section-5.2."""
    error = dig(data, "error")
    if not isinstance(error, str):
        return None
    described = dig(data, "error_description")
    return Complaint(error, described.splitlines()[0] if isinstance(described, str) and described else "")


Alternatives: TypeAlias = tuple[tuple[str, ...], ...]
"""Sets of variables of which one must be there in full; the first is the usual one."""


def three(
    *,
    connectivity: Probe,
    authentication: Probe,
    functionality: Probe,
    connectivity_needs: tuple[str, ...] = (),
    needs: tuple[str, ...] = (),
    credentials: Alternatives = (),
    authentication_needs: tuple[str, ...] = (),
    options: type[BaseModel] = NoOptions,
) -> dict[str, Kind]:
    """The three kinds every vendor has; the last two need ``needs`` and one of ``credentials``.

    ``authentication_needs`` stand for both where only one credential will do. ``options`` are
    functionality's.
    """
    return {
        "connectivity": Kind(
            needing(connectivity, connectivity_needs),
            needs=connectivity_needs,
            default_interval=30,
            help="can it be reached; sends no credential",
        ),
        "authentication": Kind(
            needing(authentication, authentication_needs or needs, () if authentication_needs else credentials),
            needs=authentication_needs or needs,
            default_interval=60,
            help="does it accept our credential",
        ),
        "functionality": Kind(
            needing(functionality, needs, credentials),
            options=options,
            needs=needs,
            default_interval=120,
            default_timeout=10,
            help="does the product itself answer; changes nothing",
        ),
    }


def needing(probe: Probe, needs: tuple[str, ...], credentials: Alternatives = ()) -> Probe:
    """``probe``, but first of all :class:`NotConfigured` names every variable that is absent."""

    @functools.wraps(probe)
    def checked(context: ProbeContext) -> ProbeOutcome:
        missing = [name for name in needs if not context.variables.get(name)]
        if credentials and given(context, credentials) is None:
            missing += _absent(context, credentials)
        if missing:
            raise NotConfigured(*dict.fromkeys(missing))
        return probe(context)

    return checked


def given(context: ProbeContext, credentials: Alternatives) -> int | None:
    """The number of the first set of variables that is there in full."""
    for number, names in enumerate(credentials):
        if all(context.variables.get(name) for name in names):
            return number
    return None


def _absent(context: ProbeContext, credentials: Alternatives) -> list[str]:
    """What lacks of the set that was begun, else of the first."""
    begun = [names for names in credentials if any(context.variables.get(name) for name in names)]
    return [name for name in (begun or credentials)[0] if not context.variables.get(name)]
