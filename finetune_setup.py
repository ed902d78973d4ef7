"""Fine-tune workers on their own verified traces: the command line and the functions of the fine-tuning guide.

python finetune_setup.py --model meta-llama/Llama-3.2-3B-Instruct --log-dir ./logs --output-dir ./finetuned_models
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import RatchetError, StoreError, TrainingError
from core.registry import TRAINERS, resolve
from core.types import Domain, Trace

if TYPE_CHECKING:
    from finetune.training import Progress

MODEL = "meta-llama/Llama-3.2-3B-Instruct"
log = logging.getLogger("finetune_setup")


def collect_traces(log_dir: str | Path = "./logs") -> list[Trace]:
    """All traces that an Orchestrator logged there, in a folder or a database's URL. Raises StoreError when there are none."""
    from logs.database import FILE
    from logs.reading import read_traces

    is_url = "://" in str(log_dir)
    traces = list(read_traces(log_dir)) if is_url or (Path(log_dir) / FILE).exists() else []
    if not traces:
        raise StoreError(f"No traces found in {log_dir}: enable logging in the orchestrator before running queries")
    return traces


def filter_high_quality(traces: Iterable[Trace], min_reward: float = 0.7) -> list[Trace]:
    """Verified, complete traces of the training side with at least that reward; what was dropped is logged."""
    from finetune.data import sieve

    kept, funnel = sieve(traces, min_reward)
    log.info("%s", funnel)
    return kept


def prepare_dataset(
    traces: Sequence[Trace], tokenizer: Any = None, domain: str | None = None, train_split: float = 0.9
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(training, evaluation) rows, split by task: `prompt` and `completion` as messages, or as the text that `tokenizer` makes of them."""
    from finetune.data import sft_rows, split_rows
    from finetune.training import conversation

    chosen = [trace for trace in traces if domain is None or trace.domain == domain]
    rows, _ = sft_rows(chosen, random.Random(0))

    def example(row: Any) -> dict[str, Any]:
        turns = {"prompt": conversation(row), "completion": [{"role": "assistant", "content": row.completion}]}
        if tokenizer is None:
            return turns
        prompt = tokenizer.apply_chat_template(turns["prompt"], add_generation_prompt=True, tokenize=False)
        whole = tokenizer.apply_chat_template(turns["prompt"] + turns["completion"], tokenize=False)
        return {"prompt": prompt, "completion": whole[len(prompt) :]}

    train, held = split_rows(rows, train_split, random.Random(0)) if rows else ([], [])
    return [example(row) for row in train], [example(row) for row in held]


def finetune_worker(
    model_name: str = MODEL,
    domain: str | None = None,
    output_dir: str | Path = "./finetuned_models",
    log_dir: str | Path = "./logs",
    min_reward: float = 0.7,
    epochs: float = 3,
    batch_size: int = 4,
    lr: float = 2e-5,
    trainer: str = "sft",
    on_step: Progress | None = None,
    **options: Any,
) -> str:
    """Train an adapter on the good traces in `log_dir`; returns its folder, for `Settings(MATH_WORKER_MODEL=...)`.

    `options` are further fields of `finetune.training.TrainConfig`. Raises TrainingError or StoreError when there is nothing to train on.
    """
    from finetune.data import RECOMMENDED, check_min_reward, sieve
    from finetune.training import TrainConfig, prepare_folder

    check_min_reward(min_reward)
    learn = resolve(TRAINERS, trainer)
    config = TrainConfig(_resolved(model_name), Path(output_dir), epochs, batch_size, lr, **options)
    prepare_folder(config.output_dir)
    traces = collect_traces(log_dir)
    kept, funnel = sieve(traces, min_reward, domain)
    log.info("%s", funnel)
    if not kept:
        raise TrainingError(
            f"Low quality traces: none of the {len(traces)} in {log_dir} may be trained on; most fell at {_strictest(funnel)!r}. "
            "Adjust verification, improve the base model's prompts, or lower min_reward"
        )
    for name, count in _per_domain(kept).items():
        if count < RECOMMENDED:
            log.warning("only %d high-quality traces in %s: %d or more are recommended for each domain", count, name, RECOMMENDED)
    learn(kept, traces, config, domain, min_reward, on_step)
    return str(config.output_dir)


def _resolved(model_name: str) -> str:
    if model_name.startswith((".", "/", "~")) and not Path(model_name).expanduser().is_dir():
        raise TrainingError(f"there is no model directory {model_name}")
    return str(Path(model_name).expanduser()) if model_name.startswith("~") else model_name


def _strictest(funnel: Any) -> str:
    name: str = max(funnel.sieves, key=lambda sieve: sieve.dropped).name
    return name


def _per_domain(traces: Sequence[Trace]) -> dict[str, int]:
    return {d: n for d in Domain if (n := sum(t.domain == d for t in traces))}


def main(argv: Sequence[str] | None = None) -> int:
    """The documented command. Returns 0, or 1 after one line that says what to do."""
    parser = argparse.ArgumentParser(description="Fine-tune a worker on verified, well-rewarded traces.")
    parser.add_argument("--model", default=MODEL, help="hub id, model or adapter directory, or 'embedded' (default: %(default)s)")
    parser.add_argument("--log-dir", default="./logs", help="where the Orchestrator logged (default: %(default)s)")
    parser.add_argument("--output-dir", default="./finetuned_models", help="where the adapter goes (default: %(default)s)")
    parser.add_argument("--epochs", type=float, default=3, help="passes over the data (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=4, help="rows a step and device (default: %(default)s)")
    parser.add_argument("--lr", type=float, default=2e-5, help="learning rate (default: %(default)s; the embedded model needs 2e-3)")
    parser.add_argument("--domain", choices=list(Domain), default=None, help="train on one domain only (default: all)")
    parser.add_argument("--min-reward", type=float, default=0.7, help="lowest reward to train on (default: %(default)s)")
    parser.add_argument("--trainer", choices=sorted(TRAINERS), default="sft", help="how to learn (default: %(default)s)")
    parser.add_argument("--gradient-accumulation-steps", type=int, default=1, help="steps that make one batch (default: %(default)s)")
    parser.add_argument("--max-length", type=int, default=1024, help="most tokens in prompt and answer (default: %(default)s)")
    parser.add_argument("--lora-r", type=int, default=16, help="rank of the adapter (default: %(default)s)")
    parser.add_argument("--lora-alpha", type=int, default=32, help="its scale: alpha / rank (default: %(default)s)")
    parser.add_argument(
        "--target-modules", type=_modules, default="all-linear", help="layers that get an adapter, with commas (default: all)"
    )
    bits = parser.add_mutually_exclusive_group()
    bits.add_argument("--load-in-4bit", action="store_true", help="QLoRA: the base in 4 bits through bitsandbytes")
    bits.add_argument("--load-in-8bit", action="store_true", help="the base in 8 bits through bitsandbytes")
    parser.add_argument(
        "--beta", type=float, default=0.1, help="dpo, kto: hold to the model that training began with (default: %(default)s)"
    )
    parser.add_argument("--num-generations", type=int, default=8, help="grpo: answers to a question (default: %(default)s)")
    parser.add_argument("--max-completion-length", type=int, default=256, help="grpo: most tokens of an answer (default: %(default)s)")
    parser.add_argument("--temperature", type=float, default=1.0, help="grpo: of the answers (default: %(default)s)")
    parser.add_argument("--kl", type=float, default=0.0, help="grpo: weight of the distance to where training began (default: %(default)s)")
    parser.add_argument("--save-steps", type=int, default=0, help="steps between checkpoints (default: one a minute)")
    parser.add_argument("--resume", action="store_true", help="go on from the last whole checkpoint in the output folder")
    parser.add_argument("--seed", type=int, default=0, help="of the split, the order and the adapter's first weights")
    parser.add_argument("--estimate", action="store_true", help="print what memory training would take, and train nothing")
    args = vars(parser.parse_args(argv))
    model = args.pop("model")
    log.setLevel(logging.INFO)
    warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)  # peft's, and nothing that a user could act on
    try:
        if args.pop("estimate"):
            print(_estimate(model, args))
            return 0
        with _progress_bar() as on_step:
            logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)  # where the bar lets lines through
            folder = finetune_worker(model, **args, on_step=on_step)
    except RatchetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; nothing was registered. The traces are as they were; --resume goes on from the last checkpoint", file=sys.stderr)
        return 130
    if not _tells():
        return 0
    option = f"{(args['domain'] or Domain.MATH).upper()}_WORKER_MODEL"
    print(f"adapter in {folder}\nnext: Settings({option}={folder!r}), or compare: ratchet evaluate {model} {folder}")
    return 0


def _modules(text: str) -> str | tuple[str, ...]:
    """ "q_proj,v_proj" as names."""
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise argparse.ArgumentTypeError("name layers, or take all-linear")
    return names[0] if names == ("all-linear",) else names


def _estimate(model: str, args: dict[str, Any]) -> str:
    """The memory that these options would take, beside the guide's table."""
    from finetune.estimate import table
    from finetune.options import TrainConfig

    given = {name: args[name] for name in ("gradient_accumulation_steps", "max_length", "lora_r", "lora_alpha", "target_modules")}
    few = {name: args[name] for name in ("load_in_4bit", "load_in_8bit")}
    return table(TrainConfig(_resolved(model), Path(args["output_dir"]), args["epochs"], args["batch_size"], args["lr"], **given, **few))


def _tells() -> bool:
    """Of the processes that accelerate or torchrun launches, the first speaks."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def _progress_bar() -> Iterator[Progress | None]:
    """What draws the steps, the loss, tokens a second and the time left on a terminal; None where nobody watches."""
    if not sys.stderr.isatty() or not _tells():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("preparing", total=None)

        class Bar:
            """A progress that knows the speed."""

            speed = ""

            def __call__(self, step: int, steps: int, loss: float | None) -> None:
                told = "training" if loss is None else f"training, loss {loss:.3f}"
                progress.update(bar, completed=step, total=steps, description=told + self.speed)

            def pace(self, tokens_per_second: float) -> None:
                self.speed = f", {tokens_per_second:,.0f} tokens/s"

        yield Bar()


if __name__ == "__main__":
    sys.exit(main())
