import pytest
from pydantic import ValidationError

from core.config import Settings
from core.errors import ConfigError
from core.types import Domain, Evidence


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_keywords_come_before_the_environment_and_the_environment_before_the_file(tmp_path, monkeypatch):
    (tmp_path / ".env").write_text("RATCHET_SEED=1\nRATCHET_SEARCH_WIDTH=5\nRATCHET_SEARCH_CALLS=7\nOTHER_PROGRAM=x\n")
    monkeypatch.setenv("RATCHET_SEED", "2")
    monkeypatch.setenv("RATCHET_SEARCH_WIDTH", "6")

    settings = Settings(SEED=3)

    assert (settings.SEED, settings.SEARCH_WIDTH, settings.SEARCH_CALLS, settings.SEARCH_DEPTH) == (3, 6, 7, 16)


def test_a_file_elsewhere_can_be_named(tmp_path):
    (tmp_path / "other.env").write_text("RATCHET_SEED=9\n")

    assert Settings(_env_file=tmp_path / "other.env").SEED == 9


def test_an_unknown_keyword_is_an_error_with_a_suggestion():
    with pytest.raises(ConfigError, match="no setting 'SEARCH_WITH': did you mean SEARCH_WIDTH"):
        Settings(SEARCH_WITH=3)


def test_the_wrong_case_is_an_error_with_a_suggestion():
    with pytest.raises(ConfigError, match="did you mean MATH_WORKER_MODEL"):
        Settings(math_worker_model="embedded")


def test_an_unknown_name_in_the_environment_is_an_error_with_a_suggestion(monkeypatch):
    monkeypatch.setenv("RATCHET_MATH_WORKERMODEL", "x")

    with pytest.raises(ConfigError, match="'RATCHET_MATH_WORKERMODEL': did you mean MATH_WORKER_MODEL"):
        Settings()


def test_an_unknown_name_in_the_file_is_an_error_with_a_suggestion(tmp_path):
    (tmp_path / ".env").write_text("RATCHET_TEMPRATURE=1\n")

    with pytest.raises(ConfigError, match="'RATCHET_TEMPRATURE': did you mean TEMPERATURE"):
        Settings()


def test_a_name_like_no_other_is_told_all_there_are():
    with pytest.raises(ConfigError, match=r"the options are MATH_WORKER_MODEL, .*BATCH_ROWS"):
        Settings(zzz=1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SEARCH_CALLS", 0),
        ("SEARCH_WIDTH", 65),
        ("SEARCH_DEPTH", 0),
        ("SEARCH_EXPLORATION", -0.1),
        ("TEMPERATURE", 2.5),
        ("TEMPERATURE", "hot"),
        ("MAX_TOKENS", 0),
        ("SEED", -1),
        ("CONCURRENCY", 0),
        ("MIN_ROUTING_CONFIDENCE", 1.1),
        ("REQUEST_TIMEOUT", 0),
        ("REQUEST_RETRIES", 11),
        ("DTYPE", "float8"),
        ("THREADS", -1),
        ("BATCH_ROWS", 0),
        ("FALLBACK_DOMAIN", "history"),
        ("VERIFIED_BY", ("refrence",)),
    ],
)
def test_a_value_out_of_range_is_an_error_that_names_the_option_and_the_value(name, value):
    shown = value[0] if isinstance(value, tuple) else value

    with pytest.raises(ConfigError, match=rf"{name}.*\(got {shown!r}\)"):
        Settings(**{name: value})


def test_values_in_the_environment_are_checked_too(monkeypatch):
    monkeypatch.setenv("RATCHET_SEARCH_CALLS", "many")

    with pytest.raises(ConfigError, match=r"SEARCH_CALLS.*\(got 'many'\)"):
        Settings()


def test_kinds_of_evidence_can_be_listed_in_the_environment(monkeypatch):
    monkeypatch.setenv("RATCHET_VERIFIED_BY", '["reference", "judge"]')

    assert Settings().VERIFIED_BY == (Evidence.REFERENCE, Evidence.JUDGE)


def test_deploying_an_adapter_is_a_copy(monkeypatch):
    settings = Settings(SEED=4)

    deployed = settings.with_worker_model(Domain.MATH, "./adapters/v1")

    assert deployed.worker_model(Domain.MATH) == "./adapters/v1"
    assert deployed.worker_model(Domain.CODE) == settings.worker_model(Domain.MATH) == "embedded"
    assert deployed.SEED == 4
    with pytest.raises(ValidationError):
        settings.SEED = 5


def test_a_copy_keeps_its_values_whatever_the_environment_says_now(tmp_path, monkeypatch):
    settings = Settings(SEED=4)
    monkeypatch.setenv("RATCHET_SEARCH_WIDTH", "9")
    (tmp_path / ".env").write_text("RATCHET_SEARCH_CALLS=9\n")

    copy = settings.changed(SEED=5)

    assert (copy.SEED, copy.SEARCH_WIDTH, copy.SEARCH_CALLS) == (5, 4, 24)


def test_changes_are_checked():
    with pytest.raises(ConfigError, match="SEARCH_WIDTH"):
        Settings().changed(SEARCH_WIDTH=0)
    with pytest.raises(ConfigError, match="did you mean SEED"):
        Settings().changed(SED=0)


def test_every_option_says_what_it_does():
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []
