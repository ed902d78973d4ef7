"""What people say of a run, of one trace or of one step: kept for ever, the latest of each person counts.

What follows from it for training stands in `logs/corrections.py`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from sqlalchemy import Connection, Select, insert, select
from sqlalchemy.exc import DBAPIError

from core.errors import ConfigError, StoreError
from core.types import Domain, Record, mended
from logs.database import existing, explained, open_for_writing, reading
from logs.place import Place
from logs.redact import Redactor
from logs.tables import FEEDBACK, NODE, RUN, TRACE

MOST_TEXT = 1_000_000
MOST_WHO = 200
RATINGS = range(1, 6)
ROWS_AT_ONCE = 500
NULL, REPLACEMENT = "\x00", "�"


@dataclass(frozen=True, slots=True)
class Feedback(Record):
    """What somebody said, and of what: a run's answer (`run_id`), one trace (`trace_id`), or a step (`node`, its path in the run's tree).

    `edit` is the whole text as it should have been. `domain` is where the question belongs, whatever it was routed to. `withdrawn`
    takes back all that the same person said of the same thing before. Whoever gives no name counts as one person. Raises ConfigError
    for what can't be.
    """

    run_id: str = ""
    trace_id: str | None = None
    node: str | None = None
    thumb: Literal["up", "down"] | None = None
    rating: int | None = None
    comment: str | None = None
    edit: str | None = None
    domain: Domain | None = None
    withdrawn: bool = False
    who: str = ""
    created: float = 0.0
    id: str = ""

    def __post_init__(self) -> None:
        if self.thumb not in ("up", "down", None):
            raise ConfigError(f"a thumb is up or down, not {self.thumb!r}")
        if self.rating is not None and (type(self.rating) is not int or self.rating not in RATINGS):
            raise ConfigError(f"a rating is a whole number from {RATINGS[0]} to {RATINGS[-1]}, not {self.rating!r}")
        if self.domain is not None and self.domain not in list(Domain):
            raise ConfigError(f"there is no domain {self.domain!r}: choose one of {', '.join(Domain)}")
        object.__setattr__(self, "domain", None if self.domain is None else Domain(self.domain))
        _check_texts(self)
        if self.withdrawn == bool(_said(self)):
            raise ConfigError("say something: a thumb, a rating, a comment, an edit or a domain; or withdraw, and say nothing else")

    @property
    def about(self) -> tuple[str, str | None, str | None]:
        """What it is said of."""
        return self.run_id, self.trace_id, self.node


@dataclass(frozen=True, slots=True)
class Opinion(Record):
    """What people think of one thing, or of many, by what each of them said last. `rating` is the mean; None when nobody rated."""

    people: int
    up: int
    down: int
    ratings: int
    rating: float | None
    comments: int
    edits: int


def give(where: str | Path | Place, feedback: Feedback, *, redact: Redactor | None = Redactor()) -> Feedback:  # noqa: B008
    """Keep it, and return it as it is kept: with its id and its time, without secrets. It is on the disk when this returns.

    Raises StoreError when there is no such run, trace or step, or it can't be written.
    """
    place = existing(where)
    kept = _without_secrets(feedback, redact.up_to_date()) if redact else feedback
    kept = _storable(kept).replace(id=f"{time.time_ns():016x}{uuid4().hex[:16]}", created=feedback.created or time.time())
    engine = open_for_writing(place)
    try:
        with engine.begin() as connection:
            kept = _placed(connection, kept, place)
            connection.execute(insert(FEEDBACK).values({**kept.as_dict(), "domain": kept.domain and kept.domain.value}))
    except DBAPIError as error:
        raise explained(place, error) from error
    finally:
        engine.dispose()
    return kept


def thing(where: str | Path | Place, name: str, node: str | None = None) -> tuple[str, str | None, str | None]:
    """What is meant by the id of a trace or of a run: its run, the trace if it is one, the step. Raises StoreError for an unknown one."""
    place = existing(where)
    with reading(place) as connection:
        run_id = connection.execute(select(TRACE.c.run_id).where(TRACE.c.id == name)).scalar_one_or_none()
        known = run_id or connection.execute(select(RUN.c.id).where(RUN.c.id == name)).scalar_one_or_none()
    if known is None:
        raise StoreError(f"no trace and no run {name!r} in {place}: see `ratchet traces list` for the ids")
    return str(known), name if run_id and node is None else None, node


def feedback_for(where: str | Path | Place, name: str, node: str | None = None) -> list[Feedback]:
    """All that was ever said of a run with its traces and steps, or of one trace or step alone; the oldest first."""
    place = existing(where)
    run_id, trace_id, _ = thing(place, name, node)
    query = select(FEEDBACK).where(FEEDBACK.c.run_id == run_id).order_by(FEEDBACK.c.created, FEEDBACK.c.id)
    return [f for f in _stream(place, query) if trace_id in (None, f.trace_id) and node in (None, f.node)]


def iter_feedback(
    where: str | Path | Place, *, since: float | None = None, until: float | None = None, who: str | None = None, limit: int | None = None
) -> Iterator[Feedback]:
    """All that was ever said, the oldest first, streamed; `until` is not included. Raises StoreError when there is no store."""
    query = select(FEEDBACK).order_by(FEEDBACK.c.created, FEEDBACK.c.id).limit(limit)
    if since is not None:
        query = query.where(FEEDBACK.c.created >= since)
    if until is not None:
        query = query.where(FEEDBACK.c.created < until)
    if who is not None:
        query = query.where(FEEDBACK.c.who == who)
    return _stream(existing(where), query)


def iter_by_run(where: str | Path | Place) -> Iterator[list[Feedback]]:
    """What stands of all feedback, run by run: one run is in memory at a time."""
    query = select(FEEDBACK).order_by(FEEDBACK.c.run_id, FEEDBACK.c.created, FEEDBACK.c.id)
    group: list[Feedback] = []
    for feedback in _stream(existing(where), query):
        if group and group[0].run_id != feedback.run_id:
            yield standing(group)
            group = []
        group.append(feedback)
    if group:
        yield standing(group)


def standing(given: Iterable[Feedback]) -> list[Feedback]:
    """What each person says now of each thing: what came later goes over what came before, field by field.

    Id and time are those of the edit, where one stands, and else of what was said last.
    """
    latest: dict[tuple[Any, ...], Feedback] = {}
    for feedback in sorted(given, key=lambda f: (f.created, f.id)):
        key = (feedback.who, *feedback.about)
        before = latest.pop(key, None)
        if not feedback.withdrawn:
            named = before if before and before.edit is not None and feedback.edit is None else feedback
            latest[key] = named.replace(**{**_said(before), **_said(feedback)})
    return list(latest.values())


def opinion(given: Iterable[Feedback]) -> Opinion:
    """The sum of what stands."""
    stands = standing(given)
    ratings = [f.rating for f in stands if f.rating is not None]
    return Opinion(
        people=len({f.who for f in stands}),
        up=sum(f.thumb == "up" for f in stands),
        down=sum(f.thumb == "down" for f in stands),
        ratings=len(ratings),
        rating=sum(ratings) / len(ratings) if ratings else None,
        comments=sum(f.comment is not None for f in stands),
        edits=sum(f.edit is not None for f in stands),
    )


def _said(feedback: Feedback | None) -> dict[str, Any]:
    names = ("thumb", "rating", "comment", "edit", "domain")
    return {} if feedback is None else {name: feedback[name] for name in names if feedback[name] is not None}


def _check_texts(feedback: Feedback) -> None:
    for name, most in (("comment", MOST_TEXT), ("edit", MOST_TEXT), ("who", MOST_WHO), ("run_id", MOST_WHO), ("trace_id", MOST_WHO)):
        text = feedback[name]
        if text is not None and (not isinstance(text, str) or len(text) > most):
            raise ConfigError(f"{name} is a text of at most {most:,} letters")
    for name in ("comment", "edit"):
        if feedback[name] is not None and not feedback[name].strip():
            raise ConfigError(f"the {name} is empty: leave it out")


def _without_secrets(feedback: Feedback, redact: Redactor) -> Feedback:
    return feedback.replace(**{name: text and redact.text(text) for name, text in _texts(feedback).items()})


def _storable(feedback: Feedback) -> Feedback:
    """Every database takes the text: no null bytes, no halves of surrogate pairs."""
    return feedback.replace(**{name: text and mended(text).replace(NULL, REPLACEMENT) for name, text in _texts(feedback).items()})


def _texts(feedback: Feedback) -> dict[str, str | None]:
    return {name: feedback[name] for name in ("comment", "edit", "who")}


def _placed(connection: Connection, feedback: Feedback, place: Place) -> Feedback:
    """With the run that the trace is of. A step belongs to its run, whichever of the traces through it was looked at."""
    run_id = feedback.run_id
    if feedback.trace_id is not None:
        found = connection.execute(select(TRACE.c.run_id).where(TRACE.c.id == feedback.trace_id)).scalar_one_or_none()
        if found is None or run_id not in ("", found):
            raise StoreError(f"no trace {feedback.trace_id!r} {f'of run {run_id!r} ' if run_id else ''}in {place}: flush the store first")
        run_id = found
    elif connection.execute(select(RUN.c.id).where(RUN.c.id == run_id)).first() is None:
        raise StoreError(f"no run {run_id!r} in {place}: name one by run_id, or a trace by trace_id, and flush the store first")
    if feedback.node is None:
        return feedback.replace(run_id=run_id)
    if connection.execute(select(NODE.c.path).where(NODE.c.run_id == run_id, NODE.c.path == feedback.node)).first() is None:
        raise StoreError(f"run {run_id!r} has no step {feedback.node!r}: give the path of a node of its tree, such as 0.2")
    return feedback.replace(run_id=run_id, trace_id=None)


def _stream(place: Place, query: Select[Any]) -> Iterator[Feedback]:
    with reading(place) as connection:
        for row in connection.execute(query, execution_options={"yield_per": ROWS_AT_ONCE}).mappings():
            yield Feedback(**row)
