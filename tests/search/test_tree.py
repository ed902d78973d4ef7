import pytest

from core.search.tree import BARREN, NEUTRAL, WIDEST, Child, Plan, Tree
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


def grow(tree, node, children, first=0):
    """Ask a node for these children and have them land."""
    tree.issue(node, len(children))
    return tree.land(node, first, len(children), children)


def test_values_are_backed_up_to_the_root():
    tree = Tree(Plan())
    (a,) = grow(tree, tree.root, [step("a", 0.4)])
    (b,) = grow(tree, a, [step("b", 0.8)])

    assert [(node.N, node.W, node.best) for node in (b, a, tree.root)] == [
        (1, 0.8, 0.8),
        (2, pytest.approx(1.2), 0.8),
        (2, pytest.approx(1.2), 0.8),
    ]
    assert a.value == pytest.approx(0.5 * 0.6 + 0.5 * 0.8)


def test_of_a_step_without_a_value_nothing_is_backed_up():
    tree = Tree(Plan())
    (a,) = grow(tree, tree.root, [step("a")])

    assert (tree.root.N, a.N, a.value) == (0, 0, 0.5)


def test_duplicates_of_siblings_are_merged_and_keep_the_numbers_of_the_others():
    tree = Tree(Plan())
    grow(tree, tree.root, [step("a\n"), step("b\n"), step(" a \n")])

    grow(tree, tree.root, [step("b\n"), step("c\n")], first=3)

    assert [(node.text, node.index) for node in tree.root.children] == [("a\n", 0), ("b\n", 1), ("c\n", 4)]
    assert tree.merged == 2


def test_a_state_that_has_a_name_is_made_once_in_the_whole_tree():
    tree = Tree(Plan())
    a, b = grow(tree, tree.root, [Child("1+2", False, key="3 4"), Child("4-2", False, key="2 3")])
    grow(tree, a, [Child("3+4", False, key="7")])

    assert grow(tree, b, [Child("2+5", False, key="7")]) == []


def test_a_finished_text_is_no_duplicate_of_a_step_with_the_same_words():
    tree = Tree(Plan())

    grow(tree, tree.root, [step("x = 4\n"), end("x = 4", Outcome.PASS, 1.0)])

    assert [node.outcome for node in tree.root.children] == [None, Outcome.PASS]
    assert tree.root.best == 1.0


def test_expansions_without_a_new_child_are_counted_until_one_comes():
    tree = Tree(Plan())
    counts = []

    for text in ("a", "a", "a", "b"):
        grow(tree, tree.root, [step(text)])
        counts.append(tree.root.barren)

    assert counts == [0, 1, 2, 0]


def test_a_path_is_indices_from_the_root_and_a_prefix_all_the_text():
    tree = Tree(Plan())
    _, b = grow(tree, tree.root, [step("a\n"), step("b\n")])
    (c,) = grow(tree, b, [step("c\n")], first=4)

    assert (c.path, c.prefix, c.depth) == ("1.4", "b\nc\n", 2)
    assert (tree.root.path, tree.root.prefix, tree.root.depth) == ("", "", 0)


def test_a_node_closes_with_the_last_open_node_below_it_unless_it_may_still_widen():
    tree = Tree(Plan(width=1))
    (a,) = grow(tree, tree.root, [step("a\n")])

    for i in range(WIDEST):
        assert not a.closed
        grow(tree, a, [end(f"{i}", Outcome.FAIL)], first=i)

    assert a.closed
    assert not tree.root.closed
    assert tree.select() is tree.root


def test_a_node_that_is_given_up_takes_its_share_of_its_parent_with_it():
    tree = Tree(Plan(width=2))
    a, b = grow(tree, tree.root, [step("a", 0.9), step("b", 0.1)])

    tree.close(a)

    assert tree.select() is b
    assert (tree.root.ready, tree.root.live) == (1, [b])


def test_a_step_that_was_checked_and_is_wrong_is_pruned_where_that_is_asked_for():
    for prune, kept in ((False, 2), (True, 1)):
        tree = Tree(Plan(prune=prune))
        grow(tree, tree.root, [step("2+2=5\n", 0.0), step("2+2=4\n", 1.0)])

        assert len(tree.root.live) == kept
        assert len(tree.root.children) == 2


def test_what_is_in_flight_is_not_selected_again_and_comes_back_when_its_call_fails():
    tree = Tree(Plan(width=2))
    tree.issue(tree.root, 2)
    assert tree.select() is None

    tree.land(tree.root, 0, 2, ())

    assert tree.select() is tree.root
    assert (tree.root.O, tree.root.pending, tree.root.asked, tree.root.barren) == (0, 0, 0, 0)


def test_a_node_that_only_repeats_itself_is_given_up():
    tree = Tree(Plan(width=2))
    for _ in range(BARREN + 1):
        grow(tree, tree.root, [end("the same", Outcome.FAIL)] * 2)

    assert tree.root.closed
    assert tree.select() is None


def test_records_are_the_tree_with_parents_before_children():
    tree = Tree(Plan())
    a, b = grow(tree, tree.root, [step("a", 0.5), step("b", 0.5)])
    grow(tree, a, [end("c", Outcome.FAIL, 0.0)])
    grow(tree, b, [end("d", Outcome.PASS, 1.0)])

    found = tree.records()

    assert [(r.path, r.text, r.visits) for r in found] == [("", "", 4), ("0", "a", 2), ("0.0", "c", 1), ("1", "b", 2), ("1.0", "d", 1)]
    assert [r.outcome for r in found if r.terminal] == [Outcome.FAIL, Outcome.PASS]
