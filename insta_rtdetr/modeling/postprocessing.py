"""Step 7: the last layer's prediction -> Detectron2 `Instances` at the image's own size.

Letters: Q queries, K classes, N objects that are kept, (h, w) mask map.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from detectron2.structures import Boxes, Instances
from torch import Tensor

from ..layers.boxes import cxcywh_to_xyxy
from ..structures import Prediction

# What masks are when they are resized, see TEST.MASK_RESIZE.
RESIZES = ("probability", "logit", "logit_twice")
# Masks enlarged at a time, in output pixels: few enough to stay in a processor's cache.
CHUNK_PIXELS = 2**19
CHUNK_PIXELS_GPU = 2**27
# Output rows (or columns) that are resized by one product of matrices.
BAND_ROWS = 128


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
        resize: what is enlarged, one of `RESIZES`.

    Raises:
        ValueError: `resize` is none of them.
    """

    max_objects: int
    score_threshold: float
    mask_threshold: float
    resize: str

    def __post_init__(self) -> None:
        if self.resize not in RESIZES:
            raise ValueError(f"TEST.MASK_RESIZE must be one of {', '.join(RESIZES)}, got {self.resize!r}.")

    def __call__(self, prediction: Prediction, sizes: list[ImageSize]) -> list[Instances]:
        """One `Instances` for each image, with pred_boxes, pred_masks, scores (descending) and pred_classes."""
        return [self._image(prediction, i, size) for i, size in enumerate(sizes)]

    def _image(self, prediction: Prediction, image: int, size: ImageSize) -> Instances:
        scores, classes, queries = self._select(prediction.class_logits[image].sigmoid())
        chosen = prediction.of_image(image, queries)
        instances = Instances(size.output)
        instances.pred_boxes = self._boxes(chosen, size)
        instances.pred_masks = self._masks(chosen, size)
        instances.scores = scores
        instances.pred_classes = classes
        return instances

    def _boxes(self, chosen: Prediction, size: ImageSize) -> Boxes:
        return Boxes(boxes_in_pixels(chosen.boxes_cxcywh[0], size))

    def _select(self, probs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(Q, K) -> scores, classes and queries, all (N,)."""
        num_classes = probs.shape[1]
        scores, index = probs.flatten().topk(min(self.max_objects, probs.numel()))
        is_kept = scores >= self.score_threshold
        index = index[is_kept]
        return scores[is_kept], index % num_classes, index // num_classes

    def _masks(self, chosen: Prediction, size: ImageSize) -> Tensor:
        """(N, height, width), bool."""
        masks = _no_masks(len(chosen.mask_embeddings[0]), size, chosen.mask_embeddings.device)
        for part, enlarged in self._enlarged(chosen, size):
            torch.gt(enlarged, self._threshold, out=masks[part])
        return masks

    def _enlarged(self, chosen: Prediction, size: ImageSize) -> Iterator[tuple[slice, Tensor]]:
        """A few masks at a time: which, and their probabilities or logits (n, height, width)."""
        maps = chosen.mask_logits[0]
        return enlarge(maps.sigmoid() if self.resize == "probability" else maps, size, self.resize == "logit_twice")

    @property
    def _threshold(self) -> float:
        """In the unit of what is enlarged."""
        return self.mask_threshold if self.resize == "probability" else math.log(
            self.mask_threshold / (1 - self.mask_threshold)
        )


class ClippingPostprocessor(Postprocessor):
    """Of a model whose boxes may reach out of the image: they are clipped."""

    def _boxes(self, chosen: Prediction, size: ImageSize) -> Boxes:
        boxes = super()._boxes(chosen, size)
        boxes.clip(size.output)
        return boxes


class MaskScoringPostprocessor(Postprocessor):
    """Of a model without boxes: a score is the class's probability times the mean probability of the mask's pixels.

    Source: FastInst, https://arxiv.org/abs/2303.08594
    """

    def _image(self, prediction: Prediction, image: int, size: ImageSize) -> Instances:
        scores, classes, queries = self._select(prediction.class_logits[image].softmax(-1)[:, :-1])
        # A query may be kept for several classes; its mask is made once.
        queries, which = queries.unique(return_inverse=True)
        masks, boxes, certainties = self._measured_masks(prediction.of_image(image, queries), size)
        scores, order = (scores * certainties[which].to(scores)).sort(descending=True)
        kept = order[scores >= self.score_threshold]
        instances = Instances(size.output)
        instances.pred_boxes = Boxes(boxes[which[kept]])
        instances.pred_masks = masks[which[kept]]
        instances.scores = scores[: len(kept)]
        instances.pred_classes = classes[kept]
        return instances

    def _measured_masks(self, chosen: Prediction, size: ImageSize) -> tuple[Tensor, Tensor, Tensor]:
        """Masks (N, height, width), bool; the boxes around them (N, 4); the mean probability of each one's pixels (N,).

        Each few masks are measured while they are in the processor's cache.
        """
        masks = _no_masks(len(chosen.mask_embeddings[0]), size, chosen.mask_embeddings.device)
        boxes, certainties = [chosen.mask_embeddings.new_zeros(0, 4)], [chosen.mask_embeddings.new_zeros(0)]
        for part, enlarged in self._enlarged(chosen, size):
            torch.gt(enlarged, self._threshold, out=masks[part])
            probs = enlarged if self.resize == "probability" else enlarged.sigmoid_()
            probs = F.threshold_(probs, self.mask_threshold, 0.0)  # 0 outside the masks
            in_row = probs.sum(2)
            boxes.append(boxes_of_occupied(probs.amax(1) > 0, in_row > 0))
            certainties.append(in_row.sum(1) / (masks[part].sum((1, 2)) + 1e-6))
        return masks, torch.cat(boxes), torch.cat(certainties)


def boxes_in_pixels(boxes_cxcywh: Tensor, size: ImageSize) -> Tensor:
    """(N, 4) cxcywh in [0, 1] of the network's input -> xyxy in pixels of the result."""
    scale_y, scale_x = (
        padded * output / resized
        for padded, output, resized in zip(size.padded, size.output, size.resized, strict=True)
    )
    return cxcywh_to_xyxy(boxes_cxcywh) * boxes_cxcywh.new_tensor([scale_x, scale_y, scale_x, scale_y])


def boxes_of_occupied(columns: Tensor, rows: Tensor) -> Tensor:
    """The smallest boxes around masks.

    Args:
        columns: (N, width), bool, which columns of pixels a mask reaches into.
        rows: (N, height), bool.

    Returns:
        (N, 4), float32, xyxy in pixels; zeros for an empty mask.
    """
    (x0, x1), (y0, y1) = _first_and_after_last(columns), _first_and_after_last(rows)
    return torch.stack([x0, y0, x1, y1], dim=1).float()


def _first_and_after_last(is_set: Tensor) -> tuple[Tensor, Tensor]:
    """(N, L), bool -> index of the first True and one past the last, (N,); 0 and 0 if there is none."""
    place = torch.arange(1, is_set.shape[1] + 1, device=is_set.device)
    after_last = (place * is_set).amax(1)
    from_end = (place.flip(0) * is_set).amax(1)
    return (is_set.shape[1] - from_end) * (from_end > 0), after_last


def enlarge(maps: Tensor, size: ImageSize, twice: bool) -> Iterator[tuple[slice, Tensor]]:
    """Bilinear enlargement to the result's size, a few maps at a time.

    Args:
        maps: (N, h, w), over the whole network input.
        size: where the image lies in that input.
        twice: enlarge to the network's input first, and from there to the result.

    Returns:
        Which maps, and (n, height, width).
    """
    height, width = size.output
    budget = CHUNK_PIXELS if maps.device.type == "cpu" else CHUNK_PIXELS_GPU
    step = max(1, budget // (height * width))
    for start in range(0, len(maps), step):
        part = slice(start, min(start + step, len(maps)))
        yield part, _enlarge_twice(maps[part], size) if twice else _enlarge(maps[part], size)


def _enlarge_twice(maps: Tensor, size: ImageSize) -> Tensor:
    """Both steps are linear and separable, so that they are one product with a matrix for each direction."""
    rows, columns = (
        resize_bands(*sides, maps.device, maps.dtype)
        for sides in zip(maps.shape[1:], size.padded, size.resized, size.output, strict=True)
    )
    wide = torch.cat([maps[..., first:last] @ band.T for first, last, band in columns], dim=2)
    return torch.cat([band @ wide[:, first:last] for first, last, band in rows], dim=1)


@lru_cache(maxsize=32)
def resize_bands(
    small: int, padded: int, resized: int, output: int, device: torch.device, dtype: torch.dtype
) -> list[tuple[int, int, Tensor]]:
    """Linear resize from `small` to `padded`, cut to `resized`, then to `output`, as a matrix.  Cached.

    Returns:
        Its bands of rows, each as (first, last, band): a band reads no inputs but those from first to before last.
    """
    with torch.inference_mode(False), torch.no_grad():
        units = torch.eye(small, dtype=torch.float64)[None]
        in_input = F.interpolate(units, size=padded, mode="linear")[..., :resized]
        matrix = F.interpolate(in_input, size=output, mode="linear")[0].T
        bands = []
        for band in matrix.split(BAND_ROWS):
            read = band.any(0).nonzero()
            first, last = int(read[0]), int(read[-1]) + 1
            bands.append((first, last, band[:, first:last].to(device, dtype).contiguous()))
        return bands


def _no_masks(count: int, size: ImageSize, device: torch.device) -> Tensor:
    """Room for masks, (count, height, width), bool."""
    return torch.empty(count, *size.output, dtype=torch.bool, device=device)


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
