"""What must never be learnt: the tasks of the held-out side, however they are worded, whatever they are called, wherever quoted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from core.tasks.splits import split_of
from core.types import Record, Split, Task, normalise_prompt
from finetune.likeness import NEAR, NOBODY, Near, loosened

QUOTED_FROM = 8  # words; shorter prompts stand in honest answers by chance

HELD_OUT, SAME, ALIKE, QUOTED = "held out", "worded as a held-out task", "near a held-out prompt", "quotes a held-out prompt"


@dataclass(frozen=True, slots=True)
class Question(Record):
    """A task as the check sees it. `template` is its family where its key tells it from others of that family, else ""."""

    id: str
    prompt: str
    template: str = ""


@dataclass(frozen=True, slots=True)
class Leak(Record):
    """Which of the four kinds it is, and the held-out task behind it."""

    kind: str
    task_id: str
    told: str


def question(task: Task) -> Question:
    """Tasks with a family and a key of their own are instances of a template: two of one family are the same only by their key."""
    own_key = task.key != normalise_prompt(task.prompt)
    return Question(task.id, task.prompt, task.family if task.family and own_key else "")


def trainable(task: Task, split: Split | str) -> bool:
    """Whether a task stands on the training side by its record and by its key: a record that says otherwise than the key is not believed.

    Keys that redaction has replaced say their split themselves, and then the record alone decides.
    """
    return split == Split.TRAIN and (split_of(task) is Split.TRAIN or task.key.endswith("[redacted:split-train]"))


class HeldOut:
    """The held-out side, with an index of its prompts. `bound` is the Jaccard index from which a prompt is too near; 1 is exact only."""

    def __init__(self, questions: Iterable[Question], bound: float = NEAR) -> None:
        named = {question.id: question for question in questions}
        self._questions = sorted(named.values(), key=lambda q: q.id)
        self._ids = set(named)
        loose = [loosened(q.prompt) for q in self._questions]
        self._worded = {text: q for text, q in zip(reversed(loose), reversed(self._questions), strict=True)}
        templates = {name: number for number, name in enumerate(sorted({q.template for q in self._questions if q.template}))}
        self._group_of = templates
        self._near = Near(loose if bound < 1 else (), bound, [templates.get(q.template, NOBODY) for q in self._questions])
        self._quotable = _quotable(loose)
        self._first_words = frozenset(three[0] for three in self._quotable)

    def __len__(self) -> int:
        return len(self._questions)

    def leak_of(self, question: Question) -> Leak | None:
        """Why the question is held out itself; None when it isn't."""
        if question.id in self._ids:
            return Leak(HELD_OUT, question.id, question.prompt)
        text = loosened(question.prompt)
        same = self._worded.get(text)
        if same:
            return Leak(SAME, same.id, question.prompt)
        match = self._near.near(text, self._group_of.get(question.template, NOBODY))
        if match:
            found = self._questions[match.place]
            return Leak(ALIKE, found.id, f"{match.jaccard:.2f} {question.prompt}")
        return self.quoted_in(text)

    def quoted_in(self, text: str) -> Leak | None:
        """The held-out prompt that stands in a loosened text, word for word."""
        words = text.split(" ")
        if self._first_words.isdisjoint(words):
            return None
        anchors = self._quotable.keys() & zip(words, words[1:], words[2:], strict=False)
        padded = f" {text} "
        for anchor in sorted(anchors):
            for prompt in self._quotable[anchor]:
                if f" {prompt} " in padded:
                    return Leak(QUOTED, self._worded[prompt].id, prompt)
        return None


def _quotable(prompts: Iterable[str]) -> dict[tuple[str, str, str], list[str]]:
    """Prompts under the rarest three words that follow each other in them, so that few are looked for in any text."""
    long = sorted({p for p in prompts if p.count(" ") + 1 >= QUOTED_FROM})
    counts = Counter(three for prompt in long for three in _threes(prompt))
    found: dict[tuple[str, str, str], list[str]] = {}
    for prompt in long:
        found.setdefault(min(_threes(prompt), key=lambda three: (counts[three], three)), []).append(prompt)
    return found


def _threes(text: str) -> set[tuple[str, str, str]]:
    words = text.split(" ")
    return set(zip(words, words[1:], words[2:], strict=False))
