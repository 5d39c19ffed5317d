"""Callers: programs with a token, people with a session."""

from __future__ import annotations

import itertools
from typing import Any

from django.contrib.auth.models import Group, Permission, User
from django.test import Client

from wsmon import tokens
from wsmon.audit import Actor
from wsmon.roles import ensure_roles

_numbers = itertools.count(1)


def token(*scopes: str) -> str:
    """A new token's text."""
    return tokens.create(f"token-{next(_numbers)}", scopes, Actor.system("test"))[1]


def program(*scopes: str) -> Client:
    """A program that sends a token with ``scopes``."""
    return with_token(token(*scopes))


def with_token(text: str) -> Client:
    """A program that sends ``text`` as its token."""
    return Client(headers={"authorization": f"Bearer {text}"})


def person(*permissions: str, csrf: bool = False, **fields: Any) -> Client:
    """A member of staff who is logged in and has ``permissions`` ("monitoring.operate")."""
    user = User.objects.create_user(f"person-{next(_numbers)}", **{"is_staff": True} | fields)
    for permission in permissions:
        room, name = permission.split(".")
        user.user_permissions.add(Permission.objects.get(content_type__app_label=room, codename=name))
    client = Client(enforce_csrf_checks=csrf)
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


def colleague(name: str, *roles: str, superuser: bool = False) -> Client:
    """A member of staff of that name in some roles, logged in."""
    ensure_roles()
    user = User.objects.create_user(name, is_staff=True, is_superuser=superuser)
    user.groups.set(Group.objects.filter(name__in=roles))
    browser = Client()
    browser.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return browser
