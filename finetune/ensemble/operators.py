"""How genomes vary: thresholds, triggers, genes removed and doubled; and how two of them are spliced.

Neither changes what it is given, raises on any genome, or makes an empty one. New triggers are words of the tasks.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from core.routing.train import EXAMPLES
from core.types import Task
from finetune.ensemble.genes import GENERAL, TRIGGERS, Genome, ModelGene, triggers_of

MOST_GENES = 16
MOST_TRIGGERS = 16
LOWEST, HIGHEST = 0.05, 0.99
STEP = 0.1  # standard deviation of a threshold's change
COMMON = 0.2  # share of the questions of other kinds from which on a word tells nothing
WORDS_KEPT = 200  # of each specialization
WORD = re.compile(r"(?<![\w'’])[^\W\d_]{3,24}(?![\w'’])")
Words = Mapping[str, Sequence[str]] | Sequence[str]


def mutate_model_genome(genome: Genome, rng: random.Random | None = None, *, words: Words | None = None) -> list[ModelGene]:
    """A copy with one change: a threshold moved, a trigger added or dropped, a gene removed, or doubled as another specialist.

    `words` are what new triggers are taken from, a list for all or one for each specialization: see `task_words`. Without them they are
    words of the questions that the routing classifier was fitted to. Without `rng` Python's own generator decides.
    """
    draw: Any = rng or random
    genes = list(genome)
    if not genes:
        return [_new_gene(draw)]
    place = draw.randrange(len(genes))
    gene = genes[place]
    ways = ["threshold"]
    ways += ["add"] * (len(gene.trigger_patterns) < MOST_TRIGGERS)
    ways += ["drop"] * (len(gene.trigger_patterns) > 1)
    ways += ["remove"] * (len(genes) > 1)
    ways += ["double"] * (len(genes) < MOST_GENES)
    way = draw.choice(ways)
    if way == "remove":
        del genes[place]
    elif way == "double":
        genes.insert(place + 1, _variant(gene, draw, words))
    else:
        genes[place] = {"threshold": _with_threshold, "add": _with_trigger, "drop": _without_trigger}[way](gene, draw, words)
    return genes


def crossover_model_genomes(first: Genome, second: Genome, rng: random.Random | None = None) -> list[ModelGene]:
    """The genes of the first up to a random point, and those of the second from there on; a gene that would stand twice stands once."""
    draw: Any = rng or random
    longest = max(len(first), len(second))
    if not longest:
        return [_new_gene(draw)]
    point = draw.randint(1, longest - 1) if longest > 1 else draw.randint(0, 1)
    child: list[ModelGene] = []
    for gene in [*first[:point], *second[point:]] or first or second:
        if gene not in child:
            child.append(gene)
    return child[:MOST_GENES]


def task_words(tasks: Iterable[Task | Mapping[str, Any] | str]) -> dict[str, list[str]]:
    """Words that tell tasks of one kind from those of others, the commonest first, by domain. Tasks without one stand under "general".

    A task is a Task, a question, or a test case with `query` and, if known, `domain`.
    """
    counts: dict[str, Counter[str]] = {}
    sizes: Counter[str] = Counter()
    for task in tasks:
        kind, text = _kind_and_text(task)
        sizes[kind] += 1
        counts.setdefault(kind, Counter()).update({word.casefold() for word in WORD.findall(text)})
    found: dict[str, list[str]] = {}
    for kind, count in counts.items():
        others = sum(sizes.values()) - sizes[kind]
        elsewhere: Counter[str] = Counter()
        for other, theirs in counts.items():
            if other != kind:
                elsewhere.update(theirs)
        telling = [word for word in count if not others or elsewhere[word] < COMMON * others]
        found[kind] = sorted(telling, key=lambda word: (-count[word], word))[:WORDS_KEPT]
    return found


@lru_cache(maxsize=1)
def _shipped_words() -> dict[str, list[str]]:
    """Those of the questions that come with the routing classifier."""
    rows = [json.loads(line) for line in EXAMPLES.read_text(encoding="utf-8").splitlines()]
    return task_words(row for row in rows if row["domain"])


def _kind_and_text(task: Task | Mapping[str, Any] | str) -> tuple[str, str]:
    if isinstance(task, str):
        return GENERAL, task
    if isinstance(task, Task):
        return task.domain.value, task.prompt
    return str(task.get("domain") or GENERAL), str(task.get("query", ""))


def _words_for(specialization: str, words: Words | None) -> Sequence[str]:
    """Of the specialist's own kind, of tasks of no kind, else of all."""
    if words is not None and not isinstance(words, Mapping):
        return words
    table = words or _shipped_words()
    return table.get(specialization) or table.get(GENERAL) or [word for each in table.values() for word in each]


def _with_threshold(gene: ModelGene, rng: Any, _: Words | None) -> ModelGene:
    moved = gene.confidence_threshold + rng.gauss(0, STEP)
    return gene.replace(confidence_threshold=round(min(max(moved, LOWEST), HIGHEST), 3))


def _with_trigger(gene: ModelGene, rng: Any, words: Words | None) -> ModelGene:
    """One more, where there is a word that isn't one already."""
    new = [word for word in _words_for(gene.specialization, words) if word.strip() and word not in gene.trigger_patterns]
    return gene.replace(trigger_patterns=[*gene.trigger_patterns, rng.choice(new)]) if new else _with_threshold(gene, rng, words)


def _without_trigger(gene: ModelGene, rng: Any, _: Words | None) -> ModelGene:
    left = list(gene.trigger_patterns)
    del left[rng.randrange(len(left))]
    return gene.replace(trigger_patterns=left)


def _variant(gene: ModelGene, rng: Any, words: Words | None) -> ModelGene:
    """The same model as another specialist, called by what calls that one."""
    others = [name for name in TRIGGERS if name != gene.specialization]
    name = rng.choice(others)
    return _with_threshold(gene.replace(specialization=name, trigger_patterns=triggers_of(name)), rng, words)


def _new_gene(rng: Any) -> ModelGene:
    name = rng.choice(list(TRIGGERS))
    return ModelGene(specialization=name, trigger_patterns=triggers_of(name))
