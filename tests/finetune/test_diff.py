"""The face: options, their errors, and what `generate_image` gives."""

import random

import pytest
import torch
from PIL import Image

from core.errors import ConfigError
from finetune.diff import DiffusionConfig, DiffusionModel, generate_image, train_diffusion
from finetune.diffusion.network import build
from finetune.diffusion.pictures import picture_of
from finetune.diffusion.schedule import sampling_steps, training_noise
from finetune.diffusion.shapes import write_shapes
from finetune.diffusion.words import Words

TINY = DiffusionConfig(image_size=8, channels=16, timesteps=20, num_epochs=1, batch_size=8, checkpoint_frequency=0, device="cpu")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    write_shapes(folder, 8, random.Random(1), size=8)
    return folder


@pytest.fixture(scope="module")
def model(pictures, tmp_path_factory):
    """The path of a model that has seen eight pictures once."""
    return train_diffusion(pictures, config=TINY.replace(output_model_path=str(tmp_path_factory.mktemp("model"))))


def test_one_sample_is_a_picture_and_more_are_a_list(model):
    one = generate_image(model + "/model_final.pt", prompt="a red circle", num_samples=1, seed=3, steps=2)
    three = generate_image(model + "/model_final.pt", prompt="a red circle", num_samples=3, seed=3, steps=2)

    assert isinstance(one, Image.Image)
    assert len(three) == 3
    assert one.tobytes() == three[0].tobytes() != three[1].tobytes()


def test_a_seed_repeats_and_without_one_pictures_differ(model):
    first, again, other = (generate_image(model, "a red circle", seed=seed, steps=2).tobytes() for seed in (1, 1, 2))
    free = {generate_image(model, "a red circle", steps=2).tobytes() for _ in range(2)}

    assert first == again != other
    assert len(free) == 2


def test_the_batch_does_not_change_the_pictures(model):
    drawing = DiffusionModel.load(model, "cpu")

    together = drawing.sample(["a red circle"] * 4, seed=1, steps=2)
    apart = drawing.sample(["a red circle"] * 4, seed=1, steps=2, batch_size=3)

    for one, other in zip(together, apart, strict=True):
        assert max(abs(a - b) for a, b in zip(one.tobytes(), other.tobytes(), strict=True)) <= 1


def test_prompt_and_guidance_reach_the_network(model):
    def drawn(prompt, guidance):
        return generate_image(model, prompt, seed=1, steps=2, guidance=guidance).tobytes()

    prompts = [drawn(prompt, 5.0) for prompt in ("a red circle", "a red cross", None)]
    strengths = [drawn("a red circle", guidance) for guidance in (0, 1, 5.0)]

    assert len(set(prompts)) == 3
    assert len(set(strengths)) == 3
    assert strengths[0] == prompts[2]


def test_the_text_encoder_tells_prompts_apart(model):
    drawing = DiffusionModel.load(model, "cpu")
    tokens = torch.tensor(drawing.words.encode(["a red circle", "a red cross", "red", ""]))

    pooled = drawing.network.describe(tokens).pooled

    assert torch.pdist(pooled).min() > 1e-3


def test_another_size_is_that_picture_resized(model):
    assert generate_image(model, "a red circle", image_size=20, seed=1, steps=2).size == (20, 20)


def test_words_that_training_never_had_are_told(model, caplog):
    generate_image(model, "a white circle", seed=1, steps=2)

    assert "no caption of the training had white" in caplog.text


def test_words_beyond_the_longest_caption_are_told(model, caplog):
    generate_image(model, "a red circle a blue ring", seed=1, steps=2)

    assert "only the first 3 words count" in caplog.text


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
@pytest.mark.parametrize("sampler", ["dpmsolver++", "ddim", "ddpm"])
def test_every_sampler_finds_the_picture_when_the_network_is_right(schedule, sampler):
    """With the exact velocity towards one picture, whatever noise it begins with."""
    config = TINY.replace(timesteps=1000, schedule=schedule)
    picture = torch.linspace(-0.9, 0.9, 3 * 8 * 8).reshape(1, 3, 8, 8)
    noise = training_noise(config)
    scheduler, extra = sampling_steps(config, sampler, 1000 if sampler == "ddpm" else 20)
    x = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))

    for t in scheduler.timesteps:
        alpha = noise.alphas_cumprod[t]
        hidden = (x - alpha.sqrt() * picture) / (1 - alpha).sqrt()
        x = scheduler.step(noise.get_velocity(picture, hidden, t[None]), t, x, return_dict=False, **extra)[0]

    assert torch.allclose(x, picture, atol=0.05)


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
@pytest.mark.parametrize("timesteps", [50, 1000])
def test_the_last_timestep_is_nearly_pure_noise(schedule, timesteps):
    assert training_noise(TINY.replace(schedule=schedule, timesteps=timesteps)).alphas_cumprod[-1] < 1e-3


@pytest.mark.parametrize("size", [8, 9, 15, 33])
def test_any_height_and_width_can_be_predicted(size):
    network = build(TINY.replace(image_size=size), Words.of(["a"]))

    out = network(torch.zeros(2, 3, size, size), torch.tensor([1, 5]), torch.tensor(Words.of(["a"]).encode(["a", ""])))

    assert out.shape == (2, 3, size, size)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_grey_colour_and_transparency_train_and_draw(tmp_path, channels):
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[channels]
    Image.new("RGBA", (9, 12), (200, 30, 30, 90)).save(tmp_path / "p.png")

    path = train_diffusion([tmp_path / "p.png"], ["red"], TINY.replace(num_channels=channels, output_model_path=str(tmp_path / "m")))

    assert generate_image(path, "red", steps=2).mode == mode


def test_without_captions_a_prompt_changes_nothing_and_that_is_told(pictures, tmp_path, caplog):
    path = train_diffusion(sorted(pictures.glob("*.png")), config=TINY.replace(output_model_path=str(tmp_path)))

    with_prompt, without = (generate_image(path, prompt, seed=1, steps=2).tobytes() for prompt in ("a red circle", None))

    assert with_prompt == without
    assert "trained without captions" in caplog.text


def test_what_cant_be_read_is_listed_beside_the_model(pictures, tmp_path):
    paths = [*sorted(pictures.glob("*.png")), tmp_path / "none.png"]

    train_diffusion(paths, ["a thing"] * 9, TINY.replace(output_model_path=str(tmp_path)))

    assert "there is no such file" in (tmp_path / "skipped.jsonl").read_text()


def test_first_weights_follow_from_the_seed_and_leave_torchs_generator_alone():
    words, state = Words.of(["a"]), torch.random.get_rng_state()
    one, same, other = (dict(build(TINY.replace(seed=seed), words).state_dict()) for seed in (1, 1, 2))

    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["unet.conv_in.weight"], other["unet.conv_in.weight"])
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.slow
def test_the_defaults_take_a_step_on_a_cpu(tmp_path):
    Image.new("RGB", (200, 150), "red").save(tmp_path / "p.png")
    told = []
    config = DiffusionConfig(num_epochs=1, output_model_path=str(tmp_path / "m"))

    train_diffusion([tmp_path / "p.png"], ["a red wall"], config, progress_callback=told.append)

    assert [info["step"] for info in told] == [1]
    assert (tmp_path / "m" / "model_final.pt").is_file()


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("image_size", 4, "image_size is 4: choose a number from 8"),
        ("image_size", 8.0, "give a whole number"),
        ("image_size", True, "give a whole number"),
        ("channels", 40, "multiple of 16"),
        ("num_channels", 2, "choose 1 .*, 3 .* or 4"),
        ("timesteps", 1, "timesteps is 1"),
        ("num_epochs", 0, "num_epochs is 0: choose 1 or more"),
        ("batch_size", -1, "batch_size is -1"),
        ("learning_rate", float("nan"), "learning_rate is nan"),
        ("learning_rate", 0, "learning_rate is 0"),
        ("schedule", "sine", "choose one of cosine, linear"),
        ("fit", None, "choose one of crop, pad, stretch"),
        ("output_model_path", "", "give the path of a folder"),
        ("sample_prompts", "a", "give a list of texts"),
        ("caption_dropout", 1.5, "from 0 to 1"),
    ],
)
def test_an_option_that_cant_work_is_an_error(option, value, message):
    with pytest.raises(ConfigError, match=message):
        DiffusionConfig(**{option: value})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_samples": 0}, "num_samples is 0"),
        ({"image_size": 3}, "image_size is 3"),
        ({"prompt": 5}, "prompt is 5"),
        ({"guidance": -1}, "guidance is -1"),
        ({"guidance": float("nan")}, "guidance is nan"),
        ({"steps": 21}, "choose 1 to 20, the timesteps of training"),
        ({"steps": 0}, "steps is 0"),
        ({"sampler": "euler"}, "choose one of dpmsolver"),
        ({"seed": 1.5}, "seed is 1.5"),
        ({"device": "cuda:7"}, "there is no device 'cuda:7'"),
    ],
)
def test_a_request_that_cant_be_drawn_is_an_error(model, options, message):
    with pytest.raises(ConfigError, match=message):
        generate_image(model, **options)


def test_a_missing_library_says_what_to_install(monkeypatch):
    monkeypatch.setattr("finetune.diffusion.config.find_spec", lambda name: None if name == "diffusers" else object())

    with pytest.raises(ConfigError, match=r'diffusion needs diffusers: pip install "ratchet-agents\[diffusion\]"'):
        train_diffusion(["a.png"])


def test_pixels_beyond_the_range_are_cut():
    assert picture_of(torch.tensor([-3.0, 3.0]).reshape(1, 1, 2).numpy()).tobytes() == b"\x00\xff"
