"""Every request has a name of its own, and nobody but staff gets in."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
import structlog
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client, RequestFactory
from django_htmx.middleware import HtmxDetails

from wsmon.middleware import RequestIdMiddleware, StaffRequiredMiddleware

FACTORY = RequestFactory()


@pytest.fixture(autouse=True)
def only_the_account_pages(settings: Any) -> None:
    settings.ROOT_URLCONF = "wsmon.accounts.urls"


def closed(request: HttpRequest) -> HttpResponse:
    return HttpResponse("inside")


@login_not_required
def opened(request: HttpRequest) -> HttpResponse:
    return HttpResponse("outside")


def guard(request: HttpRequest, user: Any, view: Any = closed) -> Any:
    request.user = user
    request.htmx = HtmxDetails(request)  # type: ignore[attr-defined]
    return StaffRequiredMiddleware(closed).process_view(request, view, (), {})


# request ids ---------------------------------------------------------------------------------------


def test_each_answer_carries_an_id_that_the_log_lines_carry_too() -> None:
    seen: list[dict[str, Any]] = []

    def view(request: HttpRequest) -> HttpResponse:
        seen.append(structlog.contextvars.get_contextvars())
        return HttpResponse()

    response: Any = RequestIdMiddleware(view)(FACTORY.get("/"))
    assert re.fullmatch(r"[0-9a-f]{16}", response["X-Request-ID"])
    assert seen == [{"request_id": response["X-Request-ID"]}]


def test_two_requests_have_two_ids() -> None:
    middleware = RequestIdMiddleware(lambda request: HttpResponse())
    ids = {middleware(FACTORY.get("/"))["X-Request-ID"] for _ in range(20)}  # type: ignore[index]
    assert len(ids) == 20


def test_an_id_sent_by_the_client_is_not_taken_over() -> None:
    request = FACTORY.get("/", headers={"X-Request-ID": "evil\nlevel=error"})
    response: Any = RequestIdMiddleware(lambda request: HttpResponse())(request)
    assert "evil" not in response["X-Request-ID"]


def test_the_id_is_forgotten_after_the_answer_and_after_an_exception() -> None:
    def view(request: HttpRequest) -> HttpResponse:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        RequestIdMiddleware(view)(FACTORY.get("/"))
    RequestIdMiddleware(lambda request: HttpResponse())(FACTORY.get("/"))
    assert structlog.contextvars.get_contextvars() == {}


def test_it_stays_asynchronous_when_the_chain_is() -> None:
    seen: list[dict[str, Any]] = []

    async def view(request: HttpRequest) -> HttpResponse:
        seen.append(structlog.contextvars.get_contextvars())
        return HttpResponse()

    async def once() -> Any:
        return await RequestIdMiddleware(view)(FACTORY.get("/"))  # type: ignore[misc]

    assert asyncio.run(once())["X-Request-ID"] == seen[0]["request_id"]


# staff only ----------------------------------------------------------------------------------------


def test_staff_passes() -> None:
    assert guard(FACTORY.get("/"), User(username="ada", is_staff=True)) is None


def test_a_stranger_is_sent_to_the_login_and_back_again() -> None:
    response = guard(FACTORY.get("/services/stripe/?period=7d"), AnonymousUser())
    assert response.status_code == 302
    assert response["Location"] == "/login/?next=/services/stripe/%3Fperiod%3D7d"


def test_a_stranger_who_posts_does_not_come_back_to_the_post() -> None:
    response = guard(FACTORY.post("/services/stripe/pause/"), AnonymousUser())
    assert (response.status_code, response["Location"]) == (302, "/login/")


def test_a_fragment_takes_the_whole_page_to_the_login() -> None:
    headers = {"HX-Request": "true", "HX-Current-URL": "http://testserver/services/stripe/"}
    response = guard(FACTORY.get("/services/stripe/results/", headers=headers), AnonymousUser())
    assert response.status_code == 401
    assert response["HX-Redirect"] == "/login/?next=/services/stripe/"
    assert b"<html" not in response.content


def test_a_fragment_asked_for_by_another_site_names_no_page_to_come_back_to() -> None:
    headers = {"HX-Request": "true", "HX-Current-URL": "http://evil.example/trap"}
    response = guard(FACTORY.get("/", headers=headers), AnonymousUser())
    assert response["HX-Redirect"] == "/login/"


def test_an_account_that_is_not_staff_gets_403() -> None:
    with pytest.raises(PermissionDenied):
        guard(FACTORY.get("/"), User(username="eve", is_staff=False))


@pytest.mark.parametrize("user", [AnonymousUser(), User(username="eve")])
def test_an_open_view_is_open_to_everybody(user: Any) -> None:
    assert guard(FACTORY.get("/healthz"), user, opened) is None


# NUL in an address -----------------------------------------------------------------------------------

ADDRESSES = [
    "/?q=%00",
    "/admin/monitoring/service/?provider=%00",
    "/admin/monitoring/service/?q=a%00b",
    "/admin/wsmon/auditentry/?action__exact=%00",
    "/admin/monitoring/maintenancewindow/?%00=1",
    "/changes/?service=stripe&before=%%00",
    "/services/a%00b/",
    "/login/?next=%00",
    "/healthz?x=%00",
    "/%00",
]


@pytest.fixture
def root(settings: Any, client: Client) -> Client:
    settings.ROOT_URLCONF = "wsmon.urls"
    client.force_login(User.objects.create_superuser("root"), backend="django.contrib.auth.backends.ModelBackend")
    return client


@pytest.mark.django_db
@pytest.mark.parametrize("path", ADDRESSES)
def test_a_nul_in_an_address_is_refused(root: Client, path: str) -> None:
    response = root.get(path)
    assert response.status_code == 400
    assert "Not understood" in response.content.decode()
    assert response["Content-Security-Policy"]


@pytest.mark.django_db
@pytest.mark.parametrize("path", [
    "/api/admin/integrations/health?service=%00", "/api/admin/integrations/status?timeframe=1h%00",
    "/api/heartbeat/%00", "/api/nowhere/%00",
])  # fmt: skip
def test_the_api_refuses_a_nul_with_a_problem_document(root: Client, path: str) -> None:
    response = root.get(path)
    assert response.status_code == 400
    assert response["Content-Type"] == "application/problem+json"
    assert response.json()["status"] == 400


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/healthz?x=%2500", "/healthz?x=0%0", "/healthz?x=%0a"])
def test_other_addresses_pass(root: Client, path: str) -> None:
    assert root.get(path).status_code == 200


@pytest.mark.usefixtures("root")
@pytest.mark.django_db
def test_a_nul_is_refused_where_requests_are_answered_asynchronously() -> None:
    async def statuses() -> list[int]:
        client = AsyncClient()
        return [(await client.get(path)).status_code for path in ("/healthz", "/healthz?x=%00", "/%00")]

    assert asyncio.run(statuses()) == [200, 400, 400]
