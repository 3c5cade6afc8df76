"""A pretended GPU, with which a machine without one finds tensors that are on the wrong device.

It builds on PyTorch's `FakeTensorMode`, whose tensors have a shape, a type and a device but no values.
"""

import sys
from collections.abc import Callable
from typing import Any

import torch
import torchvision  # noqa: F401 (it registers its operations)
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

PACKAGE = "insta_rtdetr"
aten = torch.ops.aten


class FakeCuda(TorchDispatchMode):
    """A context in which tensors on "cuda" are fake, and those on the CPU are real.

    Tables, sizes and SciPy's matching, which are made on the CPU, are therefore what they are.  What depends on values
    of the GPU is answered as if every condition held: `nonzero` finds all elements, a mask picks all of them, `item`
    gives 1.  A tensor that is copied from the GPU to the CPU has zeros there.

    Attributes:
        readers: names of the package's functions that took values from the GPU, for which a program waits.

    Raises:
        AssertionError: an operation gets tensors of both devices; as on a GPU, those without dimensions are exempt.
    """

    def __init__(self) -> None:
        super().__init__()
        self.readers: set[str] = set()
        # It makes fakes of the tensors without dimensions; larger ones of the CPU do not get through to it.
        self._fake_mode = FakeTensorMode(allow_non_fake_inputs=True)

    def __enter__(self) -> "FakeCuda":
        self._fake_mode.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._fake_mode.__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        leaves = tree_leaves((args, kwargs))
        on_gpu = any(isinstance(leaf, FakeTensor) for leaf in leaves)
        on_cpu = any(isinstance(leaf, Tensor) and not isinstance(leaf, FakeTensor) and leaf.ndim for leaf in leaves)
        if not on_gpu and not any(isinstance(leaf, torch.device) and leaf.type == "cuda" for leaf in leaves):
            with _disable_current_modes():
                return func(*args, **kwargs)
        if func in READS:
            self.readers.add(_caller())
            return READS[func](args[0])
        if func in COPIES:
            return self._copy(func, args, kwargs)
        assert not (on_gpu and on_cpu), f"{func} in {_caller()} gets a tensor on the GPU and one on the CPU."
        return ANSWERS.get(func, func)(*args, **kwargs)

    def _copy(self, func: Any, args: tuple, kwargs: dict) -> Tensor:
        """Copy a tensor, to its own or to the other device."""
        is_in_place = func is aten.copy_.default
        device = None if is_in_place else kwargs.get("device")
        if (device or args[0].device).type == "cuda":
            return func(*args, **kwargs)
        self.readers.add(_caller())
        with _disable_current_modes():
            if is_in_place:
                return args[0].zero_()
            return torch.zeros(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)


def to_fake_cuda(model: nn.Module) -> nn.Module:
    """Replace every parameter and buffer by a fake one on the GPU, in place; for use within `FakeCuda`."""
    moved: dict[int, Tensor] = {}
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None:
                    tensors[name] = moved.setdefault(id(tensor), _moved(tensor))
    return model


def _moved(tensor: Tensor) -> Tensor:
    on_gpu = tensor.detach().to("cuda")
    return nn.Parameter(on_gpu, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else on_gpu


@torch.no_grad()
def backward(loss: Tensor) -> None:
    """Do what `loss.backward()` does, for which PyTorch's engine would want a GPU; hooks are not called."""
    gradients = {loss.grad_fn: {0: torch.ones_like(loss)}}
    for node in _from_output_to_inputs(loss.grad_fn):
        received = gradients.pop(node, {})
        if hasattr(node, "variable"):
            node.variable.grad = _sum(node.variable.grad, received.get(0))
            continue
        passed_on = getattr(node, "apply", node)(*(received.get(i) for i in range(len(node._input_metadata))))
        passed_on = passed_on if isinstance(passed_on, tuple) else (passed_on,)
        for (following, place), gradient in zip(node.next_functions, passed_on):
            if following is not None and gradient is not None:
                wanted = following._input_metadata[place]
                arrived = gradients.setdefault(following, {})
                arrived[place] = _sum(arrived.get(place), gradient.sum_to_size(wanted.shape).to(wanted.dtype))


def _from_output_to_inputs(output: Any) -> list[Any]:
    """Each node of the autograd graph, after all those that it gets gradients from."""
    order, seen, waiting = [], set(), [(output, False)]
    while waiting:
        node, is_done = waiting.pop()
        if is_done:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            waiting += [(node, True), *((child, False) for child, _ in node.next_functions if child is not None)]
    return order[::-1]


def _sum(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    return first if second is None else second if first is None else first + second


def clear_caches() -> None:
    """Empty all that the package keeps of earlier calls: a fake tensor has no meaning outside of its context."""
    for name, module in list(sys.modules.items()):
        if name.startswith(PACKAGE):
            for value in vars(module).values():
                if hasattr(value, "cache_clear"):
                    value.cache_clear()


def _caller() -> str:
    """The innermost of the package's functions that are running."""
    frame = sys._getframe(1)
    while frame is not None and not frame.f_globals.get("__name__", "").startswith(PACKAGE):
        frame = frame.f_back
    return frame.f_code.co_qualname if frame else "a test"


def _one(x: Tensor) -> bool | int | float:
    with _disable_current_modes():
        return torch.ones((), dtype=x.dtype).item()


def _nonzero(x: Tensor) -> Tensor:
    return x.new_zeros(x.numel(), x.ndim, dtype=torch.int64)


def _index(x: Tensor, indices: list[Tensor | None]) -> Tensor:
    numbers = []
    for index in indices:
        is_mask = index is not None and index.dtype == torch.bool
        numbers += _nonzero(index).unbind(1) if is_mask else [index]
    return aten.index.Tensor(x, numbers)


def _unique(x: Tensor, *options: bool) -> tuple[Tensor, Tensor, Tensor]:
    place = torch.zeros_like(x, dtype=torch.int64)
    return x.flatten(), place, place.flatten()


def _bincount(x: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    return x.new_zeros(max(minlength, 1)) if weights is None else weights.new_zeros(max(minlength, 1))


def _nms(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    return torch.arange(len(boxes), device=boxes.device)


# Operations that give a value to Python.
READS: dict[Any, Callable] = {aten._local_scalar_dense.default: _one, aten.is_nonzero.default: lambda x: True}
COPIES = (aten._to_copy.default, aten.copy_.default)
# Operations whose answer's shape depends on values.
ANSWERS: dict[Any, Callable] = {
    aten.nonzero.default: _nonzero,
    aten.index.Tensor: _index,
    aten._unique2.default: _unique,
    aten.bincount.default: _bincount,
    torch.ops.torchvision.nms.default: _nms,
}
