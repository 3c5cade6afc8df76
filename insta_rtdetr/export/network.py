"""The network that is exported, from images to the best objects.  All shapes are fixed except the batch size.

Shapes: B images, Q queries, K classes, N objects that are kept, (H, W) the input, (h, w) the mask map.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from insta_rtdetr.layers.boxes import boxes_of_occupied, cxcywh_to_xyxy
from insta_rtdetr.layers.tokens import take_rows
from insta_rtdetr.modeling.meta_arch import InstanceSegmenter
from insta_rtdetr.modeling.postprocessing import ClippingPostprocessor, MaskScoringPostprocessor, mean_within
from insta_rtdetr.predict.runtime.metadata import OUTPUT_NAMES
from insta_rtdetr.structures import Prediction


class TopObjects(nn.Module):
    """A model with normalisation of its input and selection of the best objects; fused if its config says so."""

    def __init__(self, model: InstanceSegmenter, size: tuple[int, int], with_postprocess: bool, half: bool):
        """Wrap a model.

        Args:
            model: the model in eval mode.
            size: (H, W) of the input in pixels.
            with_postprocess: whether masks are those of the input's pixels instead of logits of the mask map.
            half: whether the network runs under autocast to float16.
        """
        super().__init__()
        self.model = model._inference_network()
        self.size, self.with_postprocess, self.half = size, with_postprocess, half
        self.postprocessor = model.postprocessor
        self.scores_masks = isinstance(model.postprocessor, MaskScoringPostprocessor)

    @property
    def output_names(self) -> list[str]:
        """Return the names of the outputs of `forward`."""
        return list(OUTPUT_NAMES if self.scores_masks and not self.with_postprocess else OUTPUT_NAMES[:-1])

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Find the best objects.

        Args:
            images: (B, 3, H, W), float32, 0 to 255.

        Returns:
            classes (B, N), int64; scores (B, N), descending; boxes (B, N, 4), xyxy in pixels of the input; masks, bool
            (B, N, H, W) with postprocessing, or else logits (B, N, h, w).  Without postprocessing, a model whose scores
            are class probabilities times mean mask probabilities also returns class_scores (B, N), the class
            probabilities.  The mean probability is that of the returned masks, of the map or of the input,
            or that of the map in any case if the postprocessor says so.
        """
        images = (images - self.model.preprocessor.pixel_mean) / self.model.preprocessor.pixel_std
        with torch.autocast(images.device.type, dtype=torch.float16, enabled=self.half):
            prediction = self.model.run_network(images).layers[-1]
        classes, scores, chosen = self._choose(prediction)
        maps = chosen.mask_logits.float()
        values = self._enlarge(maps, chosen) if self.with_postprocess else maps
        is_probability = self.with_postprocess and self.postprocessor.resizes_probabilities
        probs = values if is_probability else values.sigmoid()
        masks = probs > self.postprocessor.mask_threshold
        outputs = [classes, scores, self._boxes(chosen, masks), masks if self.with_postprocess else maps]
        if not self.scores_masks:
            return tuple(outputs)
        if self.postprocessor.scores_maps:
            probs = maps.sigmoid()
            certainties = mean_within(probs, probs > self.postprocessor.mask_threshold)
        else:
            certainties = mean_within(probs, masks)
        outputs = [classes, scores * certainties, *outputs[2:], scores][: len(self.output_names)]
        order = outputs[1].topk(outputs[1].shape[1], dim=1).indices
        return tuple(_reorder(values, order) for values in outputs)

    def _choose(self, prediction: Prediction) -> tuple[Tensor, Tensor, Prediction]:
        """Return classes and scores (B, N) of the best pairs of a query and a class, and the queries' predictions."""
        logits = prediction.class_logits.float()
        probs = self.postprocessor.probabilities(logits)
        num_classes = probs.shape[2]
        boxes, biases = prediction.boxes_cxcywh, prediction.mask_biases
        scores, index = self.postprocessor.best_pairs(probs, boxes)
        queries = torch.div(index, num_classes, rounding_mode="floor")
        chosen = Prediction(
            class_logits=logits,
            boxes_cxcywh=None if boxes is None else take_rows(boxes.float(), queries),
            mask_embeddings=take_rows(prediction.mask_embeddings.float(), queries),
            mask_features=prediction.mask_features.float(),
            mask_biases=None if biases is None else take_rows(biases.float()[..., None], queries)[..., 0],
        )
        return index - queries * num_classes, scores, chosen

    def _enlarge(self, maps: Tensor, chosen: Prediction) -> Tensor:
        maps = maps.sigmoid() if self.postprocessor.resizes_probabilities else maps
        return self.postprocessor.crop(F.interpolate(maps, size=self.size, mode="bilinear"), chosen.boxes_cxcywh)

    def _boxes(self, chosen: Prediction, masks: Tensor) -> Tensor:
        """Return the boxes (B, N, 4), xyxy in pixels of the input."""
        height, width = self.size
        scale = masks.new_tensor([width, height, width, height], dtype=torch.float32)
        if chosen.boxes_cxcywh is None:
            rows, columns = masks.shape[2:]
            occupied = masks.float()
            boxes = boxes_of_occupied(occupied.amax(2) > 0, occupied.amax(3) > 0)
            return boxes * (scale / scale.new_tensor([columns, rows, columns, rows]))
        boxes = cxcywh_to_xyxy(chosen.boxes_cxcywh) * scale
        if isinstance(self.postprocessor, ClippingPostprocessor):
            boxes = torch.minimum(boxes.clamp(min=0), scale)
        return boxes


def _reorder(values: Tensor, order: Tensor) -> Tensor:
    """Reorder values (B, N, ...) by the indices (B, N)."""
    index = order.reshape(*order.shape, *[1] * (values.dim() - 2)).expand(-1, -1, *values.shape[2:])
    return values.gather(1, index)
