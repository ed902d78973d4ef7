"""The schema of a store: which one a database has, and how it comes to have today's.

A new store is made as the tables say; one that is there already goes step by step through `logs/migrations`. Both end the same, and a
test holds them to it. Stores of the first two schemas, which counted in SQLite's user_version, are taken over.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Column, Connection, MetaData, String, Table, inspect, select

from core.errors import StoreError
from logs import search
from logs.tables import SCHEMA_VERSION, Base

MIGRATIONS = Path(__file__).parent / "migrations"
VERSION_TABLE = "ratchet_version"  # alembic's, under a name that leaves an application's own alone
LOCK = 0x7261746368657401  # of PostgreSQL's advisory locks

_version = Table(VERSION_TABLE, MetaData(), Column("version_num", String(32), primary_key=True))


def revision_of(version: int) -> str:
    """The name of a schema in alembic's table."""
    return f"{version:04d}"


def bring_up_to_date(connection: Connection, told: str) -> None:
    """Inside the transaction it is given, which no other process can be in at the same time."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK})")
    version = stored_version(connection, told)
    if version == SCHEMA_VERSION:
        return
    if version is None:
        Base.metadata.create_all(connection, checkfirst=False)
        search.create(connection)
    else:
        upgrade(connection, version)
    _stamp(connection, SCHEMA_VERSION)


def upgrade(connection: Connection, version: int, to: int = SCHEMA_VERSION) -> None:
    """From the schema it has (0: nothing yet) to another, by alembic."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    if version:
        _stamp(connection, version)
    command.upgrade(config, revision_of(to))


def stored_version(connection: Connection, told: str) -> int | None:
    """The schema that a database has; None when it holds no store. Raises StoreError when it is of a later Ratchet."""
    version = 0
    if connection.dialect.name == "sqlite":
        version = int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())
    if _has_version_table(connection):
        named = connection.execute(select(_version.c.version_num)).scalar_one_or_none()
        version = max(version, int(named) if named else 0)
    if version > SCHEMA_VERSION:
        raise StoreError(f"{told} has schema {version}, this Ratchet knows {SCHEMA_VERSION}: upgrade Ratchet or choose another log_dir")
    return version or None


def _has_version_table(connection: Connection) -> bool:
    if connection.dialect.name == "sqlite":  # asked at each reading, and the inspector takes its time
        return bool(connection.exec_driver_sql(f"SELECT count(*) FROM sqlite_master WHERE name = '{VERSION_TABLE}'").scalar_one())
    return inspect(connection).has_table(VERSION_TABLE)


def _stamp(connection: Connection, version: int) -> None:
    """In alembic's table, and in SQLite's user_version, by which a Ratchet from before alembic knows that it is too old."""
    _version.create(connection, checkfirst=True)
    connection.execute(_version.delete())
    connection.execute(_version.insert().values(version_num=revision_of(version)))
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(f"PRAGMA user_version={version}")
