"""Direct Preference Optimization (Rafailov et al., 2023) on pairs that share their prompt, from base or on top of an SFT adapter.

What the reference says of each answer is worked out once before the first step, in large batches of like length, and not again at
every step; the loss is the same.
"""

from __future__ import annotations

import math
import os
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

from core.errors import TrainingError
from finetune.checkpoints import hash_of
from finetune.data import Pair, split_rows
from finetune.training import Progress, TrainConfig, arguments, assemble, conversation, keep, prepare_folder, run, total_steps

UNDECIDED = math.log(2)
EXACT, ROUNDED = 1e-3, 5e-2  # how far from it the first loss may be, in 32 bits and in fewer
PAIRS_AT_ONCE = 32
TOKENS_AT_ONCE = 16_384
CHARACTERS_A_TOKEN = 3


def train_dpo(
    pairs: Sequence[Pair],
    config: TrainConfig,
    *,
    train_split: float = 0.9,
    sft_weight: float = 0.0,
    on_step: Progress | None = None,
) -> dict[str, Any]:
    """Train an adapter into `config.output_dir`; returns metrics. The reference is what `config.model` was before.

    Pairs of answers and pairs of steps alike: those of `step_pairs` are whole answers, and what both begin with cancels in the loss.
    `sft_weight` is that of the chosen answer's likelihood beside the preference (RPO, Pang et al., 2024). Raises TrainingError when
    there is nothing to prefer, and when the reference turns out not to be the model that training starts from.
    """
    check_pairs(pairs)
    prepare_folder(config.output_dir)
    train, held = split_rows(pairs, train_split, random.Random(config.seed))
    trainer = dpo_trainer(train, held, config, sft_weight)
    metrics = run(trainer, config, len(train), on_step)
    keep(trainer, config.output_dir)
    return {**metrics, "pairs": len(train), "held": len(held)}


def dpo_trainer(train: Sequence[Pair], held: Sequence[Pair], config: TrainConfig, sft_weight: float = 0.0) -> Any:
    """The library's trainer, ready to run. Without held pairs the first training pair stands in, and is evaluated once at the end."""
    from trl import DPOConfig, DPOTrainer

    loss = {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, sft_weight]} if sft_weight else {}
    args = arguments(
        config,
        total_steps(len(train), config),
        bool(held),
        DPOConfig,
        beta=config.beta,
        precompute_ref_log_probs=True,
        precompute_ref_batch_size=_at_once([*train, *held]),
        logging_first_step=True,
        **loss,
    )
    examples, compared = ([_example(pair) for pair in side] for side in (sorted(train, key=_length), held or train[:1]))
    with no_bars():
        trainer = assemble(lean(DPOTrainer), args, examples, compared, config, sequences=2)
    trainer.data_hash = hash_of([*examples, loss])
    trainer.add_callback(starts_undecided(None if sft_weight else UNDECIDED, config.beta))
    return trainer


def check_pairs(pairs: Sequence[Pair]) -> None:
    """Raises TrainingError when there are too few, or when both sides of one are the same text, which the library takes in silence."""
    if len(pairs) < 2:
        raise TrainingError(f"{len(pairs)} preference pairs: at least two are needed; collect tasks with verified and failed attempts")
    same = [pair for pair in pairs if pair.chosen.split() == pair.rejected.split()]
    if same:
        raise TrainingError(f"{len(same)} of {len(pairs)} pairs prefer a text to itself ({same[0].chosen!r:.60}): leave them out")


def starts_undecided(loss: float | None, beta: float) -> Any:
    """A callback that stops the run after its first step unless the policy was its own reference there.

    The margin of every pair is 0 then, and DPO's loss ln 2. `loss` is checked where it is given; rewards always.
    """
    from transformers import TrainerCallback

    class StartsUndecided(TrainerCallback):  # type: ignore[misc]
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, model: Any = None, **_: Any) -> None:
            if state.global_step != 1 or not logs or "loss" not in logs:
                return
            exact = not (args.bf16 or args.fp16) and str(getattr(model, "dtype", "torch.float32")) == "torch.float32"
            room = EXACT if exact else ROUNDED
            found = {name: logs[name] for name in ("rewards/chosen", "rewards/rejected") if name in logs}
            if loss is not None:
                found["loss"] = logs["loss"] - loss
            off = {name: value for name, value in found.items() if not abs(value) <= max(1.0, beta) * room}
            if off:
                told = ", ".join(f"{name} is off by {value:.4f}" for name, value in off.items())
                raise TrainingError(f"the reference is not the model that training starts from ({told}): report this, with the versions")

    return StartsUndecided()


@cache
def lean(kind: type[Any]) -> type[Any]:
    """A trainer of the library's without what costs time at every step, or tells others of it."""

    class Lean(kind):  # type: ignore[misc]
        def floating_point_ops(self, inputs: Any) -> int:
            """Counting all parameters at every step takes longer than some steps."""
            return 0

        def _send_telemetry(self) -> None:
            """Nothing is sent."""

        def create_model_card(self, *_: Any, **__: Any) -> None:
            """The manifest is the card."""

    Lean.__name__ = Lean.__qualname__ = kind.__name__
    return Lean


@contextmanager
def no_bars() -> Iterator[None]:
    """No progress bars of the library's own: ours is the only one, and nothing is printed where nobody watches."""
    before = os.environ.get("TQDM_DISABLE")
    os.environ["TQDM_DISABLE"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["TQDM_DISABLE"]
        else:
            os.environ["TQDM_DISABLE"] = before


def _at_once(pairs: Sequence[Pair]) -> int:
    """Pairs for one pass without gradients: as many as a step of ordinary size holds."""
    longest = max(len(pair.directive) + len(pair.prompt) + max(len(pair.chosen), len(pair.rejected)) for pair in pairs)
    return max(1, min(PAIRS_AT_ONCE, TOKENS_AT_ONCE // (2 * (1 + longest // CHARACTERS_A_TOKEN))))


def _length(pair: Pair) -> int:
    return len(pair.prompt) + max(len(pair.chosen), len(pair.rejected))


def _example(pair: Pair) -> dict[str, Any]:
    return {
        "prompt": conversation(pair),
        "chosen": [{"role": "assistant", "content": pair.chosen}],
        "rejected": [{"role": "assistant", "content": pair.rejected}],
    }
