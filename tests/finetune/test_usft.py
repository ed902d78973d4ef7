"""run_usft and its packing: no token is lost, no document sees another, and memory holds none of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.errors import TrainingError
from core.providers.loading import load, load_tokenizer
from finetune.packing import IGNORED, Spool, collate
from finetune.usft import USFTConfig, load_corpus_from_hf, run_usft, write

pytestmark = [
    # peft asks transformers by a name that it is about to drop
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),
    # torch, of a module of its own that trl imports
    pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning"),
]
DOCUMENTS = [[7], list(range(10, 35)), [1, 2, 3], list(range(100, 109)), [5, 6]]


def packed(spool: Spool, length: int) -> list[dict[str, list[int]]]:
    for document in DOCUMENTS:
        spool.add(document)
    blocks = spool.read().blocks(length)
    return [blocks.block(number) for number in range(len(blocks))]


@pytest.mark.parametrize("length", [2, 5, 8, 40, 1000])
def test_every_token_of_a_document_but_its_first_is_trained_once(length: int, tmp_path: Path):
    with Spool(tmp_path, "t") as spool:
        blocks = packed(spool, length)
        lengths = spool.read().blocks(length).lengths()

    targets = [label for block in blocks for label in block["labels"][1:] if label != IGNORED]
    assert targets == [token for document in DOCUMENTS for token in document[1:]]
    assert [len(block["input_ids"]) for block in blocks] == lengths
    assert max(lengths) <= length


def test_what_was_spooled_is_gone_when_it_is_closed(tmp_path: Path):
    with Spool(tmp_path, "t") as spool:
        packed(spool, 8)
        assert len(list(tmp_path.iterdir())) == 2

    assert not list(tmp_path.iterdir())


def test_documents_of_a_block_do_not_see_each_other(tmp_path: Path):
    import torch

    model, tokenizer = load("embedded", "cpu")
    texts = ["Solve 2+2", "Say the word for three, then stop", "Solve 17*6+23"]
    with Spool(tmp_path, "t") as train, Spool(tmp_path, "h") as held:
        write(texts, tokenizer, train, held, 0.0)
        blocks = train.read().blocks(500)
        batch = collate([blocks.block(0), {key: values[:9] for key, values in blocks.block(0).items()}])

    with torch.inference_mode():
        together = model(input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False).logits[0]
        alone = [model(torch.tensor([[*tokenizer(t)["input_ids"], tokenizer.eos_token_id]]), use_cache=False).logits[0] for t in texts]
    assert torch.allclose(together, torch.cat(alone), atol=1e-4)


def test_texts_may_be_a_stream_and_equal_ones_are_on_one_side(tmp_path: Path):
    tokenizer = load_tokenizer("embedded")
    seen = 0

    def stream() -> Iterator[str]:
        nonlocal seen
        for number in range(1000):
            seen += 1
            yield f"Text {number % 100}"

    with Spool(tmp_path, "t") as train, Spool(tmp_path, "h") as held:
        write(stream(), tokenizer, train, held, 0.3)
        sides = [spool.read() for spool in (train, held)]
        expected = 10 * sum(len(tokenizer(f"Text {n}")["input_ids"]) + 1 for n in range(100))

        assert seen == 1000
        assert sum(map(len, sides)) == expected
        assert sum(side.documents for side in sides) == 1000
        assert 150 < sides[1].documents < 450
        assert sides[1].documents % 10 == 0


@pytest.mark.slow
def test_training_on_raw_text_makes_it_likelier(tmp_path: Path):
    import torch

    text = "the quick brown fox jumps over the lazy dog, and the dog sleeps on. "
    options = USFTConfig("embedded", str(tmp_path), num_train_epochs=3, learning_rate=1e-2, max_length=64, device="cpu")

    path = run_usft((text * 2 for _ in range(24)), options)

    def loss(name: str) -> float:
        model, tokenizer = load(name, "cpu")
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        with torch.inference_mode():
            return float(model(ids, labels=ids).loss)

    assert path == str(tmp_path)
    assert loss(path) < loss("embedded") - 1
    state = json.loads((tmp_path / "trainer_state.json").read_text(encoding="utf-8"))
    assert any("eval_loss" in entry for entry in state["log_history"])
    assert not list(tmp_path.glob(".train*"))


@pytest.mark.parametrize(
    ("texts", "told"),
    [([], "no texts"), (["  ", ""], "no texts"), ("one string", "texts is one string"), (["a", None], "text 1 is of type NoneType")],
)
def test_texts_that_cannot_be_trained_on_are_told(texts: Any, told: str, tmp_path: Path):
    with pytest.raises(TrainingError, match=told):
        run_usft(texts, USFTConfig("embedded", str(tmp_path), device="cpu"))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    for number in range(10):
        (tmp_path / f"{number}.txt").write_text(f"text {number}", encoding="utf-8")
    rows = [{"text": "t", "content": "c"}, {"content": "only content"}, {"other": 1}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "ignored.bin").write_bytes(b"\x00")
    return tmp_path


def test_a_directory_of_text_files_is_a_corpus(corpus: Path):
    assert load_corpus_from_hf(str(corpus)) == [*(f"text {n}" for n in range(10)), "t", "only content", "{'other': 1}"]


@pytest.mark.parametrize(
    ("split", "first", "count"),
    [("train[:3]", "text 0", 3), ("train[2:4]", "text 2", 2), ("train[-2:]", "only content", 2), ("train[:50%]", "text 0", 6)],
)
def test_slices_work_on_a_directory_too(split: str, first: str, count: int, corpus: Path):
    texts = load_corpus_from_hf(str(corpus), split=split)

    assert (texts[0], len(texts)) == (first, count)


def test_a_corpus_that_cannot_be_had_is_told(tmp_path: Path, corpus: Path):
    with pytest.raises(TrainingError, match=r"can't fetch the dataset nobody/has_this: .*a directory of text files works offline"):
        load_corpus_from_hf("nobody/has_this")
    with pytest.raises(TrainingError, match="can't read the split 'train:3'"):
        load_corpus_from_hf(str(corpus), split="train:3")
    (tmp_path / "empty").mkdir()
    with pytest.raises(TrainingError, match="holds no text"):
        load_corpus_from_hf(str(tmp_path / "empty"))
