"""The ratchet: collect, build, train, register, evaluate, gate, swap, report; round after round, each step once, whatever interrupts it.

    <folder>/rounds/003/state.json   what each finished step of round 3 gave
    <folder>/rounds/003/sft, dpo     its datasets
    <folder>/rounds/003/adapter      its adapter, as trained; the registry holds a copy
    <folder>/rounds/003/round.md     its report, with loss.png
    <folder>/evaluations             what each worker answered on the held-out sets
    <folder>/looks.jsonl             how often the gate's tasks have decided
    <folder>/report.md, rounds.png   all rounds

A round that was broken off is gone on with at the step it stopped in. Each adapter is trained from the base on all that was collected so
far (as ReST-EM does, Singh et al., 2024), so that a bad round leaves nothing behind in the weights.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

from core import slots
from core.errors import AdapterError, TrainingError
from core.types import Domain, Record, Split, Task
from finetune import dataset as datasets
from finetune.adapters import Registry, read_manifest, register
from finetune.build import NothingLeftError, build_dataset
from finetune.dataset import Dataset
from finetune.evaluation import Evaluation
from finetune.evaluations import Evaluations
from finetune.gate import Decision, Looks, decisions, judge
from finetune.plan import Plan
from finetune.preference import train_dpo
from finetune.round_report import outcome, write_report, write_round
from finetune.rules import Rules
from finetune.supervised import train_sft
from finetune.training import Progress, TrainConfig
from finetune.turn import MIN_PAIRS, Turn, TurnPlan, build, turn
from logs import rounds
from logs.place import Place
from logs.rounds import keep_round

__all__ = ["MIN_PAIRS", "Loop", "LoopPlan", "Round", "Turn", "TurnPlan", "World", "build", "turn"]

STEPS = ("collect", "build", "train", "register", "evaluate", "gate", "swap", "report")
STATE = "state.json"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoopPlan(Record):
    """What a loop does in each round.

    slot: the worker that gets better, and the name of its adapters; base: what all of them are trained from. dpo_pairs: at most so many
    preference pairs are trained after the answers; 0 for none. alpha is what the gate's tasks may spend in all, over so many looks.
    more_tokens: an answer may grow by this share; None does not guard it, for workers that are to learn to write steps.
    """

    slot: str = "math"
    base: str = "embedded"
    domain: Domain = Domain.MATH
    min_reward: float = 0.7
    per_task: int = 4
    limit: int | None = None
    epochs: float = 3.0
    batch_size: int = 8
    learning_rate: float = 2e-4
    dpo_pairs: int = 0
    dpo_learning_rate: float = 2e-5
    max_length: int = 1024
    lora_r: int = 16
    lora_alpha: int = 32
    load_in_4bit: bool = False
    alpha: float = 0.05
    looks: int = 10
    more_tokens: float | None = None
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        slots.checked_name(self.slot)
        if self.dpo_pairs < 0:
            raise TrainingError(f"dpo_pairs is {self.dpo_pairs}: give 0 for none, or how many at most")


class World(Protocol):
    """What a loop asks of whoever runs it, since training never imports the orchestrator."""

    def collect(self, number: int) -> Mapping[str, Any]:
        """Answer the round's tasks into the store; what came of it, as plain JSON. A second call for the same round repeats no search."""
        ...

    def tasks(self, split: Split) -> Sequence[Task]:
        """The held-out tasks of a side, the same at every call and in every run; none where there are none to report on."""
        ...

    def evaluate(self, spec: str, tasks: Sequence[Task]) -> Evaluation:
        """That model's greedy answers."""
        ...

    def tell(self, number: int, step: str, values: Mapping[str, Any]) -> None:
        """A step is done."""
        ...

    def progress(self, number: int, step: str) -> Progress | None:
        """What hears how training goes on."""
        ...


@dataclass(frozen=True, slots=True)
class Round(Record):
    """What a round gave, by step. `promoted` is False too where there was nothing to train on."""

    number: int
    steps: Mapping[str, Mapping[str, Any]]

    @property
    def promoted(self) -> bool:
        """Whether its adapter serves now."""
        return bool(self.steps.get("gate", {}).get("promoted"))

    @property
    def done(self) -> bool:
        """Whether nothing of it is left to do."""
        return "report" in self.steps


class Loop:
    """Rounds in a folder. `where` is the store's place, `registry` the folder of adapters; both may serve others beside."""

    def __init__(
        self,
        plan: LoopPlan,
        world: World,
        folder: str | Path,
        *,
        where: str | Path | Place,
        registry: str | Path,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Begins the folder, or goes on with one of the same plan. Raises TrainingError for one of another plan."""
        self.plan, self.world, self.folder, self.where, self._now = plan, world, Path(folder), where, now
        self.registry = Registry(registry)
        self.evaluations = Evaluations(self.folder / "evaluations", world.evaluate)
        self._claim()
        with suppress(AdapterError):  # it is there
            slots.write(self.registry.folder, slots.Slot(plan.slot, plan.base), 0)
        slots.read(self.registry.folder, plan.slot)

    def run(self, rounds: int) -> list[Round]:
        """Go on until so many rounds are done, those of earlier runs among them."""
        if rounds < 1:
            raise TrainingError(f"{rounds} rounds: choose 1 or more")
        return [self.round(number) for number in range(1, rounds + 1)]

    def round(self, number: int) -> Round:
        """Do what is left of a round."""
        there = self._place(number)
        there.mkdir(parents=True, exist_ok=True)
        done = self.rounds_done(number)
        while (step := self._next(done)) is not None:
            started = time.monotonic()
            work: Callable[[int, dict[str, Any]], Mapping[str, Any]] = getattr(self, f"_{step}")
            done[step] = {**work(number, done), "seconds": round(time.monotonic() - started, 2)}
            slots.replace_file(there / STATE, json.dumps(done, indent=1, default=str) + "\n")
            self.world.tell(number, step, done[step])
        return Round(number, done)

    def rounds_done(self, number: int) -> dict[str, Any]:
        """The finished steps of a round. Raises TrainingError when its state is damaged."""
        path = self._place(number) / STATE
        try:
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
            if not isinstance(found, dict):
                raise TypeError("no object")
        except (OSError, ValueError, TypeError) as error:
            raise TrainingError(f"{path} is damaged ({error}): remove the folder of that round, and it is made again") from error
        return found

    def _next(self, done: dict[str, Any]) -> str | None:
        """The first step that is left. What was decided against a champion that serves no more is decided again."""
        if "evaluate" in done and "swap" not in done:
            serves = slots.serving(self.registry.folder, self.plan.slot, "").spec
            if serves not in (done["evaluate"]["champion"], done["evaluate"]["candidate"]):
                log.warning("%s serves in %s since the last evaluation: comparing again", serves, self.plan.slot)
                done.pop("evaluate")
                done.pop("gate", None)
        ended = "nothing" in done.get("build", {})
        return next((step for step in STEPS if step not in done and (step in ("collect", "report") or not ended)), None)

    def _collect(self, number: int, done: Mapping[str, Any]) -> Mapping[str, Any]:
        return self.world.collect(number)

    def _build(self, number: int, done: Mapping[str, Any]) -> Mapping[str, Any]:
        held_out = [*self.world.tasks(Split.GATE), *self.world.tasks(Split.REPORT)]
        found: dict[str, Any] = {}
        for kind in ("sft", "dpo") if self.plan.dpo_pairs else ("sft",):
            try:
                made = self._dataset(number, kind, held_out)
            except NothingLeftError as error:
                if kind == "sft":
                    return {"nothing": str(error)}
                continue
            funnel = [{"filter": sieve.name, "came": sieve.came, "dropped": sieve.dropped} for sieve in made.funnel.sieves]
            found[kind] = {"sha256": made.sha256, "rows": made.rows, "funnel": funnel}
        return found

    def _dataset(self, number: int, kind: str, held_out: Any) -> Dataset:
        folder = self._place(number) / kind
        with suppress(TrainingError):
            return datasets.load(folder)
        p = self.plan
        limit = p.dpo_pairs if kind == "dpo" else p.limit
        rules = Rules(min_reward=p.min_reward, domain=p.domain)
        plan = Plan(kind=kind, rules=rules, per_task=p.per_task, limit=limit, hard_first=limit is not None, seed=p.seed + number)  # type: ignore[arg-type]
        return build_dataset(self.where, folder, plan, held_out=held_out)

    def _train(self, number: int, done: Mapping[str, Any]) -> Mapping[str, Any]:
        """SFT from the base, then DPO on top where there are pairs. What is finished stays; what was broken off goes on."""
        there, p = self._place(number), self.plan
        used = [datasets.load(there / kind) for kind in done["build"] if kind in ("sft", "dpo")]
        adapter = there / "adapter"
        with suppress(AdapterError):
            return {**read_manifest(adapter).metrics}
        first = there / "adapter-sft" if len(used) > 1 else adapter
        config = TrainConfig(
            p.base,
            first,
            p.epochs,
            p.batch_size,
            p.learning_rate,
            lora_r=p.lora_r,
            lora_alpha=p.lora_alpha,
            max_length=p.max_length,
            load_in_4bit=p.load_in_4bit,
            device=p.device,
            seed=p.seed + number,
            resume=first.exists(),
        )
        metrics: dict[str, Any] = {}
        marker = there / "sft.json"
        if not marker.exists():
            metrics["sft"] = train_sft(list(used[0]), config, on_step=self.world.progress(number, "sft"))
            slots.replace_file(marker, json.dumps(metrics["sft"], default=str) + "\n")
        metrics["sft"] = json.loads(marker.read_text(encoding="utf-8"))
        if len(used) > 1:
            second = config.replace(
                model=str(first), output_dir=adapter, epochs=1.0, learning_rate=p.dpo_learning_rate, resume=adapter.exists()
            )
            metrics["dpo"] = train_dpo(list(used[1]), second, on_step=self.world.progress(number, "dpo"))
        register(
            adapter,
            domain=p.domain,
            trainer="+".join(metrics),
            trace_ids=sorted({trace for made in used for row in made for trace in row.trace_ids}),
            settings={**config.as_dict(), "output_dir": str(adapter)},
            metrics=metrics,
            device=p.device,
        )
        return metrics

    def _register(self, number: int, done: Mapping[str, Any]) -> Mapping[str, Any]:
        made = datasets.load(self._place(number) / "sft")
        run = f"{self._name()}/{number}"
        added = self.registry.add(self._place(number) / "adapter", self.plan.slot, dataset=made, run=run, why=f"round {number}")
        manifest = added.manifest
        assert manifest is not None
        return {"reference": added.reference, "fingerprint": manifest.fingerprint}

    def _evaluate(self, number: int, done: Mapping[str, Any]) -> Mapping[str, Any]:
        champion = slots.serving(self.registry.folder, self.plan.slot, "").spec
        found: dict[str, Any] = {"champion": champion, "candidate": f"adapter:{done['register']['reference']}"}
        for who in ("champion", "candidate"):
            for split in (Split.GATE, Split.REPORT):
                if tasks := self.world.tasks(split):
                    found[f"{who} {split}"] = self.evaluations.of(found[who], tasks).overall.as_dict()
        return found

    def _gate(self, number: int, done: Mapping[str, Any]) -> Mapping[str, Any]:
        champion, reference = done["evaluate"]["champion"], done["register"]["reference"]
        kept = self.folder / "decisions.jsonl"
        subject = f"{reference} against {champion}"
        known = [decision for decision in decisions(kept) if decision.subject == subject] if kept.exists() else []
        decision = known[-1] if known else self._judged(champion, reference, subject, kept)
        if not any(entry.what == "decide" for entry in self.registry.history(reference, self.plan.slot)[-1:]):
            self.registry.decided(reference, decision, self.plan.slot)
        return decision.as_dict()

    def _judged(self, champion: str, reference: str, subject: str, kept: Path) -> Decision:
        tasks = self.world.tasks(Split.GATE)
        before, after = (self.evaluations.of(spec, tasks) for spec in (champion, f"adapter:{reference}"))
        several = len({task.domain for task in tasks}) > 1
        ratios = {} if self.plan.more_tokens is None else {"tokens": self.plan.more_tokens}
        looks = Looks(self.folder / "looks.jsonl", self.plan.looks, self.plan.alpha)
        return judge(before, after, looks, subject, trained=self.plan.domain if several else None, ratios=ratios, kept=kept)

    def _swap(self, number: int, done: Mapping[str, Any]) -> Mapping[str, Any]:
        """The slot names the adapter from now on, if the gate let it through and the same champion serves as when it decided."""
        reference = done["register"]["reference"]
        slot = slots.read(self.registry.folder, self.plan.slot)
        if done["gate"]["promoted"] and slot.champion != reference:
            slot = self.registry.promote(reference, self.plan.slot, why=f"round {number}")
        return {"serves": slots.choose(slot, "").spec, "epoch": slot.epoch}

    def _report(self, number: int, done: Mapping[str, Any]) -> Mapping[str, Any]:
        there = self._place(number)
        now = {**done, "at": self._now()}
        write_round(there, number, now, self.plan.as_dict())
        earlier = [self.rounds_done(n) for n in range(1, number)]
        write_report(self.folder, [*earlier, now], self.plan.as_dict())
        reference = done.get("register", {}).get("reference", "")
        plain = json.loads(json.dumps(now, default=str))
        keep_round(self.where, rounds.Round(self._name(), number, self.plan.slot, outcome(now), reference, plain, now["at"]))
        return {"page": str(there / "round.md")}

    def _claim(self) -> None:
        """The folder is this plan's."""
        path = self.folder / "plan.json"
        told = json.loads(json.dumps(self.plan.as_dict(), default=str))
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                slots.replace_file(path, json.dumps({**told, "id": sha256(str(self._now()).encode()).hexdigest()[:8]}, indent=1) + "\n")
            known = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise TrainingError(f"can't use the folder {self.folder} ({error}): choose another with --out") from error
        if changed := [name for name, value in told.items() if known.get(name) != value]:
            raise TrainingError(
                f"{self.folder} belongs to a loop with {changed[0]} = {known.get(changed[0])!r}, not {told[changed[0]]!r}: "
                "take the same options, or another folder"
            )

    def _name(self) -> str:
        name: str = json.loads((self.folder / "plan.json").read_text(encoding="utf-8"))["id"]
        return name

    def _place(self, number: int) -> Path:
        return self.folder / "rounds" / f"{number:03d}"
