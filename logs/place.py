"""Where a store is: a folder with a SQLite file in it, or the URL of a file or of a PostgreSQL database."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from core.errors import ConfigError
from core.types import Record

FILE = "traces.sqlite"
FORMS = "a folder, sqlite:///FILE, or postgresql://USER:PASSWORD@HOST/DATABASE"
POSTGRES = ("postgres", "postgresql", "postgresql+psycopg")


@dataclass(frozen=True, slots=True)
class Place(Record):
    """A store's address. `path` is its file, None on a server; `told` names it to people and holds no password."""

    told: str
    path: Path | None
    url: URL

    def __str__(self) -> str:
        return self.told

    @property
    def folder(self) -> Path:
        """Where files that go with the store are put, unless another place is named."""
        return self.path.parent if self.path else Path()


def place_of(where: str | Path | Place) -> Place:
    """The place that a folder or a URL stands for. Raises ConfigError for a URL that is neither SQLite's nor PostgreSQL's."""
    if isinstance(where, Place):
        return where
    if isinstance(where, Path) or "://" not in where:
        return _file((Path(where) / FILE).absolute())
    try:
        url = make_url(where)
    except (ArgumentError, ValueError) as error:
        raise ConfigError(f"the address of the store can't be read as a URL: give {FORMS}") from error
    if url.drivername in POSTGRES:
        return Place(url.render_as_string(hide_password=True), None, url.set(drivername="postgresql+psycopg"))
    if url.drivername in ("sqlite", "sqlite+pysqlite"):
        if not url.database or url.database == ":memory:" or url.query:
            raise ConfigError(f"{url.render_as_string(hide_password=True)} names no file: write sqlite:///traces.sqlite")
        return _file(Path(url.database).absolute())
    raise ConfigError(f"a store can't be in {url.drivername!r}: give {FORMS}")


def _file(path: Path) -> Place:
    return Place(str(path), path, URL.create("sqlite", database=str(path)))
