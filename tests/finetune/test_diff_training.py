"""Training on eight tiny pictures: what it leaves behind, and that it can be taken up again exactly."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from core.errors import TrainingError
from finetune.diff import DiffusionConfig, DiffusionModel, generate_image, train_diffusion
from finetune.diffusion.checkpoint import read_model
from finetune.diffusion.network import build
from finetune.diffusion.shapes import write_shapes

SMALL = DiffusionConfig(
    image_size=8,
    channels=16,
    timesteps=30,
    num_epochs=4,
    batch_size=3,
    learning_rate=1e-3,
    checkpoint_frequency=4,
    keep_checkpoints=9,
    sample_frequency=6,
    device="cpu",
)
STEPS = 4 * 3


class Stop(Exception):
    """Stands for a machine that goes down."""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    write_shapes(folder, 8, random.Random(1), size=8)
    return folder


@pytest.fixture(scope="module")
def whole(pictures, tmp_path_factory):
    """(folder of a training that was not interrupted, what it told)."""
    folder, told = tmp_path_factory.mktemp("whole"), []
    train_diffusion(pictures, config=SMALL.replace(output_model_path=str(folder)), progress_callback=told.append)
    return folder, told


def weights(folder):
    return torch.load(folder / "model_final.pt", weights_only=True)["weights"]


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def distance(one, other):
    return sum((one[name] - other[name]).square().sum() for name in other).sqrt()


def interrupted(pictures, folder, at, **options):
    def stop(info):
        if info["step"] == at:
            raise Stop

    with pytest.raises(Stop):
        train_diffusion(pictures, config=SMALL.replace(output_model_path=str(folder), **options), progress_callback=stop)


@pytest.mark.slow
@pytest.mark.parametrize(("at", "frequency"), [(6, 4), (9, 3)], ids=["within an epoch", "between epochs"])
def test_a_training_that_was_interrupted_ends_with_the_weights_of_one_that_was_not(pictures, whole, tmp_path, at, frequency):
    interrupted(pictures, tmp_path, at, checkpoint_frequency=frequency)

    train_diffusion(pictures, config=SMALL.replace(output_model_path=str(tmp_path), checkpoint_frequency=4), resume_from=tmp_path)

    assert same(weights(tmp_path), weights(whole[0]))
    for part in ("weights", "ema", "optimizer"):
        ours, theirs = (load_file(folder / "checkpoint-00000012" / f"{part}.safetensors") for folder in (tmp_path, whole[0]))
        assert same(ours, theirs), part


def test_training_changes_the_weights_and_averages_them(whole):
    early, late = (load_file(whole[0] / f"checkpoint-0000000{step}" / "ema.safetensors") for step in (4, 8))
    raw = load_file(whole[0] / "checkpoint-00000008" / "weights.safetensors")

    assert not any(torch.equal(early[name], late[name]) for name in early if "conv" in name)
    assert not same(raw, late)


def test_another_seed_gives_other_weights(pictures, whole, tmp_path):
    config = SMALL.replace(output_model_path=str(tmp_path), seed=1, checkpoint_frequency=0, sample_frequency=0)

    train_diffusion(pictures, config=config)

    assert not same(weights(tmp_path), weights(whole[0]))
    assert not list(tmp_path.glob("checkpoint-*"))


def test_progress_tells_what_the_document_prints_and_the_time_that_is_left(whole):
    told = whole[1]

    assert [info["step"] for info in told] == list(range(1, STEPS + 1))
    assert [info["epoch"] for info in told] == [1] * 3 + [2] * 3 + [3] * 3 + [4] * 3
    assert {info["total_epochs"] for info in told} == {4}
    assert {info["total_steps"] for info in told} == {STEPS}
    assert all(info["loss"] > 0 and info["images_per_second"] > 0 for info in told)
    assert told[-1]["seconds_left"] == 0 < told[0]["seconds_left"]


def test_a_checkpoint_says_all_that_it_holds(whole):
    checkpoint = whole[0] / "checkpoint-00000008"
    state = json.loads((checkpoint / "state.json").read_text())

    assert sorted(path.name for path in checkpoint.iterdir()) == [
        "ema.safetensors",
        "optimizer.safetensors",
        "state.json",
        "weights.safetensors",
    ]
    assert (state["step"], state["epoch"], state["schedule_position"], state["random"]) == (8, 2, 8, {"seed": 0, "drawn_for_steps": 8})
    assert state["config"]["channels"] == 16
    assert "circle" in state["words"]["words"]


def test_sample_grids_are_drawn_while_it_trains(whole):
    found = sorted((whole[0] / "samples").iterdir())

    assert [path.name for path in found] == ["step-00000006.png", "step-00000012.png"]
    with Image.open(found[0]) as sheet:
        assert sheet.size == (4 * 10 + 2, 2 * 10 + 2)


@pytest.mark.parametrize("name", ["checkpoint-00000004", "checkpoint-00000012", "model_final.pt", "."])
def test_every_checkpoint_can_be_sampled(whole, name):
    assert generate_image(whole[0] / name, prompt="a red circle", seed=1, steps=3, device="cpu").size == (8, 8)


def test_the_final_model_is_the_average_of_the_last_step(whole):
    final = generate_image(whole[0] / "model_final.pt", prompt="a red circle", seed=1, steps=3)
    last = generate_image(whole[0] / "checkpoint-00000012", prompt="a red circle", seed=1, steps=3)

    assert final.tobytes() == last.tobytes()


def test_old_checkpoints_go_and_so_do_those_of_an_earlier_run(pictures, tmp_path, caplog):
    (tmp_path / "checkpoint-00000999").mkdir()
    config = SMALL.replace(output_model_path=str(tmp_path), checkpoint_frequency=3, keep_checkpoints=2, sample_frequency=0)

    train_diffusion(pictures, config=config)

    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == ["checkpoint-00000009", "checkpoint-00000012"]
    assert "checkpoints of an earlier run" in caplog.text


@pytest.fixture
def copied(whole, tmp_path):
    """A checkpoint to be damaged."""
    target = tmp_path / "checkpoint-00000008"
    target.mkdir()
    for path in (whole[0] / "checkpoint-00000008").iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "a part is missing": lambda checkpoint: (checkpoint / "ema.safetensors").unlink(),
    "a bit is wrong": lambda checkpoint: flip(checkpoint / "optimizer.safetensors"),
    "it was cut short": lambda checkpoint: os.truncate(checkpoint / "weights.safetensors", 100),
    "its state is no JSON": lambda checkpoint: (checkpoint / "state.json").write_text("{"),
    "its state is of something else": lambda checkpoint: (checkpoint / "state.json").write_text("{}"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_checkpoint_is_an_error_to_train_and_to_sample_from(pictures, copied, tmp_path, damage):
    damage(copied)

    with pytest.raises(TrainingError, match="checkpoint-00000008 is damaged"):
        train_diffusion(pictures, config=SMALL.replace(output_model_path=str(tmp_path)), resume_from=copied)
    with pytest.raises(TrainingError, match="checkpoint-00000008 is damaged"):
        generate_image(copied)


def test_a_missing_checkpoint_is_an_error(pictures, tmp_path):
    config = SMALL.replace(output_model_path=str(tmp_path / "out"))

    with pytest.raises(TrainingError, match="there is no checkpoint in"):
        train_diffusion(pictures, config=config, resume_from=tmp_path / "none")


def test_a_damaged_or_missing_final_model_is_an_error(whole, tmp_path):
    content = (whole[0] / "model_final.pt").read_bytes()
    for name, part in {"cut.pt": content[: len(content) // 2], "empty.pt": b"", "text.pt": b"hello"}.items():
        (tmp_path / name).write_bytes(part)
        with pytest.raises(TrainingError, match=f"{name} is damaged"):
            generate_image(tmp_path / name)
    with pytest.raises(TrainingError, match="there is no model at"):
        generate_image(tmp_path / "none.pt")


def test_code_in_a_model_file_is_never_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "harm"),))

    torch.save({"format": 1, "weights": Evil()}, tmp_path / "model_final.pt")

    with pytest.raises(TrainingError, match="is damaged or no model"):
        generate_image(tmp_path / "model_final.pt")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    ("change", "message"), [({"batch_size": 2}, "batch_size=3"), ({"seed": 5}, "seed=0"), ({"learning_rate": 1e-4}, "learning_rate=0.001")]
)
def test_a_training_with_other_options_is_not_taken_up(pictures, whole, tmp_path, change, message):
    config = SMALL.replace(output_model_path=str(tmp_path), **change)

    with pytest.raises(TrainingError, match=message):
        train_diffusion(pictures, config=config, resume_from=whole[0])


def test_a_training_with_other_pictures_is_not_taken_up(pictures, whole, tmp_path):
    paths = sorted(pictures.glob("*.png"))
    captions = ["a red circle"] * len(paths)

    with pytest.raises(TrainingError, match="other pictures or captions"):
        train_diffusion(paths, captions, SMALL.replace(output_model_path=str(tmp_path)), resume_from=whole[0])


def test_more_epochs_train_on_from_the_last_checkpoint(pictures, whole, tmp_path):
    told = []
    config = SMALL.replace(output_model_path=str(tmp_path), num_epochs=5, sample_frequency=0)

    train_diffusion(pictures, config=config, resume_from=whole[0], progress_callback=told.append)

    assert [info["step"] for info in told] == [13, 14, 15]


def test_a_loss_that_is_no_number_stops_with_advice(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.nn.functional.mse_loss", lambda output, target: (output - target).mean() * float("nan"))

    with pytest.raises(TrainingError, match="no number after step 1: lower the learning rate; there is no checkpoint yet"):
        train_diffusion(pictures, config=SMALL.replace(output_model_path=str(tmp_path)))


def test_a_full_disk_is_told_and_leaves_no_half_checkpoint(pictures, tmp_path, monkeypatch):
    def full(tensors, path):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)

    with pytest.raises(TrainingError, match="No space left on device; free some space"):
        train_diffusion(pictures, config=SMALL.replace(output_model_path=str(tmp_path)))
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_says_how_to_go_on(pictures, tmp_path, caplog):
    def interrupt(info):
        if info["step"] == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_diffusion(pictures, config=SMALL.replace(output_model_path=str(tmp_path)), progress_callback=interrupt)

    assert f"stopped after step 5 of 12; resume_from={str(tmp_path / 'checkpoint-00000004')!r} goes on" in caplog.text


def test_an_output_folder_that_cant_be_written_is_told_before_training(pictures, tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(TrainingError, match="choose another output_model_path"):
        train_diffusion(pictures, config=SMALL.replace(output_model_path=str(tmp_path / "file")))


@pytest.mark.slow
def test_two_processes_train_what_one_does_with_batches_of_twice_the_size(pictures, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import sys\nfrom finetune.diff import DiffusionConfig, train_diffusion\n"
        "config = DiffusionConfig(image_size=8, channels=16, timesteps=30, num_epochs=2, batch_size=2, learning_rate=1e-3,\n"
        "                         checkpoint_frequency=0, device='cpu', output_model_path=sys.argv[2])\n"
        "train_diffusion(sys.argv[1], config=config)\n"
    )
    root = Path(__file__).parents[2]
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        str(program),
        str(pictures),
        str(tmp_path),
    ]
    environment = {**os.environ, "PYTHONPATH": str(root), "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, timeout=200)

    alone = SMALL.replace(
        output_model_path=str(tmp_path / "alone"), num_epochs=2, batch_size=4, checkpoint_frequency=0, sample_frequency=0, device="cpu"
    )
    train_diffusion(pictures, config=alone)

    together, single = weights(tmp_path), weights(tmp_path / "alone")
    config, words, _ = read_model(tmp_path / "alone")
    first = build(config, words).state_dict()
    # sums in another order: biases whose gradient is rounding error alone move by it
    assert distance(together, single) < 0.03 * distance(first, single)


def test_a_model_is_loaded_once_and_draws_often(whole):
    model = DiffusionModel.load(whole[0], "cpu")

    assert len(model.sample(["a red circle", None, "a blue ring"], seed=1, steps=2)) == 3
