import subprocess
import sys

import pytest

from agents import NPC
from core.errors import ConfigError
from core.types import Message

MATHBOT = NPC(name="mathbot", primary_directive="Be concise. Provide only the numeric answer.", model="qwen3:0.6b", provider="ollama")


def npc_file(tmp_path, text):
    path = tmp_path / "mathbot.npc"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_directive_and_the_prompt_make_the_conversation():
    assert MATHBOT.messages("Solve 2+2") == (
        Message("system", "Be concise. Provide only the numeric answer."),
        Message("user", "Solve 2+2"),
    )


@pytest.mark.parametrize(
    ("model", "provider", "spec"),
    [
        ("qwen3:0.6b", "ollama", "ollama:qwen3:0.6b"),
        ("openai/gpt-4o-mini", "litellm", "litellm:openai/gpt-4o-mini"),
        ("ollama:qwen3:0.6b", "ollama", "ollama:qwen3:0.6b"),
        ("embedded", "embedded", "embedded"),
        ("embedded", None, "embedded"),
        ("meta-llama/Llama-3.2-3B-Instruct", "auto", "meta-llama/Llama-3.2-3B-Instruct"),
    ],
)
def test_model_and_provider_make_one_name(model, provider, spec):
    assert NPC("bot", "Answer.", model, provider).model_spec == spec


def test_an_npc_comes_back_from_its_file_as_it_was(tmp_path):
    npc = MATHBOT.replace(primary_directive="Zuerst: rechne.\nDann: prüfe # alles.\n", temperature=0.5, max_tokens=64)

    npc.save(tmp_path / "mathbot.npc")

    assert NPC.load(tmp_path / "mathbot.npc") == npc


def test_what_is_not_set_is_not_written(tmp_path):
    NPC("bot", "Answer.", "embedded").save(tmp_path / "bot.npc")

    assert (tmp_path / "bot.npc").read_text() == "name: bot\nprimary_directive: Answer.\nmodel: embedded\n"


def test_a_file_may_leave_optional_keys_empty(tmp_path):
    path = npc_file(tmp_path, "name: bot\nprimary_directive: Answer.\nmodel: qwen3:0.6b\nprovider:\ntemperature: 1\n")

    assert NPC.load(path) == NPC("bot", "Answer.", "qwen3:0.6b", None, 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: bot\nmodel: embedded\n", "has no primary_directive"),
        ("name: bot\nprimary_directive: Answer.\nmodel: embedded\ntemprature: 1\n", "there is no key 'temprature'"),
        ("name: bot\nprimary_directive: Answer.\nmodel: 3\n", "model is 3 (int); write str"),
        ("name:\nprimary_directive: Answer.\nmodel: embedded\n", "name is None"),
        ("name: bot\nprimary_directive: Answer.\nmodel: embedded\ntemperature: true\n", "temperature is True"),
        ("name: bot\nprimary_directive: Answer.\nmodel: embedded\nmax_tokens: 1.5\n", "max_tokens is 1.5"),
        ("name: bot\nprimary_directive: Answer.\nmodel: embedded\ntemperature: 9\n", "temperature of bot is 9"),
        ("name: bot\nprimary_directive: ' '\nmodel: embedded\n", "primary_directive is empty"),
        ("- a\n- list\n", "holds no keys"),
        ("", "holds no keys"),
        ("name: [unclosed", "is no YAML"),
        ("name: !!python/object/apply:os.getcwd []\n", "is no YAML"),
    ],
)
def test_a_wrong_file_is_refused_by_its_name_and_the_key(tmp_path, text, said):
    with pytest.raises(ConfigError, match=r"mathbot\.npc") as refused:
        NPC.load(npc_file(tmp_path, text))

    assert said in str(refused.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"can't read .*nowhere\.npc"):
        NPC.load(tmp_path / "nowhere.npc")


@pytest.mark.parametrize("wrong", [{"name": ""}, {"model": " "}, {"temperature": -0.1}, {"max_tokens": 0}])
def test_an_npc_that_can_not_work_is_not_made(wrong):
    with pytest.raises(ConfigError):
        MATHBOT.replace(**wrong)


def test_importing_an_npc_loads_no_model_and_no_client():
    heavy = "{'torch', 'transformers', 'litellm', 'ollama', 'yaml', 'pydantic', 'httpx'}"
    code = f"import sys; from agents import NPC; sys.exit(str({heavy} & set(sys.modules)) if {heavy} & set(sys.modules) else 0)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
