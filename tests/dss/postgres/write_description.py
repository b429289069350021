"""``make schema``: describes anew what schema.sql makes, in the file with which databases are compared."""

from __future__ import annotations

from pathlib import Path

from benchmarks.postgres import temporary_cluster
from lrs_trio.dss.description import Description
from lrs_trio.dss.postgres import schema
from lrs_trio.dss.postgres.bridge import run_blocking
from lrs_trio.dss.postgres.connection import connect


def describe(url: str) -> Description:
    """What is in the database that `url` names."""

    async def read() -> Description:
        connection = await connect(url)
        try:
            return await schema.describe(connection)
        finally:
            await connection.close()

    return run_blocking(read)


def main() -> None:
    with temporary_cluster() as cluster:
        description = describe(cluster.phobos_database())
    Path(schema.__file__).with_name("schema.json").write_text(schema.to_json(description), "utf-8")


if __name__ == "__main__":
    main()
