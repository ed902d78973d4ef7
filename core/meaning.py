"""Whether two questions may mean the same: close by their embeddings, and alike in each number, name and turn of sense.

Neither says that they do. Embeddings put "the capital of Austria" beside "the capital of Australia", so whoever serves one's answer to
the other has it verified first.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from math import hypot, isfinite
from typing import Any

from core.answers import plain
from core.errors import ConfigError
from core.registry import resolve

Embed = Callable[[Sequence[str]], Sequence[Sequence[float]]]

FORMULA = re.compile(r"\d+(?:[.,]\d+)*|(?<![^\W\d])[-/]|[-/](?![^\W\d_])|[+*^=<>%!|&~√π°€$£]|(?<![\w'’])[b-zB-HJ-Z](?![\w'’])")
QUOTED = re.compile(r'"([^"]*)"|“([^”]*)”|`([^`]*)`|«([^»]*)»')
WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
OPENERS = frozenset(
    """
    a an and are at can calculate compute consider convert could describe determine did do does evaluate explain find for from given
    give has have how i if in is it let list my name now of on our please prove say show simplify solve state suppose tell the their
    then there these they this to was we were what what's when where which who whom whose why will with work would write you your
    """.split()  # noqa: SIM905
)
TURNS = frozenset(
    """
    no not never none nor neither without except unless only cannot all some any every each both either always sometimes and or but if
    who whom whose when where why how many much more less fewer most least greater smaller larger bigger higher lower longer shorter
    older younger faster slower better worse taller before after first second third last next previous earlier later above below over
    under inside outside between increase decrease increased decreased rise fall gain loss add added subtract sum difference product
    quotient multiply multiplied divide divided plus minus times minimum maximum min max mean median mode average total count square
    squared cube cubed root double twice half third quarter even odd prime positive negative north south east west left right top
    bottom up down true false valid invalid possible impossible same different equal unequal zero one two three four five six seven
    eight nine ten eleven twelve dozen hundred thousand million billion today yesterday tomorrow now past future
    """.split()  # noqa: SIM905
)
SUPERLATIVE = re.compile(r"\w{2,}est")
NEGATED = re.compile(r"\w+n['’]t")


def may_mean_the_same(one: str, other: str) -> bool:
    """False when a number, a sign, a variable, a name, a quotation, a negation, a comparison or a question word differs, or their order."""
    return _marks(plain(one)) == _marks(plain(other))


def load_embedder(name: str) -> Embed:
    """The embedding model of that name. Raises ConfigError when it, or the package that it needs, is not there."""
    if ":" in name:
        embed: Embed = resolve({"CACHE_EMBEDDINGS": name}, "CACHE_EMBEDDINGS")
        return embed
    if find_spec("sentence_transformers") is None:
        raise ConfigError(f"CACHE_EMBEDDINGS is {name!r}, which needs sentence-transformers: pip install sentence-transformers")
    try:
        model = import_module("sentence_transformers").SentenceTransformer(name)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"there is no embedding model {name!r} ({error}): give the name or the directory of a sentence-transformers model"
        ) from error
    return lambda texts: model.encode(list(texts), show_progress_bar=False)


def packed(vector: Sequence[float]) -> bytes | None:
    """A vector of length 1 as bytes; None when it has no direction."""
    values = [float(value) for value in vector]
    length = hypot(*values)
    return array("f", [value / length for value in values]).tobytes() if isfinite(length) and length > 0 else None


class Nearest:
    """Vectors by their number, and which of them lie near another one. `last` is the highest number that was added."""

    def __init__(self) -> None:
        self.last = 0
        self._vectors: dict[int, bytes] = {}
        self._matrix: Any = None

    def __len__(self) -> int:
        return len(self._vectors)

    def add(self, number: int, vector: bytes) -> None:
        self._vectors[number] = vector
        self.last = max(self.last, number)
        self._matrix = None

    def forget(self, number: int) -> None:
        self._vectors.pop(number, None)
        self._matrix = None

    def to(self, vector: bytes, least: float) -> list[int]:
        """The numbers of all with a cosine of at least that much, nearest first."""
        import numpy as np

        if not self._vectors:
            return []
        if self._matrix is None:
            self._matrix = np.frombuffer(b"".join(self._vectors.values()), np.float32).reshape(len(self._vectors), -1)
        cosines = self._matrix @ np.frombuffer(vector, np.float32)
        numbers = list(self._vectors)
        return [numbers[place] for place in np.argsort(-cosines, kind="stable") if cosines[place] >= least - 1e-6]


def _marks(text: str) -> tuple[list[str], ...]:
    """What must not differ, in the order in which it stands there."""
    words = [(match[0], match.start()) for match in WORD.finditer(text)]
    turns = [
        word for word in (word.casefold() for word, _ in words) if word in TURNS or SUPERLATIVE.fullmatch(word) or NEGATED.fullmatch(word)
    ]
    names = [re.sub(r"['’]s$", "", word) for word, _ in words if word[:1].isupper() and word.casefold() not in OPENERS]
    return FORMULA.findall(text), ["".join(groups) for groups in QUOTED.findall(text)], turns, names
