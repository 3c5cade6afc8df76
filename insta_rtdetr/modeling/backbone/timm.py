"""Any timm model with `features_only` as a Detectron2 backbone."""

import ast

import timm
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.backbone import Backbone
from timm.utils.model import freeze_batch_norm_2d
from torch import Tensor, nn

NAME_OF_STRIDE = {4: "res2", 8: "res3", 16: "res4", 32: "res5"}


class TimmBackbone(Backbone):
    """A timm feature extractor; its levels are named by stride: res2 (4), res3 (8), res4 (16), res5 (32)."""

    def __init__(self, *, name: str, pretrained: bool, out_features: list[str], norm: str, arguments: dict):
        """Build the model.

        Args:
            name: timm's model name.
            pretrained: let timm download its weights.
            out_features: levels to give, a subset of what the model has.
            norm: "FrozenBN" keeps batch norm as loaded, "BN" trains it.
            arguments: more keyword arguments of `timm.create_model`.

        Raises:
            ValueError: timm has no such model, or the model no such level; or the norm is none of the two;
                or it takes no such argument.
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
        available = {NAME_OF_STRIDE.get(stride): i for i, stride in enumerate(probe.feature_info.reduction())}
        if missing := [level for level in out_features if level not in available]:
            found = sorted(level for level in available if level)
            raise ValueError(f"{name} gives the levels {found}, not {missing}. Change MODEL.TIMM.OUT_FEATURES.")
        self._out_features = [level for level in NAME_OF_STRIDE.values() if level in out_features]
        # Built again with these levels only: timm then leaves out the stages behind the last one.
        indices = [available[level] for level in self._out_features]
        self.body = create_timm_model(name, pretrained, features_only=True, out_indices=indices, **arguments)
        if norm == "FrozenBN":
            self.body = freeze_batch_norm_2d(self.body)
        info = self.body.feature_info
        self._out_feature_channels = dict(zip(self._out_features, info.channels(), strict=True))
        self._out_feature_strides = dict(zip(self._out_features, info.reduction(), strict=True))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) -> {"res2": (B, C, H / 4, W / 4), ...}."""
        return dict(zip(self._out_features, self.body(images), strict=True))


def create_timm_model(name: str, pretrained: bool, **arguments: object) -> nn.Module:
    """`timm.create_model`.

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
    """Build a timm model from MODEL.TIMM.{NAME, PRETRAINED, ARGS, OUT_FEATURES, NORM}."""
    return TimmBackbone(
        name=cfg.MODEL.TIMM.NAME,
        # Weights that are about to be replaced need no download.
        pretrained=cfg.MODEL.TIMM.PRETRAINED and not cfg.MODEL.WEIGHTS,
        out_features=list(cfg.MODEL.TIMM.OUT_FEATURES),
        norm=cfg.MODEL.TIMM.NORM,
        arguments=parse_arguments(cfg.MODEL.TIMM.ARGS),
    )


def parse_arguments(pairs: tuple[str, ...]) -> dict:
    """Keyword arguments from MODEL.TIMM.ARGS.

    Raises:
        ValueError: a text is not like "key=value", with a Python literal as the value.
    """
    try:
        return {key: ast.literal_eval(value) for key, value in (pair.split("=", 1) for pair in pairs)}
    except (ValueError, SyntaxError) as error:
        raise ValueError(f"""MODEL.TIMM.ARGS must be like ('pad_type="same"',), got {pairs}.""") from error
