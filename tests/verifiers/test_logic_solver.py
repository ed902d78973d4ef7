"""The solver: right against truth tables, the same each time and from every thread, bounded in time and memory."""

from __future__ import annotations

import itertools
import random
from concurrent.futures import ThreadPoolExecutor

import pytest

import core.verifiers.pool
from core.verifiers.logic import process as logic_process
from core.verifiers.logic.formula import parse
from core.verifiers.logic.process import Setting, Solver, satisfiable
from core.verifiers.logic.structure import Structure, holds

LETTERS = "PQRS"
ENDLESS = ("forall x: exists y: L(x, y)", "forall x y z: L(x, y) & L(y, z) -> L(x, z)", "forall x: ~L(x, x)")


def random_formula(rng, depth):
    if not depth or rng.random() < 0.2:
        return rng.choice(LETTERS)
    sign = rng.choice(["~", "&", "|", "->", "<->", "xor"])
    if sign == "~":
        return f"~({random_formula(rng, depth - 1)})"
    return f"({random_formula(rng, depth - 1)}) {sign} ({random_formula(rng, depth - 1)})"


def by_truth_table(formulas, denied):
    worlds = (Structure(statements=dict(zip(LETTERS, row, strict=True))) for row in itertools.product((True, False), repeat=len(LETTERS)))
    return any(all(holds(parse(f), world) for f in formulas) and not holds(parse(denied), world) for world in worlds)


def test_z3_agrees_with_truth_tables():
    rng = random.Random(0)
    for _ in range(120):
        formulas, denied = tuple(random_formula(rng, 3) for _ in range(rng.randint(1, 4))), random_formula(rng, 2)

        found = satisfiable(formulas, denied)

        assert (found.state == "sat") == by_truth_table(formulas, denied), (formulas, denied)


def test_a_clash_names_only_what_clashes():
    found = satisfiable(("P -> Q", "S", "P", "R | S"), "Q")

    assert (found.state, found.core) == ("unsat", (-1, 0, 2))


def test_a_world_is_shown_in_which_the_formulas_hold():
    found = satisfiable(("forall x: A(x) -> B(x)", "B(tom)", "tom != tim"), "A(tom)")

    assert found.state == "sat"
    assert "tom" in found.world["universe"]
    assert ["tom"] in found.world["predicates"]["B"]
    assert ["tom"] not in found.world["predicates"]["A"]


def test_a_closed_world_has_no_other_elements():
    premises = ("forall x: exists y: Likes(x, y)", "forall x: ~Likes(x, x)")

    assert satisfiable(premises, "Likes(ann, bob)", Setting(domain=("ann", "bob"))).state == "unsat"
    assert satisfiable(premises, "Likes(ann, bob)").state == "sat"


def test_variables_take_their_values_only():
    setting = Setting(variables=(("a", (1, 2, 5)), ("b", (1, 2, 5))))

    assert satisfiable(("a > b", "b > 1"), None, setting).world["things"] == {"a": 5, "b": 2}
    assert satisfiable(("a = 3",), None, setting).state == "unsat"


def test_what_has_no_end_is_unknown_and_stays_so():
    first, second = satisfiable(ENDLESS), satisfiable(ENDLESS)

    assert first.state == "unknown"
    assert first == second


@pytest.fixture
def solvers():
    made = []

    def make():
        made.append(Solver(1))
        return made[-1]

    yield make
    for solver in made:
        solver.pool.close()


def test_the_same_question_has_the_same_world_whatever_was_asked_before(solvers):
    question = (("P | Q | R", "~P | S", "Q xor R"), None)
    fresh, used = solvers(), solvers()
    for place in range(20):
        used.ask((f"A{place} -> B", "exists x: C(x)"), "B")

    assert used.ask(*question) == fresh.ask(*question)


def test_eight_threads_get_their_own_answers():
    def ask(place):
        entailed = satisfiable((f"P{place} -> Q{place}", f"P{place}"), f"Q{place}").state
        open_one = satisfiable((f"P{place} -> Q{place}", f"Q{place}"), f"P{place}").state
        return entailed, open_one

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(64))) == {("unsat", "sat")}


def test_a_solver_that_dies_is_started_again(solvers):
    solver = solvers()
    assert solver.ask(("P",)).state == "sat"
    [child] = solver.pool.workers()
    child.kill()
    child.wait()

    assert solver.ask(("Q",)).state == "sat"


def test_a_solver_that_hangs_is_killed_at_the_wall(monkeypatch, solvers):
    monkeypatch.setattr(core.verifiers.pool, "STRETCH", 1.0)
    monkeypatch.setattr(logic_process, "WALL", 0.001)
    solver = solvers()

    found = solver.ask(ENDLESS)

    assert (found.state, found.why) == ("unknown", "z3 was stopped after 0.001 s")
    assert not solver.pool.workers()


def test_without_z3_the_reason_says_what_to_install(monkeypatch):
    monkeypatch.setattr(logic_process, "find_spec", lambda name: None)

    assert "pip install" in satisfiable(("P",)).why


@pytest.mark.parametrize("holes", [7, 9])
def test_pigeons_are_decided_or_given_up_but_never_wrong(holes):
    setting = Setting(variables=tuple((f"p{i}", tuple(range(holes))) for i in range(holes + 1)))
    apart = tuple(f"p{i} != p{j}" for i in range(holes + 1) for j in range(i))

    assert satisfiable(apart, None, setting).state in ("unsat", "unknown")
