"""The held-out file was written before the first fit, and nothing was tuned on it."""

import json
import re
from collections import Counter, defaultdict
from pathlib import Path

from core.routing import route
from core.routing.train import EXAMPLES, read_examples
from core.types import Domain

HELD_OUT = [json.loads(line) for line in Path(__file__).with_name("held_out.jsonl").read_text(encoding="utf-8").splitlines()]


def trigrams(text):
    """Neighbouring triples of words and marks, numbers all alike."""
    words = ["<", *re.findall(r"[^\W\d_]+|\d+|[^\w\s]", re.sub(r"\d+", "0", text.casefold())), ">"]
    return set(zip(words, words[1:], words[2:], strict=False))


def routed(rows):
    return [(row, route(row["query"], min_confidence=0.0)) for row in rows]


def share_right(pairs):
    return sum(found.domain == row["domain"] for row, found in pairs) / len(pairs)


def test_the_held_out_file_is_large_hard_and_even():
    by_domain = Counter(row["domain"] for row in HELD_OUT)

    assert len(HELD_OUT) >= 400
    assert sum(row["hard"] for row in HELD_OUT) >= 150
    assert set(by_domain) == set(Domain)
    assert min(by_domain.values()) >= 60


def test_the_examples_are_many_and_no_question_stands_in_two_domains():
    examples = read_examples(EXAMPLES)
    domains = defaultdict(set)
    for example in examples:
        domains[" ".join(example.query.casefold().split())].add(example.domain)

    assert min(Counter(e.domain for e in examples if e.domain).values()) >= 400
    assert [query for query, found in domains.items() if len(found) > 1] == []
    assert len(domains) == len(examples)


def test_no_held_out_question_is_nearly_an_example():
    examples = [trigrams(e.query) for e in read_examples(EXAMPLES)]
    holding = defaultdict(list)
    for place, found in enumerate(examples):
        for trigram in found:
            holding[trigram].append(place)

    for row in HELD_OUT:
        own = trigrams(row["query"])
        shared = Counter(place for trigram in own for place in holding[trigram])
        nearest = max((count / len(own | examples[place]) for place, count in shared.items()), default=0)
        assert nearest < 0.4, row["query"]


def test_at_least_95_in_100_held_out_questions_find_their_domain():
    assert share_right(routed(HELD_OUT)) >= 0.95


def test_hard_questions_do_nearly_as_well():
    assert share_right(routed([row for row in HELD_OUT if row["hard"]])) >= 0.92


def test_every_domain_is_found_and_none_swallows_another():
    wrong = Counter((row["domain"], found.domain.value) for row, found in routed(HELD_OUT) if found.domain != row["domain"])

    assert max(wrong.values(), default=0) <= 6


def test_confidence_is_the_share_of_right_answers():
    """Expected calibration error in ten bins of equal width (Guo et al. 2017)."""
    bins = defaultdict(list)
    for row, found in routed(HELD_OUT):
        bins[min(int(found.confidence * 10), 9)].append((found.confidence, found.domain == row["domain"]))
    error = sum(abs(sum(c for c, _ in b) - sum(right for _, right in b)) for b in bins.values()) / len(HELD_OUT)

    assert error < 0.05
