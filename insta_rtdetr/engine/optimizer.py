"""The optimizer and its parameter groups.

Source: the groups are those of Insta-RT-DETR, https://github.com/dwikifkurniawan/Insta-RT-DETR-PyTorch
(src/zoo/optimizer.py at 8458661): a lower learning rate for the backbone, and no decay of norms and biases.
"""

import torch
from detectron2.config import CfgNode
from detectron2.solver.build import maybe_add_gradient_clipping, reduce_param_groups
from timm.optim import Muon
from torch import nn

NORM_TYPES = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)
FUSED_DEVICES = ("cpu", "cuda")
# Values of SOLVER.OPTIMIZER.
OPTIMIZERS = {"AdamW": torch.optim.AdamW, "SGD": torch.optim.SGD, "Muon": Muon}


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """Build SOLVER.OPTIMIZER for the trainable parameters, with the clipping of SOLVER.CLIP_GRADIENTS.

    Clipping by the norm of the full model (CLIP_TYPE "full_model") is left to the training step, which needs the norm.
    """
    groups = parameter_groups(
        model,
        learning_rate=cfg.SOLVER.BASE_LR,
        backbone_multiplier=cfg.SOLVER.BACKBONE_MULTIPLIER,
        weight_decay=cfg.SOLVER.WEIGHT_DECAY,
        weight_decay_norm=cfg.SOLVER.WEIGHT_DECAY_NORM,
        weight_decay_bias=cfg.SOLVER.WEIGHT_DECAY_BIAS,
        weight_decay_embed=cfg.SOLVER.WEIGHT_DECAY_EMBED,
    )
    optimizer_type = OPTIMIZERS[cfg.SOLVER.OPTIMIZER]
    options = {} if optimizer_type is Muon else {"fused": _can_be_fused(groups)}
    if optimizer_type is torch.optim.SGD:
        options |= {"momentum": cfg.SOLVER.MOMENTUM, "nesterov": cfg.SOLVER.NESTEROV}
    if cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE != "full_model":
        optimizer_type = maybe_add_gradient_clipping(cfg, optimizer_type)
    return optimizer_type(groups, lr=cfg.SOLVER.BASE_LR, weight_decay=cfg.SOLVER.WEIGHT_DECAY, **options)


def _can_be_fused(groups: list[dict]) -> bool:
    """Return whether PyTorch has a fused kernel for the step of these parameters."""
    return all(p.device.type in FUSED_DEVICES and p.is_floating_point() for group in groups for p in group["params"])


def parameter_groups(
    model: nn.Module,
    learning_rate: float,
    backbone_multiplier: float,
    weight_decay: float,
    weight_decay_norm: float | None,
    weight_decay_bias: float | None,
    weight_decay_embed: float | None = None,
) -> list[dict]:
    """Group the trainable parameters by learning rate and weight decay.

    Args:
        model: the model.
        learning_rate: learning rate of the parameters outside the backbone.
        backbone_multiplier: factor on the learning rate of the parameters of `model.backbone`, except those in modules
            that have a `learning_rate_factor`.
        weight_decay: weight decay of all other parameters.
        weight_decay_norm, weight_decay_bias, weight_decay_embed: weight decay of the parameters of norms, of biases
            elsewhere, and of embeddings; None for `weight_decay`.
    """
    decay_norm = weight_decay if weight_decay_norm is None else weight_decay_norm
    decay_bias = weight_decay if weight_decay_bias is None else weight_decay_bias
    decay_embed = weight_decay if weight_decay_embed is None else weight_decay_embed
    factors = _learning_rate_factors(model, backbone_multiplier)
    groups, seen = [], set()
    for module_name, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad or parameter in seen:
                continue
            seen.add(parameter)
            decay = decay_bias if name.endswith("bias") else weight_decay
            if _is_norm(module):
                decay = decay_norm
            elif isinstance(module, nn.Embedding):
                decay = decay_embed
            rate = learning_rate * factors[module_name]
            groups.append({"params": [parameter], "lr": rate, "weight_decay": decay})
    return reduce_param_groups(groups)


def _learning_rate_factors(model: nn.Module, backbone_multiplier: float) -> dict[str, float]:
    """Return module name -> the module's own `learning_rate_factor`, or that of the module that contains it."""
    factors = {"": 1.0}
    for name, module in model.named_modules():
        inherited = backbone_multiplier if name == "backbone" else factors[name.rpartition(".")[0]]
        factors[name] = getattr(module, "learning_rate_factor", inherited)
    return factors


def _is_norm(module: nn.Module) -> bool:
    # The name catches norms of other packages (timm's LayerNorm2d, RMSNorm), which share no base class.
    return isinstance(module, NORM_TYPES) or "Norm" in type(module).__name__
