"""What a task says in `metadata["logic"]`, read field by field, and the one question put to the solver."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.types import Record
from core.verifiers.base import short
from core.verifiers.logic.formula import Formula, FormulaError, parse
from core.verifiers.logic.process import OPEN, Found, Setting, satisfiable
from core.verifiers.logic.structure import MAX_INSTANCES, Signature, instances, signature

MAX_FORMULAS = 40
MAX_ELEMENTS = 20
MAX_SHOWN = 30


class StatementError(ValueError):
    """The task states its problem in a way that can't be checked, or states one without a solution."""


class UndecidedError(Exception):
    """The check came to no end, or to more than one."""


@dataclass(frozen=True, slots=True)
class Fields(Record):
    """The fields of one formal statement, with the prompt it belongs to."""

    values: Mapping[str, Any]
    prompt: str = ""

    def formulas(self, name: str, default: Sequence[str] | None = None) -> tuple[str, ...]:
        """A list of formulas, each of which can be read."""
        texts = self.texts(name, default)
        for text in texts:
            read(text, name)
        return texts

    def texts(self, name: str, default: Sequence[str] | None = None) -> tuple[str, ...]:
        """A list of at most 40 texts."""
        found = self.values.get(name, default)
        if not isinstance(found, list | tuple) or not all(isinstance(text, str) for text in found) or len(found) > MAX_FORMULAS:
            raise StatementError(f"{name!r} must be a list of at most {MAX_FORMULAS} texts, not {short(repr(found))}")
        return tuple(found)

    def formula(self, name: str) -> str:
        """One formula that can be read."""
        text = self.text(name)
        read(text, name)
        return text

    def text(self, name: str) -> str:
        """One text."""
        found = self.values.get(name)
        if not isinstance(found, str):
            raise StatementError(f"{name!r} must be a text, not {short(repr(found))}")
        return found

    def flag(self, name: str) -> bool:
        """True or false; false where it isn't given."""
        found = self.values.get(name, False)
        if not isinstance(found, bool):
            raise StatementError(f"{name!r} must be true or false, not {short(repr(found))}")
        return found

    def setting(self, formulas: Sequence[str]) -> Setting:
        """The closed list of elements, where the task gives one; checks that the formulas fit together and into it."""
        domain = self.texts("domain", ())
        parsed = [parse(text) for text in formulas]
        try:
            names = signature(parsed)
        except FormulaError as error:
            raise StatementError(str(error)) from error
        return closed(domain, parsed, names) if domain else OPEN


def closed(domain: Sequence[str], parsed: Sequence[Formula], names: Signature) -> Setting:
    """A world of named elements and no others. Raises StatementError where the formulas name others, or grow too large in it."""
    if len(set(domain)) < len(domain) or len(domain) > MAX_ELEMENTS or not all(name.isidentifier() for name in domain):
        raise StatementError(f"'domain' must list at most {MAX_ELEMENTS} different names, not {short(repr(tuple(domain)))}")
    strange = [name for name in names.things if name not in domain]
    if strange:
        raise StatementError(f"{strange[0]!r} is not in 'domain': add it there or mend the formula")
    if sum(instances(formula, len(domain)) for formula in parsed) > MAX_INSTANCES:
        raise StatementError(f"written out over {len(domain)} elements the formulas have more than {MAX_INSTANCES} parts")
    return Setting(tuple(domain))


def read(text: str, where: str) -> Formula:
    """The formula of a field. Raises StatementError with the place where reading stopped."""
    try:
        return parse(text)
    except FormulaError as error:
        raise StatementError(f"in {where!r}, {short(text)!r}: {error}") from error


def ask(formulas: Sequence[str], denied: str | None = None, setting: Setting = OPEN) -> Found:
    """Whether the formulas can hold together with `denied` false. Raises UndecidedError when nobody knows."""
    found = satisfiable(tuple(formulas), denied, setting)
    if found.state == "unknown":
        raise UndecidedError(f"not decided: {found.why}")
    return found


def readable(world: Mapping[str, Any]) -> dict[str, Any]:
    """A world for people: statements with their truth, what is true of which elements, and who is who; at most 30 entries of each."""
    shown: dict[str, Any] = dict(list(world.get("statements", {}).items())[:MAX_SHOWN])
    things = world.get("things", {})
    if world.get("predicates") or things:
        true = [f"{name}({', '.join(row)})" for name, rows in world.get("predicates", {}).items() for row in rows]
        shown["elements"] = world["universe"][:MAX_SHOWN]
        shown["true"] = true[:MAX_SHOWN]
        shown.update({name: thing for name, thing in list(things.items())[:MAX_SHOWN] if name != thing})
    return shown


def told(mapping: Mapping[str, Any]) -> str:
    """A world in one short line."""
    return short(", ".join(f"{name} = {_plain(value)}" for name, value in mapping.items()))


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value)) or "nothing"
    return str(value).lower() if isinstance(value, bool) else str(value)
