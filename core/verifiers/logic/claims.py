"""Questions that a word answers (does it follow, can it be, are they the same), and formulas that must mean the same as another."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from core.types import Evidence
from core.verifiers.base import Finding, failed, passed, short
from core.verifiers.logic.answers import read_word
from core.verifiers.logic.fields import Fields, StatementError, UndecidedError, ask, closed, readable, told
from core.verifiers.logic.formula import FormulaError, parse
from core.verifiers.logic.process import OPEN, Setting
from core.verifiers.logic.rewrite import connectives
from core.verifiers.logic.structure import signature

POLAR = ("yes", "no", "true", "false")
Words = Mapping[str, Sequence[str]]
FOLLOWS: Words = {
    "entailed": ("yes", "true", "follows", "does follow", "valid", "entailed", "does", "must be true"),
    "not entailed": ("no", "false", "does not follow", "not follow", "invalid", "not valid", "not entailed", "does not", "not true"),
}
STATUS: Words = {
    "entailed": ("yes", "true", "follows", "entailed", "proved", "must be true", "tautology"),
    "contradicted": ("no", "false", "contradicted", "contradictory", "refuted", "disproved", "must be false", "contradiction"),
    "undetermined": (
        *("unknown", "uncertain", "undetermined", "not determined", "can not be determined", "neither", "can not be known", "contingent"),
        *("can not tell", "not known", "undecided", "can not say"),
    ),
}
CONSISTENT: Words = {
    "consistent": ("yes", "true", "consistent", "satisfiable", "can all be true", "can be true together"),
    "inconsistent": (
        *("no", "false", "inconsistent", "unsatisfiable", "not consistent", "not satisfiable", "contradictory"),
        *("contradict each other", "can not all be true", "can not be true together"),
    ),
}
EQUIVALENT: Words = {
    "equivalent": ("yes", "true", "equivalent", "logically equivalent", "same"),
    "not equivalent": ("no", "false", "not equivalent", "not logically equivalent", "inequivalent", "different", "not the same"),
}
TURNED = {
    "entailed": re.compile(
        r"invalid|not (?:\w+ )?valid|n[o'’]t (?:\w+ )?(?:follow|entail)|fails? to |fallac|unsound|be false|counter.?(?:example|model)"
        r"|is (?:it|th\w+ \w+) (?:false|wrong)",
        re.IGNORECASE,
    ),
    "consistent": re.compile(r"inconsist|not consist|unsatisf|contradict|incompatib|conflict|clash|impossible", re.IGNORECASE),
    "equivalent": re.compile(r"not (?:\w+ )?equivalent|inequivalent|differ|distinct|unlike", re.IGNORECASE),
}
SENTENCE = re.compile(r"(all|no|some) ([a-z]+(?: [a-z]+){0,3}?) are (not )?([a-z]+(?: [a-z]+){0,3})", re.IGNORECASE)
LOOSE = frozenset(("are", "is", "not", "and", "or", "that", "who", "which", "all", "no", "some", "if", "only", "every", "each"))
STATED = r"(?:all|no|some) [a-z ]{1,80}"
SYLLOGISM = re.compile(
    rf"\s*((?:{STATED}\. ){{1,8}})(?:does it follow that ({STATED})\?"
    rf"|therefore,? ({STATED})\. is (?:the|this) (?:argument|syllogism) valid\?)"
    r"(?: answer (?:with )?yes or no\.?)?\s*",
    re.IGNORECASE,
)
CONNECTIVES = frozenset(("not", "and", "or", "implies", "iff", "xor", "forall", "exists"))
MAX_PROMPT = 1_000
WRAPPERS = (("`", "`"), ("**", "**"), ("$", "$"), ("\\(", "\\)"), ('"', '"'), ("“", "”"))


def entailment(fields: Fields, answer: str) -> Finding:
    """Does the conclusion follow from the premises? In two values, or in three with `three_valued`."""
    premises, conclusion = fields.formulas("premises"), fields.formula("conclusion")
    return _follows(fields, answer, premises, conclusion, fields.setting((*premises, conclusion)), premises)


def syllogism(fields: Fields, answer: str) -> Finding:
    """The same for sentences such as "no birds are fish". "All" says nothing of existence unless `existential_import` is true."""
    sentences, conclusion = fields.texts("premises"), fields.text("conclusion")
    premises = tuple(categorical(sentence) for sentence in sentences)
    names = dict.fromkeys(name for text in (*premises, categorical(conclusion)) for name, _ in signature([parse(text)]).predicates)
    given = tuple(f"exists _x: {name}(_x)" for name in names) if fields.flag("existential_import") else ()
    shown = (*sentences, *(f"there are {name}" for name in names))
    return _follows(fields, answer, (*premises, *given), categorical(conclusion), OPEN, shown)


def read_syllogism(prompt: str) -> dict[str, Any] | None:
    """The formal statement of a prompt that is nothing but a syllogism and the question whether it follows.

    A term of the conclusion that the premises lack, or one term that is another with an ending, is no case for reading to the letter.
    """
    match = SYLLOGISM.fullmatch(prompt) if len(prompt) <= MAX_PROMPT else None
    if match is None:
        return None
    *premises, _ = match[1].split(". ")
    conclusion = match[2] or match[3]
    try:
        terms = [set(signature([parse(categorical(sentence))]).predicates) for sentence in (*premises, conclusion)]
    except (StatementError, FormulaError):
        return None
    known = sorted(name for name, _ in set().union(*terms))
    endings = any(longer.startswith(shorter[:-1]) for shorter, longer in itertools.pairwise(known) if len(shorter) > 2)
    if endings or not terms[-1] <= set().union(*terms[:-1]):
        return None
    return {"kind": "syllogism", "premises": premises, "conclusion": conclusion}


def consistency(fields: Fields, answer: str) -> Finding:
    """Can the premises all be true together?"""
    premises = fields.formulas("premises")
    found = ask(premises, setting=fields.setting(premises))
    if found.state == "sat":
        return _judged(fields, answer, CONSISTENT, "consistent", "they can hold together", model=readable(found.world))
    clash = [premises[place] for place in found.core]
    return _judged(fields, answer, CONSISTENT, "inconsistent", f"these clash: {'; '.join(clash)}", premises_used=clash)


def equivalence(fields: Fields, answer: str) -> Finding:
    """Do two formulas mean the same?"""
    formulas = fields.formulas("formulas")
    if len(formulas) != 2:
        raise StatementError(f"'formulas' must hold two formulas, not {len(formulas)}")
    world = _difference(*formulas, fields.setting(formulas))
    if world is None:
        return _judged(fields, answer, EQUIVALENT, "equivalent", "no case tells them apart")
    return _judged(fields, answer, EQUIVALENT, "not equivalent", f"they differ where {told(world)}", counter_model=world)


def formula(fields: Fields, answer: str) -> Finding:
    """The answer is a formula that must be equivalent to `formula`, with no other `connectives` than those allowed."""
    wanted, allowed = fields.formula("formula"), fields.texts("connectives", ())
    setting = fields.setting([wanted])
    strange = sorted(set(allowed) - CONNECTIVES)
    if strange:
        raise StatementError(f"'connectives' names {short(strange[0])!r}: choose from {', '.join(sorted(CONNECTIVES))}")
    if "unsat" in (ask((wanted,), setting=setting).state, ask((), wanted, setting).state):
        raise StatementError(f"'formula' {short(wanted)!r} is always true or never: any such formula would pass")
    text = _bare(answer)
    try:
        given = parse(text)
        names = signature([parse(wanted), given])
        setting = closed(setting.domain, [given], names) if setting.domain else setting
    except (FormulaError, StatementError) as error:
        return failed(f"{short(text)!r} can't be read as a formula here: {error}", Evidence.PROOF)
    foreign = sorted(connectives(given) - set(allowed))
    if allowed and foreign:
        return failed(f"{short(text)!r} uses {foreign[0]!r}: only {', '.join(allowed)} are allowed", Evidence.PROOF)
    world = _difference(wanted, text, setting)
    if world is None:
        return passed(f"{short(text)!r} is equivalent to the task's formula", Evidence.PROOF)
    return failed(f"{short(text)!r} is not what is meant: they differ where {told(world)}", Evidence.PROOF, counter_model=world)


def categorical(sentence: str) -> str:
    """The formula of one of the four sentences."""
    match = SENTENCE.fullmatch(" ".join(sentence.split()).rstrip("."))
    loose = match is not None and LOOSE & {*match[2].casefold().split(), *match[4].casefold().split()}
    if match is None or loose or (match[3] and match[1].casefold() != "some"):
        raise StatementError(f"{short(sentence)!r} is none of: all A are B, no A are B, some A are B, some A are not B")
    subject, predicate = ("_".join(match[place].casefold().split()) for place in (2, 4))
    body = {"all": "{} -> {}", "no": "{} -> ~{}", "some": "{} & ~{}" if match[3] else "{} & {}"}[match[1].casefold()]
    text = f"{'exists' if match[1].casefold() == 'some' else 'forall'} _x: {body.format(f'{subject}(_x)', f'{predicate}(_x)')}"
    try:
        parse(text)
    except FormulaError as error:
        raise StatementError(f"{short(sentence)!r}: {error}") from error
    return text


def formal_premises(fields: Fields) -> tuple[str, ...] | None:
    """What steps may start from; None where the kind has no premises. Raises StatementError."""
    kind = fields.values["kind"]
    if kind in ("entailment", "consistency"):
        premises = fields.formulas("premises")
        fields.setting(premises)
        return premises
    return tuple(categorical(sentence) for sentence in fields.texts("premises")) if kind == "syllogism" else None


def _follows(fields: Fields, answer: str, premises: Sequence[str], conclusion: str, setting: Setting, shown: Sequence[str]) -> Finding:
    three, explosion = fields.flag("three_valued"), fields.flag("explosion")
    against = ask(premises, conclusion, setting)
    if against.state == "unsat" and ask(premises, setting=setting).state == "unsat" and not (explosion and not three):
        raise StatementError("the premises contradict each other, so that everything follows: mend them, or set 'explosion' to true")
    words = STATUS if three else FOLLOWS
    if against.state == "unsat":
        used = [shown[place] for place in against.core if place >= 0]
        return _judged(fields, answer, words, "entailed", f"it follows from: {'; '.join(used) or 'nothing'}", premises_used=used)
    model = readable(against.world)
    together = ask((*premises, conclusion), setting=setting) if three else None
    if together is not None and together.state == "unsat":
        used = [shown[place] for place in together.core if place < len(premises)]
        return _judged(fields, answer, words, "contradicted", f"it is ruled out by: {'; '.join(used)}", premises_used=used)
    truth = "undetermined" if three else "not entailed"
    return _judged(fields, answer, words, truth, f"the premises allow {told(model)}", counter_model=model)


def _difference(one: str, other: str, setting: Setting) -> dict[str, Any] | None:
    """A world in which one holds and the other doesn't; None when there is none."""
    for formulas, denied in (((one,), other), ((other,), one)):
        found = ask(formulas, denied, setting)
        if found.state == "sat":
            return readable(found.world)
    return None


def _judged(fields: Fields, answer: str, words: Words, truth: str, why: str, **details: Any) -> Finding:
    claimed = _claimed(fields, answer, words)
    if claimed is None:
        return failed(f"{short(answer)!r} is none of the answers ({', '.join(words)})", Evidence.PROOF, truth=truth, **details)
    if claimed != truth:
        return failed(f"{truth}, and the answer says {claimed}: {short(why, 300)}", Evidence.PROOF, truth=truth, **details)
    return passed(f"{truth}: {short(why, 300)}", Evidence.PROOF, truth=truth, **details)


def _claimed(fields: Fields, answer: str, words: Words) -> str | None:
    """The truth that an answer claims. A bare yes or no means nothing certain where the prompt asks for the opposite."""
    own = fields.values.get("answers")
    if own is not None:
        return read_word(answer, _own_words(own, words))
    turned = TURNED[next(iter(words))].search(fields.prompt)
    if turned and read_word(answer, {"polar": POLAR}):
        raise UndecidedError(
            f"{short(answer)!r} can be read in two ways, since the prompt says {turned[0]!r}: say what it means in "
            f"metadata['logic']['answers'], a mapping of {', '.join(words)} to lists of words"
        )
    return read_word(answer, words)


def _own_words(own: Any, words: Words) -> dict[str, list[str]]:
    if not isinstance(own, Mapping) or set(own) != set(words):
        raise StatementError(f"'answers' must map each of {', '.join(words)} to a list of words, not {short(repr(own))}")
    lists = {truth: [some] if isinstance(some, str) else some for truth, some in own.items()}
    flat = [word for some in lists.values() if isinstance(some, list | tuple) for word in some]
    if not all(isinstance(some, list | tuple) and some for some in lists.values()) or not all(isinstance(word, str) for word in flat):
        raise StatementError(f"'answers' must map each truth to a list of words, not {short(repr(own))}")
    if len({word.casefold().strip() for word in flat}) < len(flat):
        raise StatementError("'answers' gives one word two times: each word means one thing")
    return {truth: list(some) for truth, some in lists.items()}


def _bare(answer: str) -> str:
    """A formula without its dress: `P -> Q`, $P \\to Q$, a full stop."""
    text = answer.strip()
    for _ in range(4):
        text = text[:-1].rstrip() if text.endswith(".") else text
        for left, right in WRAPPERS:
            if len(text) > len(left) + len(right) and text.startswith(left) and text.endswith(right):
                text = text[len(left) : -len(right)].strip()
    return text
