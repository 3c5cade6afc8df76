"""One training iteration: data, losses, gradients and update."""

import logging
import time
from collections import deque
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext

import torch
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage
from torch import Tensor, nn

from insta_rtdetr.errors import DivergenceError
from insta_rtdetr.structures import GradientAccumulation

from .stopping import sigterm_blocked

logger = logging.getLogger(__name__)


class OptimizationStep:
    """The training iteration that Detectron2's trainer runs, on CPU and GPU, in one process or several.

    An iteration whose losses or gradients are not finite changes no weight: it is skipped, counted and logged.

    Args:
        model: model that takes a batch and returns a dict of weighted scalar losses.
        data_loader: endless loader.
        optimizer: optimizer of the model.
        clip_norm: largest norm of the gradients of the full model, to which they are scaled down; inf for no clipping.
        norm_type: order of the norm; 2 is the Euclidean norm.
        amp_dtype: type of mixed precision, which must be bfloat16 on CPU, or None.
        max_skipped: number of skipped iterations, among twice as many, at which training stops.
        accumulation_steps: number of batches whose gradients are accumulated for one iteration.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable,
        optimizer: torch.optim.Optimizer,
        *,
        clip_norm: float = float("inf"),
        norm_type: float = 2.0,
        amp_dtype: torch.dtype | None = None,
        max_skipped: int = 20,
        accumulation_steps: int = 1,
    ) -> None:
        model.train()
        self.model = model
        self.data_loader = data_loader
        self.optimizer = optimizer
        self.iter = 0
        self.skipped_in_a_row = 0
        self.skipped_in_all = 0
        self._clip_norm = clip_norm
        self._norm_type = norm_type
        self.amp_dtype = amp_dtype
        self._max_skipped = max_skipped
        # Of the last iterations, whether each was skipped.
        self._recent: deque[bool] = deque(maxlen=2 * max_skipped)
        self._accumulation_steps = accumulation_steps
        self._batches = None
        self.device = next(model.parameters()).device
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self._buffers = list(model.buffers())
        self._good_buffers = [buffer.clone() for buffer in self._buffers]
        # Only float16 needs scaled losses; bfloat16 has the range of float32.
        self.grad_scaler = torch.amp.GradScaler("cuda", enabled=amp_dtype is torch.float16)

    @property
    def skipped(self) -> bool:
        """Return whether the last iteration was skipped."""
        return self.skipped_in_a_row > 0

    @property
    def is_unstable(self) -> bool:
        """Whether so many of the last iterations were skipped that the weights may be useless."""
        return 2 * sum(self._recent) >= self._max_skipped

    def run_step(self) -> None:
        """Run one iteration.

        Raises:
            DivergenceError: max_skipped iterations, among twice as many, had losses or gradients that are not finite.
        """
        batches, data_time = self._next_batches()
        torch._foreach_copy_(self._good_buffers, self._buffers)
        self.optimizer.zero_grad(set_to_none=True)
        losses = self._accumulate(batches)
        self.grad_scaler.unscale_(self.optimizer)
        grad_norm = nn.utils.clip_grad_norm_(self._parameters, self._clip_norm, self._norm_type)

        values = _mean_over_processes(losses, grad_norm)
        not_finite = [name for name, value in values.items() if not torch.isfinite(value)]
        # The scaler of float16 also tries scales that are too large, and skips the steps in which gradients overflow.
        if self.grad_scaler.is_enabled() and not_finite == ["grad_norm"]:
            not_finite = []
        self._recent.append(bool(not_finite))
        if not_finite:
            self._skip(not_finite)
        else:
            self.skipped_in_a_row = 0
            self.grad_scaler.step(self.optimizer)
        if self.grad_scaler.is_enabled():
            self.grad_scaler.update()
        self._log(values, data_time)

    def _next_batches(self) -> tuple[list[list[dict]], float]:
        start = time.perf_counter()
        # The loader's processes start here and not earlier, because a resumed run first sets the mapper's augmentation.
        with sigterm_blocked() if self._batches is None else nullcontext():
            # Compared with None, because an iterator over an endless sampler has no length and hence no truth value.
            if self._batches is None:
                self._batches = iter(self.data_loader)
            batches = [next(self._batches) for _ in range(self._accumulation_steps)]
        return batches, time.perf_counter() - start

    def close(self) -> None:
        """End the processes of the loader."""
        self._batches = None

    def _accumulate(self, batches: list[list[dict]]) -> dict[str, Tensor]:
        """Accumulate the gradients of the mean loss of the batches, and return the means of the losses."""
        if len(batches) > 1:
            num_objects = sum(len(item["instances"]) for batch in batches for item in batch)
            getattr(self.model, "module", self.model).accumulated = GradientAccumulation(num_objects, len(batches))
        means: dict[str, Tensor] = {}
        for batch in batches:
            with self._no_gradient_sync() if batch is not batches[-1] else nullcontext():
                losses = self._forward(batch)
                self.grad_scaler.scale(sum(losses.values()) / len(batches)).backward()
            for name, loss in losses.items():
                means[name] = means.get(name, 0) + loss.detach() / len(batches)
        return means

    def _no_gradient_sync(self) -> AbstractContextManager:
        """Return a context without gradient exchange between processes, which the last batch does for all batches."""
        return self.model.no_sync() if hasattr(self.model, "no_sync") else nullcontext()

    def _forward(self, batch: list[dict]) -> dict[str, Tensor]:
        with torch.autocast(self.device.type, dtype=self.amp_dtype, enabled=self.amp_dtype is not None):
            return self.model(batch)

    def _skip(self, not_finite: list[str]) -> None:
        # Restore the running statistics of batch norm, which the forward pass has changed.
        torch._foreach_copy_(self._buffers, self._good_buffers)
        self.optimizer.zero_grad(set_to_none=True)
        self.skipped_in_a_row += 1
        self.skipped_in_all += 1
        names = ", ".join(not_finite)
        logger.warning(
            f"Iteration {self.iter} skipped: not finite: {names} "
            f"({self.skipped_in_a_row} in a row, {self.skipped_in_all} in all)"
        )
        if sum(self._recent) >= self._max_skipped:
            raise DivergenceError(
                f"{sum(self._recent)} of the last {len(self._recent)} iterations (the last is {self.iter}) had values "
                f"that are not finite: {names}.  Lower SOLVER.BASE_LR, set SOLVER.AMP.ENABLED to False, or raise "
                "SOLVER.MAX_SKIPPED_ITERS; begin again from a checkpoint of before."
            )

    def _log(self, values: dict[str, Tensor], data_time: float) -> None:
        if not comm.is_main_process():
            return
        storage = get_event_storage()
        storage.put_scalar("data_time", data_time)
        if self.skipped_in_all:
            storage.put_scalar("skipped_iters", self.skipped_in_all, smoothing_hint=False)
        if self.skipped:
            return
        scalars = {name: value.item() for name, value in values.items()}
        grad_norm = scalars.pop("grad_norm")
        storage.put_scalars(total_loss=sum(scalars.values()), grad_norm=grad_norm, **scalars)

    def state_dict(self) -> dict:
        """Return the state of the optimizer and of the scaler."""
        state = {"optimizer": self.optimizer.state_dict(), "skipped_in_all": self.skipped_in_all}
        if self.grad_scaler.is_enabled():
            state["grad_scaler"] = self.grad_scaler.state_dict()
        return state

    def load_state_dict(self, state: dict) -> None:
        """Load the result of `state_dict`; whether the optimizer uses fused kernels is not changed."""
        fused = [group.get("fused") for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(state["optimizer"])
        for group, kept in zip(self.optimizer.param_groups, fused):
            group["fused"] = kept
        self.skipped_in_all = state.get("skipped_in_all", 0)
        if self.grad_scaler.is_enabled() and state.get("grad_scaler"):
            self.grad_scaler.load_state_dict(state["grad_scaler"])


def _mean_over_processes(losses: dict[str, Tensor], grad_norm: Tensor) -> dict[str, Tensor]:
    """Return the means of the losses and of the gradient norm over all processes, as scalars on CPU.

    A mean is not finite if the value is not finite in any process.  All values are exchanged as one tensor, so that
    processes and GPU are waited for only once.
    """
    names = [*losses, "grad_norm"]
    stacked = torch.stack([value.detach().float().reshape(()) for value in [*losses.values(), grad_norm]])
    if comm.get_world_size() > 1:
        torch.distributed.all_reduce(stacked)
        stacked /= comm.get_world_size()
    return dict(zip(names, stacked.cpu()))
