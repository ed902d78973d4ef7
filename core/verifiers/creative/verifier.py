"""Judges pieces of writing: hard constraints by program, a floor of quality under them, and a judge that only ranks what holds.

PASS rests on recomputation: every constraint that the task states holds, and the piece is not junk. It does not say that the piece is
good. Constraints and the floor are for English.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cmp_to_key
from typing import Any

from core.errors import TaskError
from core.types import Evidence, Outcome, Task, Verdict
from core.verifiers.base import Finding, abstained, broken, failed, passed, verifier
from core.verifiers.creative.constraints import Constraint, asked_phrases, read_constraints, shortest
from core.verifiers.creative.floor import LEAST_WORDS, Ground, fault_of
from core.verifiers.creative.limits import Found
from core.verifiers.creative.piece import MAX_PIECE, Piece, cut, find_piece
from core.verifiers.judge import Judge, Judgement

VERSION = "1"
MAX_PROMPT = 100_000
JUDGE_WEIGHT = 0.2
GOOD, POOR = 0.75, 0.5
ORDER = {Outcome.PASS: 0, Outcome.ABSTAIN: 1, Outcome.ERROR: 2, Outcome.FAIL: 3}
JudgeText = Callable[[Task, str], Judgement]


@verifier("creative", VERSION)
def verify(task: Task, text: str, *, judge: JudgeText | None = None) -> Finding:
    """The verdict on a finished text, by the list "constraints" in the task's metadata.

    The piece is what follows "Answer:", to the end. PASS: all constraints hold, and so does the floor. The score is the share of the
    constraints that hold, 0 below the floor. With a judge the constraints make up 80 % of the score and the judge's value, asked only
    for what passes, the other 20 %: no judge lifts a broken constraint above a kept one. Without constraints nothing is decided, or the
    judge decides alone: PASS from 4 of 5 points, FAIL below 3, on the evidence of a judge.
    """
    try:
        constraints = read_constraints(task.metadata, task.prompt)
    except TaskError as error:
        return broken(str(error))
    if len(task.prompt) > MAX_PROMPT:
        return abstained(f"the prompt has {len(task.prompt)} characters: copying is checked up to {MAX_PROMPT}")
    found = find_piece(text)
    if found is None:
        return abstained(f"the text has {len(text)} characters and no 'Answer:': pieces are checked up to {MAX_PIECE}")
    kinds = frozenset(constraint.kind for constraint in constraints)
    piece = cut(found, titled="title" in kinds)
    fault = fault_of(piece, Ground(task.prompt, asked_phrases(constraints), shortest(constraints, LEAST_WORDS), kinds))
    if fault and fault[0] is Outcome.FAIL:
        return failed(fault[1], Evidence.RECOMPUTATION, words=len(piece.words))
    if not constraints:
        return _by_judge(task, piece, judge)
    return _by_constraints(task, piece, constraints, fault[1] if fault else "", judge)


def rank(task: Task, texts: Sequence[str], judge: Judge | None = None) -> list[int]:
    """The places of the texts, best first: by outcome, then by score; where those are equal the judge compares, in both orders."""
    verdicts = [verify(task, text, judge=judge) for text in texts]

    def order(one: int, other: int) -> int:
        a, b = _standing(verdicts[one]), _standing(verdicts[other])
        if a != b:
            return -1 if a < b else 1
        if judge is not None and verdicts[one].passed and texts[one] != texts[other]:
            pieces = [find_piece(texts[place]) or "" for place in (one, other)]
            return {"first": -1, "second": 1}.get(judge.compare(task, pieces[0], pieces[1]).choice or "tie", one - other)
        return one - other

    return sorted(range(len(texts)), key=cmp_to_key(order))


def _standing(verdict: Verdict) -> tuple[int, float]:
    return ORDER[verdict.outcome], -(verdict.score if verdict.score is not None else 0.0)


def _by_constraints(task: Task, piece: Piece, constraints: Sequence[Constraint], doubt: str, judge: JudgeText | None) -> Finding:
    findings = [constraint.check(piece) for constraint in constraints]
    details: dict[str, Any] = {"words": len(piece.words), "constraints": [_row(c, f) for c, f in zip(constraints, findings, strict=True)]}
    share = sum(finding.held is True for finding in findings) / len(findings)
    if judge is not None:
        share *= 1 - JUDGE_WEIGHT
    for constraint, finding in zip(constraints, findings, strict=True):
        if finding.held is False:
            return failed(f"{constraint.kind}: {finding.found}", Evidence.RECOMPUTATION, share, **details)
    undecided = [f"{constraint.kind}: {f.found}" for constraint, f in zip(constraints, findings, strict=True) if f.held is None]
    if undecided or doubt:
        return abstained((undecided or [doubt])[0], **details)
    well = f"{len(findings)} of {len(findings)} constraints hold"
    if judge is None:
        return passed(well, Evidence.RECOMPUTATION, **details)
    opinion = judge(task, piece.text)
    details["judge"] = opinion.as_dict()
    score = share + JUDGE_WEIGHT * (opinion.value or 0.0)
    return passed(f"{well}; judge: {opinion.reason}", Evidence.RECOMPUTATION, **details).replace(score=score)


def _by_judge(task: Task, piece: Piece, judge: JudgeText | None) -> Finding:
    if judge is None:
        return abstained('the task states no constraints and there is no judge: give it "constraints" in its metadata, or pass a judge')
    opinion = judge(task, piece.text)
    details: Mapping[str, Any] = {"words": len(piece.words), "judge": opinion.as_dict()}
    if opinion.value is None or not opinion.agreed:
        return abstained(f"no constraints, and the judge does not decide: {opinion.reason}", **details)
    outcome = Outcome.PASS if opinion.value >= GOOD else Outcome.FAIL if opinion.value < POOR else Outcome.ABSTAIN
    return Finding(outcome, opinion.value, f"no constraints; judge alone: {opinion.reason}", Evidence.JUDGE, details=details)


def _row(constraint: Constraint, finding: Found) -> dict[str, Any]:
    return {"kind": constraint.kind, "held": finding.held, "found": finding.found}
