"""Folding the batch norms of other packages' models.

These models do not say which convolution comes before which norm, so the order is traced with `torch.fx`.
"""

from collections import Counter

from timm.layers import Conv2dSame, get_notrace_modules
from torch import fx, nn

from .foldable import BATCH_NORMS, folded_kernel_and_bias

# Only these types are folded, no subclasses: one may standardise its kernel in each forward pass, as timm's StdConv2d.
CONVOLUTIONS = (nn.Conv2d, Conv2dSame)


class _Tracer(fx.Tracer):
    """Tracer that treats batch norms, and modules that timm marks as impossible to trace, as single operations."""

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        leaves = (*BATCH_NORMS, *get_notrace_modules())
        return isinstance(module, leaves) or super().is_leaf_module(module, name)


def fold_traced_(model: nn.Module) -> None:
    """Fold the batch norms of a model in eval mode into the convolutions before them, in place.

    A norm is folded if nothing else reads the convolution's output.  An activation that the norm applies itself, as
    timm's norms do, takes the norm's place.  A model that `torch.fx` cannot trace stays as it is.
    """
    for conv_name, norm_name in convolutions_with_norms(model):
        conv, norm = model.get_submodule(conv_name), model.get_submodule(norm_name)
        kernel, bias = folded_kernel_and_bias(conv, norm)
        conv.weight, conv.bias = nn.Parameter(kernel), nn.Parameter(bias)
        model.set_submodule(norm_name, getattr(norm, "act", nn.Identity()))


def convolutions_with_norms(model: nn.Module) -> list[tuple[str, str]]:
    """Return the names of pairs of a convolution and the batch norm that alone reads its output."""
    try:
        graph = _Tracer().trace(model)
    except (fx.proxy.TraceError, TypeError, RuntimeError):
        return []
    modules = dict(model.named_modules())
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    pairs = []
    for node in graph.nodes:
        if node.op != "call_module" or not _has_constant_statistics(modules[node.target]):
            continue
        source = node.args[0]
        is_convolution = source.op == "call_module" and type(modules[source.target]) in CONVOLUTIONS
        if is_convolution and len(source.users) == 1 and calls[source.target] == calls[node.target] == 1:
            pairs.append((source.target, node.target))
    return pairs


def _has_constant_statistics(module: nn.Module) -> bool:
    return isinstance(module, BATCH_NORMS) and module.weight is not None and module.running_mean is not None
