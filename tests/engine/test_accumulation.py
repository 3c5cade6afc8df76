"""Gradients of several batches make one step, the same as that of one large batch."""

import itertools

import pytest
import torch
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from insta_rtdetr.engine.step import OptimizationStep
from insta_rtdetr.modeling.loss import criterion
from tests.tiny import tiny_model, training_input

# Of very different numbers of objects, so that a mean over batches is not one over objects.
IMAGES = [training_input(count, seed=seed) for seed, count in enumerate((1, 7, 0, 2))]


def fixed_points(logits: Tensor, num_points: int, *_) -> Tensor:
    """The same points for every mask, in place of random ones."""
    row = torch.linspace(0.05, 0.95, num_points, dtype=logits.dtype)
    return torch.stack([row, row.flip(0) ** 2], dim=-1).expand(len(logits), -1, -1)


@pytest.fixture
def model(monkeypatch) -> nn.Module:
    """One whose losses do not depend on random numbers, or, but for the normaliser, on the other images of a batch."""
    monkeypatch.setattr(criterion, "uncertain_points", fixed_points)
    model = tiny_model(
        "MODEL.DENOISING.NUM_QUERIES", 0, "MODEL.MATCHER.MASK_COST", 0.0, "MODEL.MATCHER.DICE_COST", 0.0
    ).double()  # fmt: skip
    # As the trainer has it.  In the other format PyTorch 2.11 on CPU gives batch norm wrong gradients for one image.
    model.to(memory_format=torch.channels_last)
    model.train_before = model.train

    def train(mode: bool = True) -> nn.Module:
        model.train_before(mode)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return model

    model.train = train
    return model


def gradients(model: nn.Module, batches: list[list[dict]]) -> tuple[dict[str, Tensor], dict]:
    """Of one step, which changes no weight, and what it logs."""
    model.accumulated = None
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with EventStorage() as storage:
        OptimizationStep(model, itertools.cycle(batches), optimizer, accumulation_steps=len(batches)).run_step()
        losses = {name: value for name, (value, _) in storage.latest().items() if "loss" in name}
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}, losses


@pytest.mark.parametrize("size", [1, 2])
def test_parts_have_the_gradient_and_the_losses_of_the_whole(model, size):
    whole, losses = gradients(model, [IMAGES])
    parts, losses_of_parts = gradients(model, [IMAGES[i : i + size] for i in range(0, len(IMAGES), size)])
    assert whole.keys() == parts.keys() and losses.keys() == losses_of_parts.keys()
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, rtol=1e-6, atol=1e-8, msg=name)
    assert losses_of_parts == pytest.approx(losses, rel=1e-5)


def test_the_mean_of_gradients_by_themselves_would_be_another(model):
    whole, _ = gradients(model, [IMAGES])
    alone = [gradients(model, [IMAGES[:2]])[0], gradients(model, [IMAGES[2:]])[0]]
    name = "decoder.box_heads.2.layers.2.weight"
    assert not torch.allclose((alone[0][name] + alone[1][name]) / 2, whole[name], rtol=0.05)


def test_a_batch_that_is_not_finite_spoils_the_whole_step(model):
    broken = [dict(IMAGES[2], image=torch.full((3, 64, 64), float("nan")))]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    with EventStorage():
        step = OptimizationStep(model, itertools.cycle([IMAGES[:2], broken]), optimizer, accumulation_steps=2)
        step.run_step()
    assert step.skipped and all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
