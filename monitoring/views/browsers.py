"""One's own browsers that get messages by web push: add this one, remove one."""

from __future__ import annotations

import json
from typing import cast

from django.contrib import messages
from django.contrib.auth.models import User
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from monitoring.models import PushSubscription
from monitoring.notifications import push
from monitoring.views.overview import may_read
from wsmon.audit import Actor
from wsmon.secrets import Unresolvable

LARGEST = 8_192
"""Bytes of a subscription."""


@require_safe
@may_read
def browsers(request: HttpRequest) -> HttpResponse:
    """The browsers that this person subscribed with."""
    rows = PushSubscription.objects.filter(user=_user(request)).order_by("-created_at")
    try:
        key = push.public_key()
    except Unresolvable:
        key = ""
    return render(request, "monitoring/alerts/browsers.html", {"rows": rows, "key": key})


@require_POST
@may_read
def add(request: HttpRequest) -> HttpResponse:
    """Keep a subscription (JSON, as the browser makes it)."""
    if len(request.body) > LARGEST:
        return JsonResponse({"problem": "is too large"}, status=413)
    try:
        told = json.loads(request.body)
        push.subscribe(_user(request), told, _label(request), Actor.of(request))
    except (ValueError, RecursionError) as problem:
        return JsonResponse({"problem": str(problem)[:200]}, status=422)
    return HttpResponse(status=204)


@require_POST
@may_read
def remove(request: HttpRequest, number: int) -> HttpResponse:
    """Forget one of one's own."""
    if not push.unsubscribe(_user(request), number, Actor.of(request)):
        raise Http404("no such browser")
    messages.success(request, "That browser gets no more messages.")
    return redirect("browsers")


def _user(request: HttpRequest) -> User:
    return cast(User, request.user)


_BROWSERS = {"Edg/": "Edge", "OPR/": "Opera", "Firefox/": "Firefox", "Chrome/": "Chrome", "Safari/": "Safari"}
_SYSTEMS = {"Android": "Android", "iPhone": "iPhone", "iPad": "iPad", "Windows": "Windows", "Mac OS": "macOS"}


def _label(request: HttpRequest) -> str:
    """Which browser it is, in words: "Firefox on Android"."""
    agent = request.headers.get("User-Agent", "")
    browser = next((word for mark, word in _BROWSERS.items() if mark in agent), "A browser")
    system = next((word for mark, word in _SYSTEMS.items() if mark in agent), "Linux" if "Linux" in agent else "")
    return f"{browser} on {system}" if system else browser
