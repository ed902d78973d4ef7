import pytest

from core.search.tree import NEUTRAL, Child, Node, records
from core.types import Outcome


def step(text, value=None):
    return Child(text, terminal=False, value=value)


def end(text, outcome, value=None):
    return Child(text, terminal=True, value=value, outcome=outcome)


@pytest.mark.parametrize(
    ("child", "worth"),
    [
        (end("a", Outcome.PASS, 1.0), 1.0),
        (end("a", Outcome.PASS, 0.6), 1.0),
        (end("a", Outcome.FAIL, 0.0), NEUTRAL),
        (end("a", Outcome.FAIL, 0.5), 0.5),
        (end("a", Outcome.ABSTAIN), NEUTRAL),
        (end("a", Outcome.ERROR), NEUTRAL),
        (step("a", 0.0), 0.0),
        (step("a", 0.7), 0.7),
        (step("a"), None),
    ],
)
def test_a_pass_is_worth_one_a_failed_end_is_neutral_and_a_step_is_worth_its_value(child, worth):
    assert child.worth == worth


def test_values_are_backed_up_to_the_root():
    root = Node("")
    (a,) = root.adopt(0, [step("a", 0.4)])
    (b,) = a.adopt(0, [step("b", 0.8)])

    assert [(node.N, node.W, node.best) for node in (b, a, root)] == [
        (1, 0.8, 0.8),
        (2, pytest.approx(1.2), 0.8),
        (2, pytest.approx(1.2), 0.8),
    ]
    assert a.value == pytest.approx(0.5 * 0.6 + 0.5 * 0.8)


def test_of_a_step_without_a_value_nothing_is_backed_up():
    root = Node("")
    (a,) = root.adopt(0, [step("a")])

    assert (root.N, a.N, a.value) == (0, 0, 0.5)


def test_duplicates_of_siblings_are_merged_and_keep_the_numbers_of_the_others():
    root = Node("")
    root.adopt(0, [step("a\n"), step("b\n"), step(" a \n")])

    root.adopt(3, [step("b\n"), step("c\n")])

    assert [(node.text, node.index) for node in root.children] == [("a\n", 0), ("b\n", 1), ("c\n", 4)]


def test_a_finished_text_is_no_duplicate_of_a_step_with_the_same_words():
    root = Node("")

    root.adopt(0, [step("x = 4\n"), end("x = 4", Outcome.PASS, 1.0)])

    assert [node.outcome for node in root.children] == [None, Outcome.PASS]
    assert root.best == 1.0


def test_expansions_without_a_new_child_are_counted_until_one_comes():
    root = Node("")
    counts = []

    for text in ("a", "a", "a", "b"):
        root.adopt(0, [step(text)])
        counts.append(root.barren)

    assert counts == [0, 1, 2, 0]


def test_a_path_is_indices_from_the_root_and_a_prefix_all_the_text():
    root = Node("")
    _, b = root.adopt(0, [step("a\n"), step("b\n")])
    (c,) = b.adopt(4, [step("c\n")])

    assert (c.path, c.prefix, c.depth) == ("1.4", "b\nc\n", 2)
    assert (root.path, root.prefix, root.depth) == ("", "", 0)


def test_a_node_closes_with_the_last_open_node_below_it_unless_it_may_still_widen():
    root = Node("", asked=4)
    (a,) = root.adopt(0, [step("a\n")])
    a.asked = 4
    a.adopt(0, [end("x", Outcome.FAIL)])

    a.close_upwards(8)
    assert not a.closed
    a.close_upwards(4)
    assert (a.closed, root.closed) == (True, True)


def test_records_are_the_tree_with_parents_before_children():
    root = Node("")
    a, b = root.adopt(0, [step("a", 0.5), step("b", 0.5)])
    a.adopt(0, [end("c", Outcome.FAIL, 0.0)])
    b.adopt(0, [end("d", Outcome.PASS, 1.0)])

    found = records(root)

    assert [(r.path, r.text, r.visits) for r in found] == [("", "", 4), ("0", "a", 2), ("0.0", "c", 1), ("1", "b", 2), ("1.0", "d", 1)]
    assert [r.outcome for r in found if r.terminal] == [Outcome.FAIL, Outcome.PASS]
