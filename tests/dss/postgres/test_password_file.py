"""The password file: which of its lines fits, and what is the password there."""

from __future__ import annotations

import pytest

from lrs_trio.dss.postgres.password_file import find_password

LINES = [
    "# db1:5432:dss:lrs:a comment",
    "",
    "db1:5432:dss:lrs",
    "db1:5432:dss:lrs:first",
    "db1:5432:dss:lrs:second",
    "db1:*:*:other:any port, any database",
    "localhost:5432:dss:lrs:here",
    "/run/postgresql:5433:dss:lrs:by a socket",
    r"db\:2:5432:d\\s\s:l\*s:p\:w\\d\x:rest",
    r"\*:5432:dss:lrs:not everywhere",
    "db3:5432:dss:lrs:",
    "*:5434:*:*:everywhere\r",
]


@pytest.mark.parametrize(
    ("host", "port", "database", "user", "password"),
    [
        ("db1", "5432", "dss", "lrs", "first"),
        ("db1", "1", "anything", "other", "any port, any database"),
        ("db1", "1", "anything", "lrs", None),
        ("", "5432", "dss", "lrs", "here"),
        ("localhost", "5432", "dss", "lrs", "here"),
        ("/run/postgresql", "5433", "dss", "lrs", "by a socket"),
        ("/run/postgresql", "5432", "dss", "lrs", "here"),
        ("db:2", "5432", r"d\ss", "l*s", r"p:w\dx"),
        ("db:2", "5432", r"d\ss", "lxs", None),
        ("*", "5432", "dss", "lrs", "not everywhere"),
        ("db9", "5432", "dss", "lrs", None),
        ("db3", "5432", "dss", "lrs", ""),
        ("db9", "5434", "dss", "lrs", "everywhere"),
        ("DB1", "5432", "dss", "lrs", None),
    ],
)
def test_the_first_line_that_fits_is_taken(
    host: str, port: str, database: str, user: str, password: str | None
) -> None:
    assert find_password(LINES, host, port, database, user) == password
