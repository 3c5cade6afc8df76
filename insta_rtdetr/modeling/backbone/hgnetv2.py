"""PP-HGNetV2, built from timm's blocks.  With PaddlePaddle's weights it gives the same numbers as PaddlePaddle.

timm's own models of the sizes S and M have a learned scale and shift after every activation; those of Mask-RT-DETR
have none.  The network is therefore made from timm's class and tables instead of by `timm.create_model`.
Source: PP-HGNetV2 of PaddleClas, through https://github.com/huggingface/pytorch-image-models.
"""

from collections.abc import Sequence

from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from timm.models.hgnet import ConvBNAct, HighPerfGpuNet, model_cfgs
from torch import nn

from ...layers.foldable import Foldable, fold_batch_norm
from .staged import STAGE_STRIDES, StagedBackbone

# Mask-RT-DETR's name of each size -> timm's.
TABLES = {"S": "hgnetv2_b1", "M": "hgnetv2_b2", "L": "hgnetv2_b4", "X": "hgnetv2_b5", "H": "hgnetv2_b6"}
NORMS = ("FrozenBN", "BN")


class HGNetV2(StagedBackbone, Foldable):
    """PP-HGNetV2 without its classifier."""

    section = "MODEL.HGNETV2"

    def __init__(
        self, *, size: str, norm: str, freeze_at: int, out_features: Sequence[str],
        learning_rate_factors: Sequence[float] = (),
    ):  # fmt: skip
        """Build the network.

        Args:
            size: S (B1), M (B2), L (B4), X (B5) or H (B6).
            norm: "FrozenBN" keeps batch norm as loaded, "BN" trains it.
            freeze_at: number of parts that are frozen, counting the stem as the first; 0 freezes none.
            out_features: some of res2, res3, res4, res5.
            learning_rate_factors: factors of the four stages for `build_optimizer`; empty for the backbone's common
                factor.

        Raises:
            ValueError: the size, the norm or a feature name is unknown, `freeze_at` exceeds the number of parts, or
                there are factors but not four.
        """
        super().__init__()
        if size not in TABLES:
            raise ValueError(f"MODEL.HGNETV2.SIZE must be one of {', '.join(TABLES)}, got {size!r}.")
        if norm not in NORMS:
            raise ValueError(f"MODEL.HGNETV2.NORM must be one of {', '.join(NORMS)}, got {norm!r}.")
        if len(learning_rate_factors) not in (0, len(STAGE_STRIDES)):
            raise ValueError(
                f"MODEL.HGNETV2.LEARNING_RATE_FACTORS must be four numbers or none, got {tuple(learning_rate_factors)}."
            )
        network = HighPerfGpuNet(model_cfgs[TABLES[size]], num_classes=0, head_hidden_size=None, use_lab=False)
        self.stem, self.stages = network.stem, network.stages
        self.set_outputs(out_features, [info["num_chs"] for info in network.feature_info])
        for stage, factor in zip(self.stages, learning_rate_factors):
            stage.learning_rate_factor = factor
        self.freeze(freeze_at, freeze_norms=norm == "FrozenBN")

    def fold_(self) -> None:
        """Fold every batch norm into its convolution, and make the activations after them in-place."""
        for module in self.modules():
            if isinstance(module, ConvBNAct):
                module.conv, module.bn = fold_batch_norm(module.conv, module.bn), nn.Identity()
                if isinstance(module.act, nn.ReLU):
                    module.act = nn.ReLU(inplace=True)


@BACKBONE_REGISTRY.register()
def build_hgnetv2_backbone(cfg, input_shape: ShapeSpec | None = None) -> HGNetV2:
    """Build a PP-HGNetV2 from MODEL.HGNETV2.* and MODEL.BACKBONE.FREEZE_AT."""
    hgnetv2 = cfg.MODEL.HGNETV2
    return HGNetV2(
        size=hgnetv2.SIZE,
        norm=hgnetv2.NORM,
        freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT,
        out_features=hgnetv2.OUT_FEATURES,
        learning_rate_factors=hgnetv2.LEARNING_RATE_FACTORS,
    )
