import json

import pytest

from core.errors import TrainingError
from core.routing import route, router
from core.routing.mixture import FORCED, SOURCE_SHARE, capped
from core.routing.train import EXAMPLES, fit, main, read_examples, update
from core.routing.weights import SHIPPED, fingerprint, read
from core.types import Domain

LARGEST = 400_000
EVERY = 16


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """A sixteenth of the examples: enough to learn something in a second."""
    path = tmp_path_factory.mktemp("examples") / "few.jsonl"
    path.write_text("\n".join(EXAMPLES.read_text(encoding="utf-8").splitlines()[::EVERY]), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def fitted(few):
    return fit([few], few.with_name("weights.safetensors"))


def test_the_shipped_weights_were_fitted_to_the_shipped_examples():
    assert read(SHIPPED, list(Domain)).examples == fingerprint([EXAMPLES.read_bytes()])
    assert SHIPPED.stat().st_size <= LARGEST


@pytest.mark.slow
def test_fitting_the_shipped_examples_again_gives_the_shipped_file(tmp_path):
    done = fit(out=tmp_path / "again.safetensors")

    assert done.path.read_bytes() == SHIPPED.read_bytes()
    assert done.accuracy > 0.9


def test_the_same_examples_give_the_same_file(few, fitted, tmp_path):
    again = fit([few], tmp_path / "again.safetensors")

    assert again.path.read_bytes() == fitted.path.read_bytes()
    assert again.accuracy == fitted.accuracy > 0.6


def test_a_fitted_file_is_a_router(fitted):
    own = router(fitted.path)

    assert own("Write a haiku about rain").domain is Domain.CREATIVE
    assert own("") == route("")


def test_the_file_opens_in_the_usual_library(fitted):
    numpy = pytest.importorskip("safetensors.numpy")

    tensors = numpy.load_file(fitted.path)

    assert tensors["words.rows"].shape == (bytes(tensors["words.names"]).decode().count("\n") + 1, len(Domain))


def test_words_of_verified_traces_are_learned(few, fitted, tmp_path):
    traces = [(f"frobnicate the zorblat {word}", "code", 1.0) for word in ("now", "twice", "again", "slowly", "later")]

    done = update(tmp_path / "new.safetensors", traces=traces, examples=[few])

    assert router(fitted.path)("frobnicate a zorblat").domain is not Domain.CODE
    assert router(done.path)("frobnicate a zorblat").domain is Domain.CODE
    assert done.accuracy_before is not None
    assert done.accuracy >= done.accuracy_before - 0.02


def test_a_users_word_counts_more_than_a_trace(few, tmp_path):
    traces = [("zorblat quux", "code", 1.0), ("my zorblat quux", "code", 1.0), ("a zorblat quux", "code", 1.0)]
    forced = [("zorblat quux", "creative", 1.0), ("the zorblat quux", "creative", 1.0), ("this zorblat quux", "creative", 1.0)]

    done = update(tmp_path / "new.safetensors", traces=traces, feedback=forced, examples=[few])

    assert router(done.path)("zorblat quux").domain is Domain.CREATIVE


def test_a_handful_of_wrong_traces_changes_nothing_that_was_known(few, tmp_path):
    wrong = [("Write a haiku about rain", "math", 1.0), ("Write a poem about the sea", "math", 1.0), ("Solve 17*6+23", "creative", 1.0)]

    done = update(tmp_path / "new.safetensors", traces=wrong * 1000, examples=[few])

    assert router(done.path)("Write a song about the wind").domain is Domain.CREATIVE
    assert router(done.path)("Compute 23*4+17").domain is Domain.MATH


def test_an_update_that_spoils_the_examples_is_refused(few, tmp_path):
    domains = list(Domain)
    wrong = [(e.query, domains[domains.index(e.domain) - 1], 1.0) for e in read_examples(few) if e.domain]

    with pytest.raises(TrainingError, match="accuracy on the examples would fall"):
        update(tmp_path / "new.safetensors", traces=wrong, feedback=wrong, examples=[few])

    assert not (tmp_path / "new.safetensors").exists()


def test_neither_source_outweighs_the_examples_of_a_domain():
    words = ["".join(pair) for pair in zip("abcdefghij" * 100, "klmnopqrst" * 100, strict=True)]
    traces = [(f"{word} {'o' * (i % 97)}", "logic", 1.0) for i, word in enumerate(words)]

    rows = capped(traces, [], {Domain.LOGIC: 100})

    assert sum(weight for _, _, weight in rows) == pytest.approx(SOURCE_SHARE * 100)


def test_a_question_counts_once_and_in_its_last_domain():
    rows = capped(
        [("Sum 3 and 4", "math", 1.0), ("sum  5 and 6", "math", 1.0), ("hello there", "code", 1.0)],
        [("Hello  there", "math", 0.5), ("hello there", "creative", 1.0)],
        dict.fromkeys(Domain, 1000),
    )

    assert rows == [("sum  5 and 6", Domain.MATH, 1.0), ("hello there", Domain.CREATIVE, FORCED)]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("q", "chemistry", 1.0), "there is no domain 'chemistry'"),
        (("q", "math", 0.0), "a weight is 0.0"),
        (("q", "math", float("nan")), "a weight is nan"),
        ((7, "math", 1.0), "a question is a text"),
    ],
)
def test_a_row_that_makes_no_sense_is_told(row, message, tmp_path):
    with pytest.raises(TrainingError, match=message):
        update(tmp_path / "new.safetensors", traces=[row])


def test_an_update_with_nothing_is_told(tmp_path):
    with pytest.raises(TrainingError, match="no question with a domain"):
        update(tmp_path / "new.safetensors", traces=[("", "math", 1.0)])


@pytest.mark.parametrize(
    "line",
    [
        *("{", "[]", "3", '{"query": "a"}', '{"query": 3, "domain": "math"}', '{"query": "a", "domain": "x"}', "[" * 100_000),
        *(f'{{"query": "a", "domain": "math", "weight": {weight}}}' for weight in ("0", "-1", '"much"', "1e9", "NaN", "null")),
    ],
)
def test_a_bad_line_of_examples_is_told_with_its_number(line, tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text(f'{{"query": "Solve 3+4", "domain": "math"}}\n{line}\n', encoding="utf-8")

    with pytest.raises(TrainingError, match=r"bad\.jsonl, line 2"):
        fit([path], tmp_path / "out.safetensors")


def test_a_domain_without_examples_is_told(tmp_path):
    path = tmp_path / "one.jsonl"
    path.write_text("\n".join(json.dumps({"query": f"{i}+{i}", "domain": "math"}) for i in range(9)), encoding="utf-8")

    with pytest.raises(TrainingError, match="less than 3 examples of code"):
        fit([path], tmp_path / "out.safetensors")


def test_the_command_fits_and_tells_what_is_missing(few, tmp_path, caplog):
    assert main(["--examples", str(few), "--out", str(tmp_path / "own.safetensors")]) == 0
    assert main(["--examples", str(tmp_path / "none.jsonl"), "--out", str(tmp_path / "x.safetensors")]) == 1
    assert "can't read examples" in caplog.text
