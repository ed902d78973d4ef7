"""Group Relative Policy Optimization (Shao et al., 2024): the model answers while it trains, and the project's verifiers reward it.

Each question is answered several times; an answer is pushed as far as its reward lies above its group's mean. A reward that is not known
is left out of the mean and pushes nothing; when a whole batch is unknown, the run stops, where the library would train on without a word.
"""

from __future__ import annotations

import json
import logging
import math
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, make_dataclass
from typing import Any

from core.config import Settings
from core.errors import TrainingError
from core.judging import Judging
from core.types import Domain, Outcome, Record, Task, Trace
from core.verifiers import Verifiers
from finetune.checkpoints import hash_of
from finetune.data import HeldOut, split_rows
from finetune.funnel import beginning
from finetune.pairs import held_out_of
from finetune.plan import SOLVED_FROM
from finetune.preference import lean, no_bars
from finetune.rows import Prompt
from finetune.rules import Rules, attempt_of, common_rules, first_broken
from finetune.training import Progress, TrainConfig, arguments, assemble, conversation, keep, prepare_folder, run

log = logging.getLogger(__name__)

RewardOf = Callable[[Prompt, str, bool], float | None]
"""(question, answer, whether it came to its end) -> reward; None is unknown."""

CHECKS_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Generation(Record):
    """How answers are drawn while training: so many to each question, of at most so many tokens.

    kl: weight of the distance to where training began (0: none, and no reference is computed).
    """

    num_generations: int = 8
    max_completion_length: int = 256
    temperature: float = 1.0
    top_p: float = 1.0
    kl: float = 0.0

    def __post_init__(self) -> None:
        if self.num_generations < 2:
            raise TrainingError(f"num_generations is {self.num_generations}: an answer is compared with others, choose 2 or more")
        if self.max_completion_length < 1 or not self.temperature > 0 or not 0 < self.top_p <= 1 or self.kl < 0:
            raise TrainingError("max_completion_length is 1 or more, temperature above 0, top_p above 0 and up to 1, kl 0 or more")


def train_grpo(
    prompts: Sequence[Prompt],
    config: TrainConfig,
    reward: RewardOf | None = None,
    generation: Generation = Generation(),
    *,
    train_split: float = 0.9,
    on_step: Progress | None = None,
) -> dict[str, Any]:
    """Train an adapter into `config.output_dir`; returns metrics, with the mean reward of the first and of the last step.

    `reward` is by default `verified_reward()`. `config.batch_size` counts answers, as it is they that need memory; batches are gathered
    until whole groups are in a step. Raises TrainingError when all rewards of a batch are unknown, and when no group was ever of two minds.
    """
    if not prompts:
        raise TrainingError("no questions to train on: collect traces of tasks that a verifier can judge")
    prepare_folder(config.output_dir)
    train, held = split_rows(prompts, train_split, random.Random(config.seed))
    trainer = grpo_trainer(train, held, config, reward or verified_reward(), generation)
    metrics = run(trainer, config, len(train), on_step)
    told = _told(trainer.state.log_history)
    if told.get("groups_alike") == 1.0:
        raise TrainingError(
            "in every step, all answers to a question earned the same reward, so that nothing was learnt: take questions that are "
            "sometimes solved, raise num_generations or the temperature"
        )
    keep(trainer, config.output_dir)
    return {**metrics, **told, "prompts": len(train), "held": len(held)}


def grpo_trainer(train: Sequence[Prompt], held: Sequence[Prompt], config: TrainConfig, reward: RewardOf, generation: Generation) -> Any:
    """The library's trainer, ready to run. Raises TrainingError when the model has no room for a question and its answer."""
    from trl import GRPOConfig, GRPOTrainer

    gathered = whole_groups(config.batch_size, config.gradient_accumulation_steps, generation.num_generations)
    questions = config.batch_size * gathered // generation.num_generations
    args = arguments(
        config.replace(gradient_accumulation_steps=gathered),
        max(1, int(len(train) // questions * config.epochs)),
        bool(held),
        _with_max_length(GRPOConfig),
        num_generations=generation.num_generations,
        max_completion_length=generation.max_completion_length,
        temperature=generation.temperature,
        top_p=generation.top_p,
        beta=generation.kl,
        generation_kwargs={"use_cache": True},
        per_device_eval_batch_size=generation.num_generations,
        remove_unused_columns=False,
    )
    _check_steps(questions * args.world_size, len(train))
    scored = Scored([*train, *held], reward)
    rows = [_example(place, row) for place, row in enumerate(scored.prompts)]
    with no_bars():
        trainer = assemble(lean(GRPOTrainer), args, rows[: len(train)], rows[len(train) :] or rows[:1], config, reward_funcs=[scored])
    trainer.data_hash = hash_of([*rows, generation.as_dict()])
    scored.ends = frozenset(trainer.eos_token_ids)
    _check_room(trainer, rows, config, generation)
    return trainer


class Scored:
    """The library's reward function. Verifiers are asked side by side; answers are told apart into finished ones and cut-off ones."""

    __name__ = "verified"

    def __init__(self, prompts: Sequence[Prompt], reward: RewardOf) -> None:
        self.prompts = list(prompts)
        self.ends: frozenset[int] = frozenset()
        self._reward = reward
        self._pool = ThreadPoolExecutor(CHECKS_AT_ONCE, "reward")

    def __call__(
        self, completions: Sequence[Any], completion_ids: Sequence[Sequence[int]], place: Sequence[int], **_: Any
    ) -> list[float | None]:
        """A reward for each completion. Raises TrainingError when none of them is known."""
        texts = [said if isinstance(said, str) else said[0]["content"] for said in completions]
        ended = [bool(ids) and ids[-1] in self.ends for ids in completion_ids]
        prompts = [self.prompts[i] for i in place]
        rewards = [_known(value) for value in self._pool.map(self._reward, prompts, texts, ended)]
        if all(value is None for value in rewards):
            raise TrainingError(
                f"none of {len(rewards)} answers could be judged, the first of them to {beginning(prompts[0].prompt)!r}: "
                "take tasks with a reference or a verifier that can check them"
            )
        return rewards


def verified_reward(settings: Settings | None = None, tasks: Mapping[str, Task] | None = None) -> RewardOf:
    """What the verifier of the question's domain makes of an answer. `tasks` are whole ones by id, where more is known than in the row."""
    settings = settings or Settings()
    verifiers = Verifiers(settings.VERIFIERS, sandbox=settings.SANDBOX, corpus=settings.CORPUS)
    judging = Judging(verifiers, settings)

    def reward(prompt: Prompt, text: str, complete: bool) -> float | None:
        task = (tasks or {}).get(prompt.task_id) or task_of(prompt)
        verdict = judging.verdict(task, text, complete=complete)
        return judging.reward(task, text, verdict, calls=1).value

    return reward


def task_of(prompt: Prompt) -> Task:
    """The task that a row is about, as far as the row knows it."""
    return Task(prompt.prompt, Domain(prompt.domain), prompt.reference, metadata=json.loads(prompt.metadata or "{}"))


def prompts_of(traces: Iterable[Trace], held_out: HeldOut | None = None) -> list[Prompt]:
    """One question for each task and directive of the training side that a verifier could judge.

    Questions that passed, or failed, in all of SOLVED_FROM attempts or more are left out: all answers would earn the same.
    """
    given = list(traces)
    fence = held_out if held_out is not None else held_out_of(given)
    rules = common_rules(Rules())
    groups: dict[tuple[str, str, str], dict[str, Trace]] = defaultdict(dict)
    for trace in given:
        attempt = attempt_of(trace)
        judged = trace.verdict.outcome in (Outcome.PASS, Outcome.FAIL)
        if judged and first_broken(attempt, [rule for rule in rules if rule[0] != "incomplete"]) is None:
            groups[trace.task.id, trace.query, trace.directive].setdefault(" ".join(trace.text.split()), trace)
    found = []
    for (task_id, query, directive), attempts in groups.items():
        first = next(iter(attempts.values()))
        rate = sum(trace.verified for trace in attempts.values()) / len(attempts)
        if (len(attempts) >= SOLVED_FROM and rate in (0.0, 1.0)) or fence.leak_of(attempt_of(first).asked) is not None:
            continue
        metadata = json.dumps(dict(first.task.metadata), ensure_ascii=False, default=str)
        found.append(Prompt(directive, query, task_id, first.id, str(first.task.domain), first.task.reference, metadata, rate))
    return found


def whole_groups(batch_size: int, gathered: int, group: int) -> int:
    """How many batches make a step that holds whole groups only: at least `gathered`."""
    least = group // math.gcd(batch_size, group)
    return -(-gathered // least) * least


def _check_steps(questions: int, there: int) -> None:
    """`questions` are answered in a step of all processes; a step that can't be filled is dropped by the library."""
    if questions > there:
        raise TrainingError(f"a step takes {questions} questions and there are {there}: reduce --batch-size or collect more")
    if there % questions:
        log.info("%d of %d questions wait in each epoch, others in each: they fill no step", there % questions, there)


def _check_room(trainer: Any, rows: Sequence[Mapping[str, Any]], config: TrainConfig, generation: Generation) -> None:
    tokenizer = trainer.processing_class
    longest = max(len(tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True)["input_ids"]) for row in rows)
    context = getattr(trainer.model.config, "max_position_embeddings", None) or config.max_length
    limit = min(config.max_length, context)
    if longest + generation.max_completion_length > limit:
        raise TrainingError(
            f"the longest question has {longest} tokens, an answer up to {generation.max_completion_length}, and there is room for {limit} "
            f"(max_length={config.max_length}, the model takes {context}): reduce max_completion_length or leave long questions out"
        )


def _with_max_length(kind: type[Any]) -> type[Any]:
    """GRPO's options name no length of the whole, which all other trainers' do: `_check_room` is what keeps to it."""
    named = make_dataclass(kind.__name__, [("max_length", int | None, field(default=None))], bases=(kind,))
    named.__module__ = kind.__module__
    return named


def _known(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _told(history: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    rewards = [entry["reward"] for entry in history if "reward" in entry]
    alike = [entry["frac_reward_zero_std"] for entry in history if "frac_reward_zero_std" in entry]
    found = {"reward_first": rewards[0], "reward_last": rewards[-1]} if rewards else {}
    return found | ({"groups_alike": sum(alike) / len(alike)} if alike else {})


def _example(place: int, row: Prompt) -> dict[str, Any]:
    return {"prompt": conversation(row), "place": place}  # type: ignore[arg-type]
