"""Judges answers about a table: numbers are recomputed from the data of the task, and what is claimed must be what the data says.

Metadata: `data` (CSV text, JSON rows, {"file": PATH}) or a prompt that begins with `Data:` and CSV lines; `ask`, the query whose value is
the answer; `claims`, queries that the text must state; `min_claims`, how many different true claims it must make; `strict`, whether a
number that can't be placed fails (true by default) or only keeps the text from passing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from core.answers import final_answer
from core.types import Evidence, Outcome, Task, Verdict
from core.verifiers.analysis.answers import answers, same
from core.verifiers.analysis.claims import Checked, Found, find_claims
from core.verifiers.analysis.queries import QueryError, UndefinedError, number_shown, recompute
from core.verifiers.analysis.query_specs import Spec, read_spec
from core.verifiers.analysis.table_questions import read_question
from core.verifiers.analysis.tables import Table, TableError, read_table, table_in_prompt
from core.verifiers.base import Finding, StepCheck, abstained, broken, failed, passed, short, verifier

MAX_CLAIMS = 100
MAX_SHOWN = 40
Judge = Callable[[Task, str], Verdict]
NO_ANSWER = "no answer found: end with 'Answer: ...'"


@verifier("analysis", "1")
def verify(task: Task, text: str, *, judge: Judge | None = None) -> Finding:
    """The verdict on a finished text.

    With `ask`, or a question in one of the fixed forms, the answer is compared with the recomputed value; a reference must agree with
    the data, and a false claim in the text fails it where there is no reference. With `claims` or `min_claims` every number of the text
    must be part of a true claim. Free text that nothing was promised about is never a PASS: it fails on a false claim, and otherwise
    abstains, or a `judge` speaks, on the evidence of a judge.
    """
    text = _clean(text)
    wants = [key for key in ("ask", "claims", "min_claims") if task.metadata.get(key) is not None]
    try:
        table = _table(task)
    except TableError as error:
        if task.reference is None or wants:
            return broken(str(error))
        return _referenced(task, text, None, None)
    if table is None and wants:
        return broken(f'metadata[{wants[0]!r}] needs a table: give metadata["data"] as CSV text, JSON rows or {{"file": PATH}}')
    if table is None:
        return (
            _referenced(task, text, None, None) if task.reference is not None else _judged(task, text, judge, "there is no table to check")
        )
    try:
        spec = _asked(task, table)
        required = _required(task, table)
    except QueryError as error:
        return broken(f"the task can't be checked: {error}")
    if task.reference is not None:
        return _referenced(task, text, table, spec)
    if spec is not None:
        return _recomputed(task, text, table, spec, required)
    return _free(task, text, table, required, judge)


def check_steps(task: Task, text: str) -> StepCheck:
    """Of the claims and the lines of arithmetic in a text, how many could be checked and how many hold."""
    try:
        table = _table(task)
    except TableError:
        table = None
    if table is None:
        return StepCheck(0, 0)
    found = find_claims(_clean(text), table)
    verdicts = [checked.holds for checked in found.checked if checked.holds is not None] + [right for right, _ in found.sums]
    wrong = [checked.claim.text for checked in found.false] + found.wrong_sums
    return StepCheck(len(verdicts), sum(verdicts), short(wrong[0]) if wrong else None)


def step_value(task: Task, partial_text: str) -> float | None:
    """How well the whole lines of an unfinished text hold: the share of true claims; None when there are none."""
    return check_steps(task, partial_text.rpartition("\n")[0]).share


def _clean(text: str) -> str:
    """Half of a UTF-16 pair can't be stored, shown or asked for."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _table(task: Task) -> Table | None:
    data = task.metadata.get("data")
    if data is None:
        data = table_in_prompt(task.prompt)
    return None if data is None else read_table(data)


def _asked(task: Task, table: Table) -> Spec | None:
    ask = task.metadata.get("ask")
    spec = read_question(task.prompt, table, task.metadata.get("data") is not None) if ask is None else read_spec(ask, table)
    if spec is not None:
        try:
            recompute(spec.query, table)
        except UndefinedError as error:
            if ask is not None:
                raise QueryError(f"what is asked for does not exist: {error}") from None
            return None
    return spec


def _required(task: Task, table: Table) -> list[Spec]:
    given = task.metadata.get("claims")
    least, strict = task.metadata.get("min_claims", 0), task.metadata.get("strict", True)
    if least is not None and (type(least) is not int or not 0 <= least <= MAX_CLAIMS):
        raise QueryError(f'metadata["min_claims"] is a whole number up to {MAX_CLAIMS}, and not {short(repr(least))}')
    if not isinstance(strict, bool):
        raise QueryError(f'metadata["strict"] is true or false, and not {short(repr(strict))}')
    if given is None:
        return []
    if not isinstance(given, list | tuple) or not 1 <= len(given) <= MAX_CLAIMS:
        raise QueryError(f'metadata["claims"] is a list of 1 to {MAX_CLAIMS} queries, and not {short(repr(given))}')
    return [read_spec(spec, table) for spec in given]


def _referenced(task: Task, text: str, table: Table | None, spec: Spec | None) -> Finding:
    """The reference decides. Where the data can be asked too, both must say the same."""
    reference, answer = task.reference or "", final_answer(text)
    found = find_claims(text, table) if table is not None else Found()
    details = _details(found, table)
    if not reference.strip():
        return broken("the reference is empty: give the answer, or none at all (null)")
    if spec is not None and table is not None and answers(spec, reference, table, lenient=True) is False:
        shown = number_shown(recompute(spec.query, table))
        return broken(
            f"the reference {short(reference)} and the data disagree: {spec.query.told(table)} is {shown}; mend the task", **details
        )
    if answer is None:
        return failed(NO_ANSWER, Evidence.REFERENCE, **details)
    wrong = f"; a false claim: {_false(found)}" if _false(found) else ""
    if same(reference, answer, task.prompt):
        return passed(f"{short(answer)} equals the reference{wrong}", Evidence.REFERENCE, **details)
    if spec is not None and table is not None:
        verdict = answers(spec, answer, table)
        if verdict:
            return passed(f"{short(answer)} is what the data says{wrong}", Evidence.RECOMPUTATION, **details)
        if verdict is None:
            return Finding(Outcome.ABSTAIN, None, f"{short(answer)}: it can't be told whether this is {short(reference)}", details=details)
    return failed(f"{short(answer)} does not equal the reference {short(reference)}{wrong}", Evidence.REFERENCE, **details)


def _recomputed(task: Task, text: str, table: Table, spec: Spec, required: list[Spec]) -> Finding:
    """The question is formal: the answer decides, a false claim on the way fails it too."""
    answer, found = final_answer(text), _without(spec, find_claims(text, table))
    told = f"{spec.query.told(table)} is {number_shown(recompute(spec.query, table))}"
    details = {**_details(found, table), "asked": told}
    if answer is None:
        return failed(NO_ANSWER, Evidence.RECOMPUTATION, **details)
    verdict = answers(spec, answer, table)
    if verdict is False:
        return failed(f"recomputed: {told}, and not {short(answer)}", Evidence.RECOMPUTATION, **details)
    if _false(found):
        return failed(f"a false claim: {_false(found)}", Evidence.RECOMPUTATION, found.share or 0.0, **details)
    if verdict is None:
        reason = f"{short(answer)} can't be told from other readings or shows too few digits; recomputed: {told}"
        return Finding(Outcome.ABSTAIN, found.share, reason, details=details)
    if found.cut:
        return abstained("the text is too long to check all its claims: shorten it", **details)
    missing = _missing(required, found, table)
    if missing:
        return failed(f"the text does not state {missing}", Evidence.RECOMPUTATION, 0.5, **details)
    return passed(f"recomputed: {told}", Evidence.RECOMPUTATION, **details)


def _without(spec: Spec, found: Found) -> Found:
    """What a text states beside the claim that the question is about: who is asked whether it is so may say it again."""
    if spec.equals is not None:
        found.checked = [checked for checked in found.checked if spec.query not in checked.claim.readings]
    return found


def _free(task: Task, text: str, table: Table, required: list[Spec], judge: Judge | None) -> Finding:
    """No formal question: each number must be part of a true claim, and what the task wants stated must be stated."""
    found, least = find_claims(text, table), task.metadata.get("min_claims") or 0
    details = _details(found, table)
    if not text.strip():
        return failed("the text is empty", Evidence.RECOMPUTATION, **details)
    if _false(found):
        return failed(f"a false claim: {_false(found)}", Evidence.RECOMPUTATION, found.share or 0.0, **details)
    if not required and not least:
        if not found.checked and not found.loose:
            return _judged(task, text, judge, "the text makes no claim that can be checked")
        reason = 'the task names no claims that must be stated: give metadata["ask"], "claims" or "min_claims"'
        return Finding(Outcome.ABSTAIN, found.share, reason, details=details)
    doubts = _doubts(found, strict=task.metadata.get("strict", True))
    if doubts is not None:
        return doubts.replace(details=details)
    missing = _missing(required, found, table)
    if missing:
        return failed(f"the text does not state {missing}", Evidence.RECOMPUTATION, 0.5, **details)
    distinct = _distinct(found)
    if distinct < least:
        return failed(
            f"{distinct} different claims over named columns hold, and {least} are asked for", Evidence.RECOMPUTATION, 0.5, **details
        )
    return passed(f"{len(found.checked)} claims recomputed, all hold", Evidence.RECOMPUTATION, **details)


def _doubts(found: Found, strict: bool) -> Finding | None:
    """What keeps a text without a false claim from passing."""
    if found.cut:
        return abstained("the text is too long to check all its claims: shorten it")
    if found.loose and strict:
        return failed(f"not supported by the data: {short(found.loose[0])}", Evidence.RECOMPUTATION, (found.share or 0.0) / 2)
    unplaced = found.loose + found.unclear + (found.vague if strict else [])
    if unplaced:
        return Finding(Outcome.ABSTAIN, found.share, f"this can't be placed in the table: {short(unplaced[0])}")
    unsure = [checked for checked in found.checked if checked.holds is None]
    if unsure:
        reason = f"this can be read in several ways or shows too few digits: {short(unsure[0].claim.text)} ({unsure[0].recomputed})"
        return Finding(Outcome.ABSTAIN, found.share, reason)
    return None


def _missing(required: list[Spec], found: Found, table: Table) -> str:
    """The first required claim that no true claim of the text states."""
    for spec in required:
        if not any(checked.holds and _states(checked, spec, table) for checked in found.checked):
            return spec.query.told(table)
    return ""


def _states(checked: Checked, spec: Spec, table: Table) -> bool:
    """Whether a true claim gives the very quantity; a difference may be told from either side."""
    claim, wanted = checked.claim, spec.query
    if claim.kind == "sign":
        return False
    if wanted in claim.readings:
        return claim.number is None or answers(spec, claim.number.text, table) is True
    sides = {(wanted.between, True), (wanted.between, False), (wanted.between[::-1], True), (wanted.between[::-1], False)}
    told = {wanted.replace(between=pair, absolute=absolute) for pair, absolute in sides}
    return wanted.op == "difference" and claim.number is not None and not told.isdisjoint(claim.readings)


def _distinct(found: Found) -> int:
    """True claims over named columns that say something: restated cells don't count, nor does one comparison said both ways."""
    seen = set()
    for checked in found.checked:
        query = checked.claim.readings[0]
        is_row = query.op == "count" and checked.claim.kind == "sign"
        if checked.holds and query.op != "value" and not is_row and (query.column is not None or query.by is not None or query.where):
            seen.add(query.replace(between=tuple(sorted(query.between, key=str)), absolute=False))
    return len(seen)


def _judged(task: Task, text: str, judge: Judge | None, why: str) -> Finding:
    """A judge speaks where nothing can be checked; its word is a judge's, whatever it says its evidence is."""
    if not text.strip():
        return failed("the text is empty", Evidence.NONE)
    if judge is None:
        return abstained(f"{why}, and there is no reference")
    said = judge(task, text)
    return Finding(said.outcome, said.score, f"judged: {said.reason}", Evidence.JUDGE, details=dict(said.details))


def _false(found: Found) -> str:
    """The first thing that is false, with what is true beside it."""
    if found.false:
        first = found.false[0]
        return f"{short(first.claim.text)} (the data says {short(first.recomputed)})"
    return short(found.wrong_sums[0]) if found.wrong_sums else ""


def _details(found: Found, table: Table | None) -> Mapping[str, Any]:
    """Every claim with its recomputed value, what could not be placed, and what was read as missing."""
    if table is None:
        return {}
    shown: dict[str, Any] = {"claims": [checked.shown(table) for checked in found.checked[:MAX_SHOWN]]}
    if found.loose or found.unclear or found.vague:
        shown["unsupported"] = [short(line) for line in (found.loose + found.unclear + found.vague)[:MAX_SHOWN]]
    if table.notes:
        shown["missing"] = table.notes[:MAX_SHOWN]
    return shown
