"""The embedded PostgreSQL, on its own."""

from __future__ import annotations

import psycopg

from wsmon.embedded import Server


def test_it_answers_on_its_socket_as_the_role_wsmon(embedded_database: Server) -> None:
    with psycopg.connect(host=str(embedded_database.sockets), user="wsmon", dbname="wsmon") as connection:
        row = connection.execute("SELECT current_user, current_setting('server_encoding')").fetchone()
    assert row == ("wsmon", "UTF8")
