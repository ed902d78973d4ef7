"""The network: a UNet that is told a text in two ways, by attention in its middle and by the pooled text beside the timestep.

Pictures go in with 2 x 2 pixels stacked into channels (pixel unshuffle), which costs a quarter and loses nothing at these sizes. Attention
stands in the middle only, where the picture is 16 x 16 or smaller. Imported only when a model is built, since it needs torch and diffusers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModel

from finetune.diffusion.config import DiffusionConfig
from finetune.diffusion.words import END, PAD, START, Words

PATCH = 2
MIDDLE = 16


@dataclass(frozen=True, slots=True)
class Described:
    """Texts as the UNet is told them: states (batch, length, channels), pooled (batch, channels), mask (batch, length)."""

    states: Tensor
    pooled: Tensor
    mask: Tensor


class Network(nn.Module):
    """Predicts the velocity v = sqrt(a) * noise - sqrt(1 - a) * picture (Salimans and Ho, 2022) in a noisy picture."""

    def __init__(self, config: DiffusionConfig, words: Words) -> None:
        super().__init__()
        width = config.channels
        levels = _levels(config.image_size)
        self.factor = PATCH * 2 ** (levels - 1)
        self.text = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=words.size,
                hidden_size=width,
                intermediate_size=2 * width,
                projection_dim=width,
                num_hidden_layers=2,
                num_attention_heads=2,
                max_position_embeddings=words.length,
                pad_token_id=PAD,
                bos_token_id=START,
                eos_token_id=END,
            )
        )
        self.unet = UNet2DConditionModel(
            in_channels=config.num_channels * PATCH**2,
            out_channels=config.num_channels * PATCH**2,
            down_block_types=("DownBlock2D",) * levels,
            mid_block_type="UNetMidBlock2DCrossAttn",
            up_block_types=("UpBlock2D",) * levels,
            block_out_channels=(width // 2, *[width] * (levels - 1)),
            layers_per_block=1,
            cross_attention_dim=width,
            attention_head_dim=width // 64 if width % 64 == 0 and width > 128 else 2,  # diffusers means the number of heads by it
            norm_num_groups=8,
            class_embed_type="projection",
            projection_class_embeddings_input_dim=width,
        )

    def forward(self, noisy: Tensor, timesteps: Tensor, tokens: Tensor) -> Tensor:
        """Velocity in noisy pictures, both (batch, image channels, height, width), for timesteps (batch,) and tokens (batch, length)."""
        return self.velocity(noisy, timesteps, self.describe(tokens))

    def describe(self, tokens: Tensor) -> Described:
        """What the text encoder makes of tokens (batch, length)."""
        mask = tokens != PAD
        out = self.text(input_ids=tokens, attention_mask=mask.long())
        return Described(out.last_hidden_state, out.pooler_output, mask)

    def velocity(self, noisy: Tensor, timesteps: Tensor, text: Described) -> Tensor:
        """As `forward`, with the text described before. Any height and width: borders are added and taken off again."""
        height, width = noisy.shape[-2:]
        padded = functional.pad(noisy, (0, -width % self.factor, 0, -height % self.factor), mode="replicate")
        stacked = functional.pixel_unshuffle(padded, PATCH).contiguous(memory_format=torch.channels_last)
        (out,) = self.unet(
            stacked,
            timesteps,
            encoder_hidden_states=text.states,
            class_labels=text.pooled,
            encoder_attention_mask=text.mask,
            return_dict=False,
        )
        return functional.pixel_shuffle(out, PATCH)[..., :height, :width]


def build(config: DiffusionConfig, words: Words) -> Network:
    """A network with first weights that follow from the seed; torch's own generator is left as it was.

    Channels last, as its pictures are: a processor trains it faster so.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return Network(config, words).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _levels(image_size: int) -> int:
    """Three, and more until the middle is small."""
    levels = 3
    while image_size / PATCH / 2 ** (levels - 1) > MIDDLE:
        levels += 1
    return levels
