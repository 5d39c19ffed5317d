"""Middlewares of our own: a name for every request, no NUL in its address, and everything is for staff."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from typing import Any, cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.core.exceptions import BadRequest, PermissionDenied
from django.http import HttpRequest, HttpResponse, QueryDict
from django.http.response import HttpResponseBase
from django.shortcuts import resolve_url
from django.utils.decorators import sync_and_async_middleware
from structlog.contextvars import bound_contextvars

REQUEST_ID_HEADER = "X-Request-ID"


class RequestIdMiddleware:
    """Names each request by 16 random hexadecimal digits: in every log line and in ``X-Request-ID``.

    The name is always our own. One sent by the client is ignored: it would let anybody write into the log.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Answer the request with its id bound; a coroutine when the rest of the chain is one."""
        if self.is_async:
            return self._answer(request)
        request_id = self._name(request)
        with bound_contextvars(request_id=request_id):
            response = cast(HttpResponseBase, self.get_response(request))
        response.headers[REQUEST_ID_HEADER] = request_id
        return response

    async def _answer(self, request: HttpRequest) -> HttpResponseBase:
        request_id = self._name(request)
        with bound_contextvars(request_id=request_id):
            response = cast(HttpResponseBase, await self.get_response(request))
        response.headers[REQUEST_ID_HEADER] = request_id
        return response

    @staticmethod
    def _name(request: HttpRequest) -> str:
        request_id = secrets.token_hex(8)
        request.request_id = request_id  # type: ignore[attr-defined]
        return request_id


@sync_and_async_middleware
def refuse_nul(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Answers 400 to a NUL in an address: nothing of ours has one, and PostgreSQL takes none in a text."""
    if iscoroutinefunction(get_response):

        async def answer_later(request: HttpRequest) -> HttpResponseBase:
            _check_address(request)
            return cast(HttpResponseBase, await get_response(request))

        return answer_later

    def answer(request: HttpRequest) -> HttpResponseBase:
        _check_address(request)
        return cast(HttpResponseBase, get_response(request))

    return answer


def _check_address(request: HttpRequest) -> None:
    query = request.META.get("QUERY_STRING", "")
    if "\x00" in request.path or "\x00" in query or "%00" in query:
        raise BadRequest("There is a NUL in the address.")


class StaffRequiredMiddleware(LoginRequiredMiddleware):
    """Denies by default: strangers are sent to the login page, accounts that are not staff get 403.

    A view opens itself with ``login_not_required``: login, health, metrics, webhooks, and the API, which
    authenticates by itself (sessions or tokens) and answers with problem documents instead of redirects.
    """

    def process_view(
        self,
        request: HttpRequest,
        view_func: Callable[..., HttpResponseBase],
        view_args: Any,  # noqa: ARG002
        view_kwargs: Any,  # noqa: ARG002
    ) -> HttpResponseBase | None:
        """Let staff and open views through (``None``); raise PermissionDenied for other accounts."""
        if not getattr(view_func, "login_required", True):
            return None
        if not request.user.is_authenticated:
            return self.handle_no_permission(request, view_func)
        if not getattr(request.user, "is_staff", False):
            raise PermissionDenied("This account is not for staff.")
        return None

    def handle_no_permission(  # type: ignore[override]
        self, request: HttpRequest, view_func: Callable[..., Any]
    ) -> HttpResponseBase:
        """Send a stranger to the login page.

        A fragment is answered by 401 with ``HX-Redirect``, so that htmx leaves the page instead of
        swapping the login form into it. After the login one comes back, but never to a POST.
        """
        htmx = getattr(request, "htmx", None)
        if not htmx:
            if request.method in {"GET", "HEAD"}:
                return super().handle_no_permission(request, view_func)
            return _to_login(None, HttpResponse(status=302), "Location")
        return _to_login(htmx.current_url_abs_path, HttpResponse(status=401), "HX-Redirect")


def _to_login(next_path: str | None, response: HttpResponse, header: str) -> HttpResponse:
    url = resolve_url(settings.LOGIN_URL)
    if next_path:
        query = QueryDict(mutable=True)
        query["next"] = next_path
        url = f"{url}?{query.urlencode(safe='/')}"
    response.headers[header] = url
    return response
