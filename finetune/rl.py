"""Preference learning from agents at work: they answer, a reward function scores, pairs of one prompt train an adapter by DPO.

`collect_traces` here runs agents; `finetune_setup.collect_traces` reads what an Orchestrator has logged. Both kinds of traces can be
given to `train_with_dpo`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from agents.npc import NPC
from core.config import Settings
from core.errors import AdapterError
from core.providers.loading import base_of, load_base, load_tokenizer, with_adapter
from core.providers.registered import base_sha256
from core.types import Record, Task
from finetune.adapters import MANIFEST, WEIGHTS, read_manifest, register
from finetune.preference import train_dpo
from finetune.rlconfig import RLConfig
from finetune.rollouts import RewardFn, collect_traces
from finetune.scored import pair_traces
from finetune.training import Progress, prepare_folder

__all__ = ["RLConfig", "collect_traces", "load_rl_model", "run_rl_training", "train_with_dpo"]

log = logging.getLogger(__name__)

USUAL_RATE = 5e-6  # from which on a LoRA adapter moves in a few hundred steps; rates of 1e-6 are made for whole models


def run_rl_training(
    tasks: Iterable[Mapping[str, Any] | Task],
    agents: NPC | Iterable[NPC],
    reward_fn: RewardFn,
    config: RLConfig | None = None,
    *,
    settings: Settings | None = None,
    on_step: Progress | None = None,
) -> str:
    """Collect traces, make pairs, train; returns the adapter's folder. Raises what `collect_traces` and `train_with_dpo` raise."""
    config = config or RLConfig()
    prepare_folder(config.training().output_dir)
    return train_with_dpo(collect_traces(tasks, agents, reward_fn, config, settings=settings), config, on_step=on_step)


def train_with_dpo(traces: Iterable[Mapping[str, Any] | Record], config: RLConfig | None = None, *, on_step: Progress | None = None) -> str:
    """Train an adapter to prefer the better answers; returns its folder. Raises TrainingError when no pair can be made, and says why."""
    config = config or RLConfig()
    made = pair_traces(traces, config)
    log.info("%s", made)
    training = config.training()
    if training.learning_rate < USUAL_RATE:
        log.warning("a learning rate of %g hardly moves an adapter: 5e-6 to 2e-5 are usual", training.learning_rate)
    metrics = train_dpo(made.pairs, training, sft_weight=config.sft_weight, on_step=on_step)
    register(
        training.output_dir,
        domain=None,
        trainer="dpo",
        trace_ids=[i for pair in made.pairs for i in pair.trace_ids],
        settings={**config.as_dict(), "adapter_path": str(training.output_dir), "log_dir": str(config.log_dir)},
        metrics=metrics,
        device=config.device,
    )
    return str(training.output_dir)


def load_rl_model(base_model_id: str, adapter_path: str | Path, merge_adapter: bool = True, *, device: str = "auto") -> tuple[Any, Any]:
    """(model, tokenizer) in evaluation mode, the adapter folded into its base or laid over it.

    Raises AdapterError when there is no adapter in safetensors there, when it is damaged, or when it was trained on other weights.
    """
    folder = Path(adapter_path).expanduser()
    if not (folder / "adapter_config.json").is_file() or not (folder / WEIGHTS).is_file():
        raise AdapterError(f"{folder} holds no adapter ({WEIGHTS} beside adapter_config.json): give the folder that training returned")
    base = base_of(str(Path(base_model_id).expanduser()) if base_model_id.startswith("~") else base_model_id)
    model = load_base(base, device)
    if not (folder / MANIFEST).is_file():
        log.warning("%s has no %s: that it was trained on %s can't be checked", folder, MANIFEST, base_model_id)
    elif (manifest := read_manifest(folder)).base_sha256 not in ("", base_sha256(base)):
        raise AdapterError(f"{folder} was trained on {manifest.base}, and {base_model_id} has other weights: give it its own base")
    if merge_adapter:
        return with_adapter(model, str(folder)), load_tokenizer(str(folder))
    return _laid_over(model, folder), load_tokenizer(str(folder))


def _laid_over(model: Any, folder: Path) -> Any:
    from peft import PeftModel

    try:
        return PeftModel.from_pretrained(model, str(folder)).eval()
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise AdapterError(f"can't lay the adapter {folder} over its base: {str(error).partition(chr(10))[0]}") from error
