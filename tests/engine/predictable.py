"""A model for comparing gradients, which depend neither on random numbers nor on the other images of a batch."""

import itertools

import torch
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from insta_rtdetr.engine.step import OptimizationStep
from insta_rtdetr.modeling.loss import criterion
from tests.tiny import tiny_model, training_input

# The numbers of objects differ much, so that a mean over batches is not a mean over objects.
IMAGES = [training_input(count, seed=seed) for seed, count in enumerate((1, 7, 0, 2))]


def predictable_model(monkeypatch, *more: object) -> nn.Module:
    """Return the tiny model in float64, of which only the losses' normaliser depends on the rest of the batch."""
    monkeypatch.setattr(criterion.UncertainPoints, "choose", _fixed_points)
    model = tiny_model(
        "MODEL.DENOISING.NUM_QUERIES", 0, "MODEL.MATCHER.MASK_COST", 0.0, "MODEL.MATCHER.DICE_COST", 0.0, *more
    ).double()  # fmt: skip
    # The trainer uses this format.  In the other, PyTorch 2.11 on CPU gives wrong batch norm gradients for one image.
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


def gradients_of_step(model: nn.Module, batches: list[list[dict]]) -> tuple[dict[str, Tensor], dict]:
    """Return the gradients and logged losses of one step, which changes no weight; the model may be distributed."""
    module = getattr(model, "module", model)
    module.accumulated = None
    optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=0.0)
    with EventStorage() as storage:
        OptimizationStep(model, itertools.cycle(batches), optimizer, accumulation_steps=len(batches)).run_step()
        losses = {name: value for name, (value, _) in storage.latest().items() if "loss" in name}
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}, losses


def _fixed_points(drawn: criterion.UncertainPoints, which: Tensor, logits: Tensor, _: object) -> Tensor:
    """Return the same points for every mask, in place of random ones."""
    row = torch.linspace(0.05, 0.95, drawn.num_points, dtype=logits.dtype)
    return torch.stack([row, row.flip(0) ** 2], dim=-1).expand(len(logits), -1, -1)
