"""Near-duplicates: the index finds exactly what comparing everything finds. Choosing: each strategy prefers what its name says."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_traces import failed, problems, solved

from core.errors import TrainingError
from core.types import Domain, Split, Task, Trace
from finetune.heldout import ALIKE, HELD_OUT, SAME, HeldOut, question
from finetune.likeness import Near, characters_of, jaccard, loosened
from finetune.mixing import Portion, in_order, shared_out
from finetune.overlap import Shingles, numbered, numbered_characters
from finetune.selection import choose, experiences

words = st.lists(
    st.sampled_from(["the", "a", "price", "of", "hens", "eggs", "12", "13", "what", "is", "total", "farm", "buys", "sells", "and"]),
    min_size=1,
    max_size=9,
)
texts = st.one_of(
    words.map(" ".join),
    st.text(max_size=30),
    st.lists(words, min_size=5, max_size=9).map(lambda many: " ".join(word for each in many for word in each)),
)


@settings(deadline=None, max_examples=150)
@given(st.lists(texts, max_size=12), texts, st.sampled_from([0.5, 0.8, 0.95]))
def test_the_index_finds_what_comparing_all_finds(known: list[str], asked: str, bound: float):
    short = [loosened(t) for t in known if len(loosened(t).split()) < 40]
    query = loosened(asked)
    if len(query.split()) >= 40:
        return

    found = Near(short, bound).near(query)

    first = next((i for i, t in enumerate(short) if jaccard(t, query) >= bound - 1e-9), None)
    assert (found.place if found else None) == first
    assert found is None or found.jaccard == pytest.approx(jaccard(short[found.place], query))


@settings(deadline=None, max_examples=150)
@given(st.lists(st.text(alphabet=st.one_of(st.characters(), st.sampled_from("ab \0\ud800\U0010ffff")), max_size=12), max_size=6))
def test_characters_are_numbered_as_sets_of_them_are(texts: list[str]):
    def sets(made: Shingles) -> list[set[str]]:
        found: list[set[str]] = [set() for _ in texts]
        for number, owner in zip(made.numbers.tolist(), made.owners.tolist(), strict=True):
            assert made.names[number] not in found[owner]
            found[owner].add(made.names[number])
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("finetune.overlap.BLOCK", 10)

        assert sets(numbered_characters(texts)) == sets(numbered(map(characters_of, texts))) == [characters_of(text) for text in texts]


def test_long_texts_are_compared_by_their_words():
    rng = random.Random(0)
    long = [" ".join(rng.choice(["hen", "egg", "price", "total", "farm", str(rng.randint(0, 99))]) for _ in range(120)) for _ in range(5)]
    index = Near(long)

    assert index.near(f"well {long[3]}").place == 3  # type: ignore[union-attr]
    assert index.near(" ".join(reversed(long[3].split()))) is None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("What is 2+2?", "  what is 2+2 ", True),
        ("“Name” it…", "name it", True),
        ("ｗｉｄｅ", "wide", True),
        ("zero\u200bwidth", "zerowidth", True),
        ("17*6+23", "17+6*23", False),
        ("3.5", "35", False),
    ],
)
def test_dress_makes_no_other_text_but_operators_do(one: str, other: str, same: bool):
    assert (loosened(one) == loosened(other)) is same


def test_instances_of_one_template_are_told_apart_by_their_key_and_others_by_their_words():
    known, fresh = (Task(f"A train goes {n} km in 2 hours. How fast is it on average?", Domain.MATH) for n in (60, 61))
    keyed = [task.replace(key=f"train:{n}", family="train") for n, task in enumerate((known, fresh))]

    assert HeldOut([question(known)]).leak_of(question(fresh)).kind == ALIKE  # type: ignore[union-attr]
    assert HeldOut([question(keyed[0])]).leak_of(question(keyed[1])) is None
    assert HeldOut([question(keyed[0])]).leak_of(question(fresh)).kind == ALIKE  # type: ignore[union-attr]
    assert HeldOut([question(keyed[0])]).leak_of(question(keyed[0])).kind == HELD_OUT  # type: ignore[union-attr]
    assert HeldOut([question(keyed[0])]).leak_of(question(keyed[1].replace(prompt=known.prompt))).kind == SAME  # type: ignore[union-attr]


@settings(deadline=None, max_examples=80)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 4)), max_size=30),
    st.floats(0.34, 1),
    st.one_of(st.none(), st.integers(1, 30)),
)
def test_no_domain_has_more_than_its_share(drawn: list[tuple[str, int]], share: float, limit: int | None):
    portions = [Portion(str(i), domain, rows) for i, (domain, rows) in enumerate(drawn)]
    counts: dict[str, int] = {}

    try:
        fate = shared_out(portions, share, None)
    except TrainingError:
        assert len({p.domain for p in portions}) < 3 or share < 0.5
        return
    for portion, fell in zip(portions, fate, strict=True):
        if fell is None:
            counts[portion.domain] = counts.get(portion.domain, 0) + portion.rows
    taken = [p.rows for p, fell in zip(portions, shared_out(portions, share, limit), strict=True) if fell is None]

    assert limit is None or sum(taken) <= limit
    assert share < 1 or "share" not in fate
    assert sorted(in_order(portions, 3)) == list(range(len(portions)))


PROBLEMS = problems(8)


def experience() -> list[Trace]:
    """The first is always solved, the second never, the third half the time; of the rest nothing is known but one pass."""
    first, second, third, *rest = PROBLEMS
    traces = [solved(first, id=f"a{i}") for i in range(6)] + [failed(second, id=f"b{i}", reward=0.0) for i in range(6)]
    traces += [solved(third, id=f"c{i}") for i in range(3)] + [failed(third, id=f"d{i}", reward=0.0) for i in range(3)]
    return traces + [solved(p, steps=("a",) * (9 if p is rest[-1] else 1)) for p in rest]


@pytest.mark.parametrize(("strategy", "best"), [("error", 1), ("uncertainty", 2), ("difficulty", 2), ("complexity", 7)])
def test_each_strategy_puts_first_what_its_name_says(strategy: str, best: int):
    known = experiences([t.replace(steps=t.steps[:1]) if len(t.steps) != 9 else t for t in experience()])

    assert choose(known, 1, strategy) == [PROBLEMS[best].task]


def test_diverse_tasks_are_unlike_each_other():
    alike = [Task(f"What is {i}+{i}, my friend?", Domain.MATH, key=f"k{i}") for i in range(60)]
    other = Task("Write a haiku on autumn leaves", Domain.CREATIVE, key="other1")
    traces = [solved(PROBLEMS[0], id=str(i), task=task, split=Split.TRAIN) for i, task in enumerate([*alike, other])]
    known = experiences(traces)

    assert other in choose(known, 2, "diversity")


@pytest.mark.parametrize("strategy", ["mixed", "diversity", "error", "uncertainty", "complexity", "difficulty"])
def test_a_choice_is_repeatable_has_no_task_twice_and_nothing_held_out(strategy: str):
    held = [solved(p) for p in problems(2, split=Split.GATE)]
    known = experiences([*experience(), *held])

    chosen = choose(known, 6, strategy, random.Random(4))

    assert chosen == choose(known, 6, strategy, random.Random(4))
    assert len({t.id for t in chosen}) == 6
    assert not {t.id for t in chosen} & {t.task.id for t in held}
    assert len(choose(known, 99, strategy)) == len(PROBLEMS)


def test_an_unknown_strategy_is_told_with_those_there_are():
    with pytest.raises(TrainingError, match="choose one of uncertainty"):
        choose([], 3, "hope")
