"""A database of Phobos that a daemon and Phobos's own clients use together."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from lrs_trio.settings import DssSettings

from .phobos_client import PhobosClient


@pytest.fixture
def settings(postgres_url: str) -> DssSettings:
    return DssSettings(url=postgres_url)


@pytest.fixture
def client(postgres_url: str) -> Iterator[PhobosClient]:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        yield PhobosClient(connection)
