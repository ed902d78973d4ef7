import csv
import random

import pytest
from PIL import Image

from finetune.diffusion.shapes import COLOURS, PAIRS, SHAPES, caption, held_out_pairs, judge, measure, picture, write_shapes


@pytest.fixture(scope="module")
def report():
    return measure(random.Random(5), 120)


def test_the_judge_names_true_pictures(report):
    assert report.right >= 0.99


def test_the_judge_passes_neither_noise_nor_a_blend_of_two_nor_two_colours(report):
    assert report.noise == 0
    assert report.morphs <= 0.02
    assert report.two_colours <= 0.02


def test_an_empty_picture_shows_nothing():
    assert judge(Image.new("RGB", (32, 32), "white")).pair == (None, None)


@pytest.mark.parametrize("seed", range(3))
def test_what_is_held_out_is_never_written_and_all_else_is(tmp_path, seed):
    held = held_out_pairs(random.Random(seed))

    shown = write_shapes(tmp_path, 50, random.Random(seed), without=held)

    with (tmp_path / "captions.csv").open(encoding="utf-8") as file:
        captions = {row["caption"] for row in csv.DictReader(file)}
    assert captions == {caption(pair) for pair in shown}
    assert set(shown) | set(held) == set(PAIRS)
    assert not set(shown) & set(held)
    assert {colour for colour, _ in shown} == set(COLOURS)
    assert {shape for _, shape in shown} == set(SHAPES)


def test_a_seed_gives_the_same_picture():
    first, again, other = (picture(("red", "ring"), random.Random(seed)).tobytes() for seed in (1, 1, 2))

    assert first == again != other
