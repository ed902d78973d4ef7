"""V4: how often the router finds the domain of a held-out question, and how long it takes."""

from __future__ import annotations

import json
import math
import random
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.record import Figure, figure
from core.routing import route
from core.routing.train import EXAMPLES, read_examples
from core.types import Domain

HELD_OUT = Path(__file__).parent.parent / "tests" / "routing" / "held_out.jsonl"
ORDINARY = 300  # characters
RUNS = 15
RESAMPLES = 200


def measure(ids: Sequence[str]) -> list[Figure]:
    """On the held-out file; the time of a question is the median of its runs, which a busy machine moves least."""
    rows = [json.loads(line) for line in HELD_OUT.read_text(encoding="utf-8").splitlines()]
    queries, hard = [row["query"] for row in rows], [row for row in rows if row["hard"]]
    ordinary = [query for query in queries if len(query) <= ORDINARY]
    asked: dict[str, Callable[[str], str]] = {"scikit-learn pipeline": _pipeline(), "rules of the first version": _by_rules}
    ours = _milliseconds(_ours, ordinary)
    others = {name: _milliseconds(ask, ordinary) for name, ask in asked.items()}
    right = {name: _share(ask, rows) for name, ask in asked.items()}
    right_hard = {name: _share(ask, hard) for name, ask in asked.items()}
    accuracy, accuracy_hard = _resampled(_ours, rows), _resampled(_ours, hard)
    return [
        figure(ids[0], f"{len(rows)} held-out questions", accuracy, "% right", "at least 95", _share(_ours, rows) >= 95, right),
        figure(ids[0], f"the {len(hard)} hard ones of them", accuracy_hard, "% right", "", None, right_hard),
        figure(ids[0], "routing, p50", ours, "ms", "under 1", median(ours) < 1, {name: _at(0.5, ms) for name, ms in others.items()}),
        figure(
            ids[0], "routing, p99", [_at(0.99, ours)], "ms", "under 1", _at(0.99, ours) < 1, {n: _at(0.99, ms) for n, ms in others.items()}
        ),
    ]


def _ours(query: str) -> str:
    return route(query, min_confidence=0.0).domain


def _share(ask: Callable[[str], str], rows: Sequence[dict[str, Any]]) -> float:
    return round(100 * sum(ask(row["query"]) == row["domain"] for row in rows) / len(rows), 1)


def _resampled(ask: Callable[[str], str], rows: Sequence[dict[str, Any]]) -> list[float]:
    """Bootstrap: the spread says what another file of the same size could have shown."""
    rng = random.Random(0)
    right = [ask(row["query"]) == row["domain"] for row in rows]
    return [100 * sum(rng.choices(right, k=len(right))) / len(right) for _ in range(RESAMPLES)]


def _milliseconds(ask: Callable[[str], str], queries: Sequence[str]) -> list[float]:
    return [median(_timed(ask, query) for _ in range(RUNS)) for query in queries]


def _timed(ask: Callable[[str], str], query: str) -> float:
    started = time.perf_counter()
    ask(query)
    return (time.perf_counter() - started) * 1000


def _at(share: float, values: Sequence[float]) -> float:
    return round(sorted(values)[int(share * (len(values) - 1))], 4)


def _pipeline() -> Callable[[str], str]:
    """What one would write with scikit-learn in ten lines, fitted to the same examples."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline, make_union

    rows = [example for example in read_examples(EXAMPLES) if example.domain]
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    letters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
    model = make_pipeline(make_union(words, letters), LogisticRegression(C=30, max_iter=1000))
    model.fit([example.query for example in rows], [example.domain for example in rows])
    return lambda query: str(model.predict([query])[0])


def _by_rules(query: str) -> str:
    text = query.strip().lower()
    scores = {domain: sum(weight for weight, sign in signs if sign.search(text)) for domain, signs in SIGNS.items()}
    best = max(Domain, key=scores.__getitem__)
    return best if 1 / sum(math.exp(score - scores[best]) for score in scores.values()) > 1 / 6 + 1e-9 else Domain.ANALYSIS


def _signs(*rows: tuple[float, str]) -> tuple[tuple[float, re.Pattern[str]], ...]:
    return tuple((weight, re.compile(pattern, re.MULTILINE)) for weight, pattern in rows)


# The signs and weights that routed before the classifier did.
COMPARED = "(?:tall|short|old|young|fast|slow|heavi|light|bigg|small|larg|rich|poor|strong|cheap|high|low)er"
PIECE = "(?:poem|haiku|sonnet|limerick|story|stories|lyrics|song|ballad|fairy ?tale|screenplay|slogan|tagline|joke|verse|rhyme|fable|ode)"
LANGUAGE = r"(?:python|javascript|typescript|java|c\+\+|c#|rust|golang|sql|bash|html|css|haskell|ruby|php|kotlin|perl)"
PROGRAM = "(?:program|code|script|function|snippet|loop|method|class|query|regex|decorator|algorithm|unit tests?)"
IS = "(?:is|am|are|was|were)"

SIGNS = {
    Domain.MATH: _signs(
        (3, r"(?:^|[^\w.])\d{1,20}(?:\.\d{1,20})?\)?\)? ?(?:[+*/^×÷]|\*\*| - ?) ?[-(]{0,3}\d"),
        (3, r"\b(?:solve|compute|calculate|evaluate|simplify|what is|what's):? [-(]{0,3}\d{1,20}(?:\.\d{1,20})?\)? ?[-+*/^×÷%]"),
        (3, r"(?:^|[^\w.])\d{0,9}\*? ?\(?[a-z]\)? ?(?:\^\d )?[-+*/] ?\d{1,9}(?:\.\d{1,9})?\)? ?= ?-?\(?\d"),
        (3, r"\b(?:find|solve for) [a-z]\b"),
        (2, r"\b\d+ ?(?:percent|%) of\b|\b(?:square|cube) root\b|\b(?:derivative|integral|factorial|logarithm|polynomial|quadratic)\b"),
        (2, r"\b(?:prime numbers?|divisible|divisor|remainder|modulo|lcm|gcd|perimeter|radius|circumference|triangle|probability)\b"),
        (2, r"\b(?:sum|product|difference|quotient|average|mean) of (?:the )?(?:first|numbers?|-?\d|two|three)"),
        (2, r"\bhow (?:many|much)\b[^?\n]{0,60}\b(?:left|altogether|in total|in all|each|remain|now have|need|pay|cost|earn)\b"),
        (1.5, r"\b(?:solve|compute|calculate|simplify|factori[sz]e|differentiate|integrate)\b"),
        (1, r"\b\d+ (?:km|miles|metres|meters|hours|minutes|apples|euros|dollars|students|litres|kg)\b|[$€£]\d"),
        (1, r"\bhow (?:many|much|far|long|fast)\b"),
        (1, r"\b(?:equations?|fractions?|decimals?|area of|volume of|angles?|number)\b"),
    ),
    Domain.CODE: _signs(
        (3, r"\bdef \w+\(|\bprint\(|#include\b|console\.log|```|\bfor \w+ in range\b|=>|\blambda \w+:|^(?:import \w+$|from \w+ import )"),
        (3, r"\b(?:key|type|value|index|name|syntax|attribute|import|runtime|indentation|assertion|nullpointer)(?:error|exception)\b"),
        (3, r"\bwhat (?:does|will|would|is printed by|do) (?:this|the following|the) (?:\w+ )?(?:program|code|script|function|snippet)\b"),
        (4, rf"\b(?:write|implement|create|fix|debug|complete)(?: (?!about\b|of\b|on\b)[^\s.?!]{{1,30}}){{0,4}} {PROGRAM}\b"),
        (2.5, rf"\b{LANGUAGE}(?![\w+#])"),
        (2, r"\b(?:traceback|stack trace|segfault|compil(?:es?|er|ing)|debug|refactor|unit tests?|binary search|linked list|api)\b"),
        (2, r"\b\w{1,60}\.(?:py|js|ts|java|cpp|rs|go|rb|sh|sql|ipynb)\b|\b[a-z]{1,60}_[a-z_]{1,60}\(|\b[a-z]{1,60}\(\)"),
        (2, r"^[ \t]{0,12}(?:select\b[^\n]{1,200}\bfrom\b|while\b[^\n]{1,100}:$|return\b|[a-z_]\w{0,60} = [^=\n]{1,100}$)"),
        (1.5, r"\bline \d+(?:-\d+)? (?:of|in)\b|\braises? an? \w+|\boutput of\b|\b(?:off-by-one|null pointer|race condition)\b"),
        (1, rf"\b{PROGRAM}\b|\b(?:variables?|arrays?|strings?|recursive(?:ly)?|bugs?|git|regular expression)\b"),
    ),
    Domain.LOGIC: _signs(
        (3, rf"\b{IS} {COMPARED} than\b[^?]{{1,400}}\b{IS} {COMPARED} than\b"),
        (2, rf"\b{IS} {COMPARED} than \w+[.,;]"),
        (2, r"\bwho is the (?:second[- ])?\w{1,20}est\?|\bwhich of them\b"),
        (3, r"\b(?:all|no|some|every) [a-z]{1,30} (?:are|is) (?:not )?(?:an? )?[a-z]{1,30}[.,;]"),
        (2.5, r"\b(?:can we conclude|does it follow|follows? logically|must be true|valid argument|what can you conclude|is it valid)\b"),
        (2.5, r"\b(?:syllogism|premises?|deduce|deduction|knights? and knaves?|truth[- ]tellers?|always lies?|riddle|logic puzzle)\b"),
        (2, r"\b(?:implies|entails|contradict\w*|if and only if|exactly one of|paradox|fallacy|logical(?:ly)?|puzzle)\b|->|→|∧|∨|¬"),
        (2, r"\bsits? (?:next to|opposite|between)\b|\bto the (?:left|right) of\b|\b(?:sister|brother|mother|father) of\b"),
        (1, r"\bif\b[^.?\n]{3,100}\bthen\b|\btrue or false\b|\btherefore\b"),
    ),
    Domain.FACTUAL: _signs(
        (3, r"\A(?:context|passage|text|article|paragraph)\s*:"),
        (3, r"\b(?:what|which) (?:year|century|country|city|continent)\b|\bwhen (?:did|was|were|is)\b"),
        (2, r"\b(?:capital|population|currency|president|prime minister|author|language|inventor|founder|flag) of\b"),
        (2, r"\bwho (?:wrote|painted|invented|discovered|founded|composed|directed|won|was|owns|said|built)\b"),
        (2, r"\bwhere (?:is|are|was|does|do|did)\b|\b(?:boiling point|chemical symbol|nobel prize|world war|ww[12]|solar system)\b"),
        (2, r"\b(?:in the world|on earth|stands? for|meaning of)\b"),
        (1.5, r"(?:\A|[.?!:]\s|\n)(?:who|when|where|which|whose|whom)\b"),
        (1.2, r"\bwhat (?:is|are|was|were) (?:an? |the )?(?!\d|this|following)[a-z]{2,}|\bwhat does \w{1,40} (?:mean|do|hold)\b"),
        (1.2, r"\b(?:define|tell me about|explain (?:how|what))\b"),
        (1, r"\b(?:king|queen|empire|century|river|ocean|mountain|planet|city|country|capital|born|died|war|battle|species|element)\b"),
        (1, r"\bhow (?:tall|old|deep|high|big|heavy) (?:is|was|are)\b|\bquestion\s*:"),
    ),
    Domain.CREATIVE: _signs(
        (3, rf"\b(?:write|compose|create|invent|imagine|make up|tell|pen|give|continue)\b[^.?!\n]{{0,50}}\b{PIECE}s?\b"),
        (2, r"\b(?:brainstorm|come up with|in the style of|creative|imagine|pretend|make up|once upon a time|rhyming|catchy)\b"),
        (2, r"\b(?:write|draft|compose)\b[^.?!\n]{0,40}\b(?:letter|essay|blog post|scene|description|novel|chapter|card|speech|email)\b"),
        (1.2, rf"\b{PIECE}s?\b"),
        (1, r"\b(?:write|compose)(?: me| us)? (?:an? |some |the )"),
        (1, r"\b(?:characters?|plot|metaphors?|dialogue|monologue|villain|hero|dragon|funny|names? for my|ideas for)\b"),
    ),
    Domain.ANALYSIS: _signs(
        (3.5, r"\A(?:data|table|dataset|csv|survey|results)\s*:"),
        (5.5, r"^[\w ]+(?:,[\w.$%-][\w .$%-]*)+\n[\w ]+(?:,[\w.$%-][\w .$%-]*)+$|^ ?\|[^|\n]*\|[^|\n]*\|"),
        (2.5, r"\b(?:analy[sz](?:e|ing)|analysis|correlat\w+|outliers?|data ?sets?|swot|pros and cons|trade-?offs?)\b"),
        (2.5, r"\b(?:summari[sz]e|compare|contrast|interpret|assess|critique|strengths and weaknesses)\b"),
        (2.5, r"\bwhat are the (?:main |key )?(?:causes|implications|risks|drivers)\b"),
        (2, r"\b(?:trends?|insights?|quarterly|year over year|metrics?|kpis?|spreadsheet|statistics|regression|growth rate)\b"),
        (1.2, r"\b(?:columns?|rows?|revenue|sales|median|charts?|figures?|respondents|customers|survey|quarter|evidence|argument)\b"),
        (1, r"\b(?:total|highest|lowest|average|maximum|minimum|most|least) [a-z]{1,30}\?|\bexplain why\b|\bevaluate the\b"),
    ),
}
