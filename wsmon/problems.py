"""Errors of the API as problem documents (RFC 9457, ``application/problem+json``).

Nothing internal gets in: an unforeseen exception becomes a 500 that names only the request's id.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import structlog
from django.core.exceptions import BadRequest, PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, UnreadablePostError
from django.views import defaults
from ninja.errors import HttpError, ValidationError
from pydantic import BaseModel, ConfigDict, Field

CONTENT_TYPE = "application/problem+json"

log = structlog.get_logger(__name__)


class FieldError(BaseModel):
    """One parameter that was wrong."""

    field: str = Field(description="the parameter's name, dotted inside a body", examples=["timeout_ms"])
    message: str = Field(examples=["Input should be less than or equal to 30000"])


class ProblemDocument(BaseModel):
    """An error, as RFC 9457 describes it."""

    model_config = ConfigDict(extra="allow")

    type: str = Field("about:blank", description="`about:blank`: the status says what kind of problem it is")
    title: str = Field(description="the HTTP status in words", examples=["Unprocessable Content"])
    status: int = Field(description="the HTTP status code", examples=[422])
    detail: str = Field(description="what is wrong with this request", examples=["timeout_ms: too large"])
    errors: list[FieldError] = Field([], description="the parameters at fault, for 422")
    variables: list[str] = Field([], description="the variables to set, for 409")
    request_id: str = Field("", description="find it in wsmon's log, for 500")


class Problem(Exception):
    """Raise it anywhere in the API to answer with a problem document."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        errors: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = errors
        self.headers = dict(headers or {})
        self.more = more

    @classmethod
    def unauthenticated(cls, detail: str, error: str = "") -> Problem:
        """Return a 401 that says how to authenticate (RFC 6750, section 3)."""
        challenge = 'Bearer realm="wsmon"' + (f', error="{error}"' if error else "")
        return cls(401, detail, headers={"WWW-Authenticate": challenge})

    @classmethod
    def forbidden(cls, detail: str, **more: Any) -> Problem:
        """Return a 403: known, but not allowed."""
        return cls(403, detail, **more)

    @classmethod
    def too_many(cls, seconds: float) -> Problem:
        """Return a 429 that says when to come back, in whole seconds."""
        wait = max(1, math.ceil(seconds))
        return cls(429, f"too many requests: try again in {wait} s", headers={"Retry-After": str(wait)})

    @classmethod
    def invalid(cls, *errors: tuple[str, str]) -> Problem:
        """Return a 422 that names each wrong parameter."""
        return cls(422, "; ".join(f"{field}: {message}" for field, message in errors), errors=errors)


def response(problem: Problem) -> HttpResponse:
    """Return the HTTP answer for ``problem``."""
    document: dict[str, Any] = {
        "type": "about:blank",
        "title": title(problem.status),
        "status": problem.status,
        "detail": problem.detail,
    }
    if problem.errors:
        document["errors"] = [{"field": field, "message": message} for field, message in problem.errors]
    answer = HttpResponse(json.dumps(document | problem.more), status=problem.status, content_type=CONTENT_TYPE)
    for name, value in problem.headers.items():
        answer[name] = value
    return answer


def of(request: HttpRequest, error: Exception) -> Problem:  # noqa: PLR0911 - a flat table of cases
    """Return the problem that ``error``, raised while answering ``request``, is to the caller."""
    match error:
        case Problem():
            return error
        case ValidationError():
            return Problem.invalid(*(_field_error(one) for one in error.errors))
        case Http404():
            return Problem(404, "there is nothing here")
        case PermissionDenied():
            return Problem.forbidden("you may not do this")
        case RequestDataTooBig():
            return Problem(413, "the body is too large")
        case SuspiciousOperation() | BadRequest() | UnreadablePostError():
            return Problem(400, "the request could not be read")
        case HttpError():
            return _http_error(error)
        case OperationalError() | InterfaceError():
            log.error("api_database_unavailable", exc_info=error)
            return Problem(503, "the database does not answer", headers={"Retry-After": "5"})
        case _:
            return _internal(request, error)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer a request that was refused before a view was found, such as one for an unknown host."""
    if request.path.startswith("/api/"):
        return response(Problem(400, "the request could not be read"))
    return defaults.bad_request(request, exception)


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer a request that a middleware failed on; Django has logged why."""
    if request.path.startswith("/api/"):
        return response(_failed(request))
    return defaults.server_error(request)


def _http_error(error: HttpError) -> Problem:
    if error.status_code == 401:
        return Problem.unauthenticated("log in, or send a token as Authorization: Bearer TOKEN")
    return Problem(error.status_code, error.message)


def _internal(request: HttpRequest, error: Exception) -> Problem:
    log.error("api_error", exc_info=error, path=request.path)
    return _failed(request)


def _failed(request: HttpRequest) -> Problem:
    request_id = str(getattr(request, "request_id", ""))
    return Problem(500, "wsmon failed to answer; its log says why", request_id=request_id)


def _field_error(error: Mapping[str, Any]) -> tuple[str, str]:
    """Turn pydantic's location (``("body", "body", "timeout_ms")``) into the name the caller knows."""
    where = [str(part) for part in error["loc"]]
    named = where[1:]
    if where[:1] == ["body"] and len(where) > 1:
        named = where[2:] or ["body"]
    return ".".join(named) or "body", str(error["msg"])


def title(status: int) -> str:
    """Return the words that belong to an HTTP status."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"
