"""Asks z3, in processes of its own that are killed at the wall, whether formulas can hold together.

z3 is native code: it can run past its own limits, eat memory or crash. A child costs a tenth of a millisecond a question, and then none of
that reaches the host.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Literal

from core.types import Record
from core.verifiers.pool import MOST, BrokenWorkerError, Pool, WallError

WALL = 1.2
REMEMBERED = 4_096
MISSING = 'z3 is not installed: pip install "ratchet-agents[verify]"'

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Found(Record):
    """sat with a `world` in which the formulas hold, unsat with the places of those that clash (-1 the denied one), unknown with `why`."""

    state: Literal["sat", "unsat", "unknown"]
    world: dict[str, Any] = field(default_factory=dict)
    core: tuple[int, ...] = ()
    why: str = ""


@dataclass(frozen=True, slots=True)
class Setting(Record):
    """What the formulas speak of: anything; a closed list of elements; or the variables of a puzzle with their whole numbers."""

    domain: tuple[str, ...] = ()
    variables: tuple[tuple[str, tuple[int, ...]], ...] = ()


OPEN = Setting()


class Solver:
    """Children that ask z3, and a memory of what was decided. Safe from any thread."""

    def __init__(self, most: int = MOST) -> None:
        self.pool = Pool("core.verifiers.logic.solver", most)
        self._lock = threading.Lock()
        self._decided: OrderedDict[tuple[tuple[str, ...], str | None, Setting], Found] = OrderedDict()

    def ask(self, formulas: tuple[str, ...], denied: str | None = None, setting: Setting = OPEN) -> Found:
        """Whether the formulas can hold together, with `denied` false where it is given. They must have been parsed before.

        The same question has the same answer; what the clock cut off is asked anew.
        """
        question = (formulas, denied, setting)
        with self._lock:
            if question in self._decided:
                self._decided.move_to_end(question)
                return self._decided[question]
        found, final = self._answered(formulas, denied, setting)
        if final:
            with self._lock:
                self._decided[question] = found
                if len(self._decided) > REMEMBERED:
                    self._decided.popitem(last=False)
        return found

    def _answered(self, formulas: tuple[str, ...], denied: str | None, setting: Setting) -> tuple[Found, bool]:
        """What a child found, and whether it would find the same at any speed."""
        request = {"formulas": formulas, "denied": denied, "domain": setting.domain, "variables": dict(setting.variables)}
        try:
            reply = self.pool.ask(request, WALL)
            found = Found(reply["state"], reply.get("world", {}), tuple(reply.get("core", ())), reply.get("why", ""))
            return found, found.state != "unknown" or "final" in reply
        except WallError:
            return Found("unknown", why=f"z3 was stopped after {WALL} s"), False
        except (BrokenWorkerError, KeyError) as error:
            log.warning("a logic solver broke and is started again: %s", error)
            return Found("unknown", why=f"the solver broke: {error}"), False


def satisfiable(formulas: tuple[str, ...], denied: str | None = None, setting: Setting = OPEN) -> Found:
    """What the one solver of this process says; unknown, with what to install, without z3."""
    if find_spec("z3") is None:
        return Found("unknown", why=MISSING)
    return _solver.ask(formulas, denied, setting)


_solver = Solver()
