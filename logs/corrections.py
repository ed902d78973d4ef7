"""What people's feedback teaches: gold answers, preferences, verdicts to look at again, domains of questions.

Nothing of a held-out task is ever among gold rows, preferences, thumbs or domains.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from sqlalchemy import Connection, select

from core.answers import final_answer, normalise
from core.choice import answer_of_run
from core.tasks.splits import split_of
from core.types import Evidence, NodeRecord, Outcome, Record, Run, Split, Task, Trace, Usage, Verdict
from logs.database import existing, reading
from logs.feedback import Feedback, iter_by_run
from logs.place import Place
from logs.redact_run import kept_split
from logs.rows import node_of, run_of, select_runs, select_traces, trace_of
from logs.tables import NODE, RUN, TRACE

HUMAN = "human"
RECIPE = "human/1"
LOW, HIGH = 2, 4  # ratings up to the one speak against an answer, from the other on for it
RUNS_AT_ONCE = 100

Check = Callable[[Task, str], Verdict]


@dataclass(frozen=True, slots=True)
class Preference(Record):
    """Two texts after one prompt; a person wrote the first. `prefix` is what the worker had written before a step that was edited."""

    directive: str
    prompt: str
    prefix: str
    chosen: str
    rejected: str
    task_id: str
    chosen_id: str
    rejected_id: str


@dataclass(frozen=True, slots=True)
class Disagreement(Record):
    """A verdict that a person does not share, to be judged again and looked at: what was said, of which trace, and how they differ."""

    trace: Trace
    feedback: Feedback
    why: str


@dataclass(frozen=True, slots=True)
class Said(Record):
    """What people said of the training side, by the id of the trace, for a build of rows.

    `thumbs`: whether more are for it than against it. `edits`: the whole answer as it should have been. `endings`: the whole answer with
    another last step; what was written before it nobody vouched for. `inner` counts edits of steps after which an answer went on: these
    make preferences of steps, and no row of whole answers.
    """

    thumbs: Mapping[str, bool] = field(default_factory=dict)
    edits: Mapping[str, str] = field(default_factory=dict)
    endings: Mapping[str, str] = field(default_factory=dict)
    inner: int = 0


def said_by_people(where: str | Path | Place) -> Said:
    """All of it, in one pass; of two edits of one answer the later one."""
    likes: dict[str, bool] = {}
    edits: dict[str, str] = {}
    endings: dict[str, str] = {}
    inner = 0
    for run, group in _told_by_run(where, trainable=True):
        likes |= {trace_id: votes > 0 for trace_id, votes in _votes(run, group).items() if votes}
        for feedback in sorted(group, key=lambda f: (f.created, f.id)):
            if feedback.edit is None:
                continue
            trace = _meant(run, feedback)
            if trace is None:
                inner += 1
            elif feedback.node is None:
                edits[trace.id] = feedback.edit
            elif pair := _step(run, feedback, feedback.edit):
                endings[trace.id] = pair.prefix + pair.chosen
    return Said(likes, edits, endings, inner)


def gold_rows(where: str | Path | Place, *, domain: str | None = None, check: Check | None = None) -> Iterator[Trace]:
    """Edited answers of the training side as traces that a person verified, for the filters that other traces go through.

    Evidence is REFERENCE, verifier and model are "human". With `check`, an edit that it finds wrong is no gold: `disagreements` tells it.
    """
    for run, feedback in _told(where, trainable=True, domain=domain):
        if feedback.edit is None or feedback.node is not None:
            continue
        original = _meant(run, feedback)
        like = original or next(iter(run.traces), None)
        if like is None or (original and _same(original.text, feedback.edit)):
            continue
        if check is None or check(like.task, feedback.edit).outcome is not Outcome.FAIL:
            yield _gold(like, feedback, feedback.edit)


def preferences(where: str | Path | Place, *, domain: str | None = None, check: Check | None = None) -> Iterator[Preference]:
    """The edit over the original, of the training side. An answer that was cut off is never the worse one: it was never finished."""
    for run, feedback in _told(where, trainable=True, domain=domain):
        if feedback.edit is None:
            continue
        pair = _whole(run, feedback, feedback.edit, check) if feedback.node is None else _step(run, feedback, feedback.edit)
        if pair and not _same(pair.chosen, pair.rejected):
            yield pair


def thumbs(where: str | Path | Place, *, domain: str | None = None) -> Iterator[tuple[Trace, bool]]:
    """Complete answers of the training side that more people than not find good, or bad: for methods that need no pairs.

    A rating counts as a thumb where its person gave none: up from 4 on, down up to 2.
    """
    for run, group in _told_by_run(where, trainable=True, domain=domain):
        votes = _votes(run, group)
        yield from ((trace, votes[trace.id] > 0) for trace in run.traces if trace.complete and votes[trace.id])


def disagreements(where: str | Path | Place, *, domain: str | None = None, check: Check | None = None) -> Iterator[Disagreement]:
    """Verdicts to look at again, of both sides of the split: somebody is against an answer that passed, or for one that failed.

    With `check`, also edits that it finds wrong: the person or the verifier errs.
    """
    for run, feedback in _told(where, trainable=False, domain=domain):
        trace = _meant(run, feedback)
        if trace is None:
            continue
        for why in _differences(trace, feedback):
            yield Disagreement(trace, feedback, why)
        if check and feedback.edit is not None and feedback.node is None and check(trace.task, feedback.edit).outcome is Outcome.FAIL:
            yield Disagreement(trace, feedback, "the verifier finds the edit wrong")


def routing_feedback(where: str | Path | Place) -> Iterator[tuple[str, str, float]]:
    """(question, domain, weight) for `core.routing.train.update`: the domain most people named; its weight is their share.

    Questions of held-out tasks are left out, and those about which as many say the one as the other.
    """
    for run, group in _told_by_run(where, trainable=True):
        named = {feedback.who: feedback.domain.value for feedback in group if feedback.domain}  # what a person said last
        votes = Counter(named.values()).most_common(2)
        if votes and (len(votes) == 1 or votes[0][1] > votes[1][1]):
            yield run.task.prompt, votes[0][0], votes[0][1] / len(named)


def _told(where: str | Path | Place, *, trainable: bool, domain: str | None = None) -> Iterator[tuple[Run, Feedback]]:
    for run, group in _told_by_run(where, trainable=trainable, domain=domain):
        yield from ((run, feedback) for feedback in group)


def _told_by_run(where: str | Path | Place, *, trainable: bool, domain: str | None = None) -> Iterator[tuple[Run, list[Feedback]]]:
    """Runs of which something stands, with that."""
    place = existing(where)
    groups = (group for group in iter_by_run(place) if group)
    while some := list(islice(groups, RUNS_AT_ONCE)):
        with reading(place) as connection:
            runs = _runs(connection, [group[0].run_id for group in some])
        for group in some:
            run = runs.get(group[0].run_id)  # one that was deleted meanwhile is gone
            if run and (domain is None or run.task.domain == domain) and not (trainable and _held_out(run)):
                yield run, group


def _runs(connection: Connection, ids: list[str]) -> dict[str, Run]:
    nodes: dict[str, list[NodeRecord]] = {name: [] for name in ids}
    traces: dict[str, list[Trace]] = {name: [] for name in ids}
    for row in connection.execute(select(NODE).where(NODE.c.run_id.in_(ids)).order_by(NODE.c.place)):
        nodes[row.run_id].append(node_of(row))
    for row in connection.execute(select_traces().where(TRACE.c.run_id.in_(ids)).order_by(TRACE.c.place)):
        traces[row.run_id].append(trace_of(row))
    rows = connection.execute(select_runs().where(RUN.c.id.in_(ids)))
    return {row.id: run_of(row, nodes[row.id], traces[row.id]) for row in rows}


def _held_out(run: Run) -> bool:
    """By the split that the store keeps, and by the key: either is enough. A key that was redacted says nothing any more."""
    tasks = [run.task, *(trace.task for trace in run.traces)]
    return any(trace.split is not Split.TRAIN for trace in run.traces) or any(
        (kept_split(t) or split_of(t)) is not Split.TRAIN for t in tasks
    )


def _votes(run: Run, group: Iterable[Feedback]) -> Counter[str]:
    """By trace, those for it less those against it; each person once, by what came last."""
    said = {(trace.id, f.who): vote for f in group if (vote := _vote(f)) and (trace := _meant(run, f))}
    votes: Counter[str] = Counter()
    for (trace_id, _), vote in said.items():
        votes[trace_id] += vote
    return votes


def _vote(feedback: Feedback) -> int:
    """1, -1, or 0 for neither."""
    if feedback.thumb:
        return 1 if feedback.thumb == "up" else -1
    rating = feedback.rating
    return 0 if rating is None else (rating >= HIGH) - (rating <= LOW)


def _meant(run: Run, feedback: Feedback) -> Trace | None:
    """The trace that was looked at: the one that is named, the one that ends in the step, or the answer of the run."""
    if feedback.trace_id is not None:
        return next((trace for trace in run.traces if trace.id == feedback.trace_id), None)
    if feedback.node is not None:
        return next((trace for trace in run.traces if trace.node == feedback.node), None)
    return answer_of_run(run)


def _gold(like: Trace, feedback: Feedback, text: str) -> Trace:
    verdict = Verdict(Outcome.PASS, 1.0, "a person wrote it so", Evidence.REFERENCE, HUMAN, details={"feedback": feedback.id})
    return like.replace(
        id=_gold_id(feedback),
        model=HUMAN,
        fingerprint=None,
        text=text,
        answer=final_answer(text),
        steps=tuple(line for line in text.split("\n") if line.strip()),
        verdict=verdict,
        reward=1.0,
        reward_parts={HUMAN: 1.0},
        reward_recipe=RECIPE,
        complete=True,
        node="",
        usage=Usage(),
        seconds=0.0,
        created=feedback.created,
    )


def _gold_id(feedback: Feedback) -> str:
    return f"{HUMAN}-{feedback.id}"


def _whole(run: Run, feedback: Feedback, edit: str, check: Check | None) -> Preference | None:
    original = _meant(run, feedback)
    if original is None or not original.complete or not original.text.strip():
        return None
    if check and check(original.task, edit).outcome is Outcome.FAIL:
        return None
    return _pair(original, "", edit, original.text, feedback, original.id)


def _step(run: Run, feedback: Feedback, edit: str) -> Preference | None:
    """One step over another; the answers that go on from there are not known to be better."""
    nodes = {node.path: node for node in run.nodes}
    node = nodes.get(feedback.node or "")
    if node is None or not node.path or not run.traces:
        return None
    prefix = "".join(nodes[path].text for path in _ancestors(node) if path in nodes)
    like = next((trace for trace in run.traces if trace.node == node.path or trace.node.startswith(f"{node.path}.")), run.traces[0])
    if not node.text.strip() or (like.node == node.path and not like.complete):
        return None
    ending = "\n" if node.text.endswith("\n") else ""
    return _pair(like, prefix, edit.rstrip("\n") + ending, node.text, feedback, f"{run.id}:{node.path}")


def _ancestors(node: NodeRecord) -> list[str]:
    """Of "1.4.0" the nodes above: "", "1", "1.4"."""
    parts = node.path.split(".")
    return ["", *(".".join(parts[:place]) for place in range(1, len(parts)))]


def _pair(like: Trace, prefix: str, chosen: str, rejected: str, feedback: Feedback, rejected_id: str) -> Preference:
    return Preference(like.directive, like.query, prefix, chosen, rejected, like.task.id, _gold_id(feedback), rejected_id)


def _differences(trace: Trace, feedback: Feedback) -> Iterator[str]:
    outcome, rating = trace.verdict.outcome, feedback.rating
    if outcome is Outcome.PASS:
        if feedback.thumb == "down":
            yield "thumb down on a verified answer"
        if rating is not None and rating <= LOW:
            yield f"rated {rating} although verified"
        if feedback.edit is not None and feedback.node is None and _answers_differ(trace, feedback.edit):
            yield "the edit gives another answer than the verified one"
    elif outcome is Outcome.FAIL:
        if feedback.thumb == "up":
            yield "thumb up on an answer that was found wrong"
        if rating is not None and rating >= HIGH:
            yield f"rated {rating} although found wrong"


def _answers_differ(trace: Trace, edit: str) -> bool:
    given = final_answer(edit)
    return given is not None and trace.answer is not None and normalise(given) != normalise(trace.answer)


def _same(one: str, other: str) -> bool:
    return " ".join(one.split()) == " ".join(other.split())
