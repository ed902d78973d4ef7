"""What a task of fact says of itself: the question, the sources, the references, and whether the sources are complete."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core.errors import TaskError
from core.types import Record, Task
from core.verifiers.factual.passages import Source

MAX_SOURCES = 1_000
MAX_ANSWERS = 100
ASKED = re.compile(r"(?<![^\W_])question[*_ ]{0,4}:[*_ ]{0,4}", re.IGNORECASE)
EXAMPLE = '"context": "Ann lives in Oslo."'
EXAMPLES = '"contexts": [{"id": "a.txt", "text": "Ann lives in Oslo."}]'


@dataclass(frozen=True, slots=True)
class Brief(Record):
    """A task of fact. `answerable` is None where the task doesn't say."""

    question: str
    sources: tuple[Source, ...]
    references: tuple[str, ...]
    complete: bool
    answerable: bool | None


def read_brief(task: Task) -> Brief:
    """Read the metadata of a task. Raises TaskError that says what to write."""
    metadata = task.metadata
    if not isinstance(metadata, Mapping):
        raise TaskError(f"metadata is {type(metadata).__name__}: write an object, such as {{{EXAMPLE}}}")
    sources = _sources(metadata)
    references = _references(task, metadata)
    answerable = _flag(metadata, "answerable")
    if answerable is False and references:
        raise TaskError('the task has a reference and says "answerable": false: leave one of them out')
    return Brief(_question(task, metadata, sources), sources, references, _flag(metadata, "complete") or False, answerable)


def _sources(metadata: Mapping[str, Any]) -> tuple[Source, ...]:
    one, many = metadata.get("context"), metadata.get("contexts")
    if one is not None and many is not None:
        raise TaskError("the task has both context and contexts: put all sources into contexts")
    if one is not None and not isinstance(one, str):
        raise TaskError(f"context is {type(one).__name__}: write a text, such as {EXAMPLE}")
    if many is not None and not isinstance(many, (list, tuple)):
        raise TaskError(f"contexts is {type(many).__name__}: write a list, such as {EXAMPLES}")
    found = [Source("context", one)] if one is not None else []
    if many is not None and len(many) > MAX_SOURCES:
        raise TaskError(f"the task has {len(many)} contexts, at most {MAX_SOURCES} can be read: build a corpus of them")
    for number, entry in enumerate(many or (), 1):
        if not isinstance(entry, Mapping) or not isinstance(entry.get("text"), str) or not isinstance(entry.get("id", ""), str):
            raise TaskError(f"context {number} has no text: write {EXAMPLES}")
        found.append(Source(entry.get("id") or f"context {number}", entry["text"]))
    if len({source.id for source in found}) < len(found):
        raise TaskError("two contexts have the same id: give each its own")
    return tuple(source for source in found if source.text.strip())


def _references(task: Task, metadata: Mapping[str, Any]) -> tuple[str, ...]:
    answers = metadata.get("answers") or ()
    if not isinstance(answers, (list, tuple)) or len(answers) > MAX_ANSWERS or not all(isinstance(one, str) for one in answers):
        raise TaskError(f'answers is not a list of at most {MAX_ANSWERS} texts: write "answers": ["Oslo", "the city of Oslo"]')
    found = (*(() if task.reference is None else (task.reference,)), *answers)
    for reference in found:
        if not isinstance(reference, str) or not reference.strip():
            raise TaskError(f"a reference says nothing: {str(reference)[:40]!r}; write the answer, or leave it out")
    return found


def _flag(metadata: Mapping[str, Any], name: str) -> bool | None:
    value = metadata.get(name)
    if value is not None and not isinstance(value, bool):
        raise TaskError(f"{name} is {str(value)[:40]!r}: write true or false")
    return value


def _question(task: Task, metadata: Mapping[str, Any], sources: tuple[Source, ...]) -> str:
    """The question without its context: as the metadata gives it, behind the last "Question:", or what the prompt says besides."""
    question = metadata.get("question")
    if question is not None:
        if not isinstance(question, str):
            raise TaskError(f'question is {type(question).__name__}: write a text, such as "question": "Where does Ann live?"')
        return question.strip()
    prompt = task.prompt
    for source in sources:
        prompt = prompt.replace(source.text, "\n", 1)
    marks = list(ASKED.finditer(prompt))
    if marks:
        return prompt[marks[-1].end() :].strip().partition("\n")[0].strip()
    asked = [line.strip() for line in prompt.splitlines() if line.strip().endswith("?")]
    return asked[0] if len(asked) == 1 else " ".join(prompt.split())
