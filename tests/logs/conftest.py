"""A real PostgreSQL for the tests of the store: started once, a database of its own for each test."""

from __future__ import annotations

import itertools
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its looking for a runtime folder
        pgserver = pytest.importorskip("pgserver", reason='a PostgreSQL comes with pip install "ratchet-agents[dev]"')
    with tempfile.TemporaryDirectory(prefix="pg", ignore_cleanup_errors=True) as folder:
        server = pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        for command in ("ALTER SYSTEM SET fsync = off;", "SELECT pg_reload_conf();"):
            server.psql(command)
        yield server
        pgserver.pg_ctl(["stop", "-m", "immediate"], pgdata=server.pgdata, user=server.system_user)
        server.cleanup()


@pytest.fixture
def postgres_url(postgres_server: Any) -> str:
    name = f"store_{next(_numbers)}"
    postgres_server.psql(f"CREATE DATABASE {name};")
    url: str = postgres_server.get_uri(name)
    return url


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str | Path:
    """A place for a store: a folder, then a database on a server."""
    return tmp_path if request.param == "sqlite" else request.getfixturevalue("postgres_url")
