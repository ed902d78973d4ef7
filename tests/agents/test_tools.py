import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.npc import NPC
from agents.tools import LONGEST, Tools, calculator
from core.errors import ConfigError


def area(width: float, height: float = 1.0) -> float:
    """The area of a rectangle."""
    return width * height


def fails(reason: str) -> str:
    """Raises."""
    raise ValueError(reason)


TOOLS = Tools([area, fails, "calculator"])


def test_a_tool_is_offered_with_its_schema():
    offer = TOOLS.offer()

    assert '"name": "area"' in offer
    assert "The area of a rectangle." in offer
    assert '"required": ["width"]' in offer


@pytest.mark.parametrize(
    ("line", "observed"),
    [
        ('Action: area({"width": 2, "height": 3})', "6.0"),
        ('Action: area({"width": 2})', "2.0"),
        ('Action: calculator({"expression": "17*6+23"})', "125"),
        ('Action: area({"width": "wide"})', "error: the arguments don't fit"),
        ('Action: area({"depth": 2})', "error: the arguments don't fit"),
        ("Action: area({)", "error: the arguments don't fit"),
        ("Action: area([1])", "error: the arguments don't fit"),
        ("Action: volume({})", "error: there is no tool volume"),
        ('Action: fails({"reason": "out of order"})', "error: ValueError: out of order"),
        ('Action: calculator({"expression": "__import__(1)"})', "error: RatchetError"),
    ],
)
def test_what_a_call_returns_is_the_observation(line, observed):
    assert TOOLS.observe(f"First the area.\n{line}\n").startswith(f"Observation: {observed}")


@pytest.mark.parametrize(
    "text", ["", "no call", "Action: area", 'I say Action: area({"width": 2})', 'Action: area({"width": 2})\nand more']
)
def test_a_text_that_ends_in_no_call_has_no_observation(text):
    assert TOOLS.observe(text) == ""
    assert not TOOLS.calls(text)


def test_an_observation_is_one_bounded_line():
    def shout(times: int) -> str:
        """Loud."""
        return "A\n" * times

    said = Tools([shout]).observe('Action: shout({"times": 100000})')

    assert said.count("\n") == 1
    assert len(said) < LONGEST + 50


def test_a_function_without_types_and_two_of_one_name_are_errors():
    with pytest.raises(ConfigError, match="untyped parameters x"):
        Tools([lambda x: x])
    with pytest.raises(ConfigError, match="same name"):
        Tools([area, area])
    with pytest.raises(ConfigError, match="there is no 'telescope'"):
        Tools(["telescope"])


def test_names_of_tools_are_kept_in_a_file_and_functions_are_not(tmp_path):
    NPC("bot", "Answer.", "embedded", tools=("calculator",)).save(tmp_path / "bot.npc")

    assert NPC.load(tmp_path / "bot.npc").tools == ("calculator",)
    with pytest.raises(ConfigError, match="can't be kept in a file"):
        NPC("bot", "Answer.", "embedded", tools=(area,)).save(tmp_path / "other.npc")


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(
        st.text(), st.text().map(lambda t: f"Action: area({t})"), st.text().map(lambda t: f'Action: calculator({{"expression": "{t}"}})')
    )
)
def test_no_text_of_a_model_breaks_it(text):
    assert isinstance(TOOLS.observe(text), str)


def test_the_calculator_is_exact():
    assert calculator("1/3 + 1/6") == "1/2"
