"""From filtered traces to a registered adapter: one function for each way of learning, in the shape that TRAINERS asks for."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from core.types import Trace
from finetune.adapters import Manifest, read_manifest, register
from finetune.data import dpo_pairs, kto_rows, sft_rows
from finetune.grpo import Generation, prompts_of, train_grpo, verified_reward
from finetune.kto import train_kto
from finetune.lora import is_first_process, wait_for_all
from finetune.pairs import held_out_of
from finetune.preference import train_dpo
from finetune.supervised import train_sft
from finetune.training import Progress, TrainConfig


def sft(
    kept: Sequence[Trace],
    traces: Sequence[Trace],
    config: TrainConfig,
    domain: str | None,
    min_reward: float,
    on_step: Progress | None = None,
) -> Manifest:
    """Learn the kept traces."""
    del traces, min_reward
    rows, _ = sft_rows(kept, random.Random(config.seed))
    metrics = train_sft(rows, config, on_step=on_step)
    return _registered(config, domain, "sft", [row.trace_id for row in rows], metrics)


def dpo(
    kept: Sequence[Trace],
    traces: Sequence[Trace],
    config: TrainConfig,
    domain: str | None,
    min_reward: float,
    on_step: Progress | None = None,
) -> Manifest:
    """Prefer verified attempts over failed ones of the same task."""
    tasks = {trace.task.id for trace in kept}
    pairs = dpo_pairs((t for t in traces if t.task.id in tasks), random.Random(config.seed), min_reward=min_reward)
    metrics = train_dpo(pairs, config, on_step=on_step)
    return _registered(config, domain, "dpo", [i for pair in pairs for i in (pair.chosen_id, pair.rejected_id)], metrics)


def kto(
    kept: Sequence[Trace],
    traces: Sequence[Trace],
    config: TrainConfig,
    domain: str | None,
    min_reward: float,
    on_step: Progress | None = None,
) -> Manifest:
    """Verified attempts are wanted, failed ones are not, of whatever task."""
    del kept
    rows = kto_rows(_of(domain, traces), min_reward=min_reward, held_out=held_out_of(traces))
    metrics = train_kto(rows, config, on_step=on_step)
    return _registered(config, domain, "kto", [row.trace_id for row in rows], metrics)


def grpo(
    kept: Sequence[Trace],
    traces: Sequence[Trace],
    config: TrainConfig,
    domain: str | None,
    min_reward: float,
    on_step: Progress | None = None,
) -> Manifest:
    """Answer the questions of the traces anew while training, rewarded by their verifiers."""
    del kept, min_reward
    prompts = prompts_of(_of(domain, traces), held_out_of(traces))
    tasks = {trace.task.id: trace.task for trace in traces}
    generation = Generation(config.num_generations, config.max_completion_length, config.temperature, kl=config.kl)
    metrics = train_grpo(prompts, config, verified_reward(tasks=tasks), generation, on_step=on_step)
    return _registered(config, domain, "grpo", [prompt.trace_id for prompt in prompts], metrics)


def _of(domain: str | None, traces: Sequence[Trace]) -> list[Trace]:
    return [trace for trace in traces if domain in (None, trace.domain)]


def _registered(config: TrainConfig, domain: str | None, trainer: str, trace_ids: Sequence[str], metrics: dict[str, Any]) -> Manifest:
    if is_first_process():
        register(
            config.output_dir,
            domain=domain,
            trainer=trainer,
            trace_ids=trace_ids,
            settings={**config.as_dict(), "output_dir": str(config.output_dir)},
            metrics=metrics,
            device=config.device,
        )
    wait_for_all()
    return read_manifest(config.output_dir)
