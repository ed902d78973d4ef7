import asyncio

import pytest

from core.config import Settings
from core.errors import ConfigError, ProviderError
from core.providers import connect, parse_model
from core.providers.scripted import ScriptedModel
from core.types import Message, Model, Request, Sampling

ASK = Request((Message("user", "Solve 2+2"),))


def ask(model, request=ASK):
    return asyncio.run(model.complete(request))


def texts(reply):
    return [completion.text for completion in reply.completions]


def test_a_list_is_handed_out_in_order_over_samples_and_requests():
    model = ScriptedModel(["one", "two", "three"])

    assert texts(ask(model, ASK.replace(n=2))) == ["one", "two"]
    assert texts(ask(model)) == ["three"]


def test_a_list_that_has_run_out_says_how_long_it_was():
    model = ScriptedModel(["one"])
    ask(model)

    with pytest.raises(ProviderError, match="has 1 replies and was asked for one more"):
        ask(model)


def test_a_function_is_given_the_request_and_the_sample():
    model = ScriptedModel(lambda request, index: f"{request.messages[-1].content}: {index}")

    assert texts(ask(model, ASK.replace(n=3))) == ["Solve 2+2: 0", "Solve 2+2: 1", "Solve 2+2: 2"]


def test_a_reply_ends_with_its_first_stop_string():
    model = ScriptedModel(["1 + 1 = 2\nAnswer: 2", "Answer: 2"])
    request = ASK.replace(n=2, sampling=Sampling(stop=("Answer", "\n")))

    cut, other = ask(model, request).completions

    assert (cut.text, cut.finish) == ("1 + 1 = 2\n", "stop")
    assert (other.text, other.finish) == ("Answer", "stop")


def test_a_reply_without_a_stop_string_ends_the_turn():
    assert ask(ScriptedModel(["4"])).completions[0].finish == "end"


def test_requests_are_kept_and_words_are_counted():
    model = ScriptedModel(["the answer is 4", "4"])
    request = ASK.replace(n=2, prefix="let me see")

    usage = ask(model, request).usage

    assert model.requests == [request]
    assert (usage.calls, usage.prompt_tokens, usage.completion_tokens) == (1, 5, 5)


def test_a_script_can_be_a_file(tmp_path):
    script = tmp_path / "script.jsonl"
    script.write_text('"17 * 6 = 102\\nAnswer: 102"\n\n"so"\n', encoding="utf-8")

    model = connect(f"scripted:{script}", Settings(_env_file=None))

    assert isinstance(model, Model)
    assert texts(ask(model, ASK.replace(n=2))) == ["17 * 6 = 102\nAnswer: 102", "so"]
    asyncio.run(model.close())


@pytest.mark.parametrize(("line", "said"), [("{", "line 2 is no JSON"), ("3", "line 2 holds 3")])
def test_a_file_with_a_wrong_line_is_refused_by_its_number(tmp_path, line, said):
    script = tmp_path / "script.jsonl"
    script.write_text(f'"fine"\n{line}\n', encoding="utf-8")

    with pytest.raises(ConfigError, match=said):
        connect(f"scripted:{script}", Settings(_env_file=None))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"can't read the script .*nowhere\.jsonl"):
        connect(f"scripted:{tmp_path / 'nowhere.jsonl'}", Settings(_env_file=None))


@pytest.mark.parametrize(
    ("model", "provider", "name"),
    [
        ("embedded", "embedded", "embedded"),
        (" embedded\n", "embedded", "embedded"),
        ("ollama:qwen3:0.6b", "ollama", "qwen3:0.6b"),
        ("litellm:openai/gpt-4o-mini", "litellm", "openai/gpt-4o-mini"),
        ("local:meta-llama/Llama-3.2-3B-Instruct", "local", "meta-llama/Llama-3.2-3B-Instruct"),
        ("scripted:./script.jsonl", "scripted", "./script.jsonl"),
        ("meta-llama/Llama-3.2-3B-Instruct", "local", "meta-llama/Llama-3.2-3B-Instruct"),
        ("gpt2", "local", "gpt2"),
    ],
)
def test_a_models_name_says_who_provides_it(model, provider, name):
    assert parse_model(model) == (provider, name)


def test_a_directory_that_exists_is_a_local_model(tmp_path, monkeypatch):
    (tmp_path / "a:dapter").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))

    assert parse_model(str(tmp_path)) == ("local", str(tmp_path))
    assert parse_model("./a:dapter") == ("local", "./a:dapter")
    assert parse_model("~/a:dapter") == ("local", f"{tmp_path}/a:dapter")


@pytest.mark.parametrize("path", ["./nowhere", "/nowhere", "~/nowhere", "../nowhere", ".models/nowhere", "a/b/c", "local:./nowhere"])
def test_a_path_to_nowhere_is_refused(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ConfigError, match="there is no model directory"):
        parse_model(path)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("qwen3:0.6b", "no provider 'qwen3' .* ollama:qwen3:0.6b"),
        ("olama:qwen3", "choose one of adapter, embedded, litellm, local, ollama, scripted, slot"),
        ("ollama:", "name is empty"),
        ("", "name is empty"),
        ("embedded:big", "takes no name"),
    ],
)
def test_a_name_that_is_none_is_refused_with_what_to_write(model, said):
    with pytest.raises(ConfigError, match=said):
        parse_model(model)
