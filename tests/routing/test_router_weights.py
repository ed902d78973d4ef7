import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import ConfigError
from core.routing import router
from core.routing.features import Features, find_features
from core.routing.lexicon import KINDS, find_kinds
from core.routing.weights import SHIPPED, read, write
from core.types import Domain

DOMAINS = list(Domain)
WHOLE = SHIPPED.read_bytes()


def rows(*weights):
    """The bytes of rows of signed weights."""
    return b"".join(value.to_bytes(1, "little", signed=True) for row in weights for value in row)


def found(words=(), letters=(), kinds=()):
    return Features(frozenset(words), frozenset(letters), frozenset(kinds))


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "w.safetensors"
    tables = [
        (["a", "b"], rows((127, -127, 0, 0, 0, 0), (0, 0, 64, 0, 0, -128)), 0.5),
        (["ab"], rows((0, 0, 0, 1, 0, 0)), 1.0),
        ([], b"", 1.0),
    ]
    write(path, tables, [0.0, 0.25, 0.0, 0.0, 0.0, 0.0], DOMAINS, "f00d")

    weights = read(path, DOMAINS)

    assert weights.examples == "f00d"
    assert weights.scores(found(words=["a"])) == [63.5, 0.25 - 63.5, 0, 0, 0, 0]
    both = weights.scores(found(words=["a", "b", "unknown"], letters=["ab"]))
    assert both == pytest.approx([63.5 / 2**0.5, 0.25 - 63.5 / 2**0.5, 32 / 2**0.5, 1, 0, -64 / 2**0.5])


def test_without_a_known_word_there_are_no_scores(tmp_path):
    path = tmp_path / "w.safetensors"
    write(path, [(["a"], rows((1, 0, 0, 0, 0, 0)), 1.0), (["ab"], rows((0, 1, 0, 0, 0, 0)), 1.0), ([], b"", 1.0)], [0.0] * 6, DOMAINS, "")

    assert read(path, DOMAINS).scores(found(words=["z"], letters=["ab"])) is None


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"\0" * 8, b"\xff" * 1000, b"{}", (10).to_bytes(8, "little") + b"[" * 5_000_000),
        *(WHOLE[:7], WHOLE[:100], WHOLE[:-1]),
        *(WHOLE.replace(*change) for change in ((b"routing-1", b"routing-9"), (b"math,code", b"code,math"), (b'"I8"', b'"I4"'))),
    ],
    ids=range(11),
)
def test_a_damaged_file_is_a_config_error_that_says_how_to_make_one(data, tmp_path):
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(data)

    with pytest.raises(ConfigError, match=r"holds no routing weights .* python -m core\.routing\.train"):
        router(path)


def test_a_missing_file_and_a_folder_are_config_errors(tmp_path):
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(ConfigError, match="can't read the routing weights"):
            router(path)


@settings(max_examples=100)
@given(st.integers(0, 2500), st.binary(min_size=1, max_size=12))
def test_any_damage_to_the_header_is_a_config_error_or_harmless(tmp_path_factory, place, damage):
    path = tmp_path_factory.mktemp("damage") / "w.safetensors"
    path.write_bytes(WHOLE[:place] + damage + WHOLE[place + len(damage) :])

    try:
        own = router(path)
    except ConfigError:
        return
    assert 0 <= own("Solve 17*6+23").confidence <= 1


@settings(max_examples=50)
@given(st.recursive(st.none() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_a_header_of_any_shape_is_a_config_error(tmp_path_factory, about):
    path = tmp_path_factory.mktemp("header") / "w.safetensors"
    header = json.dumps({"__metadata__": about, "bias": about, "words.names": about}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 64)

    with pytest.raises(ConfigError):
        router(path)


def test_numbers_differ_by_their_length_only():
    assert find_features("Solve 17*6") == find_features("solve 23*4")
    assert find_features("Solve 17*6") != find_features("solve 1723*4")


def test_kinds_of_words_are_counted_up_to_three():
    assert find_kinds("antiderivative") == {"mathematics > 1"}
    assert {"programming > 1", "programming > 2", "programming > 3"} <= find_kinds("arrays strings pointers functions loops")
    assert find_kinds("") == set()


def test_every_kind_has_words_that_can_be_found():
    for kind, words in KINDS.items():
        assert all(f"{kind} > 1" in find_kinds(word) for word in words), kind
