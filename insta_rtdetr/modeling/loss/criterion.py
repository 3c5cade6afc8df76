"""The training losses of the RT-DETR family, and base classes that the criteria of other models share.

Shapes: B images, N matched pairs, Q queries, K classes, T objects of an image, P points.
"""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from detectron2.config import configurable
from detectron2.utils import comm
from torch import Tensor, nn

from ...layers.boxes import cxcywh_to_xyxy, iou_and_giou
from ...layers.mask_resize import exceeds
from ...layers.point_sampling import UncertainPoints, regions_around, sample_masks
from ...structures import DenoisingPredictions, GradientAccumulation, Match, ModelOutput, Prediction, Target
from .dense import assign_positions
from .functions import (
    mask_bce_loss,
    mask_dice_loss,
    mask_iou,
    matchability_aware_loss,
    reduce_masks,
    varifocal_loss,
)
from .matched_masks import MatchedMasks, group_by_features
from .matcher import build_matcher, full_precision, num_points_of

# Values of MODEL.LOSS.QUALITY: the overlap that is the class score's target for a matched query.
QUALITIES = ("box", "mask")
# Values of MODEL.LOSS.CLASS_LOSS.
CLASS_LOSSES = {"varifocal": varifocal_loss, "matchability": matchability_aware_loss}


@dataclass
class BatchTargets:
    """The concatenated objects of all images of a batch; the objects of image i start at index `first[i]`."""

    classes: Tensor
    boxes_cxcywh: Tensor
    masks: Tensor | None
    first: Tensor
    _reduced: dict[tuple[int, int], Tensor] = field(default_factory=dict, repr=False)

    @classmethod
    def join(cls, targets: list[Target]) -> "BatchTargets":
        """Concatenate the objects of all images.  `masks` is None unless all images have masks."""
        lengths = torch.tensor([0] + [len(target) for target in targets[:-1]])
        has_masks = all(target.masks is not None for target in targets)
        return cls(
            torch.cat([target.classes for target in targets]),
            torch.cat([target.boxes_cxcywh for target in targets]),
            torch.cat([target.masks for target in targets]) if has_masks else None,
            lengths.cumsum(0).to(targets[0].classes.device),
        )

    def index(self, match: Match) -> Tensor:
        """Return the indices (N,) of the matched objects among the concatenated ones."""
        return self.first[match.image] + match.object

    def reduced_masks(self, size: tuple[int, int]) -> Tensor:
        """Return all masks at another size, (T, *size), bool; each size is computed once."""
        if size not in self._reduced:
            self._reduced[size] = reduce_masks(self.masks, size)
        return self._reduced[size]


@dataclass
class MatchedPrediction:
    """The prediction of one layer with the objects that its queries are matched to.

    Attributes:
        suffix: end of the names of the layer's losses.
        prediction: the layer's prediction.
        match: matched queries and objects.
        normaliser: scalar that the losses are divided by.
        weight: scalar that the losses are multiplied by.
        is_last: whether the layer is the last of its decoder.
        has_class_loss: whether there is a class loss for this match.
    """

    suffix: str
    prediction: Prediction
    match: Match
    normaliser: Tensor
    weight: float = 1.0
    is_last: bool = False
    has_class_loss: bool = True


class MaskCriterion(nn.Module):
    """Base class of all criteria, with mask losses that are computed at uncertain points.

    Attributes:
        bce_name, dice_name: names of the two mask losses.
        max_mask_logit: mask logits of a larger magnitude are clamped to it and get no gradient.
    """

    bce_name = "loss_mask_bce"
    dice_name = "loss_mask_dice"
    max_mask_logit = 15.0

    def __init__(
        self, *, matcher: nn.Module, num_classes: int, weights: dict[str, float], num_points: int,
        oversample_ratio: float, importance_ratio: float, sample_inside: bool = False, point_region: float = 0.0,
    ):  # fmt: skip
        """Set up the criterion.

        Args:
            matcher: matcher that is called with (predictions, targets) and returns one `Match` for each prediction.
            num_classes: number of classes `K`.
            weights: weight of each loss by its name without suffix.
            num_points: number of points at which each mask is compared; see `num_points_of` for 0.
            oversample_ratio: number of candidates that are drawn for each point.
            importance_ratio: fraction of the points that are the most uncertain candidates.
            sample_inside: see MODEL.LOSS.SAMPLE_INSIDE.
            point_region: sides of the region around an object in which candidates are drawn, as a multiple of the sides
                of its box; 0 for the whole image.
        """
        super().__init__()
        self.sample_inside = sample_inside
        self.matcher, self.num_classes, self.weights = matcher, num_classes, weights
        self.num_points, self.oversample_ratio, self.importance_ratio = num_points, oversample_ratio, importance_ratio
        self.point_region = point_region

    @classmethod
    def from_config(cls, cfg) -> dict:
        """Read the arguments that all criteria share from MODEL.LOSS.* and MODEL.MATCHER.*."""
        loss = cfg.MODEL.LOSS
        return {
            "matcher": build_matcher(cfg),
            "num_classes": cfg.MODEL.NUM_CLASSES,
            "weights": {cls.bce_name: loss.MASK_WEIGHT, cls.dice_name: loss.DICE_WEIGHT},
            "num_points": loss.NUM_POINTS,
            "oversample_ratio": loss.OVERSAMPLE_RATIO,
            "importance_ratio": loss.IMPORTANCE_RATIO,
            "sample_inside": loss.SAMPLE_INSIDE,
            "point_region": loss.POINT_REGION,
        }

    def mask_losses(self, matched: list[MatchedPrediction], batch: BatchTargets) -> dict[str, Tensor]:
        """Compute the mask losses of all layers at once, because layers share mask features."""
        mask_index = torch.cat([batch.index(one.match) for one in matched])
        logits, points = self._logits_at_points(matched, batch.boxes_cxcywh[mask_index])
        labels = sample_masks(batch.masks, mask_index, points, self.sample_inside)
        logits = logits.clamp(-self.max_mask_logit, self.max_mask_logit)
        counts = [len(one.match) for one in matched]
        bce, dice = mask_bce_loss(logits, labels).split(counts), mask_dice_loss(logits, labels).split(counts)
        losses = {}
        for one, bce_of_one, dice_of_one in zip(matched, bce, dice, strict=True):
            losses[self.bce_name + one.suffix] = self.weigh(self.bce_name, bce_of_one.sum(), one)
            losses[self.dice_name + one.suffix] = self.weigh(self.dice_name, dice_of_one.sum(), one)
        return losses

    def _logits_at_points(
        self, matched: list[MatchedPrediction], boxes_cxcywh: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return logits (N, P) and points (N, P, 2) of all matched queries, given the boxes (N, 4) of their objects."""
        groups = group_by_features([(one.prediction, one.match) for one in matched])
        drawn = UncertainPoints(
            len(boxes_cxcywh), num_points_of(groups[0].size, self.num_points), oversample_ratio=self.oversample_ratio,
            importance_ratio=self.importance_ratio, inside=self.sample_inside, like=groups[0].features,
            regions_xyxy=regions_around(boxes_cxcywh, self.point_region) if self.point_region else None,
        )  # fmt: skip
        found = [masks.at_points(drawn) for masks in groups]
        if len(groups) == 1:
            return found[0]
        order = torch.cat([masks.places for masks in groups]).argsort()
        logits, points = (torch.cat(parts)[order] for parts in zip(*found, strict=True))
        return logits, points

    def weigh(self, name: str, loss: Tensor, one: MatchedPrediction) -> Tensor:
        """Weight and normalise a loss that was summed over matched pairs."""
        return loss * (self.weights[name] * one.weight) / one.normaliser


class SetCriterion(MaskCriterion):
    """Class, L1, GIoU and point-sampled mask losses of every layer, the encoder and the denoising queries.

    Attributes:
        class_name: name of the class loss.
    """

    class_name = "loss_vfl"

    @configurable
    def __init__(
        self, *, alpha: float, gamma: float, detach_weight: bool, quality: str, masks_only: bool = False,
        class_loss: str = "varifocal", quality_everywhere: bool = False, dense_positions: int = 0, one_to_many: int = 1,
        **shared,
    ):  # fmt: skip
        """Set up the criterion.

        Args:
            alpha: weight of negatives in the class loss.
            gamma: exponent of the class loss.
            detach_weight: whether no gradient flows through the weight of negatives.
            quality: overlap that is the class score's target in the last layer, one of `QUALITIES`; in the other
                layers it is the IoU of the boxes.
            masks_only: whether the mask losses of the last layer are the only ones, with objects matched by classes and
                boxes.
            class_loss: one of `CLASS_LOSSES`.
            quality_everywhere: whether `quality` holds for all layers.
            dense_positions: number of positions that are assigned to each object in the dense loss.
            one_to_many: number of one-to-many queries that are matched with each object.
            shared: more arguments of `MaskCriterion`; `weights` also has those of the class loss, loss_bbox and
                loss_giou.

        Raises:
            ValueError: the quality or the class loss is unknown.
        """
        super().__init__(**shared)
        if quality not in QUALITIES:
            raise ValueError(f"MODEL.LOSS.QUALITY must be one of {', '.join(QUALITIES)}, got {quality!r}.")
        if class_loss not in CLASS_LOSSES:
            raise ValueError(f"MODEL.LOSS.CLASS_LOSS must be one of {', '.join(CLASS_LOSSES)}, got {class_loss!r}.")
        self.alpha, self.gamma, self.detach_weight, self.quality = alpha, gamma, detach_weight, quality
        self.class_loss_function, self.quality_everywhere = CLASS_LOSSES[class_loss], quality_everywhere
        self.masks_only, self.dense_positions, self.one_to_many = masks_only, dense_positions, one_to_many

    @classmethod
    def from_config(cls, cfg) -> dict:
        """Read MODEL.LOSS.*, MODEL.MATCHER.* and MODEL.STAGE."""
        loss, shared = cfg.MODEL.LOSS, super().from_config(cfg)
        weights = {cls.class_name: loss.CLASS_WEIGHT, "loss_bbox": loss.BOX_WEIGHT, "loss_giou": loss.GIOU_WEIGHT}
        return shared | {
            "weights": weights | shared["weights"],
            "alpha": loss.VARIFOCAL_ALPHA,
            "gamma": loss.VARIFOCAL_GAMMA,
            "detach_weight": loss.VARIFOCAL_DETACH,
            "quality": loss.QUALITY,
            "masks_only": cfg.MODEL.STAGE == "masks",
            "class_loss": loss.CLASS_LOSS,
            "quality_everywhere": loss.QUALITY_EVERYWHERE,
            "dense_positions": loss.DENSE_POSITIONS,
            "one_to_many": loss.ONE_TO_MANY,
        }

    def forward(
        self, output: ModelOutput, targets: list[Target], accumulated: GradientAccumulation | None = None
    ) -> dict[str, Tensor]:
        """Compute the weighted losses.

        Args:
            output: the model's predictions.
            targets: the objects of each image.
            accumulated: size of the accumulated batches; by default that of this batch.

        Returns:
            loss_vfl, loss_bbox, loss_giou, loss_mask_bce and loss_mask_dice of the last layer.  Other predictions have
            the same losses with a suffix: _aux_<layer> for the layers before the last, _enc for the encoder, _dn and
            _dn_<layer> for the denoising queries of the last layer and of the layers before it, _many and _many_<layer>
            for one-to-many queries, and _dense for the classes and boxes of all positions.  With _dense losses there is
            no loss_vfl_enc.  Losses are sums over the matched pairs, divided by the mean number of objects of a
            process's batch and by the wanted number of pairs for each object.  There are no mask losses for predictions
            or targets without masks.
        """
        batch = BatchTargets.join(targets)
        num_objects = count_objects(batch, accumulated, output.groups)
        if self.masks_only:
            return self.mask_losses([self._match_as_detector(output.layers[-1], targets, num_objects)], batch)
        matched = self._match(output, targets, num_objects)
        if output.denoising is not None:
            matched += _match_denoising(output.denoising, targets, num_objects)
        if output.one_to_many is not None:
            matched += self._match_one_to_many(output.one_to_many, targets, num_objects)
        if output.dense is not None:
            matched.append(self._match_dense(output.dense, targets, num_objects))
        losses = {}
        for one in matched:
            losses |= self._class_and_box_losses(one, batch)
        with_masks = [one for one in matched if one.prediction.has_masks]
        if with_masks and batch.masks is not None:
            losses |= self.mask_losses(with_masks, batch)
        return losses

    def _match_as_detector(
        self, prediction: Prediction, targets: list[Target], num_objects: Tensor
    ) -> MatchedPrediction:
        """Match without mask costs, so that the query that detects an object learns its mask."""
        (match,) = self.matcher([prediction.without_masks()], targets)
        return MatchedPrediction("", prediction, match, num_objects, is_last=True)

    def _match(self, output: ModelOutput, targets: list[Target], num_objects: Tensor) -> list[MatchedPrediction]:
        predictions = {_layer_suffix("aux", i, len(output.layers)): p for i, p in enumerate(output.layers)}
        if output.encoder is not None:
            predictions["_enc"] = output.encoder
        matches = self.matcher(list(predictions.values()), targets, output.groups)
        return [
            MatchedPrediction(
                suffix, prediction, match, num_objects,
                is_last=prediction is output.layers[-1],
                # One-to-one targets for positions would contradict the one-to-many targets of the dense loss.
                has_class_loss=prediction is not output.encoder or output.dense is None,
            )
            for (suffix, prediction), match in zip(predictions.items(), matches, strict=True)
        ]  # fmt: skip

    def _match_one_to_many(
        self, layers: list[Prediction], targets: list[Target], num_objects: Tensor
    ) -> list[MatchedPrediction]:
        matches = self.matcher(layers, targets, repeats=self.one_to_many)
        num_layers = len(layers)
        return [
            MatchedPrediction(
                _layer_suffix("many", i, num_layers, "_many"), prediction, match, num_objects * self.one_to_many,
                is_last=i == num_layers - 1,
            )
            for i, (prediction, match) in enumerate(zip(layers, matches, strict=True))
        ]  # fmt: skip

    def _match_dense(
        self, prediction: Prediction, targets: list[Target], num_objects: Tensor
    ) -> MatchedPrediction:
        costs = [self.matcher.query_cost(prediction, i, target) for i, target in enumerate(targets)]
        match = assign_positions(costs, self.dense_positions)
        return MatchedPrediction("_dense", prediction, match, num_objects * self.dense_positions)

    def _class_and_box_losses(self, one: MatchedPrediction, batch: BatchTargets) -> dict[str, Tensor]:
        boxes = full_precision(one.prediction.boxes_cxcywh)[one.match.image, one.match.query]
        target_boxes = batch.boxes_cxcywh[batch.index(one.match)].to(boxes)
        iou, giou = iou_and_giou(cxcywh_to_xyxy(boxes), cxcywh_to_xyxy(target_boxes))
        losses = {"loss_bbox": (boxes - target_boxes).abs().sum(), "loss_giou": (1 - giou).sum()}
        if one.has_class_loss:
            losses[self.class_name] = self._class_loss(one, batch, self._quality(one, batch, iou))
        return {name + one.suffix: self.weigh(name, loss, one) for name, loss in losses.items()}

    @torch.no_grad()
    def _quality(self, one: MatchedPrediction, batch: BatchTargets, box_iou: Tensor) -> Tensor:
        """Return the overlap (N,) of the matched queries with their objects."""
        is_by_mask = self.quality == "mask" and (one.is_last or self.quality_everywhere)
        if not (is_by_mask and one.prediction.has_masks and batch.masks is not None):
            return box_iou.detach()
        masks = MatchedMasks.join([(one.prediction, one.match)])
        height, width = masks.size
        # Masks are compared at no more than half the input's size, to save time.
        scale = 2 if 4 * height <= batch.masks.shape[1] else 1
        wanted, index = batch.reduced_masks((scale * height, scale * width)), batch.index(one.match)
        quality = torch.zeros_like(box_iou)
        for part, maps in masks.maps():
            if scale > 1:
                maps = F.interpolate(maps[:, None], scale_factor=scale, mode="bilinear")[:, 0]
            quality[part] = mask_iou(exceeds(maps, 0), wanted[index[part]]).to(quality)
        return quality

    def _class_loss(self, one: MatchedPrediction, batch: BatchTargets, quality: Tensor) -> Tensor:
        logits = full_precision(one.prediction.class_logits)
        position = (one.match.image, one.match.query, batch.classes[batch.index(one.match)])
        target_scores = torch.zeros_like(logits).index_put(position, quality.to(logits))
        is_positive = torch.zeros_like(logits, dtype=torch.bool).index_put(position, torch.ones_like(quality).bool())
        return self.class_loss(logits, target_scores, is_positive)

    def class_loss(self, logits: Tensor, quality: Tensor, is_positive: Tensor) -> Tensor:
        """Sum the class loss over a prediction.

        Args:
            logits: (B, Q, K).
            quality: (B, Q, K), the overlap of each match at its class, 0 elsewhere.
            is_positive: (B, Q, K), True at the class of each match.
        """
        return self.class_loss_function(logits, quality, is_positive, self.alpha, self.gamma, self.detach_weight)


def _match_denoising(
    denoising: DenoisingPredictions, targets: list[Target], num_objects: Tensor
) -> list[MatchedPrediction]:
    match = denoising_match(targets, denoising)
    # A batch without objects has one padded query (see Denoising), whose losses count nothing.
    weight = 1.0 if len(match) else 0.0
    num_layers = len(denoising.layers)
    normaliser = num_objects * denoising.groups
    return [
        MatchedPrediction(
            _layer_suffix("dn", i, num_layers, "_dn"), prediction, match, normaliser, weight, i == num_layers - 1
        )
        for i, prediction in enumerate(denoising.layers)
    ]


def denoising_match(targets: list[Target], denoising: DenoisingPredictions) -> Match:
    """Match query t of every group with object t."""
    num_queries = denoising.layers[0].class_logits.shape[1]
    device = targets[0].classes.device
    first_slots = torch.arange(denoising.groups, device=device)[:, None] * (num_queries // denoising.groups)
    pairs = []
    for target in targets:
        objects = torch.arange(len(target), device=device).expand(denoising.groups, -1)
        pairs.append(((first_slots + objects).flatten(), objects.flatten()))
    return Match.from_images(pairs, device)


def count_objects(batch: BatchTargets, accumulated: GradientAccumulation | None, groups: int = 1) -> Tensor:
    """Return the mean number of objects of a batch times the number of groups, by which losses are normalised.

    The mean is over the accumulated batches and all processes.  The mean over the processes of the product counts as at
    least 1 for each step of the optimizer.
    """
    accumulated = accumulated or GradientAccumulation(len(batch.classes))
    count = torch.tensor(float(accumulated.num_objects * groups), device=batch.classes.device)
    return mean_over_processes(count).clamp(min=1) / accumulated.num_batches


def mean_over_processes(count: Tensor) -> Tensor:
    """Return the mean of a count over all processes, a scalar."""
    total = count.detach().clone()
    if comm.get_world_size() > 1:
        torch.distributed.all_reduce(total)
    return total / comm.get_world_size()


def _layer_suffix(kind: str, layer: int, num_layers: int, last: str = "") -> str:
    return last if layer == num_layers - 1 else f"_{kind}_{layer}"
