"""The second half of a build: from the candidates of one task to its rows, and a name for every candidate that gives none."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.types import Domain, Outcome, Record, Task, Verdict
from finetune.candidates import ALONE, CONTRADICTED, COPY, NEVER, SOLVED, TOKENS, UNCONFIRMED, Candidates, Group
from finetune.likeness import alike, characters_of
from finetune.pairs import Answer, match
from finetune.plan import Plan
from finetune.rows import AnyRow, Opinion, Pair, Prompt, Row

Values = Mapping[str, Any]
Recheck = Callable[[Task, str], Verdict]
Count = Callable[[str, str, str], int]
"""Tokens of a directive, a prompt and an answer."""


@dataclass(frozen=True, slots=True)
class Dropped(Record):
    """A candidate that gives no row, and the filter it fell at."""

    name: str
    id: str
    told: str


@dataclass(frozen=True, slots=True)
class Harvest(Record):
    """The rows of one task, the traces in them, and the candidates that are in none."""

    rows: tuple[AnyRow, ...]
    used: tuple[str, ...]
    dropped: tuple[Dropped, ...]


class Harvester:
    """Reads candidates back, in the order of their draw, and stops as soon as a task has its rows."""

    def __init__(self, candidates: Candidates, recheck: Recheck | None, count: Count | None) -> None:
        self._candidates, self._recheck, self._count = candidates, recheck, count
        self._plan: Plan = candidates.plan

    def of(self, group: Group) -> Harvest:
        """The rows of a task."""
        kind, plan = self._plan.kind, self._plan
        dropped: list[Dropped] = []
        always = plan.solved_from and group.passed >= plan.solved_from and not group.failed
        if always and kind in ("sft", "prompts") and not self._edited(group):
            return self._none(group, SOLVED)
        if kind == "prompts":
            never = plan.solved_from and group.failed >= plan.solved_from and not group.passed
            return self._none(group, NEVER) if never else self._prompt(group)
        if kind == "sft":
            taken = self._taken(group.good, True, dropped)
            rows: list[AnyRow] = [Row(v["directive"], v["query"], v["text"], v["task_id"], v["id"]) for v in taken]
            return Harvest(tuple(rows), tuple(v["id"] for v in taken), tuple(dropped))
        if kind == "kto":
            both = [(v, label) for label, side in ((True, group.good), (False, group.bad)) for v in self._taken(side, label, dropped)]
            rows = [Opinion(v["directive"], v["query"], v["text"], v["task_id"], v["id"], label) for v, label in both]
            return Harvest(tuple(rows), tuple(v["id"] for v, _ in both), tuple(dropped))
        return self._pairs(group)

    def _taken(self, places: Sequence[int], label: bool, dropped: list[Dropped]) -> list[Values]:
        """The first so many that are short enough, no copies of each other, and confirmed."""
        taken: list[Values] = []
        shingles: list[set[str]] = []
        for place in places:
            values = self._candidates.spool.get(place)
            name = self._unfit(values) or (self._candidates.crowded if len(taken) >= self._plan.per_task else None)
            own = characters_of(values["loose"]) if name is None and len(places) > 1 else set()
            if name is None and any(alike(own, other, self._plan.alike) for other in shingles):
                name = COPY
            if name is None and not self._confirmed(values, label):
                name = UNCONFIRMED
            if name is None:
                taken.append(values)
                shingles.append(own)
            else:
                dropped.append(Dropped(name, values["id"], values["text"]))
        return taken

    def _pairs(self, group: Group) -> Harvest:
        dropped: list[Dropped] = []
        sides: list[list[Values]] = [[], []]
        for side, places in enumerate((group.good, group.bad)):
            for found in map(self._candidates.spool.get, places):
                name = self._unfit(found)
                if name is None:
                    sides[side].append(found)
                else:
                    dropped.append(Dropped(name, found["id"], found["text"]))
        pairs = self._matched(sides, dropped)
        pairs += self._over_originals(sides[0], len(pairs), dropped)
        used = {each for pair in pairs for each in ((0, pair.chosen), (1, pair.rejected))}
        refuted = {(d.id, d.told) for d in dropped if d.name == UNCONFIRMED}
        ids: list[str] = []
        for side, candidates in enumerate(sides):
            for values in candidates:
                if (side, values["text"]) in used:
                    ids.append(values["id"])
                elif (values["id"], values["text"]) not in refuted:
                    dropped.append(Dropped(ALONE, values["id"], values["text"]))
        return Harvest(tuple(pairs), tuple(ids), tuple(dropped))

    def _matched(self, sides: list[list[Values]], dropped: list[Dropped]) -> list[Pair]:
        """Pairs by prompt. Those that the re-check does not confirm are taken out, and the rest is matched again."""
        known: dict[tuple[bool, str], bool] = {}
        out: set[tuple[bool, str]] = set()
        while True:
            pairs: list[Pair] = []
            wrong = False
            for query, directive in dict.fromkeys((v["query"], v["directive"]) for v in sides[0]):
                good, bad = (
                    [v for v in side if (v["query"], v["directive"]) == (query, directive) and (not i, v["text"]) not in out]
                    for i, side in enumerate(sides)
                )
                rng = random.Random(f"{self._plan.seed} {good[0]['task_id'] if good else ''}")
                texts = {(label, v["text"]): v for label, side in ((True, good), (False, bad)) for v in side}
                for a, b in match(_answers(good), _answers(bad), self._plan.pairs, rng):
                    for key in ((True, a.text), (False, b.text)):
                        if key not in known:
                            known[key] = self._confirmed(texts[key], key[0])
                            if not known[key]:
                                out.add(key)
                                dropped.append(Dropped(UNCONFIRMED, texts[key]["id"], key[1]))
                                wrong = True
                    pairs.append(Pair(directive, query, a.text, b.text, texts[True, a.text]["task_id"], a.id, b.id))
            if not wrong:
                return pairs[: self._plan.pairs.per_task]

    def _over_originals(self, good: Sequence[Values], have: int, dropped: list[Dropped]) -> list[Pair]:
        """What a person wrote over what stood there before, unless the re-check refutes it."""
        refuted = {(d.id, d.told) for d in dropped if d.name == UNCONFIRMED}
        pairs: list[Pair] = []
        for v in good:
            if have + len(pairs) >= self._plan.pairs.per_task:
                break
            if not v["edited"] or (v["id"], v["text"]) in refuted:
                continue
            if self._confirmed(v, True):
                pairs.append(Pair(v["directive"], v["query"], v["text"], v["edited"], v["task_id"], v["id"], v["id"]))
            else:
                dropped.append(Dropped(UNCONFIRMED, v["id"], v["text"]))
        return pairs

    def _prompt(self, group: Group) -> Harvest:
        values = self._candidates.spool.get(group.good[0])
        if self._too_long(values):
            return self._none(group, TOKENS)
        row = Prompt(
            values["directive"],
            values["query"],
            values["task_id"],
            values["id"],
            values["domain"],
            values["reference"],
            values["metadata"],
            group.pass_rate,
        )
        return Harvest((row,), (values["id"],), ())

    def _none(self, group: Group, name: str) -> Harvest:
        found = map(self._candidates.spool.get, (*group.good, *group.bad))
        return Harvest((), (), tuple(Dropped(name, v["id"], v["text"]) for v in found))

    def _edited(self, group: Group) -> bool:
        return any(self._candidates.spool.get(place)["edited"] is not None for place in group.good)

    def _unfit(self, values: Values) -> str | None:
        if values["edited"] is None and self._candidates.contradicted(values):
            return CONTRADICTED
        return TOKENS if self._too_long(values) else None

    def _too_long(self, values: Values) -> bool:
        if self._count is None or self._plan.max_tokens is None:
            return False
        answer = "" if self._plan.kind == "prompts" else values["text"]
        return self._count(values["directive"], values["query"], answer) > self._plan.max_tokens

    def _confirmed(self, values: Values, label: bool) -> bool:
        """Whether today's verifier says the same on accepted evidence. What a person wrote must only not be refuted."""
        if self._recheck is None:
            return True
        verdict = self._recheck(_task(values), values["text"])
        if values["edited"] is not None or values["by_thumb"]:
            return verdict.outcome is not Outcome.FAIL
        if label:
            return verdict.passed and verdict.evidence in self._plan.rules.evidence
        return verdict.outcome is Outcome.FAIL


def _task(values: Values) -> Task:
    metadata = json.loads(values["metadata"] or "{}")
    return Task(
        values["query"],
        Domain(values["domain"]),
        values["reference"],
        level=values["level"],
        family=values["family"],
        metadata=metadata,
    )


def _answers(side: Sequence[Values]) -> list[Answer]:
    return [Answer(v["id"], v["text"], v["reward"]) for v in side]
