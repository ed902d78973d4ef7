"""The signs, words and commands of an answer, in LaTeX or plain text, as pairs of kind and value."""

from __future__ import annotations

import re

from core.verifiers.math.formula import FormulaError

FUNCTIONS = {
    **{name: name for name in ("sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh", "ln", "log", "exp", "sqrt", "abs")},
    **{f"{arc}{name}": f"a{name}" for name in ("sin", "cos", "tan") for arc in ("arc", "a")},
}
INVERSE = {"sin": "asin", "cos": "acos", "tan": "atan"}
GREEK = {name: name for name in ("alpha", "beta", "gamma", "delta", "theta", "lambda", "mu", "phi", "omega", "sigma", "rho", "tau")}
GREEK_SIGNS = dict(zip("αβγδθλμφωσρτ", GREEK, strict=True))
CONSTANTS = {"pi": "pi", "infty": "oo", "infinity": "oo", "inf": "oo", "oo": "oo", "e": "e", "i": "i"}
RELATIONS = {"=": "=", "<": "<", ">": ">", "<=": "<=", ">=": ">=", "!=": "!="}
RELATION_NAMES = {"lt": "<", "gt": ">", "le": "<=", "leq": "<=", "leqslant": "<=", "ge": ">=", "geq": ">=", "geqslant": ">="}
NAMES = {**RELATION_NAMES, "ne": "!=", "neq": "!=", "pm": "±", "mp": "∓", "cup": "∪", "cap": "∩", "in": "∈", "lvert": "|", "rvert": "|"}
NAMES |= {"emptyset": "∅", "varnothing": "∅", "or": "or", "and": "and", "lor": "or", "land": "and"}
SIGNS = {"≤": "<=", "≥": ">=", "≠": "!=", "\\{": "\\{", "\\}": "\\}", "**": "^"}
PRODUCT_OF_LETTERS = re.compile(r"[abcdkmnpqrstuvxyz]{2,3}|[abkmnrtxyz][ei]", re.ASCII)
TOKEN = re.compile(
    r"(?P<num>\d+(?:\.\d+)?|\.\d+)|\\(?P<cmd>[A-Za-z]+)|(?P<word>[A-Za-z]+)"
    r"|(?P<op>\\\{|\\\}|\*\*|<=|>=|!=|[-+*/^_=<>(){}\[\],;|!±∓∪∩∈∅≤≥≠√π∞ℝαβγδθλμφωσρτ])",
    re.ASCII,
)


def tokens_of(text: str) -> list[tuple[str, str]]:
    """Kinds: num, sym, const, fn, op. Raises FormulaError on what is no part of the grammar."""
    tokens: list[tuple[str, str]] = []
    place = 0
    while place < len(text):
        if text[place] == " ":
            place += 1
            continue
        match = TOKEN.match(text, place)
        if match is None:
            raise FormulaError(f"{text[place]!r} is not part of the grammar")
        kind, value = match.lastgroup or "", match[0]
        place = match.end()
        tokens += [("num", value)] if kind == "num" else [_sign(value)] if kind == "op" else _word(value.lstrip("\\"), kind == "cmd")
    if not tokens:
        raise FormulaError("it is empty")
    return tokens


def _sign(sign: str) -> tuple[str, str]:
    if sign in GREEK_SIGNS:
        return "sym", GREEK_SIGNS[sign]
    if sign in "π∞":
        return "const", {"π": "pi", "∞": "oo"}[sign]
    return ("fn", "sqrt") if sign == "√" else ("op", SIGNS.get(sign, sign))


def _word(word: str, command: bool) -> list[tuple[str, str]]:
    if word in FUNCTIONS:
        return [("fn", FUNCTIONS[word])]
    if word in CONSTANTS:
        return [("const", CONSTANTS[word])]
    if word in NAMES and (command or word in ("or", "and", "in")):
        return [("op", NAMES[word])]
    if word in GREEK:
        return [("sym", word)]
    if command and word in ("frac", "binom"):
        return [("fn", word)]
    if not command and len(word) == 1:
        return [("sym", word)]
    if not command and PRODUCT_OF_LETTERS.fullmatch(word):
        return [("const" if letter in "ei" else "sym", letter) for letter in word]
    raise FormulaError(f"{word!r} is no word of the grammar")
