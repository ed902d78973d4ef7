"""Make the embedded model from nothing: corpus, tokenizer, training, measurement, card.

    python -m finetune.pretrain --out core/embedded            # about half an hour on one core
    python -m finetune.pretrain --out core/embedded --device cuda

The corpus is generated as it is needed and never repeats. Each problem is written by one of three authors, all of them right: most often
one who blurts out the answer, else one who writes a few steps, else one who writes every step. So the model's first impulse is the
worst way of working that it knows, and there is something for the loop to find out. Blurted answers teach next to nothing, so they are
shown less often than they are written: the loss of an answer's first token, which decides the way of working, is weighted to make up for
it. Tasks of the gate and report splits, and those that the loops collect from, are never shown.

Left out: dropout, evaluation loss, data parallelism. Muon for the hidden matrices, AdamW for the rest.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import math
import os
import random
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.registry import SOURCES, resolve
from core.tasks.problem import Problem, Style
from core.tasks.splits import shown_in_pretraining, split_of
from core.types import Domain, Split
from finetune.card import write_card

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

log = logging.getLogger(__name__)

SPECIALS = ["<|pad|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"]
WORDS = r"\d| ?[A-Za-z]+|\n *|[^\sA-Za-z\d]| "
TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '<|user|>' + message['content'] + '\n' }}"
    "{% elif message['role'] == 'assistant' %}"
    "{{ '<|assistant|>' }}{% generation %}{{ message['content'] + '<|end|>' }}{% endgeneration %}{{ '\n' }}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
DOMAINS = (Domain.MATH, Domain.CODE, Domain.FACTUAL, Domain.LOGIC)
AUTHORS: dict[Style, float] = {"direct": 0.60, "terse": 0.22, "careful": 0.18}
SHOWN: dict[Style, float] = {"direct": 0.25, "terse": 0.41, "careful": 0.34}


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of training: its mix of domains, and a rate that is held at `peak` and then falls in a straight line to `end`."""

    steps: int
    shares: Mapping[Domain, float]
    peak: float
    hold: float
    end: float

    def rate(self, step: int, warmup: int) -> float:
        """The factor on the learning rates at a step of this phase, in [0, 1]."""
        if step < warmup:
            return self.peak * (step + 1) / warmup
        start = self.hold * self.steps
        return self.peak if step < start else self.peak - (self.peak - self.end) * (step - start) / (self.steps - start)


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides the weights, apart from the library versions.

    First mostly math, until steps are more often right than wrong; then mostly the other domains. The rate never falls to nothing, and
    the second phase ends where the first impulse is to blurt: the model is left rough on purpose, so that there is something to learn.
    """

    seed: int = 0
    phases: tuple[Phase, ...] = (
        Phase(3_600, {Domain.MATH: 0.76, Domain.CODE: 0.10, Domain.FACTUAL: 0.08, Domain.LOGIC: 0.06}, 1.0, 1_680 / 3_600, 1_200 / 3_120),
        Phase(900, {Domain.MATH: 0.30, Domain.CODE: 0.15, Domain.FACTUAL: 0.30, Domain.LOGIC: 0.25}, 0.38, 0.0, 0.34),
    )
    batch_tokens: int = 2_600
    muon_lr: float = 0.02
    adam_lr: float = 3e-3
    warmup: int = 50
    vocab: int = 640
    hidden: int = 128
    layers: int = 4
    heads: int = 4
    ffn: int = 384
    positions: int = 512


def problems(rng: random.Random, shares: Mapping[Domain, float]) -> Iterator[tuple[Problem, Style]]:
    """An endless corpus on the pretraining side of the fence."""
    domains, weights = list(shares), list(shares.values())
    sources = {domain: resolve(SOURCES, domain) for domain in domains}
    while True:
        source = sources[rng.choices(domains, weights)[0]]
        problem = source(rng, rng.choice((1, 2, 3, 4)))
        if shown_in_pretraining(problem.task):
            yield problem, rng.choices(list(SHOWN), list(SHOWN.values()))[0]


def make_tokenizer(recipe: Recipe) -> PreTrainedTokenizerFast:
    """Byte-level BPE on a sample of the corpus; every digit is a token of its own."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(WORDS), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.vocab,
        special_tokens=SPECIALS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    stream = problems(random.Random(recipe.seed), recipe.phases[0].shares)
    sample = [text for _, (p, s) in zip(range(20_000), stream, strict=False) for text in (p.task.prompt, p.solution(s))]
    core.train_from_iterator(sample, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<|pad|>",
        eos_token="<|end|>",
        additional_special_tokens=SPECIALS[2:],
        model_max_length=recipe.positions,
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def make_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A Llama of about a million parameters with random weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(recipe.seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden,
        intermediate_size=recipe.ffn,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=recipe.positions,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    return LlamaForCausalLM(config)


def batches(recipe: Recipe, number: int, tokenizer: PreTrainedTokenizerFast) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """(ids, labels, weights) of shape (rows, length), right-padded, about `batch_tokens` tokens; labels only where the author writes."""
    import torch

    rng = random.Random(recipe.seed + 1 + number)
    stream = problems(rng, recipe.phases[number].shares)
    backend = copy.deepcopy(tokenizer.backend_tokenizer)  # its own, because padded calls leave padding switched on
    backend.no_padding()
    end = tokenizer.eos_token_id
    while True:
        drawn = [next(stream) for _ in range(6_000)]
        heads = backend.encode_batch([f"<|user|>{p.task.prompt}\n<|assistant|>" for p, _ in drawn])
        tails = backend.encode_batch([p.solution(s) for p, s in drawn])
        firsts = [AUTHORS[style] / SHOWN[style] for _, style in drawn]
        written = [(h.ids, [*t.ids, end], first) for h, t, first in zip(heads, tails, firsts, strict=True)]
        rows = sorted(written, key=lambda row: len(row[0]) + len(row[1]))
        groups: list[list[tuple[list[int], list[int], float]]] = [[]]
        for row in rows:
            if (len(groups[-1]) + 1) * (len(row[0]) + len(row[1])) > recipe.batch_tokens and groups[-1]:
                groups.append([])
            groups[-1].append(row)
        rng.shuffle(groups)
        for group in groups:
            length = max(len(h) + len(t) for h, t, _ in group)
            ids = torch.full((len(group), length), tokenizer.pad_token_id)
            labels = torch.full((len(group), length), -100)
            weights = torch.ones((len(group), length))
            for i, (h, t, first) in enumerate(group):
                ids[i, : len(h) + len(t)] = torch.tensor(h + t)
                labels[i, len(h) : len(h) + len(t)] = torch.tensor(t)
                weights[i, len(h)] = first
            yield ids, labels, weights


def train(recipe: Recipe, out: Path, device: str, evaluate_every: int, first: int = 0) -> None:
    """Train, log a line every 100 steps to pretrain.jsonl, measure now and then, save in bfloat16; each phase starts from what is saved.

    `first` skips the phases before it, whose weights must be in `out`.
    """
    from transformers import AutoTokenizer

    out.mkdir(parents=True, exist_ok=True)
    if first == 0:
        tokenizer = make_tokenizer(recipe)
        tokenizer.save_pretrained(out)
        model = make_model(recipe, tokenizer)
        save(model, out)
    tokenizer = AutoTokenizer.from_pretrained(out)
    with (out / "pretrain.jsonl").open("a" if first else "w", encoding="utf-8") as journal:
        write = _writer(journal)
        if first == 0:
            write(recipe=asdict(recipe), authors=AUTHORS, shown=SHOWN, parameters=sum(p.numel() for p in model.parameters()))
        for number in range(first, len(recipe.phases)):
            _phase(recipe, number, tokenizer, out, device, evaluate_every, write)
    write_card(out)


def _phase(recipe: Recipe, number: int, tokenizer: Any, out: Path, device: str, evaluate_every: int, write: Any) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from finetune.muon import Muon

    phase = recipe.phases[number]
    model = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32).to(device).train()
    hidden = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    rest = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    optimisers = [Muon(hidden, lr=recipe.muon_lr), torch.optim.AdamW(rest, lr=recipe.adam_lr, betas=(0.9, 0.95), weight_decay=0.0)]
    started, seen, recent = time.monotonic(), 0, []
    stream = batches(recipe, number, tokenizer)
    for step in range(phase.steps):
        for optimiser, lr in zip(optimisers, (recipe.muon_lr, recipe.adam_lr), strict=True):
            for group in optimiser.param_groups:
                group["lr"] = lr * phase.rate(step, recipe.warmup)
        ids, labels, weights = next(stream)
        recent.append(_step(model, ids.to(device), labels.to(device), weights.to(device), optimisers))
        seen += int((ids != tokenizer.pad_token_id).sum())
        last = step + 1 == phase.steps
        if (step + 1) % 100 == 0 or last:
            seconds = round(time.monotonic() - started)
            write(phase=number + 1, step=step + 1, loss=round(math.fsum(recent) / len(recent), 4), tokens=seen, seconds=seconds)
            recent = []
        if (step + 1) % evaluate_every == 0 or last:
            save(model, out)
            write(phase=number + 1, step=step + 1, accuracy=measure(model, tokenizer, tasks_per_level=60))


def _writer(journal: Any) -> Any:
    def write(**line: Any) -> None:
        text = json.dumps(line)
        log.info(text)
        journal.write(text + "\n")
        journal.flush()

    return write


def _step(model: LlamaForCausalLM, ids: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor, optimisers: list[Any]) -> float:
    import torch

    with torch.autocast(ids.device.type, dtype=torch.bfloat16, enabled=ids.device.type == "cuda"):
        hidden = model.model(ids, use_cache=False).last_hidden_state[:, :-1]
        targets = labels[:, 1:]
        written = targets != -100
        logits = model.lm_head(hidden[written])
    losses = torch.nn.functional.cross_entropy(logits.float(), targets[written], reduction="none")
    loss = (losses * weights[:, 1:][written]).mean()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimiser in optimisers:
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    return float(loss.detach())


def save(model: LlamaForCausalLM, out: Path) -> None:
    """Weights in bfloat16 safetensors and the configuration."""
    import torch

    copy.deepcopy(model).to(torch.bfloat16).save_pretrained(out)


def measure(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tasks_per_level: int) -> dict[str, Any]:
    """Greedy accuracy on training-side tasks that pretraining never shows, by domain and level; math also with steps forced."""
    import torch

    rng = random.Random(99)
    model.eval()
    scores: dict[str, Any] = defaultdict(dict)
    for domain in DOMAINS:
        source = resolve(SOURCES, domain)
        for level in (1, 2, 3, 4):
            held: list[Problem] = []
            while len(held) < tasks_per_level:
                problem = source(rng, level)
                if split_of(problem.task) is Split.TRAIN and not shown_in_pretraining(problem.task):
                    held.append(problem)
            for mode in ("free", "steps") if domain is Domain.MATH else ("free",):
                with torch.inference_mode():
                    texts = _greedy(model, tokenizer, held, ban="Answer" if mode == "steps" else None)
                right = sum(_right(text, problem) for text, problem in zip(texts, held, strict=True))
                scores[f"{domain}/{mode}"][level] = round(right / len(held), 3)
    model.train()
    return dict(scores)


def _greedy(model: Any, tokenizer: Any, held: list[Problem], ban: str | None) -> list[str]:
    prompts = [f"<|user|>{p.task.prompt}\n<|assistant|>" for p in held]
    inputs = tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False, return_token_type_ids=False)
    inputs = inputs.to(model.device)
    banned = tokenizer(ban, add_special_tokens=False)["input_ids"][:1] if ban else None
    out = model.generate(**inputs, max_new_tokens=140, do_sample=False, begin_suppress_tokens=banned)
    texts: list[str] = tokenizer.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return texts


def _right(text: str, problem: Problem) -> bool:
    if problem.task.family == "function":
        return text in (problem.solution("direct"), problem.solution("careful"))
    return text.rsplit("Answer: ", 1)[-1].strip() == problem.answer


def main(argv: list[str] | None = None) -> None:
    """The command line: every field of the recipe that one would change is a flag."""
    parser = argparse.ArgumentParser(description="Train the embedded model from scratch.")
    parser.add_argument("--out", type=Path, required=True, help="folder for weights, tokenizer and pretrain.jsonl")
    parser.add_argument("--steps", type=int, help="of each phase, to try things out (default: the recipe's)")
    parser.add_argument(
        "--from-phase", type=int, default=1, help="go on with this phase from the weights in the folder (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=Recipe().seed)
    parser.add_argument("--batch-tokens", type=int, default=Recipe().batch_tokens)
    parser.add_argument("--device", default="cpu", help="cpu, cuda or mps")
    parser.add_argument("--threads", type=int, default=1, help="on a busy machine one is faster than two")
    parser.add_argument("--evaluate-every", type=int, default=600)
    args = parser.parse_args(argv)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    import torch

    torch.set_num_threads(args.threads)
    recipe = Recipe(seed=args.seed, batch_tokens=args.batch_tokens)
    if args.steps:
        recipe = replace(recipe, phases=tuple(replace(phase, steps=args.steps) for phase in recipe.phases))
    train(recipe, args.out, args.device, args.evaluate_every, args.from_phase - 1)


if __name__ == "__main__":
    main()
