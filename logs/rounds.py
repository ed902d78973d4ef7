"""The rounds of training loops, beside the traces that they learnt from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import delete, insert, select
from sqlalchemy.exc import DBAPIError

from core.types import Record
from logs.database import existing, explained, open_for_writing, reading
from logs.place import Place
from logs.tables import ROUND


@dataclass(frozen=True, slots=True)
class Round(Record):
    """A round as it ended: of which loop, the adapter it made ("" for none), what became of it, and what each step gave as plain JSON."""

    loop: str
    number: int
    slot: str
    outcome: str
    reference: str
    steps: Mapping[str, Any]
    created: float

    @property
    def id(self) -> str:
        """The same round is kept once."""
        return f"{self.loop}/{self.number}"


def keep_round(where: str | Path | Place, made: Round) -> None:
    """Keep it, in place of an earlier report of the same round. Raises StoreError when there is no store or it can't be written."""
    place = existing(where)
    engine = open_for_writing(place)
    try:
        with engine.begin() as connection:
            connection.execute(delete(ROUND).where(ROUND.c.id == made.id))
            connection.execute(insert(ROUND).values({"id": made.id, **made.as_dict()}))
    except DBAPIError as error:
        raise explained(place, error) from error
    finally:
        engine.dispose()


def read_rounds(where: str | Path | Place, slot: str | None = None) -> list[Round]:
    """All rounds, or those of a slot; the oldest first. Raises StoreError when there is no store."""
    query = select(ROUND).order_by(ROUND.c.created, ROUND.c.id)
    if slot is not None:
        query = query.where(ROUND.c.slot == slot)
    with reading(existing(where)) as connection:
        return [Round(**{name: row[name] for name in Round.__dataclass_fields__}) for row in connection.execute(query).mappings()]
