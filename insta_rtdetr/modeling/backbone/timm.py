"""Adapter that makes any timm model with `features_only` a Detectron2 backbone."""

import ast

import timm
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.backbone import Backbone
from timm.utils.model import freeze_batch_norm_2d
from torch import Tensor, nn

from ...layers.foldable import Foldable
from ...layers.traced_folding import fold_traced_

NAME_OF_STRIDE = {2: "res1", 4: "res2", 8: "res3", 16: "res4", 32: "res5"}


class TimmBackbone(Backbone, Foldable):
    """A timm feature extractor.  Its levels are named by stride: res1 (2), res2 (4), res3 (8), res4 (16), res5 (32)."""

    def __init__(
        self, *, name: str, pretrained: bool, out_features: list[str], norm: str, freeze_at: int, arguments: dict
    ):  # fmt: skip
        """Build the model.

        Args:
            name: timm's model name.
            pretrained: whether timm downloads its weights.
            out_features: levels to return, a subset of those that the model has.
            norm: "FrozenBN" keeps batch norm as loaded, "BN" trains it.
            freeze_at: stages that are not trained: 0 none, 1 up to stride 2, 2 up to stride 4, ..., 5 all.
            arguments: more keyword arguments of `timm.create_model`.

        Raises:
            ValueError: timm has no such model, the model lacks a level or does not take an argument, the norm is
                unknown, or `freeze_at` is not from 0 to 5.
        """
        super().__init__()
        if norm not in ("FrozenBN", "BN"):
            raise ValueError(f"MODEL.TIMM.NORM must be FrozenBN or BN, got {norm!r}.")
        if name not in timm.list_models():
            raise ValueError(f"timm {timm.__version__} has no model {name!r}. Change MODEL.TIMM.NAME.")
        try:
            probe = timm.create_model(name, features_only=True, **arguments)
        except (TypeError, RuntimeError) as error:
            raise ValueError(
                f"timm cannot build {name} as a feature extractor: {error}. Change MODEL.TIMM.NAME or MODEL.TIMM.ARGS."
            ) from error
        if not 0 <= freeze_at <= len(NAME_OF_STRIDE):
            raise ValueError(f"MODEL.BACKBONE.FREEZE_AT must be 0 to {len(NAME_OF_STRIDE)}, got {freeze_at}.")
        available = {NAME_OF_STRIDE.get(stride): i for i, stride in enumerate(probe.feature_info.reduction())}
        if missing := [level for level in out_features if level not in available]:
            found = sorted(level for level in available if level)
            raise ValueError(f"{name} gives the levels {found}, not {missing}. Change MODEL.TIMM.OUT_FEATURES.")
        self._out_features = [level for level in NAME_OF_STRIDE.values() if level in out_features]
        # Built again with these levels only, because timm then leaves out the stages after the last one.
        indices = [available[level] for level in self._out_features]
        self.body = create_timm_model(name, pretrained, features_only=True, out_indices=indices, **arguments)
        if norm == "FrozenBN":
            self.body = freeze_batch_norm_2d(self.body)
        if freeze_at:
            frozen = [i for i, stride in enumerate(probe.feature_info.reduction()) if stride <= 2**freeze_at]
            self._freeze(probe, frozen)
        info = self.body.feature_info
        self._out_feature_channels = dict(zip(self._out_features, info.channels(), strict=True))
        self._out_feature_strides = dict(zip(self._out_features, info.reduction(), strict=True))

    def _freeze(self, probe: nn.Module, levels: list[int]) -> None:
        """Freeze the parameters that some levels depend on; `probe` is the whole model, with the same names."""
        features = probe.eval()(torch.zeros(1, 3, 64, 64))
        names, parameters = zip(*probe.named_parameters(), strict=True)
        total = sum(features[i].sum() for i in levels)
        gradients = torch.autograd.grad(total, parameters, allow_unused=True)
        used = {name for name, gradient in zip(names, gradients, strict=True) if gradient is not None}
        for name, parameter in self.body.named_parameters():
            parameter.requires_grad_(name not in used)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Compute the features: (B, 3, H, W) -> {"res2": (B, C, H / 4, W / 4), ...}."""
        return dict(zip(self._out_features, self.body(images), strict=True))

    def fold_(self) -> None:
        """Fold the batch norms into the convolutions before them."""
        fold_traced_(self.body)


def create_timm_model(name: str, pretrained: bool, **arguments: object) -> nn.Module:
    """Call `timm.create_model`.

    Raises:
        ValueError: timm cannot download the weights.
    """
    try:
        return timm.create_model(name, pretrained=pretrained, **arguments)
    except (OSError, RuntimeError) as error:
        if not pretrained:
            raise
        raise ValueError(
            f"timm cannot get the weights of {name} ({type(error).__name__}). Set MODEL.WEIGHTS to a file with them, "
            "or MODEL.TIMM.PRETRAINED to False to train from scratch."
        ) from error


@BACKBONE_REGISTRY.register()
def build_timm_backbone(cfg, input_shape: ShapeSpec | None = None) -> TimmBackbone:
    """Build a timm model from MODEL.TIMM.{NAME, PRETRAINED, ARGS, OUT_FEATURES, NORM} and MODEL.BACKBONE.FREEZE_AT."""
    return TimmBackbone(
        name=cfg.MODEL.TIMM.NAME,
        # Pretrained weights are not downloaded if MODEL.WEIGHTS replaces them.
        pretrained=cfg.MODEL.TIMM.PRETRAINED and not cfg.MODEL.WEIGHTS,
        out_features=list(cfg.MODEL.TIMM.OUT_FEATURES),
        norm=cfg.MODEL.TIMM.NORM,
        freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT,
        arguments=parse_arguments(cfg.MODEL.TIMM.ARGS),
    )


def parse_arguments(pairs: tuple[str, ...]) -> dict:
    """Parse MODEL.TIMM.ARGS into keyword arguments.

    Raises:
        ValueError: a text is not of the form "key=value" with a Python literal as the value.
    """
    try:
        return {key: ast.literal_eval(value) for key, value in (pair.split("=", 1) for pair in pairs)}
    except (ValueError, SyntaxError) as error:
        raise ValueError(f"""MODEL.TIMM.ARGS must be like ('pad_type="same"',), got {pairs}.""") from error
