import copy
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_evolution import crossover, evolver, initialize, mutate

from core.errors import ConfigError
from finetune.ge import FitnessError, GAConfig, GeneticEvolver, Number, Numbers

configs = st.builds(
    dict,
    population_size=st.integers(4, 24),
    mutation_rate=st.floats(0, 1),
    crossover_rate=st.floats(0, 1),
    tournament_size=st.integers(1, 4),
    elitism_count=st.integers(1, 4),
    selection=st.sampled_from(["tournament", "rank"]),
    seed=st.integers(-5, 2**70),
    memoise=st.booleans(),
    on_error=st.just("worst"),
)


class TestInvariants:
    @settings(max_examples=40, deadline=None)
    @given(options=configs, generations=st.integers(1, 8))
    def test_the_best_never_falls_and_is_what_run_returns(self, options, generations):
        evolution = evolver(config=GAConfig(**options))

        best = evolution.run(generations)

        row_by_row = [row.best_fitness for row in evolution.history]
        assert row_by_row == sorted(row_by_row)
        assert sum(best) == evolution.best_fitness == row_by_row[-1]
        assert len(evolution.history) == generations
        assert len(evolution.population) == options["population_size"]

    @settings(max_examples=25, deadline=None)
    @given(options=configs, islands=st.integers(1, 3))
    def test_a_seed_makes_a_run_repeatable(self, options, islands):
        config = GAConfig(**{**options, "population_size": 24, "islands": islands, "migration_every": 2})

        first, second = evolver(config=config), evolver(config=config)

        assert first.run(5) == second.run(5)
        assert first.history == second.history
        assert first.population == second.population

    @settings(max_examples=25, deadline=None)
    @given(options=configs, cut=st.integers(0, 6))
    def test_two_runs_are_one(self, options, cut):
        once, twice = evolver(config=GAConfig(**options)), evolver(config=GAConfig(**options))

        once.run(6)
        twice.run(cut)
        twice.run(6 - cut)

        assert once.history == twice.history
        assert once.best == twice.best

    @settings(max_examples=25, deadline=None)
    @given(options=configs, failing=st.floats(0, 1))
    def test_failures_count_as_worst_and_never_as_best(self, options, failing):
        def fragile(individual):
            if abs(math.sin(individual[0] * 1e6)) < failing:
                raise ArithmeticError("unlucky")
            return sum(individual)

        evolution = evolver(fragile, GAConfig(**options))
        best = evolution.run(4)

        assert (best is None) == (evolution.best_fitness is None)
        if best is not None:
            assert fragile(best) == evolution.best_fitness
        assert sum(row.failed for row in evolution.history) >= len(evolution.failures) * (not options["memoise"])


class TestCopies:
    def test_an_elite_survives_a_mutation_in_place(self):
        seen = []

        def destroy(individual):
            individual[:] = [-100.0] * 6
            return individual

        config = GAConfig(population_size=6, mutation_rate=1, crossover_rate=0, seed=1)
        evolution = GeneticEvolver(sum, destroy, crossover, initialize, config, callbacks=[lambda row: seen.append(row.best_fitness)])
        evolution.run(5)

        assert len(set(seen)) == 1
        assert sum(evolution.best) == seen[0]

    def test_parents_survive_a_crossover_in_place(self):
        def swallow(first, second):
            first[0].append(1)
            second[0].clear()
            return first

        config = GAConfig(population_size=4, tournament_size=2, mutation_rate=0, crossover_rate=1, seed=1)
        evolution = GeneticEvolver(lambda i: -len(i[0]), lambda i: i, swallow, lambda: [[]], config)
        evolution.run(2)

        assert sorted(map(repr, evolution.population)) == ["[[1]]", "[[1]]", "[[]]", "[[]]"]

    def test_a_nested_part_that_a_child_shares_with_its_parent_is_not_shared(self):
        def change(individual):
            individual[0]["x"] -= 1
            return individual

        config = GAConfig(population_size=6, mutation_rate=1, crossover_rate=1, seed=1)
        evolution = GeneticEvolver(lambda i: i[0]["x"], change, lambda a, b: [a[0]], lambda: [{"x": 0}], config)

        assert evolution.run(6) == [{"x": 0}]

    def test_a_fitness_that_changes_its_individual_changes_a_copy(self):
        def sorting(individual):
            individual.sort()
            return individual[0]

        evolution = evolver(sorting, GAConfig(seed=3))
        evolution.run(1)

        assert any(individual != sorted(individual) for individual in evolution.population)

    def test_one_list_handed_out_for_every_individual_is_many_individuals(self):
        shared = [0.0] * 6
        evolution = GeneticEvolver(sum, mutate, crossover, lambda: shared, GAConfig(mutation_rate=1, seed=1))

        evolution.run(5)

        assert shared == [0.0] * 6
        assert evolution.history[-1].distinct > 1

    def test_changing_what_run_returned_changes_nothing(self):
        evolution = evolver(config=GAConfig(seed=1))
        evolution.run(2).clear()
        evolution.population[0].clear()

        assert len(evolution.best) == 6
        assert all(len(individual) == 6 for individual in evolution.population)


class TestRuns:
    def test_run_0_runs_nothing(self):
        def never(*_):
            raise AssertionError("called")

        evolution = GeneticEvolver(never, never, never, never)

        assert evolution.run(0) is None
        assert evolution.history == []
        assert GeneticEvolver(never, never, never, never, GAConfig(generations=0)).run() is None

    def test_the_best_ever_seen_is_returned_even_without_elites(self):
        config = GAConfig(elitism_count=0, mutation_rate=1, seed=2, population_size=8)
        evolution = evolver(config=config)

        best = evolution.run(30)

        assert sum(best) == max(row.best_fitness for row in evolution.history) > evolution.history[-1].worst_fitness

    def test_a_negative_number_of_generations_is_an_error(self):
        with pytest.raises(ConfigError, match="0 or more"):
            evolver().run(-1)

    def test_a_mutation_that_forgets_to_return_is_told(self):
        config = GAConfig(mutation_rate=1)
        with pytest.raises(ConfigError, match="mutate_fn returned None"):
            GeneticEvolver(sum, lambda i: i.reverse(), crossover, initialize, config).run(2)


class TestMemory:
    def test_equal_individuals_are_evaluated_once(self):
        asked = []
        config = GAConfig(population_size=10, generations=20, seed=1)
        space = Numbers(2, 0, 3, whole=True)

        GeneticEvolver.over(space, lambda i: asked.append(tuple(i)) or sum(i), config).run()

        assert len(asked) == len(set(asked)) <= 16

    def test_numbers_that_compare_equal_are_not_always_the_same_individual(self):
        evolution = GeneticEvolver(
            lambda i: len(repr(i)), lambda i: i, lambda a, b: a, iter([1, 1.0, True, 1]).__next__, GAConfig(4, seed=1)
        )
        evolution.run(1)

        assert evolution.evaluations == 3

    def test_without_memory_only_elites_keep_their_fitness(self):
        config = GAConfig(population_size=10, generations=5, mutation_rate=0, crossover_rate=0, memoise=False)
        evolution = evolver(config=config)
        evolution.run()

        assert [row.evaluations for row in evolution.history] == [10, 8, 8, 8, 8]

    def test_a_small_memory_forgets_the_oldest(self):
        config = GAConfig(population_size=10, generations=10, memo_size=1, crossover_rate=1, seed=1)
        space = Numbers(2, 0, 2, whole=True)
        plenty = GeneticEvolver.over(space, sum, config.replace(memo_size=1000))
        little = GeneticEvolver.over(space, sum, config)

        assert plenty.run() == little.run()
        assert plenty.evaluations < little.evaluations

    def test_individuals_that_can_t_be_compared_are_each_evaluated(self):
        class Opaque:
            __hash__ = None

        config = GAConfig(4, crossover_rate=1, seed=1)
        evolution = GeneticEvolver(lambda i: 1.0, lambda i: i, lambda a, b: a, Opaque, config)
        evolution.run(3)

        assert evolution.evaluations == 4 + 2 + 2

    def test_a_clone_of_an_individual_that_failed_is_tried_again(self):
        asked = []
        config = GAConfig(4, 3, crossover_rate=0, mutation_rate=0, elitism_count=0, on_error="worst", seed=1)
        evolution = GeneticEvolver(asked.append, mutate, crossover, lambda: [0.0] * 6, config)
        evolution.run()

        assert len(asked) == 3
        assert [row.evaluations for row in evolution.history] == [1, 1, 1]


class TestFailures:
    @pytest.mark.parametrize(
        ("found", "said"),
        [
            (math.nan, "NaN"),
            (None, "None"),
            ("3", "str"),
            ([], "empty"),
            ([1.0, math.nan], "NaN"),
            (10**400, "no number"),
            (1j, "complex"),
            ({"a": 1}, "dict"),
        ],
    )
    def test_what_is_no_number_stops_the_run_and_is_shown(self, found, said):
        with pytest.raises(FitnessError, match=said) as caught:
            evolver(lambda _: found, GAConfig(seed=1)).run()

        assert len(caught.value.individual) == 6
        assert caught.value.failure.generation == 0

    def test_what_a_fitness_raises_is_the_cause(self):
        with pytest.raises(FitnessError, match="ZeroDivisionError") as caught:
            evolver(lambda i: 1 / 0).run()

        assert isinstance(caught.value.__cause__, ZeroDivisionError)

    def test_by_choice_a_failure_is_the_worst_and_the_run_goes_on(self):
        config = GAConfig(seed=1, on_error="worst", generations=10)
        evolution = evolver(lambda i: math.nan if i[0] > 0 else sum(i), config)
        best = evolution.run()

        assert best[0] <= 0
        assert evolution.failures
        assert all(failure.individual[0] > 0 and failure.reason == "is NaN" for failure in evolution.failures)
        assert all(math.isfinite(row.avg_fitness) for row in evolution.history)

    def test_where_nothing_ever_works_there_is_no_best(self):
        evolution = evolver(lambda i: None, GAConfig(on_error="worst"))

        assert evolution.run(3) is None
        assert evolution.history[-1].failed == 20

    def test_a_run_that_was_stopped_by_a_failure_goes_on_where_it_was(self):
        broken = [True]

        def fitness(individual):
            if broken[0] and sum(individual) > 2:
                raise OSError("no server")
            return sum(individual)

        whole = evolver(config=GAConfig(seed=3, generations=12))
        whole.run()
        evolution = evolver(fitness, GAConfig(seed=3, generations=12))
        with pytest.raises(FitnessError):
            evolution.run()
        broken[0] = False
        evolution.run(12 - len(evolution.history))

        assert evolution.history == whole.history

    def test_plus_infinity_is_a_fitness(self):
        evolution = evolver(lambda i: math.inf, GAConfig(seed=1))
        evolution.run(3)

        assert evolution.best_fitness == math.inf


class TestConfig:
    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"tournament_size": 21}, "tournament_size is 21"),
            ({"elitism_count": 21}, "elitism_count is 21"),
            ({"population_size": 0}, "population_size"),
            ({"population_size": 2.0}, "whole number"),
            ({"population_size": True}, "whole number"),
            ({"generations": -1}, "generations"),
            ({"mutation_rate": 1.5}, "from 0 to 1"),
            ({"crossover_rate": math.nan}, "float"),
            ({"tournament_size": 0}, "1 or more"),
            ({"selection": "roulette"}, "tournament, rank"),
            ({"parallel": "gpu"}, "threads"),
            ({"islands": 21}, "islands"),
            ({"islands": 10}, "tournament_size"),
            ({"islands": 5, "elitism_count": 3, "migrants": 2}, "migrants"),
            ({"max_evaluations": 5}, "max_evaluations"),
            ({"patience": 0}, "patience"),
            ({"memoise": 1}, "bool"),
        ],
    )
    def test_what_can_t_work_is_an_error(self, options, said):
        with pytest.raises(ConfigError, match=said):
            GAConfig(**options)

    def test_a_population_of_elites_is_allowed(self):
        evolution = evolver(config=GAConfig(population_size=3, elitism_count=3, seed=1))
        evolution.run(3)

        assert [row.evaluations for row in evolution.history] == [3, 0, 0]

    def test_a_population_of_one_evolves(self):
        evolution = evolver(config=GAConfig(population_size=1, tournament_size=1, elitism_count=0, mutation_rate=1, seed=1))

        assert evolution.run(5) is not None

    def test_what_is_no_function_is_an_error(self):
        with pytest.raises(ConfigError, match="mutate_fn"):
            GeneticEvolver(sum, None, crossover, initialize)


class TestStopping:
    def test_on_target(self):
        evolution = evolver(config=GAConfig(seed=1, target=2.5, generations=500))
        evolution.run()

        assert evolution.stopped == "target"
        assert evolution.best_fitness >= 2.5
        assert all(row.best_so_far < 2.5 for row in evolution.history[:-1])

    def test_on_stagnation(self):
        evolution = evolver(lambda i: 1.0, GAConfig(patience=4))
        evolution.run()

        assert (evolution.stopped, len(evolution.history)) == ("patience", 5)

    def test_before_the_budget_is_exceeded(self):
        evolution = evolver(config=GAConfig(max_evaluations=50, seed=1))
        evolution.run()

        assert evolution.stopped == "evaluations"
        assert 30 < evolution.evaluations <= 50

    def test_after_so_many_seconds(self):
        evolution = evolver(config=GAConfig(max_seconds=0))
        evolution.run()

        assert (evolution.stopped, len(evolution.history)) == ("seconds", 1)

    def test_when_a_callback_says_so(self):
        rows = []

        def watch(row):
            rows.append(row)
            return row.generation == 3

        evolution = evolver(callbacks=[watch])
        evolution.run()

        assert evolution.stopped == "callback"
        assert rows == evolution.history
        assert len(rows) == 4

    def test_otherwise_when_all_generations_are_done(self):
        evolution = evolver()
        evolution.run(2)

        assert evolution.stopped == "generations"


class TestShowing:
    def test_a_row_is_read_both_ways(self):
        evolution = evolver(config=GAConfig(seed=1))
        evolution.run(1)
        row = evolution.history[0]

        assert row["best_fitness"] == row.best_fitness >= row["avg_fitness"] >= row.worst_fitness
        assert row.std_fitness > 0
        assert dict(row)["evaluations"] == 20

    def test_a_progress_bar_goes_to_stderr(self, capsys):
        evolver(config=GAConfig(progress=True, generations=3)).run()

        said = capsys.readouterr()
        assert said.out == ""
        assert "best" in said.err

    def test_the_history_is_plotted(self, tmp_path):
        evolution = evolver(lambda i: math.nan if i[0] > 0.9 else sum(i), GAConfig(on_error="worst", generations=5))
        evolution.run()

        evolution.plot(tmp_path / "history.png")

        assert (tmp_path / "history.png").read_bytes().startswith(b"\x89PNG")
        with pytest.raises(ConfigError, match="can't write the plot"):
            evolution.plot(tmp_path / "history.nonsense")

    def test_typed_numbers_reach_the_optimum(self):
        evolution = GeneticEvolver.over(Number(-10, 10), lambda x: -abs(x - 3), GAConfig(seed=1, generations=40, mutation_rate=0.5))

        assert abs(evolution.run() - 3) < 0.2
        assert copy.deepcopy(evolution.history) == evolution.history
