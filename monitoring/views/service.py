"""Reading one service: its page, the fragments that keep it live, the chart's numbers, the result log."""

from __future__ import annotations

from django.contrib.auth.decorators import permission_required
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from monitoring import overview
from monitoring.views.params import Params
from monitoring.views.servicepage import ServicePage

may_read = permission_required("monitoring.view_service", raise_exception=True)


def context(request: HttpRequest, slug: str) -> ServicePage:
    """The page's context for this request; raises Http404 when there is no such service."""
    params = Params.of(request, slug)
    found = overview.view(slug, params.period)
    if found is None:
        raise Http404(f"no service {slug}")
    return ServicePage(request, found, params)


@require_safe
@may_read
def service(request: HttpRequest, slug: str) -> HttpResponse:
    """The whole page."""
    return render(request, "monitoring/service.html", {"p": context(request, slug)})


@require_safe
@may_read
def live(request: HttpRequest, slug: str) -> HttpResponse:
    """What may have changed on an open page, as out-of-band pieces."""
    return render(request, "monitoring/service/live.html", {"p": context(request, slug), "oob": True})


@require_safe
@may_read
def results(request: HttpRequest, slug: str) -> HttpResponse:
    """The result log alone; the page's own URL goes into the address bar, unless it only refreshes itself."""
    found = context(request, slug)
    refresh = "refresh" in request.GET
    response = render(request, "monitoring/service/results_fragment.html", {"p": found, "refresh": refresh})
    if not refresh:
        response["HX-Push-Url"] = found.params.url()
    return response


@require_safe
@may_read
def series(request: HttpRequest, slug: str) -> JsonResponse:
    """The chart's numbers."""
    response = JsonResponse(context(request, slug).chart.data())
    response["Cache-Control"] = "no-store"
    return response
