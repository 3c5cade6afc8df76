"""Step 7: the last layer's prediction -> Detectron2 `Instances` at the image's own size.

Letters: Q queries, K classes, N objects that are kept, (h, w) mask map.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from detectron2.structures import Boxes, Instances
from torch import Tensor

from ..layers.boxes import cxcywh_to_xyxy
from ..structures import Prediction

# Masks enlarged at a time, in output pixels: few enough to stay in a processor's cache.
CHUNK_PIXELS = 2**19
CHUNK_PIXELS_GPU = 2**27


@dataclass
class ImageSize:
    """Where an image lies in the network's input, in pixels (height, width).

    Attributes:
        output: size of the result.
        resized: size of the image within the network's input, which starts at its upper left corner.
        padded: size of the network's input.
    """

    output: tuple[int, int]
    resized: tuple[int, int]
    padded: tuple[int, int]


@dataclass
class Postprocessor:
    """Keeps the best (query, class) pairs and makes their masks, no others.

    Attributes:
        max_objects: objects kept of an image.
        score_threshold: objects with a lower score are left out.
        mask_threshold: probability above which a pixel belongs to an object.
        resize_logits: enlarge logits in place of probabilities.
    """

    max_objects: int
    score_threshold: float
    mask_threshold: float
    resize_logits: bool

    def __call__(self, prediction: Prediction, sizes: list[ImageSize]) -> list[Instances]:
        """One `Instances` for each image, with pred_boxes, pred_masks, scores (descending) and pred_classes."""
        return [self._image(prediction, i, size) for i, size in enumerate(sizes)]

    def _image(self, prediction: Prediction, image: int, size: ImageSize) -> Instances:
        scores, classes, queries = self._select(prediction.class_logits[image])
        chosen = prediction.of_image(image, queries)
        instances = Instances(size.output)
        instances.pred_boxes = Boxes(boxes_in_pixels(chosen.boxes_cxcywh[0], size))
        instances.pred_masks = self._masks(chosen, size)
        instances.scores = scores
        instances.pred_classes = classes
        return instances

    def _select(self, class_logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(Q, K) -> scores, classes and queries, all (N,)."""
        num_classes = class_logits.shape[1]
        probs = class_logits.sigmoid().flatten()
        scores, index = probs.topk(min(self.max_objects, len(probs)))
        is_kept = scores >= self.score_threshold
        index = index[is_kept]
        return scores[is_kept], index % num_classes, index // num_classes

    def _masks(self, chosen: Prediction, size: ImageSize) -> Tensor:
        """(N, height, width), bool."""
        maps = chosen.mask_logits[0]
        threshold = self.mask_threshold
        if self.resize_logits:
            threshold = torch.tensor(threshold).logit().item()
        else:
            maps = maps.sigmoid()
        return enlarge_and_threshold(maps, size, threshold)


def boxes_in_pixels(boxes_cxcywh: Tensor, size: ImageSize) -> Tensor:
    """(N, 4) cxcywh in [0, 1] of the network's input -> xyxy in pixels of the result."""
    scale_y, scale_x = (
        padded * output / resized
        for padded, output, resized in zip(size.padded, size.output, size.resized, strict=True)
    )
    return cxcywh_to_xyxy(boxes_cxcywh) * boxes_cxcywh.new_tensor([scale_x, scale_y, scale_x, scale_y])


def enlarge_and_threshold(maps: Tensor, size: ImageSize, threshold: float) -> Tensor:
    """Bilinear enlargement to the result's size, then `> threshold`, a few masks at a time.

    Args:
        maps: (N, h, w), over the whole network input.
        size: where the image lies in that input.
        threshold: in the maps' unit.

    Returns:
        (N, height, width), bool.
    """
    height, width = size.output
    masks = torch.empty(len(maps), height, width, dtype=torch.bool, device=maps.device)
    budget = CHUNK_PIXELS if maps.device.type == "cpu" else CHUNK_PIXELS_GPU
    step = max(1, budget // (height * width))
    for start in range(0, len(maps), step):
        enlarged = _enlarge(maps[start : start + step], size)
        torch.gt(enlarged, threshold, out=masks[start : start + step])
    return masks


def _enlarge(maps: Tensor, size: ImageSize) -> Tensor:
    if size.resized == size.padded:
        return F.interpolate(maps[None], size=size.output, mode="bilinear")[0]
    # The image ends within a cell of the map: read the map at the centre of every pixel of the result.
    y, x = (
        ((torch.arange(output, device=maps.device) + 0.5) * (2 * resized / (padded * output)) - 1).to(maps.dtype)
        for output, resized, padded in zip(size.output, size.resized, size.padded, strict=True)
    )
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
    return F.grid_sample(maps[None], grid[None], padding_mode="border", align_corners=False)[0]
