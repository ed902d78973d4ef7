"""Kahneman-Tversky Optimization (Ethayarajh et al., 2024): answers that are wanted and answers that are not, without pairs.

The loss compares each answer with how far the policy has moved on the whole. That is estimated within a batch, from each prompt beside
the answer of the row before it: so a batch has two rows or more, and neighbours belong to different tasks where that can be had.
"""

from __future__ import annotations

import logging
import random
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from core.errors import TrainingError
from finetune.checkpoints import hash_of
from finetune.data import Opinion, split_rows
from finetune.preference import lean, no_bars, starts_undecided
from finetune.training import Progress, TrainConfig, arguments, assemble, conversation, keep, prepare_folder, run, total_steps

log = logging.getLogger(__name__)


def train_kto(rows: Sequence[Opinion], config: TrainConfig, *, train_split: float = 0.9, on_step: Progress | None = None) -> dict[str, Any]:
    """Train an adapter into `config.output_dir`; returns metrics. The rarer kind of answer weighs more, so that both weigh the same.

    Raises TrainingError when one kind is missing, or when a batch has a single row.
    """
    wanted = sum(row.label for row in rows)
    if not 0 < wanted < len(rows):
        raise TrainingError(
            f"{wanted} answers are wanted and {len(rows) - wanted} are not: KTO needs both, collect verified and failed attempts"
        )
    if config.batch_size < 2:
        raise TrainingError("batch_size is 1: KTO compares the rows of a batch with each other, choose 2 or more")
    prepare_folder(config.output_dir)
    train, held = _split(rows, train_split, config)
    train, left_out = whole_batches(mixed(train, random.Random(config.seed)), config.batch_size)
    if left_out:
        log.warning("1 of %d rows is left out: it would be alone in the last batch", len(train) + 1)
    trainer = kto_trainer(train, held, config)
    metrics = run(trainer, config, len(train), on_step)
    keep(trainer, config.output_dir)
    return {**metrics, "rows": len(train), "held": len(held), "left_out": left_out, "wanted": sum(row.label for row in train)}


def kto_trainer(train: Sequence[Opinion], held: Sequence[Opinion], config: TrainConfig) -> Any:
    """The library's trainer, ready to run, on rows in the order in which they will be trained."""
    from trl import KTOConfig, KTOTrainer

    wanted = sum(row.label for row in train)
    desirable, undesirable = weights(wanted, len(train) - wanted)
    args = arguments(
        config,
        total_steps(len(train), config),
        bool(held),
        KTOConfig,
        beta=config.beta,
        desirable_weight=desirable,
        undesirable_weight=undesirable,
        train_sampling_strategy="sequential",
        precompute_ref_log_probs=True,
        logging_first_step=True,
    )
    examples, compared = ([_example(row) for row in side] for side in (train, held or train[:2]))
    with no_bars():
        trainer = assemble(lean(KTOTrainer), args, examples, compared, config)
    trainer.data_hash = hash_of(examples)
    trainer.add_callback(starts_undecided(None, config.beta))
    return trainer


def weights(wanted: int, unwanted: int) -> tuple[float, float]:
    """(of wanted, of unwanted answers): 1 for the commoner kind, and as much in all for the rarer one (section 4.2 of the paper)."""
    return max(1.0, unwanted / wanted), max(1.0, wanted / unwanted)


def mixed(rows: Sequence[Opinion], rng: random.Random) -> list[Opinion]:
    """In random order, one task after the other and around again: neighbours are of one task only where no other is left."""
    groups: dict[str, list[Opinion]] = defaultdict(list)
    for row in rng.sample(rows, len(rows)):
        groups[row.task_id].append(row)
    turns = sorted(groups.values(), key=len, reverse=True)
    return [group[turn] for turn in range(len(turns[0]) if turns else 0) for group in turns if turn < len(group)]


def whole_batches(rows: Sequence[Opinion], batch_size: int) -> tuple[list[Opinion], int]:
    """(rows, how many were left out): a last batch of one row would be compared with itself. What is left out is of the commoner kind."""
    if len(rows) % batch_size != 1:
        return list(rows), 0
    commoner = 2 * sum(row.label for row in rows) > len(rows)
    last = max(place for place, row in enumerate(rows) if row.label == commoner)
    return [row for place, row in enumerate(rows) if place != last], 1


def _split(rows: Sequence[Opinion], share: float, config: TrainConfig) -> tuple[list[Opinion], list[Opinion]]:
    """By task; all is trained on where the training side would have only one kind, or the other side a single row."""
    train, held = split_rows(rows, share, random.Random(config.seed))
    both = 0 < sum(row.label for row in train) < len(train)
    return (train, held) if both and len(held) > 1 else (list(rows), [])


def _example(row: Opinion) -> dict[str, Any]:
    return {"prompt": conversation(row), "completion": [{"role": "assistant", "content": row.completion}], "label": row.label}
