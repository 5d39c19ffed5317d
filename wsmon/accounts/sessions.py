"""The sessions of an account. Django keeps them without an index by account; staff are few."""

from __future__ import annotations

from django.contrib.auth import SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.utils import timezone


def end_others(user: User, keep: str | None) -> int:
    """Sign ``user`` out everywhere but in the session ``keep``; return how many sessions ended."""
    alive = Session.objects.filter(expire_date__gt=timezone.now()).exclude(session_key=keep)
    own = [one.session_key for one in alive.iterator() if one.get_decoded().get(SESSION_KEY) == str(user.pk)]
    ended, _ = Session.objects.filter(session_key__in=own).delete()
    return ended
