"""Reads an answer, in LaTeX or plain text, into a tree of plain lists: no value is computed here and no text is run.

What a worker process builds its algebra from. A node is `[kind, ...]`: `num` "p/q", `sym`, `const` (pi e i oo), `add`, `mul`, `pow`, `fn`
for terms; `set`, `tuple`, `bracket`, `list`, `interval`, `union`, `matrix`, `eq`, `rel`, `and`, `or`, `named`, `assign`, `none` for answers
made of terms. A text with two readings (`1/2x`) gives both.
"""

from __future__ import annotations

import re
from functools import lru_cache

from core.answers import plain
from core.verifiers.math.combine import as_range, either, together
from core.verifiers.math.formula import FormulaError
from core.verifiers.math.tokens import RELATIONS, tokens_of
from core.verifiers.math.trees import INFINITE, Node, binomial, constant_of, exact, is_infinite, is_term, name_of, quotient, raised

MAX_LENGTH = 400
MAX_DEPTH = 20
MAX_FACTORIAL = 100

INVERSE = {"sin": "asin", "cos": "acos", "tan": "atan"}
REALS = re.compile(r"\\mathbb ?\{?R\}?|\\R(?![A-Za-z])|\\Reals")
MATRIX = re.compile(r"\\begin\{([bp]?matrix)\}(.*?)\\end\{\1\}")
FUNCTION_NAME = re.compile(r"([A-Za-z]\([A-Za-z]\)|[A-Za-z]') ?= ?([^=]+)", re.ASCII)
CLOSES = {"(": ")]", "[": "])", "{": "}", "\\{": "\\}"}


@lru_cache(maxsize=4096)
def read(text: str) -> tuple[Node, ...]:
    """Every reading of a text, one or two. Raises FormulaError on what the grammar or the limits don't allow."""
    if len(text) > MAX_LENGTH:
        raise FormulaError(f"{len(text)} characters: {MAX_LENGTH} is the most")
    named = FUNCTION_NAME.fullmatch(text)
    if named:
        return tuple(["named", named[1], node] for node in read(named[2]))
    matrix = MATRIX.fullmatch(text)
    if matrix:
        return (_matrix([row.split("&") for row in re.split(r"\\\\", matrix[2])]),)
    tokens = tokens_of(REALS.sub("ℝ", plain(text)))
    first, ambiguous = _read(tokens, tight=False)
    return (first, _read(tokens, tight=True)[0]) if ambiguous else (first,)


def read_term(text: str) -> Node:
    """The one reading of a text as a term, without relations and brackets of several things. Raises FormulaError."""
    readings = read(text)
    if len(readings) > 1 or not is_term(readings[0]):
        raise FormulaError(f"{text[:40]!r} is no single term with one reading")
    return readings[0]


def _read(tokens: list[tuple[str, str]], tight: bool) -> tuple[Node, bool]:
    reader = _Reader(tokens, tight, 1)
    node = reader.whole()
    if reader.saw_sign:
        node = either([node, _Reader(tokens, tight, -1).whole()])
    return node, reader.ambiguous


def _matrix(rows: list[list[str]]) -> Node:
    rows = [row for row in rows if any(cell.strip() for cell in row)]
    if not rows or len({len(row) for row in rows}) > 1:
        raise FormulaError("the rows of a matrix have one length")
    return ["matrix", [[read_term(cell.strip()) for cell in row] for row in rows]]


class _Reader:
    """Recursive descent over tokens. `tight`: a product without a sign binds before a division. `upper`: the sign that ± stands for."""

    def __init__(self, tokens: list[tuple[str, str]], tight: bool, upper: int) -> None:
        self.tokens = [*tokens, ("end", "")]
        self.place = 0
        self.depth = 0
        self.bars = 0
        self.tight = tight
        self.upper = upper
        self.ambiguous = False
        self.saw_sign = False

    def sees(self, *signs: str) -> bool:
        kind, value = self.tokens[self.place]
        return kind == "op" and value in signs

    def take(self) -> str:
        self.place += 1
        return self.tokens[self.place - 1][1]

    def whole(self) -> Node:
        node = self.clauses()
        if self.tokens[self.place][0] != "end":
            raise FormulaError(f"{self.tokens[self.place][1]!r} stands where nothing can follow")
        return node

    def clauses(self) -> Node:
        parts, by = [self.clause()], ""
        while self.sees("or", "and", ",", ";"):
            sign = self.take()
            if sign == "," and self.sees("or", "and"):
                sign = self.take()
            by = sign if by in ("", ",") else by
            if sign != by:
                raise FormulaError("'and' and 'or' in one answer: that has two readings")
            parts.append(self.clause())
        return parts[0] if not by else either(parts) if by == "or" else together(parts, by)

    def clause(self) -> Node:
        left = self.union()
        if self.sees("∈"):
            self.take()
            return ["named", name_of(left), as_range(self.union())]
        parts, signs = [left], []
        while self.sees(*RELATIONS):
            signs.append(self.take())
            parts.append(self.union())
        if not signs:
            return left
        if signs == ["="]:
            return ["eq", *parts]
        if "=" in signs or len(signs) > 2:
            raise FormulaError("a chain of equals signs is no answer")
        nodes = [["rel", sign, parts[n], parts[n + 1]] for n, sign in enumerate(signs)]
        return nodes[0] if len(nodes) == 1 else ["and", nodes]

    def union(self) -> Node:
        parts = [self.sum()]
        while self.sees("∪"):
            self.take()
            parts.append(self.sum())
        return parts[0] if len(parts) == 1 else ["union", parts]

    def sum(self) -> Node:
        parts = [self.product()]
        while self.sees("+", "-", "±", "∓"):
            sign = self.sign()
            part = self.term(self.product())
            parts.append(part if sign > 0 else ["mul", ["num", "-1"], part])
        return parts[0] if len(parts) == 1 else ["add", *map(self.term, parts)]

    def sign(self) -> int:
        sign = self.take()
        self.saw_sign = self.saw_sign or sign in "±∓"
        return {"+": 1, "-": -1, "±": self.upper, "∓": -self.upper}[sign]

    def product(self) -> Node:
        value, divided = self.signed(), False
        while True:
            if self.sees("*"):
                self.take()
                value = ["mul", self.term(value), self.term(self.signed())]
            elif self.sees("/"):
                self.take()
                below = self.signed()
                while self.tight and self.follows():
                    below = ["mul", self.term(below), self.term(self.power())]
                    self.ambiguous = True
                value, divided = quotient(self.term(value), self.term(below)), True
            elif self.follows():
                self.ambiguous = self.ambiguous or divided
                value = ["mul", self.term(value), self.term(self.power())]
            else:
                return value

    def follows(self) -> bool:
        """Whether a factor without a sign comes next. A number after a number, or a fraction after one, has two readings."""
        kind, value = self.tokens[self.place]
        before = self.tokens[self.place - 1]
        if kind == "num" and (before[0] == "num" or before[1] in ")]}" or before[1] == "\\}"):
            raise FormulaError("a number after a number")
        if (kind, value) == ("fn", "frac") and before[0] == "num":
            raise FormulaError("a number before a fraction: a product or a mixed number")
        opens = kind == "op" and (value in ("(", "[", "{") or (value == "|" and not self.bars))
        return kind in ("num", "sym", "const", "fn") or opens

    def signed(self) -> Node:
        if self.sees("+", "-", "±", "∓"):
            sign = self.sign()
            value = self.term(self.signed_once())
            return value if sign > 0 else ["mul", ["num", "-1"], value]
        return self.power()

    def signed_once(self) -> Node:
        if self.sees("+", "-", "±", "∓"):
            raise FormulaError("two signs in a row")
        return self.power()

    def power(self) -> Node:
        base = self.atom()
        if self.sees("!"):
            self.take()
            base = self.factorial(base)
        if not self.sees("^"):
            return base
        self.take()
        node = raised(self.term(base), self.exponent())
        if self.sees("^", "!"):
            raise FormulaError("a tower of powers: write the brackets")
        return node

    def exponent(self) -> Node:
        if self.sees("{"):
            return self.group("{")
        sign = self.take() if self.sees("-", "+") else "+"
        value = self.term(self.atom())
        return value if sign == "+" else ["mul", ["num", "-1"], value]

    def factorial(self, base: Node) -> Node:
        number = constant_of(base) if base[0] == "num" else None
        if number is None or number.denominator != 1 or number > MAX_FACTORIAL or self.sees("!"):
            raise FormulaError(f"a factorial of something else than a whole number up to {MAX_FACTORIAL}")
        return ["fn", "factorial", base]

    def atom(self) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise FormulaError(f"brackets and functions deeper than {MAX_DEPTH}")
        node = self.bare_atom()
        self.depth -= 1
        return node

    def bare_atom(self) -> Node:
        kind, value = self.tokens[self.place]
        if kind == "num":
            self.place += 1
            return ["num", exact(value)]
        if kind in ("sym", "const"):
            self.place += 1
            if self.sees("_"):
                raise FormulaError("an index is not part of the grammar")
            return [kind, value]
        if kind == "fn":
            self.place += 1
            return self.function(value)
        if self.sees("|"):
            return self.absolute()
        if self.sees("∅", "ℝ"):
            return ["none"] if self.take() == "∅" else ["interval", *INFINITE, True, True]
        if self.sees(*CLOSES):
            return self.bracketed()
        raise FormulaError(f"{value or 'the end'!r} stands where a number should")

    def absolute(self) -> Node:
        self.take()
        self.bars += 1
        inner = self.term(self.sum())
        if not self.sees("|"):
            raise FormulaError("'|' is not closed")
        self.take()
        self.bars -= 1
        return ["fn", "abs", inner]

    def bracketed(self) -> Node:
        """A group, or several things in brackets, whose kind the brackets tell."""
        opens, items = self.take(), []
        bars, self.bars = self.bars, 0
        while not self.sees(*CLOSES[opens], CLOSES[opens]):
            items.append(self.clause())
            if self.sees(",", ";"):
                self.take()
            elif not self.sees(*CLOSES[opens], CLOSES[opens]):
                raise FormulaError(f"{opens!r} is not closed")
        closes = self.take()
        self.bars = bars
        if opens == "\\{" or (opens == "{" and len(items) != 1):
            return ["set", items] if items else ["none"]
        if len(items) == 1 and opens + closes in ("()", "[]", "{}"):
            return items[0]
        if opens == "[" and closes == "]" and items and all(item[0] == "bracket" for item in items):
            return ["matrix", [item[1] for item in items]] if len({len(item[1]) for item in items}) == 1 else ["bracket", items]
        kinds = {"()": "tuple", "[]": "bracket"}
        if len(items) != 2 and (opens + closes not in kinds or not items):
            raise FormulaError("an interval has two ends")
        if opens + closes in kinds and not any(is_infinite(item) for item in items):
            return [kinds[opens + closes], items]
        return ["interval", self.term(items[0]), self.term(items[1]), opens == "(", closes == ")"]

    def group(self, opens: str) -> Node:
        if not self.sees(opens):
            raise FormulaError(f"{opens!r} is missing")
        return self.term(self.bracketed())

    def function(self, name: str) -> Node:
        if name in ("frac", "binom"):
            above, below = self.argument(), self.argument()
            return quotient(above, below) if name == "frac" else binomial(above, below)
        if name == "sqrt":
            index: Node = ["num", "2"]
            if self.sees("["):
                self.take()
                index = self.term(self.sum())
                if not self.sees("]"):
                    raise FormulaError("'[' is not closed")
                self.take()
            return raised(self.argument(), quotient(["num", "1"], index))
        base, power = None, None
        if name == "log" and self.sees("_"):
            self.take()
            base = self.argument()
        if self.sees("^"):
            self.take()
            power = self.exponent()
        if power == ["mul", ["num", "-1"], ["num", "1"]]:
            if name not in INVERSE:
                raise FormulaError("a function to the power -1 has two readings")
            name, power = INVERSE[name], None
        inner = self.group("(") if self.sees("(") else self.group("{") if self.sees("{") else self.bare_argument()
        node = ["fn", "exp", inner] if name == "exp" else ["fn", name, inner, *([base] if base else [])]
        return raised(node, power) if power else node

    def argument(self) -> Node:
        """What stands in braces or, as LaTeX reads it, the next digit or sign."""
        if self.sees("{", "("):
            return self.group("{" if self.sees("{") else "(")
        kind, value = self.tokens[self.place]
        if kind == "num" and len(value) > 1:
            if "." in value:
                raise FormulaError("a decimal without braces")
            self.tokens[self.place] = ("num", value[1:])
            return ["num", value[0]]
        return self.term(self.atom())

    def bare_argument(self) -> Node:
        """`\\sin 2x`: numbers, letters and their powers, up to the next sign or function."""
        parts = [self.term(self.power())]
        while self.tokens[self.place][0] in ("sym", "const"):
            parts.append(self.term(self.power()))
        if self.sees("/"):
            self.ambiguous = True
            if self.tight:
                self.take()
                parts = [quotient(["mul", *parts], self.term(self.power()))]
        return parts[0] if len(parts) == 1 else ["mul", *parts]

    def term(self, node: Node) -> Node:
        if not is_term(node):
            raise FormulaError("a sum or product of something that is no term")
        return node
