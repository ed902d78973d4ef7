"""An entailment model is found by the name of its label, and gives a probability."""

from __future__ import annotations

import pytest

from core.errors import ConfigError, ProviderError
from core.providers.entailment import entailing, load


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A model with random weights, made on the spot."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    place = tmp_path_factory.mktemp("nli")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "ann", "lives", "in", "oslo", "rome", "."]
    (place / "vocab.txt").write_text("\n".join(words))
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(words), hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, max_position_embeddings=64,
        id2label={0: "CONTRADICTION", 1: "neutral", 2: "Entailment"}, label2id={"CONTRADICTION": 0, "neutral": 1, "Entailment": 2},
    )  # fmt: skip
    transformers.BertForSequenceClassification(config).save_pretrained(place)
    transformers.BertTokenizerFast(str(place / "vocab.txt")).save_pretrained(place)
    return place


@pytest.mark.slow
def test_a_loaded_model_gives_the_same_probability_for_the_same_pair(tiny):
    entails = load(str(tiny))

    first = entails("Ann lives in Oslo.", "Ann lives in Rome.")

    assert 0 < first < 1
    assert entails("Ann lives in Oslo.", "Ann lives in Rome.") == first
    assert 0 < entails("ann " * 10_000, "") < 1


@pytest.mark.slow
def test_a_model_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ProviderError, match="can't load"):
        load(str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("labels", "index"),
    [
        ({0: "entailment", 1: "neutral", 2: "contradiction"}, 0),
        ({0: "NOT_ENTAILMENT", 1: "ENTAILMENT"}, 1),
        ({0: "not-entailment", 1: "entails"}, 1),
    ],
)
def test_the_label_is_found_by_its_name(labels, index):
    assert entailing(labels) == index


@pytest.mark.parametrize("labels", [{0: "LABEL_0", 1: "LABEL_1"}, {}, {0: "not_entailment"}, {0: "entails", 1: "entailment"}])
def test_labels_without_a_name_are_refused(labels):
    with pytest.raises(ConfigError, match="choose a model trained for it"):
        entailing(labels)
