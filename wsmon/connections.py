"""Database connections of threads of their own, outside the pool that requests share."""

from __future__ import annotations

import copy

import psycopg
from django.db import Error, connection, connections

AWAY = (Error, psycopg.Error, OSError)
"""What is raised when the database does not answer; psycopg's own by what is done past Django."""


def own_connection(options: str = "", *, prepare: bool = False) -> None:
    """Give the calling thread a connection that it keeps: for threads that live as long as the process.

    ``options`` are added to those of the session ("-c statement_timeout=5s"). ``prepare``: statements that
    are executed again and again are prepared, which a pooler between wsmon and PostgreSQL may forbid for others.
    """
    own = connections.create_connection("default")
    own.settings_dict = copy.deepcopy(own.settings_dict)
    settings = own.settings_dict["OPTIONS"]
    settings.pop("pool", None)
    settings["options"] = f"{settings.get('options', '')} {options}".strip()
    if prepare:
        settings["prepare_threshold"] = 2
    own.settings_dict["CONN_MAX_AGE"] = None
    connections["default"] = own


def drop_connection() -> None:
    """Close the calling thread's connection, whatever state it is in; the next use makes a new one."""
    try:
        connection.close()
    except AWAY:
        connection.connection = None
