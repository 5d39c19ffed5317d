"""The HTTP API: routers of every room (``settings.API_ROUTERS``) under one roof, at ``/api/``.

Who may call is in ``wsmon.callers``, errors are in ``wsmon.problems``, the docs page in ``wsmon.api_docs``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from typing import Any, cast

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path, re_path
from django.utils.cache import patch_vary_headers
from django.views.decorators.csrf import csrf_exempt
from ninja import NinjaAPI
from ninja.errors import HttpError, ValidationError
from ninja.operation import Operation

from wsmon import __version__, api_docs, problems
from wsmon.callers import Bearer, Session, authenticate
from wsmon.problems import Problem

View = Callable[..., HttpResponse]

DESCRIPTION = """Statuses, tests and metrics of every service wsmon watches.

Send `Authorization: Bearer TOKEN` (`manage.py createtoken NAME --scope monitoring:read`), or use the
session of a logged-in member of staff, with the header `X-CSRFToken` for anything but reading.
Errors are RFC 9457 problem documents. All times are UTC, all durations named `response_time`, `p50`,
`p95`, `p99` or standing in `timings` are milliseconds."""


class Api(NinjaAPI):
    """NinjaAPI, whose OpenAPI document also tells who may call, and how each operation fails."""

    def get_openapi_schema(self, **kwargs: Any) -> Any:
        """Return the OpenAPI document as a dictionary."""
        document = super().get_openapi_schema(**kwargs)
        demands = {
            found.operation_id or self.get_openapi_operation_id(found): found.auth_callbacks
            for found in self._operations()
        }
        for operations in document["paths"].values():
            for operation in operations.values():
                _declare_problems(operation)
                _declare_demands(operation, demands.get(operation["operationId"], ()))
        schema = problems.ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
        document["components"]["schemas"] |= schema.pop("$defs") | {"ProblemDocument": schema}
        return document

    def _operations(self) -> Iterator[Operation]:
        for router in self._get_bound_routers():
            for view in router.path_operations.values():
                yield from view.operations


def _declare_demands(operation: dict[str, Any], demands: Iterable[Any]) -> None:
    for demand in demands:
        if isinstance(demand, Bearer):
            operation["x-scope"] = demand.scope
            operation["security"] = [{"Bearer": [demand.scope] if demand.scope else []}, {"Session": []}]
        elif isinstance(demand, Session):
            operation["x-permission"] = demand.permission


def _declare_problems(operation: dict[str, Any]) -> None:
    for parameter in operation["parameters"]:
        parameter.pop("examples", None)  # a list, where OpenAPI wants a map; the schema has them too
    declared = {401, 403, 405, 429, 500, 503} | ({400, 422} if operation["parameters"] else set())
    if "requestBody" in operation:
        declared |= {400, 413, 422}
    for status in operation["responses"]:
        declared.discard(int(status))
    for status in sorted(declared):
        operation["responses"][status] = {"description": problems.title(status)}
    for status, answer in operation["responses"].items():
        if int(status) >= 400:
            schema = {"$ref": "#/components/schemas/ProblemDocument"}
            answer["content"] = {problems.CONTENT_TYPE: {"schema": schema}}
    operation["responses"] = dict(sorted(operation["responses"].items(), key=lambda item: int(item[0])))


def _answer_error(request: HttpRequest, error: Exception | type[Exception]) -> HttpResponse:
    return problems.response(problems.of(request, error if isinstance(error, Exception) else error()))


def _guarded(view: View) -> View:
    """Open a view to callers without a session, and turn all that can go wrong in it into a problem."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        asked = request.method
        request.method = "GET" if asked == "HEAD" else asked  # the server leaves the body out
        try:
            response = view(request, *args, **kwargs)
        except Exception as error:
            response = _answer_error(request, error)
        request.method = asked
        if response.status_code == 405 and response.headers.get("Content-Type") != problems.CONTENT_TYPE:
            allowed = response.headers.get("Allow", "").replace("GET", "GET, HEAD")
            detail = f"{request.method} is not allowed here, but {allowed}"
            response = problems.response(Problem(405, detail, headers={"Allow": allowed}))
        response.headers["Cache-Control"] = "no-store"
        patch_vary_headers(response, ["Authorization", "Cookie"])
        return response

    return csrf_exempt(login_not_required(guarded))


def build() -> Api:
    """Return the API with the routers of every room, named in the settings."""
    api = Api(
        title="wsmon",
        version=__version__,
        description=DESCRIPTION,
        openapi_url=None,
        docs_url=None,
        urls_namespace="api",
    )
    for error in (Exception, HttpError, ValidationError, Problem):
        api.add_exception_handler(error, _answer_error)
    for prefix, router in settings.API_ROUTERS.items():
        api.add_router(prefix.removeprefix("/api"), router)
    return api


def openapi(request: HttpRequest) -> HttpResponse:
    """Answer with the OpenAPI document, to any valid token and to staff."""
    authenticate(request)
    return api.create_response(request, document(), status=200)


def document() -> dict[str, Any]:
    """Return the OpenAPI document."""
    return cast(dict[str, Any], api.get_openapi_schema(path_prefix="/api/"))


def docs(request: HttpRequest) -> HttpResponse:
    """Show the OpenAPI document as a page; behind the login like every page."""
    return api_docs.page(request, document())


def nothing_here(_request: HttpRequest) -> HttpResponse:
    """Answer every unknown path under ``/api/``."""
    raise Problem(404, "there is nothing here: see /api/docs")


def _operations(api: Api) -> list[URLPattern]:
    patterns = [pattern for pattern in api.urls[0] if isinstance(pattern, URLPattern)]
    for pattern in patterns:
        pattern.callback = _guarded(cast(View, pattern.callback))
    return [pattern for pattern in patterns if pattern.name != "api-root"]


api = build()
urlpatterns = [
    path("openapi.json", _guarded(openapi), name="openapi"),
    path("docs", docs, name="api_docs"),
    *_operations(api),
    re_path(r"", _guarded(nothing_here)),
]
