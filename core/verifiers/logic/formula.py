"""A small grammar of our own for logical formulas and constraints: what models write is read here and never run.

From tight to loose: `not` and a quantifier without a colon; `and`; `or`, `xor`; `implies` (to the right); `iff`. A quantifier with a colon
reaches as far to the right as it can. What readers read in two ways raises FormulaError: chains of `iff` or `xor`, `xor` beside `and` or
`or` without brackets, `^`, and a bound name used outside its quantifier.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from core.types import Record

MAX_LENGTH = 2_000
MAX_TOKENS = 600
MAX_DEPTH = 40
OWN_DEPTH = 200
MAX_NAMES = 64
MAX_BOUND = 6

SIGNS = {
    "not": (r"\neg", r"\lnot", "~", "¬", "!"),
    "and": (r"\land", r"\wedge", "/\\", "&&", "&", "∧", "⋀"),
    "or": (r"\lor", r"\vee", "\\/", "||", "|", "∨", "⋁"),
    "xor": (r"\oplus", r"\veebar", "⊕", "⊻"),
    "implies": (r"\rightarrow", r"\Rightarrow", r"\implies", r"\to", "->", "=>", "→", "⇒", "⟹", "⟶", "⊃"),
    "iff": (r"\leftrightarrow", r"\Leftrightarrow", r"\iff", "<->", "<=>", "↔", "⇔", "⟺", "⟷", "≡"),
    "forall": (r"\forall", "∀"),
    "exists": (r"\exists", "∃"),
    "true": (r"\top", "⊤"),
    "false": (r"\bot", "⊥"),
    "!=": (r"\neq", r"\ne", "!=", "≠"),
    "<=": (r"\leq", r"\le", "<=", "≤"),
    ">=": (r"\geq", r"\ge", ">=", "≥"),
    **{sign: (sign,) for sign in ("=", "<", ">", "(", ")", ",", ":", ".", "+")},
    "(": ("(", "["),
    ")": (")", "]"),
    "-": ("-", "−"),
}
KIND_OF = {spelled: kind for kind, signs in SIGNS.items() for spelled in signs}
WORDS = frozenset(("not", "and", "or", "xor", "implies", "iff", "forall", "exists", "true", "false"))
COMPARISONS = ("=", "!=", "<", "<=", ">", ">=")
SIGN = "|".join(re.escape(s) + ("(?![A-Za-z])" if s[-1].isalpha() and s.isascii() else "") for s in sorted(KIND_OF, key=len, reverse=True))
TOKEN = re.compile(rf"\s*(?:(?P<sign>{SIGN})|(?P<number>[0-9]{{1,6}})(?![\w.]*[0-9A-Za-z])|(?P<name>[^\W\d][\w']*)|$)")
IN_TWO_WAYS = {"^": "'^' is 'and' to some and 'xor' to others: write the word", "*": "there is no '*': write 'and'"}


class FormulaError(ValueError):
    """The text is no formula of this grammar, could be read in two ways, or is too large."""


@dataclass(frozen=True, slots=True)
class Name(Record):
    """A thing: a constant, a bound variable, or a variable of a puzzle."""

    name: str


@dataclass(frozen=True, slots=True)
class Number(Record):
    """A whole number."""

    value: int


@dataclass(frozen=True, slots=True)
class Sum(Record):
    """Terms added up, each with its sign, 1 or -1."""

    parts: tuple[tuple[int, Name | Number], ...]


Term = Name | Number | Sum


@dataclass(frozen=True, slots=True)
class Truth(Record):
    """The formula that always holds, or the one that never does."""

    value: bool


@dataclass(frozen=True, slots=True)
class Atom(Record):
    """A statement (no arguments) or a predicate of things."""

    name: str
    arguments: tuple[Term, ...] = ()


@dataclass(frozen=True, slots=True)
class Compare(Record):
    """Two terms and one of = != < <= > >=."""

    sign: str
    left: Term
    right: Term


@dataclass(frozen=True, slots=True)
class Not(Record):
    """The denial of a formula."""

    body: Formula


@dataclass(frozen=True, slots=True)
class Joined(Record):
    """Formulas under one connective: and, or (any number), implies, iff, xor (two)."""

    connective: str
    parts: tuple[Formula, ...]


@dataclass(frozen=True, slots=True)
class Quantified(Record):
    """forall or exists over one variable."""

    quantifier: str
    variable: str
    body: Formula


Formula = Truth | Atom | Compare | Not | Joined | Quantified


@lru_cache(maxsize=4096)
def parse(text: str) -> Formula:
    """The formula a text states. Raises FormulaError, which says where it stopped."""
    if len(text) > MAX_LENGTH:
        raise FormulaError(f"{len(text)} characters: {MAX_LENGTH} is the most")
    tokens = _tokens(text)
    names = len({token.text for token in tokens if token.kind == "name"})
    if len(tokens) > MAX_TOKENS or names > MAX_NAMES:
        raise FormulaError(f"{len(tokens)} signs and {names} names: {MAX_TOKENS} and {MAX_NAMES} are the most")
    return _Reader(tokens, MAX_DEPTH).whole()


def parse_own(text: str) -> Formula:
    """The same for a text that this program wrote out from formulas it had read: longer and deeper than anyone may write."""
    return _Reader(_tokens(text), OWN_DEPTH).whole()


@dataclass(frozen=True, slots=True)
class _Token(Record):
    kind: str
    text: str
    place: int


def _tokens(text: str) -> list[_Token]:
    tokens, place = [], 0
    while place < len(text):
        match = TOKEN.match(text, place)
        if match is None:
            rest = text[place:].lstrip()
            why = IN_TWO_WAYS.get(rest[0], f"{rest[0]!r} is not part of the grammar")
            raise FormulaError(f"{why} (at character {len(text) - len(rest) + 1})")
        if match.lastgroup is None:
            break
        spelled = match[match.lastgroup]
        kind = KIND_OF[spelled] if match.lastgroup == "sign" else match.lastgroup
        if kind == "name":
            kind = spelled.casefold() if spelled.casefold() in WORDS else kind
        tokens.append(_Token(kind, spelled, match.start(match.lastgroup) + 1))
        place = match.end()
    if not tokens:
        raise FormulaError("it is empty: write a formula such as P -> Q")
    return tokens


class _Reader:
    """Recursive descent over tokens; every way to nest is counted and bounded."""

    def __init__(self, tokens: list[_Token], most: int) -> None:
        self.tokens = [*tokens, _Token("end", "the end", tokens[-1].place + len(tokens[-1].text))]
        self.place = 0
        self.depth, self.most = 0, most
        self.bound: list[str] = []
        self.ever_bound: set[str] = set()
        self.free: set[str] = set()

    @property
    def kind(self) -> str:
        return self.tokens[self.place].kind

    def whole(self) -> Formula:
        formula = self.iff()
        if self.kind != "end":
            raise self.stopped("stands where nothing can follow")
        stray = sorted(self.free & self.ever_bound)
        if stray:
            raise FormulaError(f"{stray[0]!r} stands both inside and outside its quantifier: write the brackets or another name")
        return formula

    def iff(self) -> Formula:
        left = self.implies()
        if self.kind != "iff":
            return left
        self.take()
        formula = Joined("iff", (left, self.implies()))
        if self.kind == "iff":
            raise self.stopped("makes a chain that can be read in two ways: write the brackets")
        return formula

    def implies(self) -> Formula:
        left = self.either()
        if self.kind != "implies":
            return left
        self.take()
        return Joined("implies", (left, self.nested(self.implies)))

    def either(self) -> Formula:
        parts, joined, connective = [], False, ""
        while True:
            start = self.place
            parts.append(self.both())
            joined = joined or self.joins_and(start)
            if self.kind not in ("or", "xor"):
                break
            if connective == "xor" or (connective and self.kind == "xor"):
                raise self.stopped("stands beside an xor: write the brackets")
            connective = self.take()
        if connective == "xor" and joined:
            raise self.stopped("ends an xor beside an and: write the brackets")
        return Joined(connective, tuple(parts)) if connective else parts[0]

    def joins_and(self, start: int) -> bool:
        """Whether the part that was read from `start` on holds an `and` outside of brackets."""
        depth = 0
        for token in self.tokens[start : self.place]:
            depth += (token.kind == "(") - (token.kind == ")")
            if token.kind == "and" and not depth:
                return True
        return False

    def both(self) -> Formula:
        parts = [self.unary()]
        while self.kind == "and":
            self.take()
            parts.append(self.unary())
        return Joined("and", tuple(parts)) if len(parts) > 1 else parts[0]

    def unary(self) -> Formula:
        if self.kind == "not":
            self.take()
            return Not(self.nested(self.unary))
        if self.kind in ("forall", "exists"):
            return self.quantified()
        if self.kind != "(":
            return self.atom()
        self.take()
        formula = self.nested(self.iff)
        self.expect(")", "is not the ')' that is missing here")
        return formula

    def quantified(self) -> Formula:
        quantifier = self.take()
        variables = [self.variable()]
        while self.kind == "," or (self.kind == "name" and self.tokens[self.place + 1].kind in ("name", ":", ".")):
            if self.kind == ",":
                self.take()
            variables.append(self.variable())
        if len(self.bound) + len(variables) > MAX_BOUND:
            raise self.stopped(f"comes after more than {MAX_BOUND} quantified names")
        self.bound += variables
        self.ever_bound |= set(variables)
        wide = self.kind in (":", ".")
        self.place += wide
        body = self.nested(self.iff if wide else self.unary)
        del self.bound[-len(variables) :]
        for variable in reversed(variables):
            body = Quantified(quantifier, variable, body)
        return body

    def variable(self) -> str:
        name = self.expect("name", "is no name for a variable")
        if name in self.bound:
            raise FormulaError(f"{name!r} is quantified twice (at character {self.tokens[self.place - 1].place}): give it another name")
        return name

    def atom(self) -> Formula:
        if self.kind in ("true", "false"):
            return Truth(self.take() == "true")
        if self.kind == "name" and self.tokens[self.place + 1].kind == "(":
            name = self.tokens[self.place].text
            self.place += 2
            arguments = [self.term()]
            while self.kind == ",":
                self.take()
                arguments.append(self.term())
            self.expect(")", "is not the ',' or ')' that is missing here")
            return Atom(name, tuple(arguments))
        start = self.tokens[self.place]
        terms, signs = [self.term()], []
        while self.kind in COMPARISONS:
            signs.append(self.take())
            terms.append(self.term())
        if signs:
            chain = tuple(Compare(sign, terms[i], terms[i + 1]) for i, sign in enumerate(signs))
            return chain[0] if len(chain) == 1 else Joined("and", chain)
        if not isinstance(terms[0], Name):
            raise self.stopped("stands where a comparison such as = or < is missing")
        if terms[0].name in self.bound:
            raise FormulaError(f"{start.text!r} is a thing and no statement (at character {start.place})")
        return Atom(terms[0].name)

    def term(self) -> Term:
        sign = -1 if self.kind == "-" else 1
        if sign < 0:
            self.take()
        parts = [(sign, self.single())]
        while self.kind in ("+", "-"):
            sign = 1 if self.take() == "+" else -1
            parts.append((sign, self.single()))
        return parts[0][1] if len(parts) == 1 and parts[0][0] == 1 else Sum(tuple(parts))

    def single(self) -> Name | Number:
        token = self.tokens[self.place]
        if token.kind == "number":
            self.take()
            return Number(int(token.text))
        name = self.expect("name", "stands where a statement, a name or '(' should")
        if name not in self.bound:
            self.free.add(name)
        return Name(name)

    def nested(self, read: Callable[[], Formula]) -> Formula:
        self.depth += 1
        if self.depth > self.most:
            raise self.stopped(f"stands deeper than {self.most} levels")
        formula = read()
        self.depth -= 1
        return formula

    def expect(self, kind: str, why: str) -> str:
        if self.kind != kind:
            raise self.stopped(why)
        self.place += 1
        return self.tokens[self.place - 1].text

    def take(self) -> str:
        self.place += 1
        return self.tokens[self.place - 1].kind

    def stopped(self, why: str) -> FormulaError:
        token = self.tokens[self.place]
        shown = token.text if token.kind == "end" else repr(token.text)
        return FormulaError(f"{shown} {why} (at character {token.place})")
