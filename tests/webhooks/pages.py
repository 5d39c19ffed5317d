"""What tests of the room's pages share: who is signed in, and what a page said."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import Permission, User
from django.test import Client

HTMX = {"HX-Request": "true"}
LIVE = {"X-Wsmon-Live": "1"}
READ = ("view_service",)
ACT = ("view_service", "replay")
REVEAL = ("view_service", "reveal")


def signed_in(name: str, *codenames: str, is_staff: bool = True) -> Client:
    """A client of somebody with these permissions."""
    user = User.objects.create_user(name, password="right-horse", is_staff=is_staff)
    rooms = ("monitoring", "webhooks")
    user.user_permissions.add(*Permission.objects.filter(codename__in=codenames, content_type__app_label__in=rooms))
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


def text(response: Any, status: int = 200) -> str:
    """What it said; fails on another status."""
    assert response.status_code == status, response.content[:400]
    said: str = response.content.decode()
    return said


def toward(box: str, trigger: str = "opener") -> dict[str, str]:
    """The headers of htmx for a panel that opens in ``box``."""
    return HTMX | {"HX-Target": box, "HX-Trigger": trigger}
