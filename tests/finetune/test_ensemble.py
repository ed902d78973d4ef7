"""The router's ways: System 1, the ensemble, System 2; what it remembers, what it says, what it refuses."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import pytest
from sample_specialists import Shelf, gene, sure

from core.errors import ConfigError, ProviderError, SearchError, TaskError
from core.types import Completion, Domain, Evidence, Outcome, Result, Usage, Verdict
from finetune.model_ensembler import Calibration, Learned, ModelGene, ResponseRouter, create_model_genome


def router_of(shelf: Shelf, **options: Any) -> ResponseRouter:
    return ResponseRouter(**{"system2": lambda query: f"thought about {query}", "connect": shelf.connect, **options})


def test_a_specialist_that_is_called_and_sure_answers_alone():
    shelf = Shelf({"sums": sure("Answer: 4"), "words": sure("Answer: 5")})

    with router_of(shelf) as router:
        result = router.route_query("Add 2 and 2", [gene("words", "spell"), gene("sums", "add")])

    assert (result["response"], result["answer"], result["path"], result["used_fast_path"]) == ("Answer: 4", "4", "fast", True)
    assert result["confidence"] == pytest.approx(0.95)
    assert (result["genes"], result["triggered"]) == ([1], [1])
    assert shelf.loads == ["sums"]
    assert not result["calibrated"]


@pytest.mark.parametrize(("fast", "threshold"), [(0.96, 0.5), (0.95, 0.5), (0.8, 0.96)])
def test_it_must_exceed_the_routers_threshold_and_reach_its_own(fast: float, threshold: float):
    shelf = Shelf({"sums": lambda _: Completion("Answer: 4", "end", -0.05129329438755058)})  # ln 0.95

    with router_of(shelf, fast_threshold=fast, ensemble_threshold=1.0) as router:
        result = router.route_query("Add 2 and 2", [gene("sums", "add", threshold=threshold)])

    assert result["path"] == "reasoning"
    assert result["response"] == "thought about Add 2 and 2"


def test_of_several_that_are_called_the_surest_answers():
    shelf = Shelf({"a": sure("Answer: 1", 0.9), "b": sure("Answer: 2", 0.97), "c": sure("Answer: 3", 0.85)})

    with router_of(shelf) as router:
        result = router.route_query("go", [gene(name, "go") for name in "abc"])

    assert result["genes"] == [1]
    assert [answer.text for answer in result["answers"]] == ["Answer: 1", "Answer: 2", "Answer: 3"]


def test_without_a_trained_model_a_gene_only_triggers():
    with ResponseRouter(system2=lambda _: "deep") as router:
        result = router.route_query("What is 2+2?", create_model_genome(["math", "factual"]))

    assert (result["path"], result["response"], result["triggered"]) == ("reasoning", "deep", [1])
    assert result["confidence"] is None
    assert result["answers"] == []


def test_the_ensemble_votes_by_meaning_and_not_by_spelling():
    shelf = Shelf({"a": sure("Answer: 1/2", 0.7), "b": sure("So it is.\nAnswer: 0.5", 0.65), "c": sure("Answer: 3", 0.75)})

    with router_of(shelf, ensemble_threshold=0.4) as router:
        result = router.route_query("Half of 1?", [gene(name, "never") for name in "abc"])

    assert (result["path"], result["used_fast_path"], result["genes"]) == ("ensemble", False, [0, 1])
    assert result["response"] == "Answer: 1/2"
    assert result["confidence"] == pytest.approx((0.7**2 + 0.65**2) / (0.7 + 0.65 + 0.75))


@pytest.mark.parametrize(("second", "together"), [("return 1", True), ("return 2", False)])
def test_programs_are_the_same_answer_only_line_by_line(second: str, together: bool):
    shelf = Shelf({"a": sure("Answer:\ndef f(x):\n    return 1", 0.7), "b": sure(f"So:\nAnswer: def f(x):\n    {second}\n", 0.7)})

    with router_of(shelf, ensemble_threshold=0.1) as router:
        result = router.route_query("Write f", [gene("a"), gene("b")])

    assert result["genes"] == ([0, 1] if together else [0])


def test_many_threads_may_use_many_genomes():
    genomes = [[gene("a", f"word{i}")] for i in range(200)]
    wrong: list[int] = []

    with ResponseRouter(system2=lambda _: "") as router:

        def work() -> None:
            wrong.extend(i for i, genome in enumerate(genomes) if router.called(f"a word{i} here", genome) != [0])

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert wrong == []


def test_where_all_agree_and_are_equally_sure_the_confidence_is_theirs():
    shelf = Shelf({name: sure("Answer: 7", 0.7) for name in "abc"})

    with router_of(shelf) as router:
        result = router.route_query("How many?", [gene(name) for name in "abc"])

    assert result["path"] == "ensemble"
    assert result["confidence"] == pytest.approx(0.7)


def test_copies_of_one_model_that_were_asked_the_same_have_one_vote():
    shelf = Shelf({"a": sure("Answer: 1", 0.5), "b": sure("Answer: 2", 0.7)})
    copies = [gene("a"), gene("a", threshold=0.9), gene("a", "other")]

    with router_of(shelf, ensemble_threshold=0.3) as router:
        result = router.route_query("Which?", [*copies, gene("b")])

    assert result["answer"] == "2"
    assert len(shelf.models["a"].asked) == 1


def test_an_answer_that_was_cut_off_counts_for_nothing():
    shelf = Shelf({"a": sure("Answer: 1", 0.99, finish="length")})

    with router_of(shelf) as router:
        result = router.route_query("go", [gene("a", "go")])

    assert result["path"] == "reasoning"
    assert (result["answers"][0].confidence, result["answers"][0].complete) == (0.0, False)


def test_a_model_that_does_not_say_how_sure_it_is_never_answers_alone():
    shelf = Shelf({"a": sure("Answer: 1", None)})

    with router_of(shelf, fast_threshold=0.0, ensemble_threshold=0.0) as router:
        result = router.route_query("go", [gene("a", "go", threshold=0.0)])

    assert result["path"] == "reasoning"
    assert result["answers"][0].confidence is None


def test_a_calibration_decides_in_place_of_the_probability():
    shelf = Shelf({"a": sure("Answer: 1", 0.99)})
    doubtful = Calibration("platt", 50, 10, slope=0.0, bias=-1.386294)  # one in five is right

    with router_of(shelf, calibrations={"weights of a": doubtful}) as router:
        result = router.route_query("go", [gene("a", "go")])

    assert result["path"] == "reasoning"
    assert result["answers"][0].confidence == pytest.approx(0.2)
    assert result["answers"][0].calibrated


def test_equal_queries_are_asked_once_and_again_after_forget():
    shelf, thoughts = Shelf({"a": sure("Answer: 1", 0.9)}), []
    genome = [gene("a", "go")]

    with router_of(shelf, system2=lambda query: thoughts.append(query) or "deep") as router:
        first, second = router.route_query("go", genome), router.route_query("go", genome)
        router.route_query("think", create_model_genome(["math"]))
        third = router.route_query("think", create_model_genome(["math"]))
        asked = len(shelf.models["a"].asked)
        router.forget()
        router.route_query("go", genome)

    assert (first["cached"], second["cached"], third["cached"]) == (False, True, True)
    assert (asked, len(shelf.models["a"].asked), thoughts) == (1, 2, ["think"])
    assert second["model_seconds"] == first["model_seconds"]
    assert (first["cost"], second["cost"]) == (0.001, 0.0)


def test_with_no_cache_every_query_is_asked():
    shelf = Shelf({"a": sure("Answer: 1", 0.9)})

    with router_of(shelf, cache_size=0) as router:
        results = [router.route_query("go", [gene("a", "go")]) for _ in range(2)]

    assert len(shelf.models["a"].asked) == 2
    assert not results[1]["cached"]


def test_the_cache_is_bounded():
    shelf = Shelf({"a": sure("Answer: 1", 0.9)})

    with router_of(shelf, cache_size=2) as router:
        for query in ("go 1", "go 2", "go 3", "go 3", "go 1"):
            router.route_query(query, [gene("a", "go")])

    assert shelf.models["a"].asked == ["go 1", "go 2", "go 3", "go 1"]


def test_many_threads_that_ask_the_same_at_once_have_it_asked_and_loaded_once():
    shelf = Shelf({"a": sure("Answer: 1", 0.9)})
    results: list[Any] = []

    with router_of(shelf) as router:
        threads = [threading.Thread(target=lambda: results.append(router.route_query("go", [gene("a", "go")]))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert len(results) == 8
    assert (shelf.loads, shelf.models["a"].asked) == (["a"], ["go"])


def test_many_queries_come_back_in_order_and_equal_ones_are_thought_about_once():
    shelf, thoughts = Shelf({"a": sure("Answer: 1", 0.9)}), []
    queries = ["go", "think", "go on", "think"]

    with router_of(shelf, system2=lambda query: thoughts.append(query) or f"deep {query}", ensemble_threshold=0.95) as router:
        results = router.route_many(queries, [gene("a", "go")])

    assert [result["response"] for result in results] == ["Answer: 1", "deep think", "Answer: 1", "deep think"]
    assert thoughts == ["think"]


def test_system_2_may_be_async_and_is_then_asked_side_by_side():
    under_way, most = 0, 0

    async def think(query: str) -> str:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        return f"deep {query}"

    with ResponseRouter(system2=think) as router:
        genome = create_model_genome(["math"])
        one = router.route_query("a", genome)
        many = router.route_many(["b", "c"], genome)

    assert [one["response"], *(each["response"] for each in many)] == ["deep a", "deep b", "deep c"]
    assert most == 2


@pytest.mark.parametrize(("outcome", "confidence"), [(Outcome.PASS, 1.0), (Outcome.FAIL, 0.0), (Outcome.ABSTAIN, None)])
def test_a_verdict_of_the_orchestrator_is_its_confidence(outcome: Outcome, confidence: float | None):
    verdict = Verdict(outcome, None, "", Evidence.RECOMPUTATION)
    found = Result(
        "4", "2+2=4\nAnswer: 4", Domain.MATH, "math", outcome is Outcome.PASS, verdict, 1.0, (), "run", Usage(3, 1, 1, 0.5), 2.0, "m"
    )

    with ResponseRouter(system2=lambda _: found) as router:
        result = router.route_query("2+2?", create_model_genome(["math"]))

    assert (result["response"], result["answer"], result["confidence"]) == ("2+2=4\nAnswer: 4", "4", confidence)
    assert result["cost"] == 0.5


def test_answers_that_were_asked_together_share_their_time():
    class Slow(Shelf):
        def connect(self, name: str, settings: Any) -> Any:
            model = super().connect(name, settings)
            self.models[name].seconds = 0.05
            return model

    shelf = Slow({name: sure("Answer: 1", 0.5) for name in "abcd"})
    with router_of(shelf) as router:
        result = router.route_query("go", [gene(name) for name in "abcd"])

    waited = sum(answer.seconds for answer in result["answers"])
    assert 0.04 < waited <= result["seconds"]  # and not four times as long
    assert result["model_seconds"] >= waited


def test_a_router_works_inside_a_running_event_loop():
    shelf = Shelf({"a": sure("Answer: 1", 0.9)})

    async def main() -> list[str]:
        with router_of(shelf) as router:
            inside = router.route_query("go", [gene("a", "go")])
            aside = await router.aroute_query("go on", [gene("a", "go")])
        return [inside["response"], aside["response"]]

    assert asyncio.run(main()) == ["Answer: 1", "Answer: 1"]


def test_a_result_is_a_dictionary_that_json_can_hold():
    shelf = Shelf({"a": sure("Answer: 1", 0.9)})

    with router_of(shelf) as router:
        result = router.route_query("go", [gene("a", "go")])

    assert type(result) is dict
    assert json.loads(json.dumps({**result, "answers": [answer.as_dict() for answer in result["answers"]]}))["path"] == "fast"


def test_a_model_that_can_not_be_loaded_is_told_and_tried_again():
    shelf = Shelf({})

    with router_of(shelf) as router:
        with pytest.raises(ProviderError, match="there is no a"):
            router.route_query("go", [gene("a", "go")])
        shelf.scripts["a"] = sure("Answer: 1")
        assert router.route_query("go", [gene("a", "go")])["response"] == "Answer: 1"


def test_the_learned_gate_calls_by_domain_and_other_genes_by_their_words():
    genome = [gene("math"), gene("code", "class"), gene("taxes", "vat")]

    gate = Learned()

    assert gate("What is 318 minus 79?", genome) == [0]
    assert gate("What is 20% vat on 318?", genome) == [0, 2]
    with ResponseRouter(system2=lambda _: "", gate="learned") as router:
        assert router.called("What is 318 minus 79?", genome) == [0]


def test_a_gate_of_your_own_decides():
    shelf = Shelf({"a": sure("Answer: 1"), "b": sure("Answer: 2")})

    with router_of(shelf, gate=lambda query, genome: [len(query) % len(genome)]) as router:
        assert [router.route_query(query, [gene("a"), gene("b")])["answer"] for query in ("1234", "123")] == ["1", "2"]


@pytest.mark.parametrize("query", ["", "  \n", None, 4])
def test_a_query_that_says_nothing_is_refused(query: Any):
    with ResponseRouter(system2=lambda _: "") as router, pytest.raises(TaskError):
        router.route_query(query, create_model_genome(["math"]))


@pytest.mark.parametrize(
    "options",
    [
        {"fast_threshold": 1.5},
        {"ensemble_threshold": "high"},
        {"fast_threshold": True},
        {"gate": "guess"},
        {"system2": "think"},
        {"cache_size": -1},
        {"models": 0},
        {"genome": ["math"]},
    ],
)
def test_options_that_can_not_work_are_refused(options: dict[str, Any]):
    with pytest.raises(ConfigError):
        ResponseRouter(**options)


@pytest.mark.parametrize("genome", [None, "math", [{"specialization": "math"}]])
def test_what_is_no_genome_is_refused(genome: Any):
    with ResponseRouter(system2=lambda _: "") as router, pytest.raises(ConfigError, match="genome"):
        router.route_query("go", genome)


def test_system_2_must_return_a_text_or_a_result():
    with ResponseRouter(system2=lambda _: 4) as router, pytest.raises(ConfigError, match="system2 returned int"):  # type: ignore[arg-type, return-value]
        router.route_query("go", create_model_genome(["math"]))


def test_a_closed_router_gives_its_models_back_and_says_so():
    shelf = Shelf({"a": sure("Answer: 1")})
    router = router_of(shelf)
    router.route_query("go", [gene("a", "go")])

    router.close()
    router.close()

    assert shelf.models["a"].closed
    with pytest.raises(SearchError, match="closed"):
        router.route_query("go on", [gene("a", "go")])


@pytest.mark.parametrize(
    "options",
    [
        {"specialization": " "},
        {"trigger_patterns": "solve"},
        {"trigger_patterns": [1]},
        {"confidence_threshold": 1.2},
        {"confidence_threshold": "high"},
        {"confidence_threshold": float("nan")},
    ],
)
def test_a_gene_that_makes_no_sense_is_refused(options: dict[str, Any]):
    with pytest.raises(ConfigError):
        ModelGene(**options)


@pytest.mark.parametrize(("names", "paths"), [([], None), ("math", None), (["math"], {"code": "x"})])
def test_a_genome_is_made_of_names(names: Any, paths: Any):
    with pytest.raises(ConfigError):
        create_model_genome(names, sft_paths=paths)


def test_a_gene_knows_the_paths_and_takes_the_domains_directive():
    math, other = create_model_genome(["math", "taxes"], "embedded", sft_paths={"math": "models/math"})

    assert (math.sft_path, math.base_model, math.trained, other.trained) == ("models/math", "embedded", True, False)
    assert [message.role for message in math.messages("2+2")] == ["system", "user"]
    assert [message.role for message in other.messages("2+2")] == ["user"]
    assert other.trigger_patterns == ["taxes"]
