import json

import numpy as np
import pytest
from PIL import Image

from core.errors import TrainingError
from finetune.diffusion.config import DiffusionConfig
from finetune.diffusion.pictures import Pictures, Source, grid, picture_of, pixels_of, sources


def config(**options):
    return DiffusionConfig(**{"image_size": 8, "channels": 16, **options})


def saved(path, mode="RGB", size=(8, 8), colour="red"):
    Image.new(mode, size, colour).save(path)
    return path


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_any_mode_becomes_the_channels_that_were_asked_for(tmp_path, mode, channels):
    picture = Image.fromarray(np.full((9, 13), 40_000, np.uint16)) if mode == "I;16" else Image.new("RGB", (13, 9), "teal").convert(mode)
    picture.save(tmp_path / "p.tif")

    assert pixels_of(tmp_path / "p.tif", config(num_channels=channels)).shape == (8, 8, channels)


def test_a_16_bit_grey_is_scaled_and_not_cut_off(tmp_path):
    Image.fromarray(np.full((8, 8), 0x8000, np.uint16)).save(tmp_path / "p.png")

    assert set(pixels_of(tmp_path / "p.png", config(num_channels=1)).ravel()) == {0x80}


def test_what_is_transparent_becomes_white_without_a_channel_for_it(tmp_path):
    path = saved(tmp_path / "p.png", "RGBA", colour=(255, 0, 0, 0))

    assert pixels_of(path, config()).min() == 255
    assert pixels_of(path, config(num_channels=4))[0, 0].tolist() == [255, 0, 0, 0]


@pytest.mark.parametrize(("fit", "corner"), [("crop", [0, 0, 255]), ("pad", [255, 255, 255]), ("stretch", [255, 0, 0])])
def test_another_aspect_is_cropped_padded_or_stretched(tmp_path, fit, corner):
    picture = Image.new("RGB", (24, 8), "red")
    picture.paste("blue", (8, 0, 16, 8))
    picture.save(tmp_path / "p.png")

    assert pixels_of(tmp_path / "p.png", config(fit=fit))[0, 0].tolist() == pytest.approx(corner, abs=8)


def test_files_that_cant_be_read_are_skipped_with_their_captions_and_told(tmp_path, caplog):
    (tmp_path / "text.png").write_text("no picture")
    whole = saved(tmp_path / "whole.png", size=(64, 64)).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    paths = [tmp_path / "text.png", tmp_path / "whole.png", tmp_path / "cut.png", tmp_path / "none.png"]

    pictures = Pictures(sources(paths, ["a", "b", "c", "d"]), config())

    assert pictures.captions == ["b"]
    assert [path.name for path, _ in pictures.skipped] == ["text.png", "cut.png", "none.png"]
    assert "3 of 4 pictures" in caplog.text
    assert "there is no such file" in caplog.text


def test_no_readable_picture_is_an_error(tmp_path):
    with pytest.raises(TrainingError, match=r"none of the 1 pictures .* no such file"):
        Pictures(sources([tmp_path / "x.png"], None), config())


def test_pictures_that_are_not_held_in_memory_are_the_same(tmp_path, monkeypatch):
    paths = [saved(tmp_path / f"{name}.png", colour=name) for name in ("red", "green", "blue")]
    held = Pictures(sources(paths, None), config()).batch([2, 0])

    monkeypatch.setattr("finetune.diffusion.pictures.IN_MEMORY", 1)

    assert np.array_equal(Pictures(sources(paths, None), config()).batch([2, 0]), held)
    assert held[:, :, 0, 0].tolist() == [[-1, -1, 1], [1, -1, -1]]


def test_pixels_come_back_as_the_picture_they_were(tmp_path):
    path = saved(tmp_path / "p.png", colour=(3, 128, 254))

    (pixels,) = Pictures(sources([path], None), config()).batch([0])

    assert picture_of(pixels).tobytes() == Image.open(path).tobytes()


def test_a_folder_has_captions_csv_or_metadata_jsonl_or_pictures_alone(tmp_path):
    saved(tmp_path / "one.png")
    saved(tmp_path / "two.jpg")
    assert sources(tmp_path, None) == [Source(tmp_path / "one.png", ""), Source(tmp_path / "two.jpg", "")]

    (tmp_path / "metadata.jsonl").write_text(json.dumps({"file_name": "two.jpg", "text": "second"}) + "\n")
    assert sources(str(tmp_path), None) == [Source(tmp_path / "two.jpg", "second")]

    (tmp_path / "captions.csv").write_text('file_name,caption\none.png,"first, with a comma"\n')
    assert sources(tmp_path, None) == [Source(tmp_path / "one.png", "first, with a comma")]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("captions.csv", "file_name,caption\n", "names no picture"),
        ("captions.csv", "name,words\na.png,b\n", "row 1 .* needs a file_name and a caption"),
        ("captions.csv", "file_name,caption\na.png\n", "row 1 .* needs a file_name and a caption"),
        ("metadata.jsonl", "{", "can't be read"),
        ("metadata.jsonl", "[1]\n", "row 1 .* needs"),
    ],
)
def test_a_table_that_cant_be_used_says_where(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)

    with pytest.raises(TrainingError, match=message):
        sources(tmp_path, None)


@pytest.mark.parametrize(
    ("paths", "captions", "message"),
    [
        ([], None, "image_paths is empty"),
        (["a.png"], ["x", "y"], "2 captions for 1 pictures"),
        (["a.png"], [], "0 captions for 1 pictures"),
        (["a.png", "b.png"], "ab", "must be a list of texts"),
        (["a.png"], [None], "must be a list of texts"),
        ([3], None, "image_paths holds 3"),
        ("no/such/folder", None, "there is no folder"),
        (".", ["a"], "leave captions=None"),
    ],
)
def test_what_cant_be_trained_on_is_an_error(paths, captions, message):
    with pytest.raises(TrainingError, match=message):
        sources(paths, captions)


def test_a_folder_without_pictures_is_an_error(tmp_path):
    with pytest.raises(TrainingError, match="there are no pictures in"):
        sources(tmp_path, None)


def test_a_grid_holds_all_pictures():
    sheet = grid([Image.new("RGB", (4, 4), "red")] * 5, columns=3, scale=2, gap=1)

    assert sheet.size == (3 * 9 + 1, 2 * 9 + 1)
    assert sorted(sheet.getcolors()) == [(28 * 19 - 5 * 64, (255, 255, 255)), (5 * 64, (255, 0, 0))]
