"""The page behind a message's link: it asks, and a POST acknowledges. No sign-in; whoever has the link has it."""

from __future__ import annotations

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from monitoring.notifications import links
from monitoring.notifications.links import Standing
from wsmon.audit import address_of
from wsmon.throttle import Rate

PER_MINUTE = 30
"""Requests from one address, in one web process."""
STATUSES = {Standing.FORGED: 404, Standing.EXPIRED: 410, Standing.USED: 410, Standing.OVER: 410}
"""Of the answers that are not 200."""

rate = Rate(PER_MINUTE, 60.0)


@login_not_required
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def ack(request: HttpRequest, token: str) -> HttpResponse:
    """Ask whether to acknowledge, or do it."""
    address = address_of(request)
    wait = rate.take(address or "unknown")
    if wait:
        response = render(request, "monitoring/alerts/ack.html", {"standing": "busy"}, status=429)
        response["Retry-After"] = str(int(wait) + 1)
        return response
    found = links.use(token, address) if request.method == "POST" else links.look(token)
    context = {"standing": found.standing.value, "alert": found.alert, "link": found.link}
    response = render(request, "monitoring/alerts/ack.html", context, status=STATUSES.get(found.standing, 200))
    response["X-Robots-Tag"] = "noindex"
    return response
