"""Acting on one service: test it now, pause and resume its checks, plan and cancel maintenance.

Every action works as an htmx fragment and, without JavaScript, as POST and redirect. Each leaves an audit
row; the ones in ``monitoring.actions`` write theirs in the transaction of the change.
"""

from __future__ import annotations

import threading
from datetime import timedelta

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import permission_required
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST

import providers
from monitoring import actions, probing
from monitoring.models import Check, MaintenanceWindow, Service
from monitoring.views.forms import MaintenanceForm, PauseForm, TestForm
from monitoring.views.service import context
from providers.base import NotConfigured
from wsmon.audit import Actor, record
from wsmon.models import AuditEntry

may_operate = permission_required("monitoring.operate", raise_exception=True)

TESTS_PER_MINUTE = 10
"""Tests one person may start in a minute: a test costs a call to the vendor, and a thread of ours."""
TEST_ACTION = "service.test"
TESTS_AT_ONCE = 4
"""In one process: a running test keeps a database connection of the pool."""

_slots = threading.BoundedSemaphore(TESTS_AT_ONCE)


@require_POST
@may_operate
def test(request: HttpRequest, slug: str) -> HttpResponse:
    """Probe one kind or one check at once and show what came of it."""
    service = get_object_or_404(Service, slug=slug, archived_at=None)
    form = TestForm(request.POST)
    if not form.is_valid():
        words = " ".join(str(error) for errors in form.errors.values() for error in errors)
        return _tested(request, slug, {"problem": words}, status=422)
    if _tests_lately(request) >= TESTS_PER_MINUTE:
        words = f"{TESTS_PER_MINUTE} tests in a minute are enough. Try again in a moment."
        return _tested(request, slug, {"problem": words}, status=429)
    kind: str = form.cleaned_data["kind"]
    check: Check | None = None
    if not kind:
        check = get_object_or_404(Check, service=service, id=form.cleaned_data["check"], archived_at=None)
        kind = check.kind
    name = check.name if check else kind
    timeout_ms: int = form.cleaned_data["timeout_ms"]
    if not _slots.acquire(blocking=False):
        return _tested(request, slug, {"problem": "Other tests are running. Try again in a moment."}, status=429)
    try:
        record(Actor.of(request), TEST_ACTION, f"service:{slug}", kind=kind, test=name, timeout_ms=timeout_ms)
        return _tested(
            request, slug, {"name": name, "tested": probing.probe_now(service, kind, timeout_ms / 1000, check)}
        )
    except NotConfigured as absent:
        return _tested(request, slug, {"name": name, "missing": absent.variables})
    except (providers.UnknownKind, providers.UnknownProvider):
        return _tested(request, slug, {"problem": f"{service.label} has no {kind} test."}, status=422)
    finally:
        _slots.release()


def _tests_lately(request: HttpRequest) -> int:
    """Counted in the audit trail, so that the limit holds over every web process."""
    since = timezone.now() - timedelta(minutes=1)
    assert isinstance(request.user, User)  # noqa: S101  the middleware lets nobody else in
    return AuditEntry.objects.filter(at__gte=since, actor=request.user, action=TEST_ACTION).count()


def _tested(request: HttpRequest, slug: str, found: dict[str, object], status: int = 200) -> HttpResponse:
    if request.htmx:  # type: ignore[attr-defined]
        return render(request, "monitoring/service/tested.html", found, status=status)
    page = context(request, slug)
    return render(request, "monitoring/service.html", {"p": page, **found, "show_test": True}, status=status)


@require_POST
@may_operate
def pause(request: HttpRequest, slug: str) -> HttpResponse:
    """Stop probing the chosen checks."""
    page = context(request, slug)
    form = PauseForm(page.running_choices, request.POST, prefix="pause")
    if not form.is_valid():
        page.pause_form, page.open_panel = form, "pause"
        return _refused(request, page)
    checks = list(Check.objects.filter(service=page.service.id, id__in=form.cleaned_data["checks"]))
    until = form.until(timezone.now())
    try:
        actions.pause(checks, Actor.of(request), form.cleaned_data["reason"], until)
    except actions.Refused as why:
        form.add_error(None, f"{why}".capitalize() + ".")
        page.pause_form, page.open_panel = form, "pause"
        return _refused(request, page)
    return _done(request, slug, f"Paused {_checks(len(checks))} of {page.service.label}")


@require_POST
@may_operate
def resume(request: HttpRequest, slug: str) -> HttpResponse:
    """Probe every paused check of the service again."""
    page = context(request, slug)
    ids = [check.id for check in page.paused_checks]
    checks = list(Check.objects.filter(id__in=ids))
    if checks:
        actions.resume(checks, Actor.of(request))
    return _done(request, slug, f"Resumed {_checks(len(checks))} of {page.service.label}")


@require_POST
@may_operate
def maintenance(request: HttpRequest, slug: str) -> HttpResponse:
    """Plan a maintenance window: probing goes on, alerts are held."""
    page = context(request, slug)
    form = MaintenanceForm(request.POST, prefix="maintenance")
    if not form.is_valid():
        page.maintenance_form, page.open_panel = form, "maintenance"
        return _refused(request, page)
    try:
        _plan(slug, form, Actor.of(request))
    except actions.Refused as why:
        form.add_error(None, f"{why}".capitalize() + ".")
        page.maintenance_form, page.open_panel = form, "maintenance"
        return _refused(request, page)
    return _done(request, slug, f"Maintenance of {page.service.label} is set")


def _plan(slug: str, form: MaintenanceForm, actor: Actor) -> None:
    data = form.cleaned_data
    actions.start_maintenance(
        get_object_or_404(Service, slug=slug),
        data["starts_at"],
        data["ends_at"],
        data["reason"],
        actor,
        recurrence=form.rrule(),
        time_zone=settings.TIME_ZONE,
    )


@require_POST
@may_operate
def cancel_maintenance(request: HttpRequest, slug: str, window: int) -> HttpResponse:
    """End a maintenance window of this service now, its recurrences included."""
    found = get_object_or_404(MaintenanceWindow, id=window, service__slug=slug, cancelled_at=None)
    actions.cancel_maintenance(found, Actor.of(request))
    return _done(request, slug, "Maintenance cancelled")


def _checks(count: int) -> str:
    return "1 check" if count == 1 else f"{count} checks"


def _refused(request: HttpRequest, page: object) -> HttpResponse:
    """The same form again, open, saying what is wrong."""
    template = "monitoring/service/acts.html" if request.htmx else "monitoring/service.html"  # type: ignore[attr-defined]
    return render(request, template, {"p": page}, status=422)


def _done(request: HttpRequest, slug: str, words: str) -> HttpResponse:
    if not request.htmx:  # type: ignore[attr-defined]
        messages.success(request, f"{words}.")
        return redirect("service", slug)
    return render(
        request,
        "monitoring/service/acted.html",
        {"p": context(request, slug), "oob": True, "status": "healthy", "title": words},
    )
