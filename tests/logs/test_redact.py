from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_runs import a_run, a_trace
from test_databases import stored

from core.tasks.splits import split_of
from core.types import Domain, NodeRecord, Split, Task, Verdict
from logs.export import export_csv, export_jsonl, export_parquet
from logs.place import place_of
from logs.reading import read_run, read_traces
from logs.redact import FORMS, PERSONAL, Redactor, is_secret_field
from logs.store import TraceStore

HOME = "ghp_" + "a1B2" * 9
PEM = "-----BEGIN RSA PRIVATE KEY-----\n" + "\n".join("MIIEowIBAAKCAQEA" + c * 48 for c in "xyz") + "\n-----END RSA PRIVATE KEY-----"
SECRETS = {
    "anthropic": "sk-ant-api03-" + "Ab1_" * 10,
    "openai": "sk-proj-" + "Zx9" * 16,
    "aws": "AKIAIOSFODNN7EXAMPLE",
    "github": HOME,
    "gitlab": "glpat-" + "x1" * 12,
    "huggingface": "hf_" + "aB" * 17,
    "slack": "xoxb-123456789012-abcdefABCDEF",
    "google": "AIza" + "Sy1" * 11 + "ab",
    "stripe": "sk_live_" + "4eC39HqLyjWDarjtT1zdp7dc",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N",
    "private-key": PEM,
}
NOBODY = Redactor(environment={})


@pytest.mark.parametrize("kind", SECRETS)
def test_a_token_of_a_known_form_gives_way_to_its_kind(kind):
    told = NOBODY.text(f"use {SECRETS[kind]} here, then ({SECRETS[kind]}).")

    assert told == f"use [redacted:{kind}] here, then ([redacted:{kind}])."


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Authorization: Bearer abcdef0123456789abcdef", "Authorization: Bearer [redacted:bearer]"),
        ("postgresql://me:hunter2@db:5432/x", "postgresql://me:[redacted:password]@db:5432/x"),
        ('{"api_key": "0123456789abcdef"}', '{"api_key": "[redacted:assigned]"}'),
        ("export DB_PASSWORD=hunter2hunter2", "export DB_PASSWORD=[redacted:assigned]"),
        ("AWS_SECRET_ACCESS_KEY = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "AWS_SECRET_ACCESS_KEY = [redacted:assigned]"),
        (PEM[:90], "[redacted:private-key]"),
    ],
)
def test_a_secret_is_found_by_what_stands_before_it(text, told):
    assert NOBODY.text(text) == told


@pytest.mark.parametrize(
    "text",
    [
        "token = tokens[i]; key = sorted(d, key=len)",
        "password = input('Password: ')",
        "the task-oriented ask-me-anything-about-everything-please page",
        "see https://example.org:8080/a@b and 1+1=2",
        "api_key = os.environ['OPENAI_API_KEY']",
        "The secret of the key is the token of the password.",
        "call 100000000 or 555 1234, a@b",
    ],
)
def test_ordinary_text_and_code_stay_as_they_are(text):
    assert Redactor(personal=True, environment={}).text(text) == text


def test_the_environments_own_secrets_go_whatever_they_look_like():
    redact = Redactor(environment={"MY_API_KEY": "plain words", "HOME": "/home/user", "SHORT_TOKEN": "abc", "P_PASSWORD": "a b/c d&e"})

    assert redact.text("say plain words in /home/user abc") == "say [redacted:environment] in /home/user abc"
    assert redact.text("?p=a%20b%2Fc%20d%26e") == "?p=[redacted:environment]"


def test_a_secret_that_enters_the_environment_later_is_known_too(tmp_path, monkeypatch):
    with TraceStore(tmp_path) as store:
        monkeypatch.setenv("LATE_SECRET", "correct horse battery")
        store.put(a_run(error="it said correct horse battery"))

    assert read_run(tmp_path, "run-000001").error == "it said [redacted:environment]"


def test_personal_data_goes_when_asked_for():
    text = "write to ann.lee+x@example.co.uk or call +44 20 7946 0958 or (212) 555-0100"

    assert NOBODY.text(text) == text
    assert Redactor(personal=True, environment={}).text(text) == "write to [redacted:email] or call [redacted:phone] or [redacted:phone]"


def test_a_hook_of_the_users_own_is_asked(tmp_path):
    with TraceStore(tmp_path, redact=Redactor(hook=lambda text: text.replace("Project X", "[redacted:project]"))) as store:
        store.put(a_run(error="Project X failed"))

    assert read_run(tmp_path, "run-000001").error == "[redacted:project] failed"


def test_a_hook_that_breaks_costs_the_run_and_leaks_nothing(tmp_path):
    with TraceStore(tmp_path, redact=Redactor(hook=lambda text: 1 / 0)) as store:  # type: ignore[arg-type, return-value]
        store.put(a_run())
        store.close()

        assert store.losses == {"not written": 1}
        assert list(read_traces(tmp_path)) == []


@pytest.mark.parametrize(
    "name", ["api_key", "apiKey", "X-API-Key", "db_password", "Authorization", "githubToken", "client_secret", "DATABASE_URL"]
)
def test_names_of_secrets_are_known_in_any_spelling(name):
    assert is_secret_field(name)


@pytest.mark.parametrize("name", ["key", "tokens", "max_tokens", "answer_key", "keyboard", "token", "secretary", "prompt_tokens"])
def test_names_that_only_look_like_it_are_not(name):
    assert not is_secret_field(name)


@settings(max_examples=150)
@given(
    st.lists(
        st.sampled_from([*SECRETS.values(), "api_key=", "Bearer ", "://a:", "@b", "\n", " ", "x", "1", '"', "sk-", "-----END "])
        | st.text(max_size=5),
        max_size=12,
    )
)
def test_what_was_redacted_stays_as_it_is(parts):
    redact = Redactor(personal=True, environment={"A_SECRET": "redacted", "B_SECRET": "x1x1x1x1"})

    once = redact.text("".join(parts))

    assert redact.text(once) == once


@pytest.mark.parametrize(
    "piece",
    [
        "-----BEGIN PRIVATE KEY-----",
        "eyJ",
        "eyJaaaaaaaaaa.",
        "sk-",
        "://a:",
        "password=",
        "a@",
        "+1 ",
        "xoxb-",
        "555 555 ",
        "bearer ",
        "a.",
    ],
)
def test_no_text_is_hostile(piece):
    text = piece * (1_000_000 // len(piece))

    Redactor(personal=True, environment={}).text(text)


def test_a_run_without_secrets_is_handed_on_as_it_is():
    run = a_run(nodes=20)

    assert NOBODY.run(run) is run


def test_names_of_counts_are_no_reason_to_go_through_every_text_of_a_run():
    used = {"calls": 1, "prompt_tokens": 10, "completion_tokens": 20, "key": None}
    run = a_run(events=({"kind": "tell", "data": {"usage": used, "children": [{"text": "the key: 7 tokens"}]}},))
    run = run.replace(traces=tuple(t.replace(verdict=t.verdict.replace(details={"max_tokens": 5})) for t in run.traces))

    assert NOBODY.run(run) is run
    assert Redactor(personal=True, environment={}).run(run) is run


def test_a_value_is_clean_when_nothing_of_it_would_be_redacted():
    is_clean = NOBODY.clean("log in with password=correct-horse-7", {"api_key": "plain words here"})

    assert is_clean({"usage": {"prompt_tokens": 3, "cost": None}, "children": [{"text": "17*6 = 102", "value": 0.5}]})
    for text in ("say correct-horse-7", "plain words here", f"use {HOME}", f"{'x' * 50} {HOME}"):
        assert not is_clean({"children": [{"text": text}]})
    assert not is_clean({"client_secret": "anything"})


def test_a_secret_found_once_is_gone_from_all_of_a_run():
    bare = "0123456789abcdef"
    run = a_run(task=Task("What does api_key=0123456789abcdef open?", Domain.MATH, metadata={"auth": {"password": "opensesame4ever"}}))
    run = run.replace(
        nodes=(NodeRecord("", f"it is {bare}", 1, 0.0, False), NodeRecord("0", "say opensesame4ever", 1, 0.0, True)),
        traces=(a_trace(task=run.task, text=f"the key is {bare}", steps=("the key is", bare)),),
        error=f"no lock fits {bare}",
    )

    clean = NOBODY.run(run)

    assert bare not in repr(clean)
    assert "opensesame4ever" not in repr(clean)
    assert clean.task.metadata == {"auth": {"password": "[redacted:field]"}}
    assert NOBODY.run(clean) == clean


def test_the_lines_of_a_private_key_are_gone_from_the_steps():
    run = a_run(traces=(a_trace(text=f"here:\n{PEM}\ndone", steps=("here:", *PEM.splitlines(), "done")),))

    assert "MIIE" not in repr(NOBODY.run(run))


@pytest.mark.parametrize("split", Split)
def test_a_key_made_of_a_prompt_loses_the_secret_and_keeps_the_split(tmp_path, split):
    tasks = (Task(f"What does {HOME} open, door {n}?", Domain.MATH) for n in range(1000))
    task = next(task for task in tasks if split_of(task) is split)

    stored(tmp_path, a_run(task=task), NOBODY.run(a_run(2, task=task)))

    found = list(read_traces(tmp_path))
    assert {t.split for t in found} == {split}
    assert len({t.task.id for t in found}) == 1
    assert HOME.casefold() not in f"{found}".casefold()


def test_a_key_of_the_users_own_loses_the_secret_in_small_letters_too():
    task = Task(f"Door of {HOME}?", Domain.MATH, key=f"door:{HOME.lower()}")

    key = NOBODY.run(a_run(task=task)).task.key

    assert key == f"door:[redacted:github] [redacted:split-{split_of(task).value}]"


def test_a_store_told_not_to_redact_keeps_every_word(tmp_path):
    with TraceStore(tmp_path, redact=None) as store:
        store.put(a_run(error=HOME))

    assert read_run(tmp_path, "run-000001").error == HOME


def a_run_full_of(secret: str):
    task = Task(
        f"Q {secret}", Domain.MATH, reference=secret, family=secret, metadata={"a": [secret, {secret: secret}], "password": "x9x9x9x9x9x9"}
    )
    verdict = Verdict("pass", 1.0, f"equals {secret}", details={"seen": secret})  # type: ignore[arg-type]
    traces = tuple(
        a_trace(
            rank=r, task=task, text=f"so {secret}", answer=secret, steps=(secret,), directive=secret, verdict=verdict, model=f"x:{secret}"
        )
        for r in range(2)
    )
    events = ({"kind": "reply", "texts": [secret], "api_key": "x9x9x9x9x9x9"},)
    return a_run(task=task, traces=traces, events=events, error=secret).replace(
        nodes=(NodeRecord("", secret, 1, 0.0, False),), worker=secret
    )


@pytest.mark.parametrize("kind", SECRETS)
def test_a_canary_is_in_no_file_and_no_message(tmp_path, kind, caplog):
    canary = SECRETS[kind]
    line = canary.splitlines()[1] if kind == "private-key" else canary
    caplog.set_level(logging.DEBUG)
    with TraceStore(tmp_path) as store:
        for _ in range(2):  # the second is refused, which is told
            store.put(a_run_full_of(canary))
        with pytest.raises(Exception, match="1 runs could not be written") as told:
            store.flush()
        for export in (export_csv, export_jsonl, export_parquet):
            export(tmp_path)
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert {".sqlite", ".sqlite-wal", ".csv", ".jsonl", ".parquet"} <= {path.suffix for path in files}
        for path in files:
            content = path.read_bytes().lower()
            assert line.lower().encode() not in content, path
            assert b"x9x9x9x9x9x9" not in content, path
    assert line not in caplog.text + str(told.value)
    with closing(sqlite3.connect(place_of(tmp_path).path or Path())) as connection:
        assert connection.execute("SELECT count(*) FROM trace").fetchone() == (2,)


def test_each_form_has_a_hint_in_what_it_finds():
    assert all(hints for _, _, hints in FORMS + PERSONAL)
