"""The grammar of formulas: what it reads, how it binds, and what it refuses with a place."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.verifiers.logic.formula import MAX_DEPTH, FormulaError, parse
from core.verifiers.logic.rewrite import show
from core.verifiers.logic.structure import Structure, holds, signature

SAME = [
    ("P -> Q", "P → Q", "P => Q", "P implies Q", r"P \rightarrow Q", r"P \to Q", "(P)->(Q)", "[P] -> Q"),
    ("not P", "~P", "¬P", "!P", r"\neg P", "NOT P"),
    ("P and Q", "P & Q", "P && Q", "P ∧ Q", r"P \land Q", "P /\\ Q"),
    ("P or Q", "P | Q", "P || Q", "P ∨ Q", r"P \vee Q", "P \\/ Q"),
    ("P iff Q", "P <-> Q", "P ↔ Q", "P <=> Q", "P ≡ Q"),
    ("P xor Q", "P ⊕ Q"),
    ("forall x: P(x)", "∀x: P(x)", "∀x P(x)", "∀x. P(x)", "∀x (P(x))", r"\forall x P(x)"),
    ("forall x: exists y: R(x, y)", "∀x∃y R(x,y)", "forall x exists y R(x, y)"),
    ("forall x y: R(x, y)", "∀x, y: R(x, y)", "∀x ∀y R(x, y)"),
    ("a = b", "a=b"),
    ("a != b", "a ≠ b"),
    ("1 <= a < b", "1 ≤ a & a < b"),
]
BINDS = [
    ("~P & Q", "(~P) & Q"),
    ("P & Q | R", "(P & Q) | R"),
    ("P | Q -> R", "(P | Q) -> R"),
    ("P -> Q -> R", "P -> (Q -> R)"),
    ("P -> Q <-> R", "(P -> Q) <-> R"),
    ("forall x: P(x) -> Q(x)", "forall x: (P(x) -> Q(x))"),
    ("∀x P(x) -> Q(a)", "(∀x: P(x)) -> Q(a)"),
    ("~a = b", "~(a = b)"),
    ("P & forall x: Q(x) | R(x)", "P & (forall x: (Q(x) | R(x)))"),
]
REFUSED = [
    ("", "empty"),
    ("   ", "empty"),
    ("P ->", "character 5"),
    ("P Q", "character 3"),
    ("(P", "')'"),
    ("P)", "nothing can follow"),
    ("P <-> Q <-> R", "two ways"),
    ("P xor Q xor R", "xor"),
    ("P xor Q | R", "xor"),
    ("P & Q xor R", "xor"),
    ("P ^ Q", "'^'"),
    ("P * Q", "'*'"),
    ("∀x P(x) -> Q(x)", "outside its quantifier"),
    ("∀x: ∀x: P(x)", "twice"),
    ("∀x: x", "no statement"),
    ("P(a", "missing"),
    ("P()", "character 3"),
    ("5", "comparison"),
    ("1.5 = a", "grammar"),
    ("0x7d = a", "grammar"),
    ("a = b(c)", "nothing can follow"),
    ("P\x00", "grammar"),
    ("\ud800", "grammar"),
    ("__import__('os')", "grammar"),
    ("~" * 300 + "P", "deeper"),
    ("(" * 100_000, "the most"),
    ("P & " * 400 + "P", "the most"),
    (" & ".join(f"P{i}" for i in range(80)), "the most"),
    ("exists a b c d e f g: P(a)", "quantified names"),
]
ATOMS = st.sampled_from(["P", "Q", "R", "S(a)", "S(b)", "a = b", "true"])


def bracketed(inner):
    pair = st.tuples(inner, st.sampled_from(["&", "|", "->", "<->", "xor"]), inner)
    return pair.map(lambda p: f"({p[0]}) {p[1]} ({p[2]})") | inner.map(lambda p: f"~({p})")


@pytest.mark.parametrize("spellings", SAME, ids=lambda s: s[0])
def test_every_spelling_reads_as_the_same_formula(spellings):
    assert len({parse(text) for text in spellings}) == 1


@pytest.mark.parametrize(("loose", "tight"), BINDS)
def test_signs_bind_as_the_brackets_say(loose, tight):
    assert parse(loose) == parse(tight)


@pytest.mark.parametrize(("text", "why"), REFUSED, ids=range(len(REFUSED)))
def test_what_is_no_formula_is_refused_with_a_reason(text, why):
    with pytest.raises(FormulaError, match=why.replace("(", r"\(").replace(")", r"\)").replace("^", r"\^").replace("*", r"\*")):
        parse(text)


def test_brackets_are_read_up_to_the_limit():
    assert parse("(" * MAX_DEPTH + "P" + ")" * MAX_DEPTH) == parse("P")
    with pytest.raises(FormulaError):
        parse("(" * (MAX_DEPTH + 1) + "P" + ")" * (MAX_DEPTH + 1))


@given(st.text(max_size=60) | st.text(alphabet="PQx()~&|<->=!:,. ∀∃", max_size=80))
@settings(deadline=None, max_examples=300)
def test_any_text_is_read_or_refused(text):
    try:
        formula = parse(text)
    except FormulaError:
        return
    assert parse(show(formula)) == formula


@given(st.recursive(ATOMS, bracketed, max_leaves=8))
@settings(deadline=None, max_examples=150)
def test_a_formula_written_out_reads_as_itself(text):
    assert parse(show(parse(text))) == parse(text)


def test_names_are_sorted_into_statements_predicates_and_things():
    names = signature([parse("P & (forall x: R(x, a) -> x = b)")])

    assert (names.statements, names.predicates, names.things) == (("P",), (("R", 2),), ("a", "b"))


@pytest.mark.parametrize("texts", [["P", "P(a)"], ["P(a)", "P(a, b)"], ["P(a)", "a"], ["a < b"], ["a + 1 = b"], ["∀x: P(x)", "Q(x)"]])
def test_a_name_of_two_kinds_and_numbers_are_no_pure_logic(texts):
    with pytest.raises(FormulaError):
        signature([parse(text) for text in texts])


@pytest.mark.parametrize(
    ("text", "table"), [("P & Q", "1000"), ("P | Q", "1110"), ("P -> Q", "1011"), ("P <-> Q", "1001"), ("P xor Q", "0110")]
)
def test_connectives_have_their_truth_tables(text, table):
    worlds = [Structure(statements={"P": p, "Q": q}) for p, q in itertools.product((True, False), repeat=2)]

    assert "".join(str(int(holds(parse(text), world))) for world in worlds) == table


def test_quantifiers_go_over_the_universe():
    world = Structure(("1", "2"), {"a": "1"}, {}, {"R": frozenset({("1", "2"), ("2", "1")})})

    assert holds(parse("∀x∃y R(x, y)"), world)
    assert not holds(parse("∃y∀x R(x, y)"), world)
    assert holds(parse("∃x: R(a, x) & x != a"), world)
