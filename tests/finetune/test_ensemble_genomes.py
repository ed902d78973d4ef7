"""Genomes: triggers are whole words, no variation crashes or empties one, and right answers outweigh everything else."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_specialists import gene

from core.errors import TaskError
from core.types import Domain, Task
from finetune.ensemble.operators import MOST_GENES, MOST_TRIGGERS
from finetune.model_ensembler import (
    ModelGene,
    ResponseRouter,
    Triggers,
    create_model_genome,
    crossover_model_genomes,
    evaluate_model_genome,
    is_right,
    mutate_model_genome,
    score,
    task_words,
)

TEXTS = st.text(max_size=12)
GENES = st.builds(
    ModelGene,
    sft_path=st.one_of(st.none(), TEXTS),
    specialization=st.sampled_from(["math", "code", "taxes", "general"]),
    trigger_patterns=st.lists(TEXTS, max_size=20),
    confidence_threshold=st.floats(0, 1),
)
GENOMES = st.lists(GENES, max_size=20)
WORDS = st.one_of(
    st.none(), st.lists(TEXTS, max_size=3), st.dictionaries(st.sampled_from(["math", "general"]), st.lists(TEXTS, max_size=3))
)


@pytest.mark.parametrize(
    ("query", "called"),
    [
        ("a classic problem", []),
        ("my class is broken", [0]),
        ("My CLASS!", [0]),
        ("class_name", [0]),
        ("What is this", [1]),
        ("what  is,this", [1]),
        ("what this is", []),
        ("somewhat is", []),
        ("Use C++ here", [2]),
        ("Use C here", []),
        ("don't know", [3]),
        ("don’t know", [3]),
        ("die STRASSE ist lang", [4]),
        ("over and over again", [5]),
        ("over and over and over again", [5]),
        ("class: what is c++", [0, 1, 2]),
    ],
)
def test_a_trigger_is_a_whole_word_or_several_in_a_row(query: str, called: list[int]):
    triggers = ["class", "what is", "c++", "don't", "straße", "over and over again"]

    assert Triggers()(query, [gene(str(i), trigger) for i, trigger in enumerate(triggers)]) == called


def test_what_holds_no_word_calls_nobody():
    assert Triggers()("anything at all", [gene("a", "", "  ", "\n"), gene("b")]) == []


def test_a_trigger_that_is_added_in_place_is_heard():
    triggers, genome = Triggers(), [gene("a", "one")]

    before = triggers("two", genome)
    genome[0].trigger_patterns.append("two")

    assert (before, triggers("two", genome)) == ([], [0])


@given(st.lists(st.lists(st.sampled_from(["solve", "what is", "c++", "is"]), max_size=3), max_size=5), TEXTS | st.just("what is c++"))
def test_the_table_finds_what_a_search_for_each_trigger_would(patterns: list[list[str]], query: str):
    from finetune.ensemble.triggers import words_of

    said = words_of(query)

    def stands(trigger: str) -> bool:
        row = words_of(trigger)
        return any(said[i : i + len(row)] == row for i in range(len(said)))

    genome = [gene(str(i), *each) for i, each in enumerate(patterns)]
    assert Triggers()(query, genome) == [i for i, each in enumerate(patterns) if any(map(stands, each))]


@given(GENOMES, st.integers(), WORDS)
def test_a_mutation_never_fails_never_empties_a_genome_and_leaves_the_original_alone(genome: list[ModelGene], seed: int, words: Any):
    before = [each.as_dict() for each in genome]

    mutated = mutate_model_genome(genome, random.Random(seed), words=words)

    assert mutated
    assert len(mutated) <= max(MOST_GENES, len(genome))
    assert all(isinstance(each, ModelGene) and 0 <= each.confidence_threshold <= 1 for each in mutated)
    assert all(len(each.trigger_patterns) <= max(MOST_TRIGGERS, *(len(g.trigger_patterns) for g in genome), 1) for each in mutated)
    assert [each.as_dict() for each in genome] == before


@given(GENOMES, GENOMES, st.integers())
def test_a_crossover_never_fails_never_is_empty_and_takes_its_genes_from_the_parents(
    first: list[ModelGene], second: list[ModelGene], seed: int
):
    child = crossover_model_genomes(first, second, random.Random(seed))

    assert child
    assert len(child) <= MOST_GENES
    assert all(each in [*first, *second] for each in child) or not (first or second)


def test_parents_of_one_gene_have_children_of_either_kind():
    a, b = gene("a"), gene("b")

    children = [crossover_model_genomes([a], [b], random.Random(seed)) for seed in range(20)]

    assert [a] in children
    assert [b] in children


def test_every_kind_of_mutation_happens():
    genome = create_model_genome(["math", "code"])
    kinds = set()
    for seed in range(200):
        mutated = mutate_model_genome(genome, random.Random(seed), words=["sum"])
        triggers, before = ([len(each.trigger_patterns) for each in found] for found in (mutated, genome))
        change = (sum(triggers) > sum(before)) - (sum(triggers) < sum(before))
        kinds.add((len(mutated) - len(genome), change if len(mutated) == len(genome) else 0))

    assert kinds == {(0, 0), (0, 1), (0, -1), (-1, 0), (1, 0)}


def test_without_an_rng_pythons_own_generator_decides():
    genome = create_model_genome(["math", "code"])

    def varied() -> list[Any]:
        random.seed(3)
        return [mutate_model_genome(genome), crossover_model_genomes(genome, genome[::-1])]

    assert varied() == varied()


def test_new_triggers_are_words_of_the_tasks_of_their_kind():
    tasks = [Task("Bake 3 loaves of bread", Domain.MATH), Task("Debug the loop, don't ask", Domain.CODE), "Pay the vat"]

    words = task_words(tasks)

    assert words == {"math": ["bake", "bread", "loaves"], "code": ["ask", "debug", "loop"], "general": ["pay", "vat"]}
    for seed in range(100):
        for each in mutate_model_genome([gene("code", "bug")], random.Random(seed), words=words):
            assert set(each.trigger_patterns) <= {"bug", *words["code"]} or each.specialization != "code"


def test_without_tasks_they_are_words_of_the_routing_examples():
    found = {
        trigger
        for seed in range(100)
        for each in mutate_model_genome([gene("logic", "if")], random.Random(seed))
        for trigger in each.trigger_patterns
        if each.specialization == "logic"
    }

    assert len(found) > 10
    assert all(word.isalpha() for word in found)


@pytest.mark.parametrize(
    ("response", "truth", "right"),
    [
        ("4", "4", True),
        ("14", "4", False),
        ("Answer: 14", "4", False),
        ("4 + 10\nAnswer: 14", "4", False),
        ("2 + 2 = 4\nAnswer: 4.0", "4", True),
        ("2 plus 2 equals 4.", "4", True),
        ("It is 4, no, wait, it is 5.", "4", False),
        ("Answer: 0.5", "1/2", True),
        ("Answer: 1,000", "1000", True),
        ("def hello_world():\n    print('hello')", "def hello", True),
        ("Sure:\n```python\ndef hello():\n    pass\n```", "def hello", True),
        ("def goodbye(): pass  # hello", "def hello", False),
        ("def helloworld(): pass", "def hello", False),
        ("The capital is Paris.", "Paris", True),
        ("Answer: paris", "Paris", True),
        ("Comparisons are odious", "Paris", False),
        ("It is not Paris.", "Paris", False),
        ("I thought of Paris.\nAnswer: Lyon", "Paris", False),
        ("", "4", False),
        ("", "Paris", False),
    ],
)
def test_an_answer_is_right_when_it_means_the_known_one(response: str, truth: str, right: bool):
    assert is_right(response, truth) is right


class Scripted:
    """A router that answers from a list: (response, fast, seconds)."""

    def __init__(self, answers: Sequence[tuple[str, bool, float]]) -> None:
        self.answers = iter(answers)

    def route_query(self, query: str, genome: Any) -> Mapping[str, Any]:
        response, fast, seconds = next(self.answers)
        return {"response": response, "used_fast_path": fast, "model_seconds": seconds}


ANSWERS = st.lists(st.tuples(st.sampled_from(["4", "5"]), st.booleans(), st.floats(0, 1e9)), min_size=1, max_size=8)


@given(ANSWERS, ANSWERS)
def test_fitness_is_a_share_and_a_right_answer_more_beats_all_speed(one: list[Any], other: list[Any]):
    n = min(len(one), len(other))
    cases = [{"query": "2+2?", "ground_truth": "4"}] * n

    a, b = (evaluate_model_genome([], cases, Scripted(answers)) for answers in (one, other))

    right_a, right_b = (sum(text == "4" for text, _, _ in answers[:n]) for answers in (one, other))
    assert 0 <= a <= 1
    assert 0 <= b <= 1
    if right_a != right_b:
        assert (a > b) == (right_a > right_b)


def test_between_as_many_right_answers_speed_and_the_fast_path_decide():
    cases = [{"query": "2+2?", "ground_truth": "4"}]

    slow, quick, fast = (
        evaluate_model_genome([], cases, Scripted([answer])) for answer in (("4", False, 9.0), ("4", False, 0.1), ("4", True, 0.1))
    )

    assert slow < quick < fast < 1


def test_a_case_with_a_domain_and_a_task_are_judged_by_the_verifier():
    cases = [{"query": "What is 17*6?", "ground_truth": "102", "domain": "math"}, Task("What is 2+3?", Domain.MATH)]

    with ResponseRouter(system2=lambda query: "Answer: 102" if "17" in query else "2+3 = 5\nAnswer: 5") as router:
        found = score(create_model_genome(["math"]), cases, router)

    assert (found.right, found.n) == (2, 2)


@pytest.mark.parametrize(
    "cases",
    [
        [],
        [{"query": "2+2?"}],
        [{"query": "", "ground_truth": "4"}],
        [{"query": "2+2?", "ground_truth": " "}],
        ["2+2?"],
        [{"query": "2+2?", "ground_truth": "4", "domain": "sums"}],
    ],
)
def test_cases_that_can_not_be_used_are_refused(cases: Any):
    with ResponseRouter(system2=lambda _: "4") as router, pytest.raises(TaskError, match=r"case|domain"):
        evaluate_model_genome(create_model_genome(["math"]), cases, router)
