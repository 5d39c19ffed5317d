"""Who calls the API, and whether they may: a staff session, or a token with a scope.

An operation names both what a token needs (a scope) and what a person needs (a permission):
``auth=access("monitoring:read", "monitoring.view_service")``.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.http import HttpRequest
from ninja.security import APIKeyCookie, HttpBearer
from ninja.utils import check_csrf

from wsmon import tokens
from wsmon.audit import address_of
from wsmon.models import ApiToken
from wsmon.problems import Problem
from wsmon.throttle import Rate

SAFE_METHODS = ("GET", "HEAD", "OPTIONS", "TRACE")


class Bearer(HttpBearer):
    """``Authorization: Bearer TOKEN``. A token that is sent but wrong is never passed over."""

    def __init__(self, scope: str | None, counted_as: str = "requests") -> None:
        super().__init__()
        self.scope = scope
        self.counted_as = counted_as

    def __call__(self, request: HttpRequest) -> ApiToken | None:
        """Return the caller's token, ``None`` when there is no ``Authorization`` header."""
        header = request.headers.get("Authorization")
        if header is None:
            return None
        scheme, _, text = header.strip().partition(" ")
        token = _verify(request, text.strip()) if scheme.lower() == "bearer" else None
        if token is None:
            raise Problem.unauthenticated("this token is unknown or revoked", "invalid_token")
        if self.scope and self.scope not in token.scopes:
            challenge = f'Bearer realm="wsmon", error="insufficient_scope", scope="{self.scope}"'
            raise Problem.forbidden(
                f"the token lacks the scope {self.scope}", headers={"WWW-Authenticate": challenge}
            )
        request.api_token = token  # type: ignore[attr-defined]
        _count(self.counted_as, f"token:{token.pk}")
        return token

    def authenticate(self, request: HttpRequest, token: str) -> Any:
        """Unused: ``__call__`` does it all."""
        raise NotImplementedError


class Session(APIKeyCookie):
    """The session of a logged-in member of staff; unsafe methods need a CSRF token (``X-CSRFToken``)."""

    param_name = settings.SESSION_COOKIE_NAME

    def __init__(self, permission: str | None, counted_as: str = "requests") -> None:
        super().__init__(csrf=False)
        self.permission = permission
        self.counted_as = counted_as

    def __call__(self, request: HttpRequest) -> User | None:
        """Return the caller's account, ``None`` when nobody is logged in."""
        user = getattr(request, "user", None)
        if not isinstance(user, User):
            return None
        if not (user.is_active and user.is_staff):
            raise Problem.forbidden("this account is not for staff")
        if request.method not in SAFE_METHODS and check_csrf(request) is not None:
            raise Problem.forbidden("the CSRF token is missing or wrong: send it as X-CSRFToken")
        if self.permission and not user.has_perm(self.permission):
            raise Problem.forbidden(f"you lack the permission {self.permission}")
        _count(self.counted_as, f"user:{user.pk}")
        return user

    def authenticate(self, request: HttpRequest, key: str | None) -> Any:
        """Unused: ``__call__`` does it all."""
        raise NotImplementedError


def access(
    scope: str | None = None, permission: str | None = None, counted_as: str = "requests"
) -> list[Bearer | Session]:
    """Return who may call an operation: tokens with ``scope``, staff with ``permission``.

    ``None`` asks for no more than a valid token or a session of staff. ``counted_as`` says which limit counts
    the calls: that of ``requests``, or of the ``reports`` that programs send all the time.
    """
    return [Bearer(scope, counted_as), Session(permission, counted_as)]


def authenticate(request: HttpRequest, scope: str | None = None, permission: str | None = None) -> None:
    """Let ``request`` pass, or raise :class:`Problem`: for views outside the API, such as ``/metrics``."""
    if not any(allowed(request) for allowed in access(scope, permission)):
        raise Problem.unauthenticated("log in, or send a token as Authorization: Bearer TOKEN")


def limit(request: HttpRequest, what: str, per_minute: int) -> None:
    """Count one call of something dear; raise a 429 when this caller had ``per_minute`` of them."""
    token = getattr(request, "api_token", None)
    who = f"token:{token.pk}" if token else f"user:{getattr(request.user, 'pk', None)}"
    _take(f"{what}:{per_minute}", per_minute, who)


def reset_limits() -> None:
    """Forget every call counted so far in this process."""
    _rate.cache_clear()


def _verify(request: HttpRequest, text: str) -> ApiToken | None:
    """Verify a token; an address that keeps sending wrong ones is told to wait.

    A right one passes all the same, or else anybody behind the same address could shut others out.
    """
    token = tokens.verify(text)
    if token is None:
        wait = _rate("wrong", settings.API_WRONG_TOKENS_PER_MINUTE).take(str(address_of(request)))
        if wait:
            raise Problem.too_many(wait)
    return token


def _count(counted_as: str, who: str) -> None:
    limits = {"requests": settings.API_REQUESTS_PER_MINUTE, "reports": settings.API_REPORTS_PER_MINUTE}
    _take(counted_as, limits[counted_as], who)


def _take(name: str, per_minute: int, who: str) -> None:
    wait = _rate(name, per_minute).take(who)
    if wait:
        raise Problem.too_many(wait)


@cache
def _rate(_name: str, per_minute: int) -> Rate:
    return Rate(per_minute, 60.0)
