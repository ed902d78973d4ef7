import random
from inspect import signature

import pytest

from core import registry
from core.config import Settings
from core.errors import ConfigError
from core.registry import resolve
from core.search.tree import Child, Plan, Signal, Ticket
from core.tasks.problem import Problem
from core.types import Domain, Outcome, Task, Verdict

TABLES = {name: table for name, table in vars(registry).items() if name.isupper()}
ROWS = [pytest.param(table, name, id=f"{table}-{name}") for table, rows in TABLES.items() for name in rows]
TASK = Task("Solve 17*6+23", Domain.MATH)
# how each seam is called
CALLS = {
    "REASONERS": (Settings(_env_file=None),),
    "SOURCES": (random.Random(0), 1),
    "SPECIALISTS": (Settings(_env_file=None),),
    "STRATEGIES": (Plan(),),
    "PROVIDERS": ("name", Settings(_env_file=None)),
    "STEP_CHECKS": (TASK, "17*6 = 102\n"),
    "STEP_VALUES": (TASK, "17*6 = 102\n"),
    "STORES": ("./logs",),
    "TOOLS": ("17*6+23",),
    "TRAINERS": ([], [], object(), "math", 0.7, None),
    "VERIFIERS": (TASK, "Answer: 125"),
}


@pytest.mark.parametrize(("table", "name"), ROWS)
def test_every_row_can_be_imported_and_is_called_as_its_seam_is(table, name):
    found = resolve(TABLES[table], name)

    signature(found).bind(*CALLS[table])
    assert found.__doc__, f"{table}[{name!r}] has no docstring"


@pytest.mark.parametrize("name", registry.SOURCES)
def test_every_source_makes_a_problem_of_its_domain(name):
    problem = resolve(registry.SOURCES, name)(*CALLS["SOURCES"])

    assert isinstance(problem, Problem)
    assert problem.task.domain in list(Domain)


@pytest.mark.parametrize("name", registry.STRATEGIES)
def test_every_strategy_asks_is_told_and_shows_its_tree(name):
    policy = resolve(registry.STRATEGIES, name)(Plan(calls=1))

    ticket = policy.ask()
    policy.tell(ticket, [Child("wrong", True, 0.0, Outcome.FAIL)])

    assert isinstance(ticket, Ticket)
    assert policy.ask() is Signal.DONE
    assert policy.nodes()[0].path == ""


@pytest.mark.parametrize("name", registry.VERIFIERS)
def test_every_verifier_gives_a_verdict_and_never_passes_an_empty_text(name):
    task = Task("What is it?", Domain(name) if name in list(Domain) else Domain.ANALYSIS)

    for text in ("", "Answer: 125"):
        verdict = resolve(registry.VERIFIERS, name)(task, text)
        assert isinstance(verdict, Verdict)
        assert verdict.outcome is not Outcome.PASS


def test_every_domain_has_a_verifier():
    assert set(registry.VERIFIERS) >= set(Domain)


def test_a_row_may_name_a_file_of_the_users_own(tmp_path):
    (tmp_path / "chemistry.py").write_text("def verify(task, text):\n    'Hydrogen only.'\n    return text\n")

    found = resolve({"chemistry": f"{tmp_path}/chemistry.py:verify"}, "chemistry")

    assert found(None, "H2") == "H2"
    assert resolve({"x": f"{tmp_path}/chemistry.py:verify"}, "x") is found


@pytest.mark.parametrize("row", ["no_such_module:x", "core.types:NoSuchThing", "/no/such/file.py:x", "nothing"])
def test_a_row_that_leads_nowhere_is_told(row):
    with pytest.raises(ConfigError, match=r"'mine' stands for .* which is not there"):
        resolve({"mine": row}, "mine")


def test_a_name_that_is_not_in_the_table_is_told_which_are():
    with pytest.raises(ConfigError, match="there is no 'astar': choose one of beam, best_of_n, lats, levels, self_consistency, single"):
        resolve(registry.STRATEGIES, "astar")
