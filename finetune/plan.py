"""What a dataset is to be made of: its kind, the rules, how much of each task and domain."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from core.errors import TrainingError
from core.types import Record
from finetune.likeness import NEAR
from finetune.pairs import PairRules
from finetune.rules import Rules

Kind = Literal["sft", "dpo", "steps", "kto", "prompts"]
SOLVED_FROM = 4


@dataclass(frozen=True, slots=True)
class Plan(Record):
    """The whole recipe: with the same store, the same plan gives the same bytes.

    kind: answers (sft), pairs of answers (dpo), pairs of steps (steps), judged answers (kto), questions for training online (prompts).
    per_task: answers, or judged answers of each kind, or pairs, or one question. near: Jaccard index to a held-out prompt from which a
    prompt is left out. alike: the same between two answers of a task, from which the second is a copy. solved_from: a task that passed in
    all of so many attempts or more teaches nothing (0: keep it); questions that never passed are left out by the same number. max_share:
    of one domain among the rows. limit: rows in all. hard_first: with a limit, tasks that often fail come sooner. max_tokens: of prompt
    and answer, by the tokenizer that the build is given.
    """

    kind: Kind = "sft"
    rules: Rules = field(default_factory=Rules)
    pairs: PairRules = field(default_factory=lambda: PairRules(per_task=4))
    per_task: int = 4
    near: float = NEAR
    alike: float = 0.9
    solved_from: int = SOLVED_FROM
    max_share: float = 1.0
    limit: int | None = None
    hard_first: bool = False
    max_tokens: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise TrainingError(f"there is no dataset of kind {self.kind!r}: choose one of {', '.join(get_args(Kind))}")
        for name in ("near", "alike", "max_share"):
            if not 0 < getattr(self, name) <= 1:
                raise TrainingError(f"{name} is {getattr(self, name)}: it is a share, above 0 and up to 1")
        for name, least in (("per_task", 1), ("solved_from", 0), ("limit", 1), ("max_tokens", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise TrainingError(f"{name} is {value}: it must be {least} or more")

    def plain(self) -> dict[str, Any]:
        """As JSON holds it."""
        values = self.as_dict()
        values["rules"] = {name: [*map(str, v)] if isinstance(v, tuple) else v for name, v in values["rules"].items()}
        return values
