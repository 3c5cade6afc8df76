"""SOLOv2: convolutions alone, and a query in each cell of a grid for the object whose centre lies in the cell.

Source: PaddleDetection's SOLOv2, https://github.com/PaddlePaddle/PaddleDetection/tree/666f597, and
https://arxiv.org/abs/2003.10152; the code is our own and gives the same numbers.
"""

from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor, nn

from ...structures import ModelOutput, Target
from ..backbone import build_backbone
from ..encoder import build_encoder
from ..head import GridHead, GridSelection
from ..head.grid_head import medium_strides
from ..loss import GridCriterion
from ..loss.grid_matcher import MASK_STRIDE
from ..postprocessing import MaskBoxPostprocessor
from .base import InstanceSegmenter, require_masks, shared_arguments


@META_ARCH_REGISTRY.register()
class SOLOv2(InstanceSegmenter):
    """Backbone with a feature pyramid, mask features, grids of queries, and, in eval mode, the best cells of these."""

    predicts_boxes = False
    class_layers = {r"grid_head\.class_head": 0}

    @configurable
    def __init__(
        self, *, backbone: nn.Module, encoder: nn.Module, grid_head: GridHead, grid_selection: GridSelection, **shared
    ):
        super().__init__(**shared)
        self.backbone = backbone
        self.encoder = encoder
        self.grid_head = grid_head
        self.grid_selection = grid_selection

    @classmethod
    def from_config(cls, cfg) -> dict:
        """Build the parts of the model from MODEL.*, INPUT.* and TEST.*."""
        backbone = build_backbone(cfg)
        levels = [backbone.output_shape()[name] for name in cfg.MODEL.ENCODER.IN_FEATURES]
        check_grids(cfg.MODEL.DECODER.GRID_SIDES, [level.stride for level in levels])
        return {
            "backbone": backbone,
            "encoder": build_encoder(cfg, backbone.output_shape()),
            "grid_head": GridHead(
                in_channels=levels[0].channels,
                hidden_dim=cfg.MODEL.DECODER.HIDDEN_DIM or cfg.MODEL.ENCODER.HIDDEN_DIM,
                num_convs=cfg.MODEL.DECODER.NUM_LAYERS,
                grid_sides=cfg.MODEL.DECODER.GRID_SIDES,
                num_classes=cfg.MODEL.NUM_CLASSES,
                mask_dim=cfg.MODEL.MASK_HEAD.DIM,
                norm=cfg.MODEL.ENCODER.NORM,
            ),
            "grid_selection": GridSelection(
                grid_sides=cfg.MODEL.DECODER.GRID_SIDES,
                # As the original has it: a mask must exceed as many cells of the map as its level's stride has pixels.
                min_areas=medium_strides([level.stride for level in levels]),
                num_queries=cfg.MODEL.DECODER.NUM_QUERIES,
                class_threshold=cfg.MODEL.DECODER.CLASS_THRESHOLD,
                mask_threshold=cfg.TEST.MASK_THRESHOLD,
            ),
            **shared_arguments(cfg, GridCriterion(cfg), MaskBoxPostprocessor),
        }

    def run_network(self, images: Tensor, targets: list[Target] | None = None) -> ModelOutput:
        """Run the network without pre- and postprocessing; see `InstanceSegmenter.run_network`.

        In training, the queries are all cells; in eval mode, they are the best of them, whose class probabilities count
        their masks and duplicates.

        Raises:
            ValueError: targets have no masks.
        """
        prediction = self.grid_head(self.extract_features(images))
        if not self.training:
            return ModelOutput([self.grid_selection(prediction)])
        require_masks(self, targets)
        return ModelOutput([prediction])


def check_grids(grid_sides: tuple[int, ...], strides: list[int]) -> None:
    """Check that there is one grid for each level, and that the finest level has the stride of the mask map.

    Raises:
        ValueError: there is not, a side is not positive, or the stride is another one.
    """
    if len(grid_sides) != len(strides) or min(grid_sides) < 1:
        raise ValueError(
            f"MODEL.DECODER.GRID_SIDES is {tuple(grid_sides)} for {len(strides)} levels. "
            "Give one positive number for each of MODEL.ENCODER.IN_FEATURES."
        )
    if strides[0] != MASK_STRIDE:
        raise ValueError(
            f"MODEL.ENCODER.IN_FEATURES begins with a level of stride {strides[0]}, wanted {MASK_STRIDE}, as p2 has."
        )
