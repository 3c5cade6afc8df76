"""DINOv2 with windowed attention: a few blocks attend over the whole image, all others within its windows.

The blocks and the names of the parameters are timm's.
Shapes: B images, (h, w) patches of an image, N windows of an image, S tokens of a window, C channels.
Source: RF-DETR, https://arxiv.org/abs/2511.09554; DINOv2, https://arxiv.org/abs/2304.07193
"""

from collections.abc import Sequence

import timm
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.backbone import Backbone
from timm.layers import resample_abs_pos_embed
from torch import Tensor

from ...layers.tokens import use_token_linear
from .timm import create_timm_model, parse_arguments


class WindowedDINOv2(Backbone):
    """A timm vision transformer with windowed attention.

    The output after the third block is named block3, and so on.  Each window has a copy of the class token.
    """

    def __init__(
        self, *, name: str, pretrained: bool, patch_size: int, position_grid: int, num_windows: int,
        out_blocks: Sequence[int], arguments: dict,
    ):  # fmt: skip
        """Build the model.

        Args:
            name: timm's model name.
            pretrained: whether timm downloads its weights and resamples them to the patch size and the position grid.
            patch_size: side of a patch in pixels.
            position_grid: side of the learned grid of position embeddings in patches; the embeddings are interpolated
                for inputs of another size.
            num_windows: windows along each side of an image.
            out_blocks: numbers of blocks after which an output is taken, ascending.  The block that follows an output
                attends over the whole image.
            arguments: more keyword arguments of `timm.create_model`.

        Raises:
            ValueError: timm has no such vision transformer, `out_blocks` are not ascending numbers of its blocks, or
                a size or number is not positive.
        """
        super().__init__()
        if not name.startswith("vit_") or name not in timm.list_models():
            raise ValueError(f"timm {timm.__version__} has no vision transformer {name!r}. Change MODEL.TIMM.NAME.")
        if min(patch_size, position_grid, num_windows) < 1:
            raise ValueError("MODEL.DINOV2.{PATCH_SIZE, POSITION_GRID, NUM_WINDOWS} must be at least 1.")
        self.body = create_timm_model(
            name, pretrained, patch_size=patch_size, img_size=patch_size * position_grid, num_classes=0,
            dynamic_img_size=True, **arguments,
        )  # fmt: skip
        num_blocks = len(self.body.blocks)
        if list(out_blocks) != sorted(set(out_blocks)) or not out_blocks or not 1 <= out_blocks[-1] <= num_blocks:
            raise ValueError(
                f"MODEL.DINOV2.OUT_BLOCKS must be ascending numbers from 1 to {num_blocks}, got {tuple(out_blocks)}."
            )
        self.body.blocks = self.body.blocks[: out_blocks[-1]]
        use_token_linear(self.body)
        self.num_windows, self.out_blocks = num_windows, tuple(out_blocks)
        self.position_grid, self.patch_size = position_grid, patch_size

    @property
    def size_divisibility(self) -> int:
        """Return the number of pixels that both sides of the input must be multiples of."""
        return self.patch_size * self.num_windows

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Return the channels and the stride of each output."""
        return {f"block{n}": ShapeSpec(channels=self.body.embed_dim, stride=self.patch_size) for n in self.out_blocks}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Compute the outputs: (B, 3, H, W) -> {"block3": (B, C, h, w), ...}.

        Raises:
            ValueError: a side of the input is not a multiple of `size_divisibility`.
        """
        if images.shape[2] % self.size_divisibility or images.shape[3] % self.size_divisibility:
            raise ValueError(
                f"the input is {tuple(images.shape[2:])}, its sides must be multiples of {self.size_divisibility}. "
                "Change INPUT.MULTI_SCALE."
            )
        x = self._embed(images)
        outputs = {}
        for i, block in enumerate(self.body.blocks):
            x = self._attend_everywhere(block, x) if i in self.out_blocks else block(x)
            if i + 1 in self.out_blocks:
                outputs[f"block{i + 1}"] = self._to_map(self.body.norm(x), images)
        return outputs

    def _embed(self, images: Tensor) -> Tensor:
        """Embed the patches of each window: (B, 3, H, W) -> (B * N, S, C), the class token first."""
        patches = self.body.patch_embed(images)  # (B, h, w, C)
        size = list(patches.shape[1:3])
        codes = resample_abs_pos_embed(self.body.pos_embed, size, [self.position_grid] * 2)
        x = patches + codes[:, 1:].unflatten(1, size)
        x = x.unflatten(1, (self.num_windows, -1)).unflatten(3, (self.num_windows, -1))
        x = x.transpose(2, 3).flatten(3, 4).flatten(0, 2)  # (B * N, S - 1, C)
        class_token = self.body.cls_token + codes[:, :1]
        return torch.cat([class_token.expand(x.shape[0], -1, -1).to(x.dtype), x], dim=1)

    def _attend_everywhere(self, block: torch.nn.Module, x: Tensor) -> Tensor:
        """Run a block on the joined windows of each image: (B * N, S, C) -> (B * N, S, C)."""
        joined = x.unflatten(0, (-1, self.num_windows**2)).flatten(1, 2)
        return block(joined).reshape(x.shape)

    def _to_map(self, x: Tensor, images: Tensor) -> Tensor:
        """Drop the class tokens and join the windows to a map: (B * N, S, C) -> (B, C, h, w)."""
        rows = images.shape[2] // self.size_divisibility
        x = x[:, 1:].unflatten(1, (rows, -1)).unflatten(0, (images.shape[0], self.num_windows, self.num_windows))
        return x.transpose(2, 3).flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2).contiguous()


@BACKBONE_REGISTRY.register()
def build_dinov2_windowed_backbone(cfg, input_shape: ShapeSpec | None = None) -> WindowedDINOv2:
    """Build a windowed DINOv2 from MODEL.DINOV2.* and MODEL.TIMM.{NAME, PRETRAINED, ARGS}."""
    dinov2 = cfg.MODEL.DINOV2
    return WindowedDINOv2(
        name=cfg.MODEL.TIMM.NAME,
        pretrained=cfg.MODEL.TIMM.PRETRAINED and not cfg.MODEL.WEIGHTS,
        patch_size=dinov2.PATCH_SIZE,
        position_grid=dinov2.POSITION_GRID,
        num_windows=dinov2.NUM_WINDOWS,
        out_blocks=dinov2.OUT_BLOCKS,
        arguments=parse_arguments(cfg.MODEL.TIMM.ARGS),
    )
