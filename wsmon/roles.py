"""Who may do what: the groups that every installation has. Superusers configure, and need no group."""

from __future__ import annotations

from django.contrib.auth.models import Group, Permission
from django.db import transaction
from django.db.models import Q

VIEWERS = "Viewers"
OPERATORS = "Operators"
ROOMS = ("monitoring", "webhooks")


@transaction.atomic
def ensure_roles() -> None:
    """Make the groups and give them their permissions; what somebody added to them stays. Idempotent.

    Viewers read; operators also act. Called after every migration, when all permissions exist.
    """
    read = Q(codename__startswith="view_")
    act = Q(codename="operate", content_type__app_label="monitoring")
    act |= Q(codename="replay", content_type__app_label="webhooks")
    wanted = {VIEWERS: read, OPERATORS: read | act}
    for name, condition in wanted.items():
        group, _ = Group.objects.get_or_create(name=name)
        group.permissions.add(*Permission.objects.filter(condition, content_type__app_label__in=ROOMS))
