import copy
import dataclasses
import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.npc import NPC
from core.errors import ConfigError
from finetune.evolution.prompts import bare, sentences
from finetune.ge import Choice, Fields, GAConfig, GeneticEvolver, Items, Number, Numbers, Permutations, Prompts, Strings

STARTING = NPC("math", "Add the numbers. Answer alone.", "embedded")
LINES = ("Add the numbers. Answer alone.", "Work in steps. Check your result. Answer alone.")
SPACES = {
    "number": (Number(-2, 3), lambda x: -2 <= x <= 3),
    "whole number": (Number(1, 4, whole=True), lambda x: type(x) is int and 1 <= x <= 4),
    "number by factors": (Number(1e-5, 1e-1, log=True), lambda x: 1e-5 <= x <= 1e-1),
    "choice": (Choice(["a", "b", "c"]), lambda x: x in ("a", "b", "c")),
    "numbers": (Numbers(5, 0, 1), lambda x: len(x) == 5 and all(0 <= v <= 1 for v in x)),
    "permutation": (Permutations(range(7)), lambda x: sorted(x) == list(range(7))),
    "permutation of one": (Permutations(["x"]), lambda x: x == ["x"]),
    "items": (Items("abc", 2, 4), lambda x: 2 <= len(x) <= 4 and set(x) <= set("abc")),
    "items or none": (Items("abc", 0, 1), lambda x: len(x) <= 1),
    "string": (Strings("xyz", 1, 3), lambda x: 1 <= len(x) <= 3 and set(x) <= set("xyz")),
    "fields": (
        Fields(STARTING, temperature=Number(0, 1.5), max_tokens=Number(8, 64, whole=True), primary_directive=Prompts(LINES)),
        lambda x: x.name == "math" and x.primary_directive and (x.temperature is None or 0 <= x.temperature <= 1.5),
    ),
    "prompt": (Prompts(LINES), lambda x: x and set(sentences(x)) <= {s for line in LINES for s in sentences(line)}),
    "proposed prompt": (Prompts(LINES, lambda prompt: prompt[-9:]), lambda x: x),
}


@pytest.mark.parametrize("name", SPACES)
@settings(max_examples=60, deadline=None)
@given(seed=st.integers())
def test_whatever_comes_out_lies_in_the_space_and_nothing_is_changed(name, seed):
    space, inside = SPACES[name]
    rng = random.Random(seed)
    first, second = space.initialize(rng), space.initialize(rng)
    before = copy.deepcopy((first, second))

    made = [first, second, space.mutate(first, rng), space.crossover(first, second, rng)]
    for _ in range(5):
        made.append(space.mutate(space.crossover(made[-1], made[-2], rng), rng))

    assert all(inside(individual) for individual in made)
    assert (first, second) == before


@pytest.mark.parametrize("name", SPACES)
def test_a_space_goes_straight_into_an_evolution(name):
    evolution = GeneticEvolver.over(SPACES[name][0], lambda i: len(str(i)), GAConfig(6, 5, seed=1, mutation_rate=0.5))

    assert evolution.run() is not None


@pytest.mark.parametrize(
    "name", ["number", "whole number", "number by factors", "choice", "numbers", "permutation", "items", "string", "fields"]
)
def test_mutation_reaches_everything_from_anywhere(name):
    space, _ = SPACES[name]
    rng = random.Random(1)
    individual = space.initialize(rng)
    seen = set()
    for _ in range(300):
        individual = space.mutate(individual, rng)
        seen.add(repr(individual))

    assert len(seen) >= {"whole number": 4, "choice": 3, "string": 30, "items": 60}.get(name, 100)


def test_numbers_by_factors_are_as_often_small_as_large():
    space, rng = Number(1e-4, 1, log=True), random.Random(1)

    small = sum(space.initialize(rng) < 1e-2 for _ in range(2_000))

    assert 900 < small < 1_100


def test_order_crossover_keeps_a_stretch_of_the_first_and_the_order_of_the_second():
    space, rng = Permutations(range(8)), random.Random(1)
    first, second = list(range(8)), [7, 6, 5, 4, 3, 2, 1, 0]

    for _ in range(100):
        child = space.crossover(first, second, rng)
        assert sorted(child) == first
        assert any(
            child[i:j] == first[i:j] and child[:i] + child[j:] == [item for item in second if item not in first[i:j]]
            for i, j in itertools.combinations_with_replacement(range(9), 2)
        )


def test_a_tour_is_shortened():
    towns = {i: (i % 4, i // 4) for i in range(12)}

    def shorter(tour):
        legs = zip(tour, [*tour[1:], tour[0]], strict=True)
        return -sum(((towns[a][0] - towns[b][0]) ** 2 + (towns[a][1] - towns[b][1]) ** 2) ** 0.5 for a, b in legs)

    evolution = GeneticEvolver.over(Permutations(range(12)), shorter, GAConfig(60, 120, mutation_rate=0.4, seed=1))
    evolution.run()

    assert evolution.best_fitness > -13.5
    assert evolution.history[0].best_fitness < -14


def test_a_word_is_found():
    word = "ratchet"

    def alike(text):
        return sum(a == b for a, b in zip(text, word, strict=False)) - abs(len(text) - len(word))

    evolution = GeneticEvolver.over(Strings("acehrt", 3, 10), alike, GAConfig(80, 150, mutation_rate=0.6, seed=1, target=len(word)))

    assert evolution.run() == word


class TestFields:
    def test_about_half_of_the_fields_begin_as_in_the_template(self):
        space, rng = Fields(STARTING, temperature=Number(0, 1), max_tokens=Number(1, 9, whole=True)), random.Random(1)

        drawn = [space.initialize(rng) for _ in range(400)]

        assert 150 < sum(npc.temperature is None for npc in drawn) < 250
        assert 60 < sum(npc == STARTING for npc in drawn) < 140

    def test_a_child_has_each_field_from_its_parents(self):
        space, rng = Fields(STARTING, temperature=Choice([0.1, 0.9]), max_tokens=Choice([1, 2])), random.Random(1)
        first, second = STARTING.replace(temperature=0.1, max_tokens=1), STARTING.replace(temperature=0.9, max_tokens=2)

        children = {(c.temperature, c.max_tokens) for c in (space.crossover(first, second, rng) for _ in range(100))}

        assert children == {(0.1, 1), (0.1, 2), (0.9, 1), (0.9, 2)}

    @pytest.mark.parametrize(
        ("template", "spaces", "said"),
        [
            (STARTING, {"temprature": Number(0, 1)}, "temprature"),
            (STARTING, {}, "no field"),
            ({"a": 1}, {"a": Number(0, 1)}, "no dataclass"),
        ],
    )
    def test_what_can_t_evolve_is_told(self, template, spaces, said):
        with pytest.raises(ConfigError, match=said):
            Fields(template, **spaces)

    def test_any_dataclass_will_do(self):
        @dataclasses.dataclass
        class Genome:
            weights: list
            name: str = "x"

        evolution = GeneticEvolver.over(Fields(Genome([0.5] * 3), weights=Numbers(3, 0, 1)), lambda g: sum(g.weights), GAConfig(seed=1))

        assert sum(evolution.run().weights) > 2


class TestPrompts:
    def test_the_model_is_asked_to_vary_and_to_join(self):
        asked = []
        space = Prompts(["Add."], lambda prompt: asked.append(prompt) or "Add well.")

        assert space.mutate("Add.", random.Random(1)) == "Add well."
        assert space.crossover("Add.", "Sum up.", random.Random(1)) == "Add well."
        assert "Add." in asked[0]
        assert "Add." in asked[1]
        assert "Sum up." in asked[1]

    def test_requests_differ_so_that_a_greedy_model_proposes_more_than_one_thing(self):
        asked = set()
        space, rng = Prompts(["Add."], lambda prompt: asked.add(prompt) or "x"), random.Random(1)
        for _ in range(60):
            space.mutate("Add.", rng)

        assert len(asked) == len(space.hints)

    @pytest.mark.parametrize("reply", ["", "   ", '""', "x" * 2_001, "<think>hm</think>"])
    def test_a_proposal_that_is_no_prompt_is_not_taken(self, reply):
        space = Prompts(["Add."], lambda prompt: reply)

        assert space.mutate("Add.", random.Random(1)) == "Add."

    @pytest.mark.parametrize(
        ("reply", "text"),
        [
            (' "Add well." ', "Add well."),
            ("```\nAdd well.\n```", "Add well."),
            ("```text\nAdd\nwell.```", "Add\nwell."),
            ("<think>I could\nsay this</think>\n\nAdd well.", "Add well."),
            ('"Add" and "well"', '"Add" and "well"'),
            ("Say {x} and {0}", "Say {x} and {0}"),
        ],
    )
    def test_what_is_around_a_proposal_is_taken_off(self, reply, text):
        assert bare(reply) == text

    def test_braces_in_a_prompt_stay_what_they_are(self):
        space = Prompts(["Fill {in}."], lambda prompt: "kept" if "Fill {in}." in prompt else "lost")

        assert space.mutate("Fill {in}.", random.Random(1)) == "kept"

    def test_what_propose_raises_stops_the_run(self):
        def down(prompt):
            raise OSError("no server")

        with pytest.raises(OSError, match="no server"):
            GeneticEvolver.over(Prompts(["Add."], down), len, GAConfig(seed=1)).run()

    def test_something_other_than_a_text_is_a_mistake(self):
        with pytest.raises(ConfigError, match="NoneType"):
            Prompts(["Add."], lambda prompt: None).mutate("Add.", random.Random(1))

    @settings(max_examples=150, deadline=None)
    @given(reply=st.text(max_size=200), seed=st.integers())
    def test_any_reply_gives_a_prompt(self, reply, seed):
        space = Prompts(["Add."], lambda prompt: reply, max_characters=50)

        text = space.mutate("Add.", random.Random(seed))

        assert 0 < len(text) <= 50


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Number(1, 1), "low below high"),
        (lambda: Number(0, 1, log=True), "above 0"),
        (lambda: Number(0.2, 0.8, whole=True), "no whole number"),
        (lambda: Number(0, 1, sigma=0), "sigma"),
        (lambda: Numbers(0, 0, 1), "length"),
        (lambda: Numbers(3, 2, 1), "low below high"),
        (lambda: Choice([]), "empty"),
        (lambda: Permutations([1, 2, 1]), "twice"),
        (lambda: Items("ab", 3, 2), "least"),
        (lambda: Strings(""), "empty"),
        (lambda: Prompts([]), "seeds"),
        (lambda: Prompts("one prompt"), "seeds"),
        (lambda: Prompts(["x" * 30], max_characters=20), "30 characters"),
    ],
)
def test_a_space_that_can_t_be_is_an_error(make, said):
    with pytest.raises(ConfigError, match=said):
        make()
