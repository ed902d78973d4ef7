"""Tools: typed Python functions that a worker may call in its text, one call a line, and what comes back as an observation.

    Action: calculator({"expression": "17*6+23"})
    Observation: 125

The text form works with every model and keeps a search's path one text; arguments are checked against the function's own types.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooSlow
from dataclasses import dataclass
from inspect import Parameter, getdoc, signature
from typing import Any, get_type_hints

from core.errors import ConfigError, RatchetError
from core.registry import TOOLS, resolve
from core.types import Record

log = logging.getLogger(__name__)

CALL = re.compile(r"^\s*Action:\s*([A-Za-z_]\w{0,63})\s*\((.*)\)\s*$")
OBSERVATION = "Observation:"
LONGEST = 2_000
SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Tool(Record):
    """A function with its name, what it does, and its parameters as a JSON schema."""

    name: str
    description: str
    schema: dict[str, Any]
    function: Callable[..., Any]


class Tools:
    """The tools of one worker. False when there are none."""

    def __init__(self, functions: Sequence[Callable[..., Any] | str] = ()) -> None:
        """Functions, or names from the table of tools. Raises ConfigError on a function whose parameters have no types."""
        made = [tool(resolve(TOOLS, f) if isinstance(f, str) else f) for f in functions]
        self._tools = {t.name: t for t in made}
        if len(self._tools) < len(made):
            raise ConfigError(f"two tools have the same name, of {', '.join(t.name for t in made)}: rename one")

    def __bool__(self) -> bool:
        return bool(self._tools)

    @property
    def names(self) -> tuple[str, ...]:
        """What they are called by."""
        return tuple(self._tools)

    def offer(self) -> str:
        """What a model is told about them, to be put behind the question; nothing without tools."""
        if not self._tools:
            return ""
        rows = [json.dumps({"name": t.name, "description": t.description, "parameters": t.schema}) for t in self._tools.values()]
        return (
            "\n\nYou may use these tools:\n" + "\n".join(rows) + "\nTo call one, write a line of its own such as "
            '`Action: name({"argument": "value"})` and nothing after it; what it returns follows on a line that begins with '
            f"`{OBSERVATION}`. Never write that line yourself."
        )

    def calls(self, text: str) -> bool:
        """Whether the last line of a text calls a tool."""
        return bool(self._tools) and CALL.match(_last_line(text)) is not None

    def observe(self, text: str) -> str:
        """The observation that follows a text, as a line; nothing when its last line calls no tool. Never raises."""
        match = CALL.match(_last_line(text))
        if not self._tools or match is None:
            return ""
        said = " ".join(self._called(match[1], match[2]).split("\n"))
        return f"{OBSERVATION} {said if len(said) <= LONGEST else said[:LONGEST] + '…'}\n"

    def _called(self, name: str, arguments: str) -> str:
        if name not in self._tools:
            return f"error: there is no tool {name}; there are {', '.join(self._tools)}"
        try:
            given = json.loads(arguments or "{}")
            checked = _checked(self._tools[name], given)
        except (ValueError, TypeError, RecursionError) as error:
            return f"error: the arguments don't fit: {str(error).splitlines()[0]}"
        return _run(self._tools[name], checked)


def tool(function: Callable[..., Any]) -> Tool:
    """A tool from a function: its name, its docstring, its typed parameters."""
    name = getattr(function, "__name__", "")
    try:
        hints = get_type_hints(function)
        parameters = signature(function).parameters.values()
    except (TypeError, ValueError, NameError) as error:
        raise ConfigError(f"{function!r} can't be a tool ({error}): give a Python function with typed parameters") from error
    untyped = [p.name for p in parameters if p.name not in hints or p.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)]
    if untyped or not name.isidentifier():
        raise ConfigError(f"the tool {name or function!r} has untyped parameters {', '.join(untyped)}: give each a type, without * and **")
    schema = _model(function).model_json_schema()
    return Tool(name, (getdoc(function) or name).split("\n\n")[0], schema, function)


def _model(function: Callable[..., Any]) -> Any:
    from pydantic import ConfigDict, create_model

    hints = get_type_hints(function)
    fields: dict[str, Any] = {
        p.name: (hints[p.name], ... if p.default is Parameter.empty else p.default) for p in signature(function).parameters.values()
    }
    return create_model(function.__name__, __config__=ConfigDict(extra="forbid", strict=False), **fields)


def _checked(tool: Tool, given: Any) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise TypeError("write one JSON object with the arguments by name")
    checked = _model(tool.function)(**given)
    return {name: getattr(checked, name) for name in type(checked).model_fields}


def _run(tool: Tool, arguments: dict[str, Any]) -> str:
    pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tool")
    try:
        return str(pool.submit(tool.function, **arguments).result(SECONDS))
    except TooSlow:
        return f"error: {tool.name} took more than {SECONDS:g} s"
    except Exception as error:
        log.debug("the tool %s failed", tool.name, exc_info=True)
        return f"error: {type(error).__name__}: {error}"
    finally:
        pool.shutdown(wait=False)


def calculator(expression: str) -> str:
    """Exact arithmetic: numbers, + - * / ^ and brackets."""
    from core.verifiers.math.formula import show
    from core.verifiers.math.question import read_question

    question = read_question(f"Calculate {expression}")
    if question is None:
        raise RatchetError(f"{expression!r} is no arithmetic that can be computed exactly")
    return show(question.value)


def python(program: str) -> str:
    """Run a Python program in the sandbox; what it prints comes back."""
    from core.sandbox import run_program

    report = run_program("python", program)
    return report.stdout.strip() or f"nothing was printed; {report.stopped or report.stderr.strip() or 'it ended'}"


def _last_line(text: str) -> str:
    return text.rstrip("\n").rpartition("\n")[2]
