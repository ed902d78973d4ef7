"""TRL's trainer for supervised learning, with three things of our own: updates cut to the memory, a lean loss, an exact evaluation.

An update is one batch for the library. Here it goes forward and back in parts that fit the memory, each part's loss divided by the
trained tokens of the whole update, so that the result does not depend on the parts. Out of memory, the parts are halved and the update
begins again. On a CPU TRL's loss computes the logits of all tokens, their entropies and hits too; ours only those of the columns in which
a token is trained. On a GPU TRL's fused kernel stays.
"""

from __future__ import annotations

import inspect
import logging
import time
from contextlib import nullcontext
from functools import cache
from typing import Any

from finetune.order import Order, cut

log = logging.getLogger(__name__)


@cache
def token_trainer() -> type[Any]:
    """The class, made when it is first asked for: importing TRL takes seconds."""
    import torch
    from torch.nn.functional import cross_entropy
    from trl import SFTTrainer

    class TokenTrainer(SFTTrainer):  # type: ignore[misc]
        """Rows come as `input_ids` and `labels`. `micro_tokens` is what goes forward and back at a time, `order` the sampler."""

        micro_tokens: int
        order: Order
        control: Any

        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            return self.order

        def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
            if self._is_sharded():
                return super().training_step(model, inputs, num_items_in_batch)
            inputs = self._prepare_inputs(inputs)
            if not model.training:
                model.train()
            while True:
                try:
                    return self._in_parts(model, inputs, num_items_in_batch)
                except torch.OutOfMemoryError:
                    if not self._can_halve(inputs):
                        raise
                model.zero_grad()
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()

        def _in_parts(self, model: Any, inputs: Any, num_items_in_batch: Any) -> Any:
            parts = list(cut(inputs, self.micro_tokens))
            total: Any = 0
            for number, part in enumerate(parts, 1):
                with nullcontext() if number == len(parts) else self.accelerator.no_sync(model):
                    with self.compute_loss_context_manager():
                        loss = self.compute_loss(model, part, num_items_in_batch=num_items_in_batch)
                    self.accelerator.backward(loss)
                    total = total + loss.detach()
            return total

        def _can_halve(self, inputs: Any) -> bool:
            """Half the parts from now on, if this process is alone and a part has more than a row."""
            rows, width = inputs["input_ids"].shape
            fitted = min(self.micro_tokens, rows * width)
            if self.args.world_size > 1 or rows < 2 or fitted < 2 * width:
                return False
            self.micro_tokens = fitted // 2
            log.warning(
                "out of memory: from now on %d tokens at a time instead of %d; the updates stay the same", self.micro_tokens, fitted
            )
            return True

        def _is_sharded(self) -> bool:
            """Parameters or rows are shared out between processes, which then have to call the model equally often."""
            return bool(self.is_fsdp_enabled or self.is_deepspeed_enabled or self.accelerator.parallelism_config)

        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
            if return_outputs or self._is_sharded() or inputs["input_ids"].device.type == "cuda" or self.aux_loss_enabled:
                return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
            loss, trained = self._summed(model, inputs)
            loss = loss / torch.as_tensor(trained if num_items_in_batch is None else num_items_in_batch).clamp(min=1)
            if self.args.average_tokens_across_devices and num_items_in_batch is not None:
                loss = loss * self.accelerator.num_processes  # DDP averages gradients, and the count is that of all processes
            if model.training:
                mask = inputs.get("attention_mask")
                self._total_train_tokens += int(inputs["input_ids"].numel() if mask is None else mask.sum())
                self._metrics["train"]["num_tokens"] = [self._total_train_tokens]
            return loss

        def _summed(self, model: Any, inputs: Any) -> tuple[Any, Any]:
            """(summed loss of the trained tokens, how many they are)."""
            targets = inputs["labels"][:, 1:]
            columns = (targets != -100).any(0).nonzero()[:, 0]
            kept = {"logits_to_keep": columns} if self._keeps_columns() else {}
            given = {name: values for name, values in inputs.items() if name != "labels"}
            logits = model(**given, **kept, use_cache=False).logits
            if not kept:
                logits = logits[:, columns]
            targets = targets[:, columns]
            return cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="sum"), (targets != -100).sum()

        def _keeps_columns(self) -> bool:
            if not hasattr(self, "_knows_columns"):
                base = self.accelerator.unwrap_model(self.model).get_base_model()
                self._knows_columns = "logits_to_keep" in inspect.signature(type(base).forward).parameters
            return self._knows_columns

        def evaluate(self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval") -> dict[str, float]:
            """The mean loss of a held-out token; the library's mean is one of batches, whichever tokens they have."""
            alone = self.args.world_size == 1 and self.args.device.type != "cuda" and not self.aux_loss_enabled
            if eval_dataset is not None or not alone:
                return super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)  # type: ignore[no-any-return]
            started = time.monotonic()
            self.model.eval()
            loss, tokens = 0.0, 0
            with torch.no_grad(), self.compute_loss_context_manager():
                for batch in self.get_eval_dataloader():
                    for part in cut(self._prepare_inputs(batch), self.micro_tokens):
                        summed, trained = self._summed(self.model, part)
                        loss, tokens = loss + summed.item(), tokens + int(trained)
            metrics = {f"{metric_key_prefix}_loss": loss / max(tokens, 1), f"{metric_key_prefix}_runtime": time.monotonic() - started}
            self.log(metrics)
            self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
            return metrics

        def floating_point_ops(self, inputs: Any) -> int:
            """Counting all parameters at every step takes longer than some steps."""
            return 0

        def _send_telemetry(self) -> None:
            """Nothing is sent."""

        def create_model_card(self, *_: Any, **__: Any) -> None:
            """The manifest is the card."""

    return TokenTrainer


def epochs_of(order: Order) -> Any:
    """The callback that tells the order which epoch begins, also after an interruption."""
    from transformers import TrainerCallback

    class Epochs(TrainerCallback):  # type: ignore[misc]
        """state.epoch is a fraction when a run goes on in the middle of one."""

        def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            order.epoch = int((state.epoch or 0) + 1e-6)

    return Epochs()
