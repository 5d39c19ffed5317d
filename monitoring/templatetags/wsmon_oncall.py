"""Who is on call and who is told when, for ``monitoring/alerts/_oncall.html``."""

from __future__ import annotations

from django import template
from django.utils import timezone

from monitoring.escalation import reads

register = template.Library()


@register.simple_tag
def on_call() -> reads.Shown:
    """Rotations and escalations as they are now; the template needs no context of its own."""
    return reads.shown(timezone.now())
