"""Step 7: the last layer's prediction -> Detectron2 `Instances` at the image's own size.

Shapes: Q queries, K classes, N objects that are kept, (h, w) the mask map.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.structures import Boxes, Instances
from torch import Tensor
from torchvision.ops import batched_nms

from ..layers.boxes import boxes_of_occupied, cells_inside, cxcywh_to_xyxy
from ..layers.cropped_masks import enlarge_within
from ..layers.mask_resize import AxisResize, Region, areas_of, axis_resize, enlarge, exceeds, paste
from ..layers.precision import full_precision
from ..layers.suppression import suppress
from ..layers.tokens import take_rows
from ..structures import Prediction

# Values of TEST.MASK_RESIZE, which says whether probabilities or logits of masks are resized.
RESIZES = ("probability", "probability_twice", "logit", "logit_twice")


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
    """Keeps the best (query, class) pairs and makes the masks of these alone.

    Attributes:
        max_objects: largest number of objects that are kept for an image.
        score_threshold: objects with a lower score are left out.
        mask_threshold: probability above which a pixel belongs to an object.
        resize: what is resized, one of `RESIZES`.
        nms_threshold: IoU of non-maximum suppression between the boxes of a class; 1 for no suppression.
        assemble: function that makes the masks of a result from their pieces; takes the arguments of `paste`.

    Raises:
        ValueError: `resize` is unknown, or `nms_threshold` is not from 0 to 1.
    """

    max_objects: int
    score_threshold: float
    mask_threshold: float
    resize: str
    nms_threshold: float = 1.0
    assemble: Callable[[Iterable[tuple[Region, Tensor]], Tensor, tuple[int, int]], Any] = paste

    def __post_init__(self) -> None:
        if self.resize not in RESIZES:
            raise ValueError(f"TEST.MASK_RESIZE must be one of {', '.join(RESIZES)}, got {self.resize!r}.")
        if not 0 <= self.nms_threshold <= 1:
            raise ValueError(f"TEST.NMS_THRESHOLD must be from 0 to 1, got {self.nms_threshold}.")

    def __call__(self, prediction: Prediction, sizes: list[ImageSize]) -> list[Instances]:
        """Make the `Instances` of each image: pred_boxes, pred_masks if predicted, sorted scores, pred_classes."""
        return [self._image(prediction, i, size) for i, size in enumerate(sizes)]

    def _image(self, prediction: Prediction, image: int, size: ImageSize) -> Instances:
        scores, classes, queries = self._select(self.probabilities(prediction.class_logits[image]))
        boxes = self._boxes(prediction.select(image, queries), size)
        kept = without_duplicates(boxes.tensor, scores, classes, self.nms_threshold)[: self.max_objects]
        instances = Instances(size.output)
        instances.pred_boxes = boxes[kept]
        if prediction.has_masks:
            instances.pred_masks = self._masks(prediction, image, queries[kept], size)
        instances.scores = scores[kept]
        instances.pred_classes = classes[kept]
        return instances

    @property
    def resizes_probabilities(self) -> bool:
        """Whether probabilities are enlarged, and not logits."""
        return self.resize.startswith("probability")

    def probabilities(self, class_logits: Tensor) -> Tensor:
        """Return the probabilities of the classes: (..., K) -> (..., K)."""
        return class_logits.sigmoid()

    def num_objects(self, num_queries: int, num_classes: int) -> int:
        """How many pairs of a query and a class are chosen of an image, whatever their scores."""
        return min(self.max_objects, num_queries * num_classes)

    def best_pairs(self, probs: Tensor, boxes_cxcywh: Tensor | None) -> tuple[Tensor, Tensor]:
        """Choose pairs of a query and a class for each image of a batch, for an exported network.

        Args:
            probs: (B, Q, K).
            boxes_cxcywh: (B, Q, 4), or None.

        Returns:
            probabilities (B, N), descending, and indices (B, N) of the pairs, `query * K + class`.
        """
        return probs.flatten(1).topk(self.num_objects(*probs.shape[1:]), dim=1)

    def crop(self, values: Tensor, boxes_cxcywh: Tensor | None) -> Tensor:
        """Set to 0 what does not count of masks (B, N, H, W) in the network's input, for an exported network."""
        return values

    def _masks(self, prediction: Prediction, image: int, queries: Tensor, size: ImageSize) -> Tensor:
        """Make the masks of N queries of an image: (N, height, width), bool."""
        # A query may be kept for several classes; its mask is made once.
        queries, which = queries.unique(return_inverse=True)
        enlarged = self._enlarged(prediction.select(image, queries), size)
        # A generator, because the enlarged masks may not fit into the memory all at once.
        pieces = ((region, exceeds(values, self._threshold)) for region, values in enlarged)
        return self.assemble(pieces, which, size.output)

    def _boxes(self, chosen: Prediction, size: ImageSize) -> Boxes:
        return Boxes(boxes_in_pixels(chosen.boxes_cxcywh[0], size))

    def _select(self, probs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Select the best pairs of probabilities (Q, K); return their scores, classes and queries, all (N,).

        Pairs of probability 0, which a model has left out itself, are left out even without a threshold.
        """
        num_classes = probs.shape[1]
        scores, index = probs.flatten().topk(self.num_objects(*probs.shape))
        is_kept = (scores >= self.score_threshold) & (scores > 0)
        index = index[is_kept]
        return scores[is_kept], index % num_classes, index // num_classes

    def _enlarged(self, chosen: Prediction, size: ImageSize) -> Iterator[tuple[Region, Tensor]]:
        """Yield the resized probabilities or logits of masks, where they can exceed the threshold; see `enlarge`."""
        maps = full_precision(chosen.mask_logits[0])
        maps = maps.sigmoid() if self.resizes_probabilities else maps
        rows, columns = _resizing(maps, size.padded, size.resized, size.output, self.resize.endswith("_twice"))
        # Autocast would multiply in half precision, which would move the edges of masks.
        with torch.autocast(maps.device.type, enabled=False):
            yield from enlarge(maps, rows, columns, self._threshold)

    @property
    def _threshold(self) -> float:
        """Return the mask threshold as a probability or a logit, in the unit of what is resized."""
        return self.mask_threshold if self.resizes_probabilities else math.log(
            self.mask_threshold / (1 - self.mask_threshold)
        )


class DensePostprocessor(Postprocessor):
    """Postprocessor for a model in which several queries answer for an object, and a mask counts within its box alone.

    Non-maximum suppression precedes the selection of the best pairs.  Probabilities of masks are enlarged to the
    network's input, set to 0 outside the box, and resized to the image.

    Source: PP-YOLOE, https://github.com/PaddlePaddle/PaddleDetection/tree/666f597

    Attributes:
        candidates: number of queries of each class that take part in the suppression; in an exported network, number of
            pairs of an image that do.

    Raises:
        ValueError: `resize` is another one than "probability_twice".
    """

    candidates = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.resize != "probability_twice":
            raise ValueError(f"TEST.MASK_RESIZE must be probability_twice for this model, got {self.resize!r}.")

    def best_pairs(self, probs: Tensor, boxes_cxcywh: Tensor | None) -> tuple[Tensor, Tensor]:
        """Choose the best pairs that suppression leaves; pairs of probability 0 fill the rest."""
        num_classes, wanted = probs.shape[2], self.num_objects(*probs.shape[1:])
        scores, index = probs.flatten(1).topk(min(max(self.candidates, wanted), probs[0].numel()), dim=1)
        queries = torch.div(index, num_classes, rounding_mode="floor")
        boxes = cxcywh_to_xyxy(take_rows(full_precision(boxes_cxcywh), queries))
        is_kept = suppress(boxes, index - queries * num_classes, self.nms_threshold)
        scores, order = torch.where(is_kept, scores, 0.0).topk(wanted, dim=1)
        return scores, take_rows(index[..., None], order)[..., 0]

    def crop(self, values: Tensor, boxes_cxcywh: Tensor | None) -> Tensor:
        """Set masks (B, N, H, W) to 0 outside their boxes (B, N, 4)."""
        height, width = values.shape[2:]
        boxes = cxcywh_to_xyxy(boxes_cxcywh) * boxes_cxcywh.new_tensor([width, height, width, height])
        return values * cells_inside(boxes, height, width)

    def _select(self, probs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Select candidates of probabilities (Q, K), best first; return their scores, classes and queries, all (M,)."""
        scores, queries = probs.topk(min(self.candidates, len(probs)), dim=0)
        is_candidate = scores > self.score_threshold
        classes = is_candidate.nonzero()[:, 1]
        scores, order = scores[is_candidate].sort(descending=True, stable=True)
        return scores, classes[order], queries[is_candidate][order]

    def _enlarged(self, chosen: Prediction, size: ImageSize) -> Iterator[tuple[Region, Tensor]]:
        maps = full_precision(chosen.mask_logits[0]).sigmoid()
        to_input = _resizing(maps, size.padded, size.resized, size.resized)
        to_result = _resizing(maps, size.resized, size.resized, size.output, cells=size.resized)
        boxes = cxcywh_to_xyxy(chosen.boxes_cxcywh[0])
        boxes = boxes * boxes.new_tensor([*size.padded[::-1], *size.padded[::-1]])
        with torch.autocast(maps.device.type, enabled=False):
            yield from enlarge_within(maps, boxes, to_input, to_result, self._threshold)


class ClippingPostprocessor(Postprocessor):
    """Postprocessor that clips boxes to the image."""

    def _boxes(self, chosen: Prediction, size: ImageSize) -> Boxes:
        boxes = super()._boxes(chosen, size)
        boxes.clip(size.output)
        return boxes


@dataclass
class MeasuredMasks:
    """Masks of N queries at the size of the result.

    Attributes:
        pieces: the masks for `paste`.
        boxes_xyxy: (N, 4), the boxes around them, in pixels.
        certainties: (N,), the mean probability of the pixels of each.
    """

    pieces: list[tuple[Region, Tensor]]
    boxes_xyxy: Tensor
    certainties: Tensor


class MaskBoxPostprocessor(Postprocessor):
    """Postprocessor whose boxes are those around the masks if the model predicts none."""

    def _image(self, prediction: Prediction, image: int, size: ImageSize) -> Instances:
        if not prediction.has_masks:
            return super()._image(prediction, image, size)
        scores, classes, queries = self._select(self.probabilities(prediction.class_logits[image]))
        queries, which = queries.unique(return_inverse=True)
        chosen = prediction.select(image, queries)
        measured = self._measured(chosen, size)
        boxes = measured.boxes_xyxy if chosen.boxes_cxcywh is None else self._boxes(chosen, size).tensor
        scores, order = self._rescore(scores, which, chosen, measured).sort(descending=True)
        order = order[scores >= self.score_threshold]
        kept = without_duplicates(boxes[which[order]], scores[: len(order)], classes[order], self.nms_threshold)
        order = order[kept]
        instances = Instances(size.output)
        instances.pred_boxes = Boxes(boxes[which[order]])
        instances.pred_masks = self.assemble(measured.pieces, which[order], size.output)
        instances.scores = scores[kept]
        instances.pred_classes = classes[order]
        return instances

    def _rescore(self, scores: Tensor, which: Tensor, chosen: Prediction, measured: MeasuredMasks) -> Tensor:
        """Return the final scores (M,) of M objects, each with the mask of the query `which` (M,) of N chosen ones."""
        return scores

    def _measured(self, chosen: Prediction, size: ImageSize) -> MeasuredMasks:
        """Enlarge and measure masks, a few at a time, while they are in the processor's cache."""
        embeddings = chosen.mask_embeddings
        count, options = embeddings.shape[1], {"device": embeddings.device, "dtype": full_precision(embeddings).dtype}
        # Sums of the probabilities within each mask.
        row_sums, column_sums = (torch.zeros(count, side, **options) for side in size.output)
        areas = torch.zeros(count, **options)
        pieces = []
        for (which, y, x), enlarged in self._enlarged(chosen, size):
            masks = exceeds(enlarged, self._threshold)
            probs = enlarged if self.resizes_probabilities else enlarged.sigmoid_()
            probs = F.threshold_(probs, self.mask_threshold, 0.0)
            row_sums[which, y] = probs.sum(2)
            column_sums[which, x] += probs.sum(1)
            areas[which] += areas_of(masks)
            pieces.append(((which, y, x), masks))
        boxes = boxes_of_occupied(column_sums > 0, row_sums > 0)
        return MeasuredMasks(pieces, boxes, row_sums.sum(1) / (areas + 1e-6))


class MaskScoringPostprocessor(MaskBoxPostprocessor):
    """Postprocessor whose scores are the class probability times the mean probability of the mask's pixels.

    Source: Mask2Former, https://arxiv.org/abs/2112.01527

    Attributes:
        scores_maps: whether these are the pixels of the mask map, and not those of the resized mask.
    """

    scores_maps = False

    def _rescore(self, scores: Tensor, which: Tensor, chosen: Prediction, measured: MeasuredMasks) -> Tensor:
        return scores * measured.certainties[which].to(scores)


class SoftmaxMaskScoringPostprocessor(MaskScoringPostprocessor):
    """Mask-scoring postprocessor for a model whose last class is "no object"."""

    def probabilities(self, class_logits: Tensor) -> Tensor:
        """Return the probabilities (..., K) of the classes but "no object" from logits (..., K + 1)."""
        return class_logits.softmax(-1)[..., :-1]


class OneClassPostprocessor(MaskScoringPostprocessor):
    """The same for a model whose queries have one class each; masks' probabilities are measured on the mask map.

    Source: SparseInst, https://arxiv.org/abs/2203.12827
    """

    scores_maps = True

    def probabilities(self, class_logits: Tensor) -> Tensor:
        """(..., K), zero for all classes but the likeliest one of each query."""
        probs = super().probabilities(class_logits)
        return torch.where(probs == probs.amax(-1, keepdim=True), probs, 0.0)

    def num_objects(self, num_queries: int, num_classes: int) -> int:
        """As many as there are queries, at most."""
        return min(self.max_objects, num_queries)

    def _rescore(self, scores: Tensor, which: Tensor, chosen: Prediction, measured: MeasuredMasks) -> Tensor:
        probs = full_precision(chosen.mask_logits[0]).sigmoid()
        return scores * mean_within(probs, probs > self.mask_threshold)[which].to(scores)


def _resizing(
    maps: Tensor, padded: tuple[int, int], resized: tuple[int, int], output: tuple[int, int], twice: bool = False,
    cells: tuple[int, int] | None = None,
) -> tuple[AxisResize, AxisResize]:  # fmt: skip
    """Return the resizing of the rows and the columns of maps (N, h, w), or of maps of `cells`; see `axis_resize`."""
    rows, columns = (
        axis_resize(*sides, twice, maps.device, maps.dtype)
        for sides in zip(cells or maps.shape[1:], padded, resized, output, strict=True)
    )
    return rows, columns


def mean_within(probs: Tensor, masks: Tensor) -> Tensor:
    """(...,), the mean of probabilities (..., h, w) over the pixels of masks (..., h, w); 0 for an empty mask."""
    return (probs * masks).sum((-2, -1)) / (masks.sum((-2, -1)) + 1e-6)


def without_duplicates(boxes_xyxy: Tensor, scores: Tensor, classes: Tensor, threshold: float) -> Tensor:
    """Apply non-maximum suppression within each class.

    Args:
        boxes_xyxy: (N, 4).
        scores, classes: (N,), scores descending.
        threshold: a box is removed if its IoU with a better box of its class is above this; 1 removes none.

    Returns:
        int64 indices of the boxes that are kept, ascending.
    """
    if threshold >= 1:
        return torch.arange(len(scores), device=scores.device)
    scores = full_precision(scores)
    return batched_nms(boxes_xyxy.to(scores), scores, classes, threshold).sort().values


def boxes_in_pixels(boxes_cxcywh: Tensor, size: ImageSize) -> Tensor:
    """Convert boxes (N, 4) from cxcywh in [0, 1] of the network's input to xyxy in pixels of the result."""
    scale_y, scale_x = (
        padded * output / resized
        for padded, output, resized in zip(size.padded, size.output, size.resized, strict=True)
    )
    return cxcywh_to_xyxy(boxes_cxcywh) * boxes_cxcywh.new_tensor([scale_x, scale_y, scale_x, scale_y])
