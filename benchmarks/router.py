"""E3 and E4: what the response router adds to a query; System 1 on models that stay, against loading them each time; three as one batch."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.record import Figure, figure
from finetune.model_ensembler import ModelGene, ResponseRouter

RUNS = 15
GENES, TRIGGERS, QUERIES = 20, 5, 500
TOKENS = 16
DOMAINS = ("math", "logic", "factual")


def measure(ids: Sequence[str]) -> list[Figure]:
    return [*(_overhead("E3") if "E3" in ids else []), *(_models("E4") if "E4" in ids else [])]


def _overhead(id: str) -> list[Figure]:
    """Questions of the routing examples, their words as triggers; System 2 answers at once. Time of this thread alone."""
    from core.routing.train import EXAMPLES, read_examples

    rng = random.Random(0)
    asked = [row.query for row in read_examples(EXAMPLES)]
    queries = rng.sample([query for query in asked if 20 < len(query) < 200], QUERIES)
    words = sorted({word for query in asked for word in query.lower().split() if word.isalpha()})
    genome = [ModelGene(None, None, f"s{i}", ["what is", *rng.sample(words, TRIGGERS - 1)]) for i in range(GENES)]
    patterns = [gene.trigger_patterns for gene in genome]
    with ResponseRouter(system2=lambda _: "4", cache_size=0) as plain, ResponseRouter(system2=lambda _: "4") as keeping:

        def substrings(query: str) -> list[int]:
            small = query.lower()
            return [i for i, each in enumerate(patterns) if any(pattern in small for pattern in each)]

        ours, again = (_microseconds(lambda query, r=r: r.route_query(query, genome), queries) for r in (plain, keeping))
        loop = _microseconds(substrings, queries)
    versus = {"a loop of `in`, no routing": round(median(loop), 2)}
    return [
        figure(id, f"a query through {GENES} genes of {TRIGGERS} triggers", ours, "µs", "at most 15", median(ours) <= 15, versus),
        figure(id, "the same query again, from the cache", again, "µs", "", None, versus),
    ]


def _microseconds(ask: Callable[[str], Any], queries: Sequence[str]) -> list[float]:
    found = []
    for _ in range(RUNS):
        began = time.thread_time()
        for query in queries:
            ask(query)
        found.append((time.thread_time() - began) / len(queries) * 1e6)
    return found


def _models(id: str) -> list[Figure]:
    """Adapters of the embedded model with random weights, which answer much as it does. Turn by turn, so that all meet the same machine."""
    import torch

    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        paths = [_adapter(Path(folder) / domain, seed) for seed, domain in enumerate(DOMAINS)]
        genome = [ModelGene(path, "embedded", domain, ["solve"], 0.0) for path, domain in zip(paths, DOMAINS, strict=True)]
        with ResponseRouter(0.0, 0.0, system2=lambda _: "", cache_size=0, max_tokens=TOKENS) as router:
            query = _fitting(router, genome)
            asked: dict[str, Callable[[], Any]] = {
                "one": lambda: router.route_query(query, genome[:1]),
                "three": lambda: router.route_query(query, genome),
                "one, loaded": lambda: _reloaded(genome[0], query),
                "three, loaded": lambda: [_reloaded(gene, query) for gene in genome],
            }
            seconds: dict[str, list[float]] = {name: [] for name in asked}
            for turn in range(RUNS + 1):
                for name, ask in asked.items():
                    began = time.perf_counter()
                    ask()
                    if turn:
                        seconds[name].append(time.perf_counter() - began)
            loads = router.pool.loads
    one, three = seconds["one"], seconds["three"]
    faster = [b / a for a, b in zip(one, seconds["one, loaded"], strict=True)]
    ratio = [b / a for a, b in zip(one, three, strict=True)]
    told = {"loaded each time": round(median(seconds["one, loaded"]), 4)}
    return [
        figure(id, f"System 1, warm, up to {TOKENS} tokens", one, "s", "no load", loads == len(genome), told),
        figure(id, "System 1 against loading each time", faster, "times", "at least 5", median(faster) >= 5),
        figure(
            id,
            "three genes against one",
            ratio,
            "times",
            "under 1.5",
            median(ratio) < 1.5,
            {"three loads and three answers": round(median(seconds["three, loaded"]) / median(one), 2)},
        ),
    ]


def _fitting(router: ResponseRouter, genome: Sequence[ModelGene]) -> str:
    """A question that all of them answer to the end within the tokens, as long as that gets."""
    from core.registry import SOURCES, resolve

    rng, found = random.Random(0), []
    for _ in range(40):
        query = f"Solve {resolve(SOURCES, 'math')(rng, 1).task.key}"
        answers = router.ask_genes([(place, query) for place in range(len(genome))], genome)
        if all(answer.complete for answer in answers):
            found.append((min(len(answer.text) for answer in answers), query))
    return max(found)[1]


def _reloaded(gene: ModelGene, query: str) -> str:
    """What a router does that keeps nothing: load with transformers and peft, generate."""
    import torch

    from core.providers.loading import load

    model, tokenizer = load(str(gene.sft_path), "cpu")
    turns = [{"role": message.role, "content": message.content} for message in gene.messages(query)]
    ids = torch.tensor([tokenizer.apply_chat_template(turns, add_generation_prompt=True)["input_ids"]])
    with torch.inference_mode():
        written = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=TOKENS, do_sample=False, pad_token_id=tokenizer.pad_token_id
        )
    return str(tokenizer.decode(written[0, ids.shape[1] :]))


def _adapter(folder: Path, seed: int) -> str:
    import torch
    from peft import LoraConfig, get_peft_model

    from core.config import EMBEDDED
    from core.providers.loading import load

    torch.manual_seed(seed)
    model, tokenizer = load(EMBEDDED, "cpu")
    adapted = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM"))
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.002)
    adapted.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    return str(folder)
