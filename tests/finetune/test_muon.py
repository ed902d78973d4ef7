"""Muon: updates are made orthogonal, and they go downhill."""

from __future__ import annotations

import pytest
import torch

from finetune.muon import Muon, orthogonal


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 8, 32), (2, 32, 8), (1, 64, 48)])
def test_singular_values_come_close_to_one(shape: tuple[int, int, int]):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 50

    made = orthogonal(x)

    values = torch.linalg.svdvals(made)
    assert made.shape == x.shape
    assert values.min() > 0.5
    assert values.max() < 1.3


def test_matrices_of_a_batch_do_not_see_each_other():
    a, b = torch.randn((2, 8, 8), generator=torch.Generator().manual_seed(0))

    together = orthogonal(torch.stack([a, 1000 * b]))

    torch.testing.assert_close(together[0], orthogonal(a[None])[0])
    torch.testing.assert_close(together[1], orthogonal(b[None])[0])


def test_a_few_steps_bring_a_small_problem_downhill():
    generator = torch.Generator().manual_seed(0)
    inputs, wanted = torch.randn((64, 8), generator=generator), torch.randn((8, 4), generator=generator)
    wide, tall = torch.nn.Parameter(torch.zeros(4, 8)), torch.nn.Parameter(torch.zeros(8, 4))
    untouched = torch.nn.Parameter(torch.ones(4, 8))
    optimiser = Muon([wide, tall, untouched], lr=0.1, weight_decay=0.0)
    losses = []
    for _ in range(30):
        optimiser.zero_grad()
        loss = (inputs @ (wide.T + tall) / 2 - inputs @ wanted).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))

    assert losses[-1] < 0.1 * losses[0]
    assert torch.equal(untouched, torch.ones(4, 8))


def test_weight_decay_pulls_towards_zero():
    weight = torch.nn.Parameter(torch.eye(4))
    weight.grad = torch.zeros(4, 4)

    Muon([weight], lr=0.1, weight_decay=0.5).step()

    torch.testing.assert_close(weight.detach(), 0.95 * torch.eye(4))
