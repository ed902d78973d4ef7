import pytest

from agents.workers import WORKERS, hire
from core.config import Settings
from core.providers import parse_model
from core.types import Domain


@pytest.mark.parametrize("domain", Domain)
def test_every_domain_has_a_worker_that_knows_how_to_answer(domain):
    worker = hire(domain, Settings(_env_file=None))

    assert worker.name == domain
    assert worker.model_spec == "embedded"
    assert "Work step by step, one step a line" in worker.primary_directive
    assert "a line `Answer: ...`" in worker.primary_directive


def test_the_math_worker_writes_one_checkable_calculation_a_line():
    _, directive = WORKERS[Domain.MATH]

    assert "one calculation a line, written as `a op b = c`" in directive


def test_no_two_workers_share_a_name_or_a_directive():
    assert len({name for name, _ in WORKERS.values()}) == len({directive for _, directive in WORKERS.values()}) == len(Domain)


def test_a_settings_change_gives_one_worker_another_model():
    settings = Settings(_env_file=None).with_worker_model(Domain.CODE, "ollama:qwen3:0.6b")

    assert parse_model(hire(Domain.CODE, settings).model_spec) == ("ollama", "qwen3:0.6b")
    assert hire(Domain.MATH, settings).model == "embedded"
