"""Locks that all processes share: PostgreSQL's advisory ones."""

from __future__ import annotations

from django.db import connection


def alone(name: str) -> bool:
    """Whether no other process holds the lock of that name; then it is ours for the rest of the transaction."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(hashtext(%s))", [name])
        return bool(cursor.fetchone()[0])
