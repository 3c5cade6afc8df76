"""Folding the batch norms of models that do not say which convolution comes before which norm.

The order is traced with `torch.fx`.
"""

from collections import Counter

import torch
from detectron2.layers import Conv2d
from timm.layers import get_notrace_modules
from torch import fx, nn
from torchvision.ops import DeformConv2d

from .foldable import BATCH_NORMS, fold_batch_norm
from .frozen_norm import WITH_FROZEN_NORM, merge_frozen_norm_, merge_inner_norm_

# Only these types are folded, no subclasses: one may standardise its kernel in each forward pass, as timm's StdConv2d.
CONVOLUTIONS = (*WITH_FROZEN_NORM, *WITH_FROZEN_NORM.values())


class _Tracer(fx.Tracer):
    """Tracer for which convolutions, batch norms, and what timm marks as impossible to trace, are single operations."""

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        leaves = (*BATCH_NORMS, *CONVOLUTIONS, DeformConv2d, *get_notrace_modules())
        return isinstance(module, leaves) or super().is_leaf_module(module, name)


@torch.no_grad()
def fold_traced_(model: nn.Module) -> None:
    """Fold the batch norms of a model in eval mode into the convolutions before them, in place.

    A norm is folded if nothing else reads the convolution's output.  An activation that the norm applies itself, as
    timm's norms do, takes the norm's place.  A model that `torch.fx` cannot trace stays as it is.
    """
    for conv_name, norm_name in convolutions_with_norms(model):
        conv, norm = model.get_submodule(conv_name), model.get_submodule(norm_name)
        model.set_submodule(conv_name, fold_batch_norm(conv, norm))
        model.set_submodule(norm_name, getattr(norm, "act", nn.Identity()))


def merge_frozen_norms_(model: nn.Module) -> None:
    """Let the convolutions of a model compute the frozen norms behind them in the same pass, in place.

    For training; the names of parameters and buffers do not change.  A norm stays as it is if something else reads the
    convolution's output, or if `torch.fx` cannot trace the model.
    """
    for module in model.modules():
        if isinstance(module, Conv2d):
            merge_inner_norm_(module)
    for conv_name, norm_name in convolutions_with_norms(model):
        merge_frozen_norm_(model.get_submodule(conv_name), model.get_submodule(norm_name))


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
