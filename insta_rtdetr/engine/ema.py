"""Exponential moving average (EMA) of a model's weights.

Source of the formula: https://github.com/dwikifkurniawan/Insta-RT-DETR-PyTorch (src/optim/ema.py at 8458661), after
https://github.com/huggingface/pytorch-image-models.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from insta_rtdetr.errors import UserError


class ModelEMA:
    """The moving average of a model's parameters and floating-point buffers; other buffers are copied at each update.

    Frozen parameters and the buffers of modules in eval mode are not averaged but shared with the model.
    Its state in a checkpoint is {"model": state dict, "updates": count}.

    Args:
        model: the model in training mode; the average starts from its present weights.
        decay: limit of the decay after many updates.
        ramp_iters: number of updates after which the decay has grown to 63 % of the limit.
    """

    def __init__(self, model: nn.Module, decay: float, ramp_iters: int) -> None:
        self.decay = decay
        self.ramp_iters = ramp_iters
        self.updates = 0
        state = model.state_dict()
        fixed = frozen_names(model)
        self._fixed = {name: tensor for name, tensor in state.items() if name in fixed}
        self._state = {name: tensor.detach().clone() for name, tensor in state.items() if name not in fixed}

    def decay_after(self, updates: int) -> float:
        """Return decay * (1 - exp(-updates / ramp_iters)); a small decay at first soon forgets the initial weights."""
        return self.decay * (1 - math.exp(-updates / max(self.ramp_iters, 1e-12)))

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the model's present weights."""
        self.updates += 1
        weights = model.state_dict()
        floating = [name for name, tensor in self._state.items() if tensor.is_floating_point()]
        torch._foreach_lerp_(
            [self._state[name] for name in floating],
            [weights[name] for name in floating],
            1 - self.decay_after(self.updates),
        )
        _copy(weights, {name: tensor for name, tensor in self._state.items() if not tensor.is_floating_point()})

    @torch.no_grad()
    def restart(self, model: nn.Module) -> None:
        """Restart the average from the model's present weights."""
        self.updates = 0
        _copy(model.state_dict(), self._state)

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Put the averages into the model within the context, and restore its own weights at the end."""
        state = {name: tensor for name, tensor in model.state_dict().items() if name in self._state}
        own = {name: tensor.detach().clone() for name, tensor in state.items()}
        try:
            _copy(self._state, state)
            yield
        finally:
            _copy(own, state)

    def state_dict(self) -> dict:
        return {"model": self._state | self._fixed, "updates": self.updates}

    def load_state_dict(self, state: dict) -> None:
        """Load the result of `state_dict`.

        Raises:
            UserError: its names or shapes are not those of this model.
        """
        found = {name: tuple(tensor.shape) for name, tensor in state["model"].items()}
        wanted = {name: tuple(tensor.shape) for name, tensor in (self._state | self._fixed).items()}
        if found != wanted:
            differing = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
            raise UserError(
                f"The checkpoint's EMA weights are another model's: {len(differing)} tensors differ, for example "
                f"{differing[0]} (found {found.get(differing[0])}, wanted {wanted.get(differing[0])}).  "
                "Resume with the config that the checkpoint was trained with, or start in another OUTPUT_DIR."
            )
        _copy(state["model"], self._state)
        self.updates = int(state["updates"])


def frozen_names(model: nn.Module) -> set[str]:
    """Return the names of the parameters and buffers that training does not change, of a model in training mode."""
    names = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    for prefix, module in model.named_modules():
        if not module.training:
            names |= {f"{prefix}.{name}".lstrip(".") for name, _ in module.named_buffers(recurse=False)}
    return names


@torch.no_grad()
def _copy(source: dict[str, Tensor], target: dict[str, Tensor]) -> None:
    for name, tensor in target.items():
        tensor.copy_(source[name])
