import dataclasses
import json
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import ConfigError, TrainingError
from finetune.evolution.identity import copy_of, key_of
from finetune.ge import Codec, FitnessError, GAConfig, GeneticEvolver, Numbers, codec


@dataclasses.dataclass(frozen=True)
class Point:
    x: float
    tags: tuple[str, ...] = ()


SPACE = Numbers(3, -1, 1)
OPTIONS = [
    {},
    {"islands": 3, "population_size": 18, "migration_every": 2},
    {"memo_size": 5},
    {"memoise": False},
    {"selection": "rank", "elitism_count": 0},
]


def evolution(path=None, resume=False, fitness=sum, **options):
    return GeneticEvolver.over(SPACE, fitness, GAConfig(**{"generations": 10, "seed": 3, **options}), checkpoint=path, resume=resume)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_run_that_was_interrupted_ends_as_one_that_was_not(tmp_path, options):
    whole = evolution(**options)
    expected = whole.run()

    evolution(tmp_path / "run.jsonl", **options).run(4)
    second = evolution(tmp_path / "run.jsonl", resume=True, **options)
    second.run(3)
    third = evolution(tmp_path / "run.jsonl", resume=True, **options)

    assert third.run() == expected
    assert third.history == whole.history
    assert third.evaluations == whole.evaluations
    assert third.population == whole.population


def test_functions_that_use_pythons_own_generator_resume_exactly_as_well(tmp_path):
    def made(**where):
        functions = (sum, lambda i: [x + random.gauss(0, 0.1) for x in i], lambda a, b: random.choice([a, b]), lambda: [random.random()])
        return GeneticEvolver(*functions, GAConfig(generations=8, seed=1), **where)

    expected = made().run()
    made(checkpoint=tmp_path / "run").run(3)

    assert made(checkpoint=tmp_path / "run", resume=True).run() == expected


def test_a_copy_fn_and_a_key_fn_are_used_after_resuming_as_before(tmp_path):
    def made(**where):
        functions = (lambda i: i[0].x, lambda i: [Point(i[0].x + 1)], lambda a, b: [a[0]], lambda: [Point(random.random())])
        options = {"copy_fn": lambda i: copied.append(i) or list(i), "key_fn": lambda i: i[0].x, "codec": codec(Point)}
        return GeneticEvolver(*functions, GAConfig(generations=6, seed=1), **options, **where)

    copied = []
    expected = made().run()
    whole = len(copied)
    made(checkpoint=tmp_path / "run").run(3)
    copied.clear()

    assert made(checkpoint=tmp_path / "run", resume=True).run() == expected
    assert 0 < len(copied) < whole


def test_a_seed_that_was_drawn_is_kept(tmp_path):
    first = evolution(tmp_path / "run", seed=None)
    first.run(2)

    assert evolution(tmp_path / "run", resume=True, seed=None).seed == first.seed


def test_a_line_that_was_cut_off_is_done_again(tmp_path):
    path = tmp_path / "run"
    evolution(path).run(5)
    path.write_bytes(path.read_bytes()[:-20])

    resumed = evolution(path, resume=True)

    assert len(resumed.history) == 4
    assert resumed.run() == evolution().run()
    assert len(path.read_text().splitlines()) == 11


def test_failures_are_kept_and_tried_again(tmp_path):
    def fitness(individual):
        return math.nan if individual[0] > 0 else sum(individual)

    whole = evolution(fitness=fitness, on_error="worst")
    whole.run()
    evolution(tmp_path / "run", fitness=fitness, on_error="worst").run(5)
    resumed = evolution(tmp_path / "run", resume=True, fitness=fitness, on_error="worst")
    resumed.run()

    assert resumed.failures == whole.failures
    assert resumed.history == whole.history


def test_several_objectives_resume_exactly(tmp_path):
    pytest.importorskip("pymoo")

    def fitness(individual):
        return individual[0], -(individual[0] ** 2) + individual[1]

    whole = evolution(fitness=fitness, selection="nsga2")
    whole.run()
    evolution(tmp_path / "run", fitness=fitness, selection="nsga2").run(5)
    resumed = evolution(tmp_path / "run", resume=True, fitness=fitness, selection="nsga2")
    resumed.run()

    assert resumed.history == whole.history
    assert resumed.front == whole.front


def test_a_run_that_a_failure_stopped_is_resumed(tmp_path):
    def fitness(individual):
        if sum(individual) > 2.2:
            raise OSError("no server")
        return sum(individual)

    with pytest.raises(FitnessError):
        evolution(tmp_path / "run", fitness=fitness, generations=60).run()
    resumed = evolution(tmp_path / "run", resume=True, generations=60)

    assert resumed.run() == evolution(generations=60).run()


def test_a_run_that_is_done_has_nothing_left(tmp_path):
    done = evolution(tmp_path / "run")
    best = done.run()

    again = evolution(tmp_path / "run", resume=True)

    assert again.run() == best
    assert len(again.history) == 10
    assert evolution(tmp_path / "run", resume=True, generations=12).run() == evolution(generations=12).run()


def test_nothing_is_overwritten_unasked(tmp_path):
    evolution(tmp_path / "run").run(1)

    with pytest.raises(ConfigError, match="resume=True"):
        evolution(tmp_path / "run").run(1)


@pytest.mark.parametrize(("change", "said"), [({"mutation_rate": 0.5}, "mutation_rate=0.15"), ({"seed": 4}, "seed=3")])
def test_other_options_would_lead_elsewhere(tmp_path, change, said):
    evolution(tmp_path / "run").run(1)

    with pytest.raises(ConfigError, match=said):
        evolution(tmp_path / "run", resume=True, **change)


def test_resuming_from_nothing_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="no evolution to resume"):
        evolution(tmp_path / "run", resume=True)
    with pytest.raises(ConfigError, match="checkpoint"):
        evolution(resume=True)


@pytest.mark.parametrize(
    "damage", [b"", b"x\n", b"[]\n", b"{}\n", b'{"format": 1, "seed": 1}\n', b"\xff\xfe\n", b'[1]\n{"a": 1}\n', b"[" * 5000 + b"\n"]
)
def test_a_damaged_checkpoint_is_told(tmp_path, damage):
    (tmp_path / "run").write_bytes(damage)

    with pytest.raises((TrainingError, ConfigError), match="run"):
        evolution(tmp_path / "run", resume=True)


@pytest.mark.parametrize("change", [lambda rows: rows.pop(2), lambda rows: rows.pop(1), lambda rows: rows[2]["islands"][0].append(999)])
def test_a_generation_that_is_not_whole_is_told(tmp_path, change):
    path = tmp_path / "run"
    evolution(path).run(4)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    change(rows)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    with pytest.raises(TrainingError, match="not whole"):
        evolution(path, resume=True)


@settings(max_examples=60, deadline=None)
@given(place=st.floats(0, 1), byte=st.integers(0, 255))
def test_a_changed_byte_is_an_error_or_harmless(tmp_path_factory, place, byte):
    path = tmp_path_factory.mktemp("damage") / "run"
    evolution(path).run(2)
    data = bytearray(path.read_bytes())
    data[int(place * (len(data) - 1))] = byte
    path.write_bytes(data)

    try:
        resumed = evolution(path, resume=True)
    except (ConfigError, TrainingError):
        return
    assert len(resumed.history) <= 2


def test_a_checkpoint_is_plain_json(tmp_path):
    evolution(tmp_path / "run").run(2)

    head, *rows = [json.loads(line) for line in (tmp_path / "run").read_text().splitlines()]

    assert head["seed"] == 3
    assert [row["generation"]["generation"] for row in rows] == [0, 1]
    assert len(rows[0]["islands"][0]) == 20


def test_what_json_can_t_hold_is_told_before_anything_is_evaluated(tmp_path):
    asked = []
    made = GeneticEvolver(asked.append, lambda i: i, lambda a, b: a, lambda: Point(1.0), GAConfig(), checkpoint=tmp_path / "run")

    with pytest.raises(ConfigError, match=r"codec=codec\(Point\)"):
        made.run()
    assert asked == []


def test_a_codec_that_loses_something_is_told(tmp_path):
    lossy = Codec(lambda point: [point.x], lambda parts: Point(0.0))
    made = GeneticEvolver(
        lambda p: p.x, lambda i: i, lambda a, b: a, lambda: Point(1.0), GAConfig(), checkpoint=tmp_path / "run", codec=lossy
    )

    with pytest.raises(ConfigError, match="comes back"):
        made.run()


def test_dataclasses_that_were_named_resume(tmp_path):
    def made(**options):
        functions = (lambda p: p.x, lambda p: Point(p.x + 1, ("m",)), lambda a, b: a, lambda: Point(random.random()))
        return GeneticEvolver(*functions, GAConfig(generations=6, seed=1), codec=codec(Point), **options)

    expected = made().run()
    made(checkpoint=tmp_path / "run").run(3)

    assert made(checkpoint=tmp_path / "run", resume=True).run() == expected


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=4)
        | st.frozensets(st.integers() | st.text(), max_size=4)
        | st.builds(Point, st.floats(allow_nan=False), st.lists(st.text()).map(tuple))
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(plain)
def test_what_the_codec_takes_comes_back_the_same(value):
    kept = codec(Point)
    text = json.dumps(kept.encode(value))
    back = kept.decode(json.loads(text))

    assert back == value
    assert key_of(back) == key_of(value)


def test_only_classes_that_were_named_are_built():
    with pytest.raises(ConfigError, match="Point"):
        codec().decode({"$": "Point", "of": {"x": 1}})
    with pytest.raises(ConfigError, match=r"os\.system"):
        codec(Point).decode({"$": "os.system", "of": ["true"]})


@settings(max_examples=150, deadline=None)
@given(plain)
def test_a_copy_is_equal_and_shares_no_list(value):
    copied = copy_of(value)

    assert copied == value
    assert key_of(copied) == key_of(value)
    if isinstance(value, (list, dict)):
        assert copied is not value


@pytest.mark.parametrize(
    ("one", "other"), [(1, 1.0), (1, True), (0.0, -0.0), ([1], (1,)), (Point(1), Point(1.0)), ([Point(1)], [Point(True)])]
)
def test_what_can_be_told_apart_has_another_key(one, other):
    assert key_of(one) != key_of(other)


def test_arrays_have_keys():
    import numpy

    assert key_of(numpy.zeros(3)) == key_of(numpy.zeros(3)) != key_of(numpy.zeros(3, dtype=int))
    assert key_of(numpy.zeros(3)) != key_of(bytes(24))
    assert key_of([numpy.zeros((1, 3))]) != key_of([numpy.zeros((3, 1))])
