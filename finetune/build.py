"""From a store to a dataset in a folder: streamed, every dropped trace accounted for, the same bytes for the same store and plan."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import TrainingError
from core.types import Record, Task
from finetune.candidates import LIMIT, SHARE, Candidates
from finetune.datacard import Facts
from finetune.dataset import Dataset, free, values_of, write
from finetune.funnel import Funnel, Tally
from finetune.harvest import Harvester, Recheck
from finetune.heldout import HeldOut, question
from finetune.mixing import Portion, in_order, shared_out
from finetune.plan import Plan
from finetune.reading import Attempts, extra_of
from finetune.rows import AnyRow
from finetune.spool import Spool
from finetune.steps import Steps
from finetune.tokens import counter
from logs.corrections import Said, said_by_people
from logs.place import Place
from logs.reading import read_runs


class NothingLeftError(TrainingError):
    """No trace of the store makes a row: the funnel in its text says why."""


@dataclass(frozen=True, slots=True)
class Lot(Record):
    """What one task gives, on disk: places of its rows, and the traces that are in them."""

    portion: Portion
    places: tuple[int, ...]
    used: tuple[str, ...]


def build_dataset(
    where: str | Path | Place,
    folder: str | Path,
    plan: Plan = Plan(),  # noqa: B008
    *,
    held_out: Iterable[Task] = (),
    recheck: Recheck | None = None,
    tokenizer: Any = None,
    feedback: bool = True,
    edits: Mapping[str, str] | None = None,
    thumbs: Mapping[str, bool] | None = None,
    on_trace: Callable[[], None] = lambda: None,
) -> Dataset:
    """Build a dataset of the store's traces in `folder`, which must not hold anything yet. Nothing is written unless all of it stands.

    `held_out` are further tasks that must not be learnt, beside the store's own held-out side. `recheck` judges again every answer that
    would go in; what it does not confirm stays out. What people said, as it stands in the store, counts unless `feedback` is False;
    `edits` and `thumbs`, by trace id, go over it. With a `tokenizer` the card counts tokens and shows which of them are trained. Raises
    StoreError when there is no store, NothingLeftError when nothing is left.
    """
    if plan.max_tokens is not None and tokenizer is None:
        raise TrainingError("max_tokens is counted by the tokenizer that will be trained with: give the build one")
    target = Path(folder)
    free(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    if tokenizer is not None:
        plan = plan.replace(rules=plan.rules.replace(special=tuple(sorted({*plan.rules.special, *tokenizer.all_special_tokens}))))
    attempts = Attempts(where)
    said = said_by_people(attempts.place) if feedback else Said()
    said = said.replace(edits={**said.edits, **(edits or {})}, thumbs={**said.thumbs, **(thumbs or {})})
    fence = HeldOut([*map(question, held_out), *attempts.held_out()], plan.near)
    count = counter(tokenizer) if tokenizer is not None else None
    with Spool(target.parent) as candidates, Spool(target.parent) as rows:
        if plan.kind == "steps":
            lots, tally = _steps(attempts.place, Steps(plan, fence, count, said, recheck), rows, on_trace)
        else:
            chosen = Candidates(plan, fence, candidates, said.thumbs, said.edits)
            for attempt, row in attempts:
                chosen.take(attempt, lambda row=row: extra_of(row))  # type: ignore[misc]
                on_trace()
            lots, tally = _harvest(Harvester(chosen, recheck, count), chosen, rows), chosen.tally
        kept = _mixed(lots, plan, tally)
        funnel = tally.funnel(sum(len(lot.used) for lot in kept))
        if not kept:
            raise NothingLeftError(_nothing(where, funnel, plan))
        facts = Facts(plan.kind, len(fence), tokenizer, plan.seed, _counted(said))
        chosen_rows = (rows.get(place) for lot in kept for place in lot.places)
        return write(target, plan.kind, plan.plain(), funnel, chosen_rows, facts)


def _harvest(harvester: Harvester, chosen: Candidates, rows: Spool) -> list[Lot]:
    lots: list[Lot] = []
    for group in chosen.groups():
        found = harvester.of(group)
        for dropped in found.dropped:
            chosen.tally.drop(dropped.name, dropped.id, dropped.told)
        if found.rows:
            lots.append(_lot(group.task_id, group.domain, group.pass_rate, found.rows, found.used, rows))
    return lots


def _lot(task_id: str, domain: str, rate: float | None, found: tuple[AnyRow, ...], used: tuple[str, ...], rows: Spool) -> Lot:
    return Lot(Portion(task_id, domain, len(found), rate), tuple(rows.put(values_of(row, domain)) for row in found), used)


def _steps(place: Place, steps: Steps, rows: Spool, on_trace: Callable[[], None]) -> tuple[list[Lot], Tally]:
    portions = steps.gather(read_runs(place), on_trace)
    return [_lot(task_id, str(domain), None, pairs, used, rows) for task_id, domain, pairs, used in portions], steps.tally


def _counted(said: Said) -> dict[str, int]:
    """What the card says of people's words."""
    counts = {"thumbs and ratings": len(said.thumbs), "edits": len(said.edits), "edits of last steps": len(said.endings)}
    return {name: count for name, count in {**counts, "edits of steps in the middle": said.inner}.items() if count}


def _mixed(lots: list[Lot], plan: Plan, tally: Tally) -> list[Lot]:
    """In the order that the seed decides, within the shares and the limit."""
    portions = [lot.portion for lot in lots]
    order = in_order(portions, plan.seed, hard_first=plan.hard_first)
    fate = shared_out([portions[place] for place in order], plan.max_share, plan.limit)
    kept: list[Lot] = []
    for place, fell in zip(order, fate, strict=True):
        if fell is None:
            kept.append(lots[place])
        else:
            for trace_id in lots[place].used:
                tally.drop(LIMIT if fell == "limit" else SHARE, trace_id, f"task {lots[place].portion.task_id}")
    return kept


def _nothing(where: object, funnel: Funnel, plan: Plan) -> str:
    if not funnel.came:
        return f"no traces in {where}: collect some with enable_logging=True first"
    fell = f"most fell at {funnel.strictest!r}"
    return f"none of the {funnel.came} traces in {where} make a dataset of kind {plan.kind!r}; {fell}.\n{funnel.told()}"
