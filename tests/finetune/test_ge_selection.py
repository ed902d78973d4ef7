import itertools
import random
from collections import Counter

import pytest

from core.errors import ConfigError
from finetune.evolution.breeding import migrated
from finetune.evolution.records import Evaluated
from finetune.evolution.select import lexicase, parents, rank_weights, tournament_weights
from finetune.ge import GAConfig, GeneticEvolver, Numbers

DRAWS = 40_000


def population(*values):
    return [Evaluated(i, value, i, i) for i, value in enumerate(values)]


def shares(drawn):
    return {i: round(count / len(drawn), 2) for i, count in sorted(Counter(drawn).items())}


class TestTournament:
    @pytest.mark.parametrize(("n", "size"), [(1, 1), (5, 1), (5, 3), (6, 6), (9, 4)])
    def test_chances_are_those_of_all_tournaments_counted_out(self, n, size):
        winners = Counter(min(drawn) for drawn in itertools.combinations(range(n), size))
        total = sum(winners.values())

        cumulative = [sum(winners[r] for r in range(rank + 1)) / total for rank in range(n)]

        assert tournament_weights(n, size) == pytest.approx(cumulative)

    def test_the_fitter_win_more_often_and_a_tournament_of_all_is_won_by_the_best(self):
        members = population(1.0, 3.0, 2.0, 0.0)

        drawn = parents(members, DRAWS, GAConfig(4, tournament_size=2), random.Random(1))
        always = parents(members, 100, GAConfig(4, tournament_size=4), random.Random(1))

        assert shares(drawn) == pytest.approx({0: 1 / 6, 1: 1 / 2, 2: 1 / 3}, abs=0.011)
        assert set(always) == {1}

    def test_on_a_plateau_nobody_is_favoured(self):
        members, config, rng = population(*[1.0] * 4), GAConfig(4, tournament_size=4), random.Random(1)

        drawn = [parents(members, 1, config, rng)[0] for _ in range(4_000)]

        assert all(abs(share - 0.25) < 0.03 for share in shares(drawn).values())


class TestRank:
    def test_the_best_is_drawn_pressure_times_the_average_and_the_spread_of_fitness_is_no_matter(self):
        close, far = population(1.0, 1.001, 1.002, 1.003), population(0.0, 1.0, 10.0, 1e9)
        config = GAConfig(4, selection="rank", rank_pressure=2.0)

        drawn = [shares(parents(members, DRAWS, config, random.Random(1))) for members in (close, far)]

        assert drawn[0] == drawn[1]
        assert drawn[0][3] == pytest.approx(0.5, abs=0.02)

    def test_without_pressure_all_are_alike(self):
        assert rank_weights(4, 1.0) == pytest.approx((1, 2, 3, 4))


class TestLexicase:
    def test_a_specialist_is_chosen_where_an_average_would_not_choose_it(self):
        members = population((1.0, 0.0, 0.0), (0.0, 0.6, 0.6), (0.5, 0.5, 0.5))

        drawn = [lexicase(members, 0.0, random.Random(seed)) for seed in range(3_000)]

        assert shares(drawn) == pytest.approx({0: 1 / 3, 1: 2 / 3}, abs=0.04)

    def test_epsilon_lets_the_nearly_best_pass(self):
        members = population((1.0, 0.0), (0.95, 1.0))

        strict = {lexicase(members, 0.0, random.Random(seed)) for seed in range(50)}
        lenient = {lexicase(members, 0.1, random.Random(seed)) for seed in range(50)}

        assert strict == {0, 1}
        assert lenient == {1}

    def test_failed_ones_are_not_chosen_unless_all_failed(self):
        assert {lexicase(population(None, (0.0,)), 0.0, random.Random(seed)) for seed in range(20)} == {1}
        assert {lexicase(population(None, None), 0.0, random.Random(seed)) for seed in range(20)} == {0, 1}

    def test_it_solves_case_by_case(self):
        wanted = [3, 1, 4, 1, 5]
        config = GAConfig(30, 60, selection="lexicase", mutation_rate=0.7, seed=1, target=1.0)
        evolution = GeneticEvolver.over(
            Numbers(5, 0, 9, whole=True), lambda i: [float(a == b) for a, b in zip(i, wanted, strict=True)], config
        )

        assert evolution.run() == wanted
        assert evolution.history[-1].objectives == (1.0,) * 5

    def test_it_needs_a_sequence_of_always_the_same_length(self):
        config = GAConfig(selection="lexicase")
        with pytest.raises(ConfigError, match="needs a sequence"):
            GeneticEvolver.over(Numbers(3, 0, 1), sum, config).run(1)
        with pytest.raises(ConfigError, match="as many"):
            GeneticEvolver.over(Numbers(3, 0, 1), lambda i: [1.0] * (1 + (i[0] > 0.5)), config).run(1)


def test_a_sequence_counts_as_its_mean_for_the_others():
    evolution = GeneticEvolver.over(Numbers(2, 0, 1), lambda i: (i[0], i[1]), GAConfig(seed=1))
    best = evolution.run(20)

    assert evolution.best_fitness == pytest.approx(sum(best) / 2)
    with pytest.raises(ConfigError, match="earlier on"):
        GeneticEvolver.over(Numbers(2, 0, 1), lambda i: (1.0, 2.0) if i[0] > 0.5 else 1.0, GAConfig(seed=1)).run(1)


class TestIslands:
    def test_the_best_of_each_replace_the_worst_of_the_next(self):
        islands = [population(1.0, 9.0, 2.0), population(5.0, 4.0, 3.0), population(0.0, 0.5, 0.2)]

        scores = [[member.score for member in island] for island in migrated(islands, 1)]

        assert scores == [[0.5, 9.0, 2.0], [9.0, 5.0, 4.0], [5.0, 0.5, 0.2]]

    def test_islands_are_of_nearly_one_size(self):
        assert GAConfig(20, islands=3).island_sizes() == (7, 7, 6)

    def test_without_migration_the_best_of_one_island_never_reaches_another(self):
        def run(migrants):
            config = GAConfig(12, 9, mutation_rate=0, crossover_rate=0, islands=3, migration_every=2, migrants=migrants, seed=2)
            evolution = GeneticEvolver.over(Numbers(1, 0, 1), sum, config)
            evolution.run()
            return evolution.history[-1].distinct

        assert run(0) >= 3
        assert run(1) == 1

    def test_the_best_never_falls_on_islands(self):
        config = GAConfig(18, 20, islands=3, migration_every=3, mutation_rate=0.8, seed=2)
        evolution = GeneticEvolver.over(Numbers(4, 0, 1), sum, config)
        evolution.run()

        best = [row.best_fitness for row in evolution.history]
        assert best == sorted(best)


class TestSeveralObjectives:
    pytest.importorskip("pymoo")

    @staticmethod
    def schaffer(individual):
        """Two parabolas, to be minimised; every x from 0 to 2 is optimal (Schaffer, 1985)."""
        (x,) = individual
        return -(x**2), -((x - 2) ** 2)

    def evolved(self, **options):
        config = GAConfig(**{"population_size": 40, "generations": 40, "selection": "nsga2", "mutation_rate": 0.6, "seed": 1, **options})
        evolution = GeneticEvolver.over(Numbers(1, -20, 20, sigma=0.05), self.schaffer, config)
        evolution.run()
        return evolution

    def test_the_front_covers_what_is_optimal(self):
        front = sorted(individual[0] for individual, _ in self.evolved().front)

        assert len(front) >= 20
        assert -0.05 < front[0] < 0.2
        assert 1.8 < front[-1] < 2.05
        assert max(b - a for a, b in itertools.pairwise(front)) < 0.4

    def test_nobody_on_the_front_is_beaten_by_another(self):
        values = [value for _, value in self.evolved(generations=3).front]

        assert not [a for a in values for b in values if a != b and all(x <= y for x, y in zip(a, b, strict=True))]

    @pytest.mark.parametrize("islands", [1, 2])
    def test_it_is_repeatable_and_the_best_by_the_mean_never_falls(self, islands):
        first, second = (self.evolved(islands=islands, generations=12, migration_every=3) for _ in range(2))

        assert first.history == second.history
        best = [row.best_fitness for row in first.history]
        assert best == sorted(best)
        assert len(first.population) == 40

    def test_failed_ones_are_last(self):
        config = GAConfig(10, 10, selection="nsga2", on_error="worst", seed=1)
        evolution = GeneticEvolver.over(Numbers(1, -20, 20), lambda i: (float("nan"), 0.0) if i[0] < 0 else self.schaffer(i), config)
        evolution.run()

        assert evolution.history[0].failed
        assert not evolution.history[-1].failed
