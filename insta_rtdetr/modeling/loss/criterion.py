"""The training losses of the RT-DETR family, and what those of other models share with them.

Letters: B images, N matched pairs, Q queries, K classes, T objects of an image, P points.
"""

from dataclasses import dataclass

import torch
from detectron2.config import configurable
from detectron2.utils import comm
from torch import Tensor, nn

from ...layers.boxes import cxcywh_to_xyxy, iou_and_giou
from ...layers.point_sampling import sample_masks, sample_points, uncertain_points
from ...structures import DenoisingPredictions, Match, ModelOutput, Prediction, Target
from .functions import mask_bce_loss, mask_dice_loss, varifocal_loss
from .matcher import build_matcher, full_precision, num_points_of


@dataclass
class BatchTargets:
    """All objects of a batch in a row; the objects of image i start at `first[i]`."""

    classes: Tensor
    boxes_cxcywh: Tensor
    masks: Tensor | None
    first: Tensor

    @classmethod
    def join(cls, targets: list[Target]) -> "BatchTargets":
        """Put the objects of all images in a row."""
        lengths = torch.tensor([0] + [len(target) for target in targets[:-1]])
        has_masks = all(target.masks is not None for target in targets)
        return cls(
            torch.cat([target.classes for target in targets]),
            torch.cat([target.boxes_cxcywh for target in targets]),
            torch.cat([target.masks for target in targets]) if has_masks else None,
            lengths.cumsum(0).to(targets[0].classes.device),
        )

    def index(self, match: Match) -> Tensor:
        """(N,) positions in the row."""
        return self.first[match.image] + match.object


@dataclass
class Supervised:
    """A prediction with the objects that it has to answer for.

    Attributes:
        suffix: what the names of its losses end with.
        prediction: the prediction.
        match: its queries and their objects.
        normaliser: scalar that its losses are divided by.
        share: factor on its losses.
    """

    suffix: str
    prediction: Prediction
    match: Match
    normaliser: Tensor
    share: float = 1.0


class MaskCriterion(nn.Module):
    """What the criteria of all models share: masks compared at uncertain points.

    Attributes:
        bce_name, dice_name: what the two mask losses are called.
        max_mask_logit: larger logits say nothing more to the loss.
    """

    bce_name = "loss_mask_bce"
    dice_name = "loss_mask_dice"
    max_mask_logit = 15.0

    def __init__(
        self, *, matcher: nn.Module, num_classes: int, weights: dict[str, float], num_points: int,
        oversample_ratio: float, importance_ratio: float, sample_inside: bool = False,
    ):  # fmt: skip
        """Build.

        Args:
            matcher: called with (predictions, targets), gives one `Match` for each prediction.
            num_classes: `K`.
            weights: factor of each loss, by its name without suffix.
            num_points: points at which each mask is compared; 0: see `num_points_of`.
            oversample_ratio: candidates drawn for each point.
            importance_ratio: share of the points that are the most uncertain candidates.
            sample_inside: see MODEL.LOSS.SAMPLE_INSIDE.
        """
        super().__init__()
        self.sample_inside = sample_inside
        self.matcher, self.num_classes, self.weights = matcher, num_classes, weights
        self.num_points, self.oversample_ratio, self.importance_ratio = num_points, oversample_ratio, importance_ratio

    @classmethod
    def from_config(cls, cfg) -> dict:
        """Read what all criteria need of MODEL.LOSS.* and MODEL.MATCHER.*."""
        loss = cfg.MODEL.LOSS
        return {
            "matcher": build_matcher(cfg),
            "num_classes": cfg.MODEL.NUM_CLASSES,
            "weights": {cls.bce_name: loss.MASK_WEIGHT, cls.dice_name: loss.DICE_WEIGHT},
            "num_points": loss.NUM_POINTS,
            "oversample_ratio": loss.OVERSAMPLE_RATIO,
            "importance_ratio": loss.IMPORTANCE_RATIO,
            "sample_inside": loss.SAMPLE_INSIDE,
        }

    def mask_losses(self, supervised: list[Supervised], batch: BatchTargets) -> dict[str, Tensor]:
        """The masks of all layers in one go: they differ in their embeddings, not in the features."""
        mask_logits = matched_mask_logits([(one.prediction, one.match) for one in supervised])
        num_points = num_points_of(mask_logits.shape[1:], self.num_points)
        points = uncertain_points(
            mask_logits.detach(), num_points, self.oversample_ratio, self.importance_ratio, self.sample_inside
        )
        mask_index = torch.cat([batch.index(one.match) for one in supervised])
        labels = sample_masks(batch.masks, mask_index, points, self.sample_inside)
        logits = sample_points(mask_logits[:, None], points, self.sample_inside).squeeze(1)
        logits = logits.clamp(-self.max_mask_logit, self.max_mask_logit)
        counts = [len(one.match) for one in supervised]
        bce, dice = mask_bce_loss(logits, labels).split(counts), mask_dice_loss(logits, labels).split(counts)
        losses = {}
        for one, bce_of_one, dice_of_one in zip(supervised, bce, dice, strict=True):
            losses[self.bce_name + one.suffix] = self.weigh(self.bce_name, bce_of_one.sum(), one)
            losses[self.dice_name + one.suffix] = self.weigh(self.dice_name, dice_of_one.sum(), one)
        return losses

    def weigh(self, name: str, loss: Tensor, one: Supervised) -> Tensor:
        """A loss that was summed over matched pairs, weighted and normalised."""
        return loss * (self.weights[name] * one.share) / one.normaliser


class SetCriterion(MaskCriterion):
    """Varifocal, L1, GIoU and point-sampled mask losses on every layer, the encoder and the denoising queries.

    Attributes:
        class_name: what the loss of the classes is called.
    """

    class_name = "loss_vfl"

    @configurable
    def __init__(self, *, alpha: float, gamma: float, **shared):
        """Build.

        Args:
            alpha: weight of negatives in the varifocal loss.
            gamma: its exponent.
            shared: see `MaskCriterion`; weights of the class loss, loss_bbox and loss_giou beside those of the masks.
        """
        super().__init__(**shared)
        self.alpha, self.gamma = alpha, gamma

    @classmethod
    def from_config(cls, cfg) -> dict:
        """Read MODEL.LOSS.* and MODEL.MATCHER.*."""
        loss, shared = cfg.MODEL.LOSS, super().from_config(cfg)
        weights = {cls.class_name: loss.CLASS_WEIGHT, "loss_bbox": loss.BOX_WEIGHT, "loss_giou": loss.GIOU_WEIGHT}
        return shared | {
            "weights": weights | shared["weights"],
            "alpha": loss.VARIFOCAL_ALPHA,
            "gamma": loss.VARIFOCAL_GAMMA,
        }

    def forward(self, output: ModelOutput, targets: list[Target]) -> dict[str, Tensor]:
        """Weighted losses.

        Returns:
            loss_vfl, loss_bbox, loss_giou, loss_mask_bce and loss_mask_dice of the last layer; the same with the
            suffix _aux_<layer> for the layers before it, _enc for the encoder (no masks), _dn for the last layer's
            denoising queries and _dn_<layer> for the layers before it.  Sums over the matched pairs divided by the
            mean number of objects a process has, times the groups of queries.
        """
        batch = BatchTargets.join(targets)
        num_objects = mean_over_processes(len(batch.classes) * output.groups, batch.boxes_cxcywh.device)
        supervised = self._match(output, targets, num_objects)
        if output.denoising is not None:
            supervised += _supervise_denoising(output.denoising, targets, num_objects)
        losses = {}
        for one in supervised:
            losses |= self._class_and_box_losses(one, batch)
        if batch.masks is not None:
            losses |= self.mask_losses([one for one in supervised if one.prediction.has_masks], batch)
        return losses

    def _match(self, output: ModelOutput, targets: list[Target], num_objects: Tensor) -> list[Supervised]:
        predictions = {_layer_suffix("aux", i, len(output.layers)): p for i, p in enumerate(output.layers)}
        if output.encoder is not None:
            predictions["_enc"] = output.encoder
        matches = self.matcher(list(predictions.values()), targets, output.groups)
        return [
            Supervised(suffix, prediction, match, num_objects)
            for (suffix, prediction), match in zip(predictions.items(), matches, strict=True)
        ]

    def _class_and_box_losses(self, one: Supervised, batch: BatchTargets) -> dict[str, Tensor]:
        boxes = full_precision(one.prediction.boxes_cxcywh)[one.match.image, one.match.query]
        target_boxes = batch.boxes_cxcywh[batch.index(one.match)].to(boxes)
        iou, giou = iou_and_giou(cxcywh_to_xyxy(boxes), cxcywh_to_xyxy(target_boxes))
        losses = {
            self.class_name: self._class_loss(one, batch, iou.detach()),
            "loss_bbox": (boxes - target_boxes).abs().sum(),
            "loss_giou": (1 - giou).sum(),
        }
        return {name + one.suffix: self.weigh(name, loss, one) for name, loss in losses.items()}

    def _class_loss(self, one: Supervised, batch: BatchTargets, quality: Tensor) -> Tensor:
        logits = full_precision(one.prediction.class_logits)
        position = (one.match.image, one.match.query, batch.classes[batch.index(one.match)])
        target_scores = torch.zeros_like(logits).index_put(position, quality.to(logits))
        is_positive = torch.zeros_like(logits, dtype=torch.bool).index_put(position, torch.ones_like(quality).bool())
        return self.class_loss(logits, target_scores, is_positive)

    def class_loss(self, logits: Tensor, quality: Tensor, is_positive: Tensor) -> Tensor:
        """The sum over a prediction's class logits (B, Q, K), with the overlap of each match's boxes as its quality."""
        return varifocal_loss(logits, quality, is_positive, self.alpha, self.gamma)


def matched_mask_logits(pairs: list[tuple[Prediction, Match]]) -> Tensor:
    """(N, h, w) mask logits of the matched queries of some predictions, one prediction after the other.

    Each image's features are read once, for the queries of all predictions that share them.
    """
    logits = [None] * len(pairs)
    groups: dict[int, list[int]] = {}
    for i, (prediction, _) in enumerate(pairs):
        groups.setdefault(id(prediction.mask_features), []).append(i)
    for members in groups.values():
        together = _logits_of_shared_features([pairs[i] for i in members])
        for i, part in zip(members, together.split([len(pairs[i][1]) for i in members]), strict=True):
            logits[i] = part
    return torch.cat(logits)


def _logits_of_shared_features(pairs: list[tuple[Prediction, Match]]) -> Tensor:
    features = full_precision(pairs[0][0].mask_features)
    embeddings = torch.cat([p.mask_embeddings[match.image, match.query] for p, match in pairs])
    image = torch.cat([match.image for _, match in pairs])
    counts = torch.bincount(image, minlength=len(features))
    # Rank of each query among its image's, which is its row in the padded batch.
    order = image.argsort(stable=True)
    row = torch.empty_like(image)
    row[order] = torch.arange(len(image), device=image.device) - (counts.cumsum(0) - counts)[image[order]]
    padded = embeddings.new_zeros(len(features), int(counts.max()), embeddings.shape[1], dtype=features.dtype)
    padded = padded.index_put((image, row), embeddings.to(features))
    logits = (padded @ features.flatten(2))[image, row].unflatten(1, features.shape[2:])
    biases = [p.mask_biases[match.image, match.query] for p, match in pairs if p.mask_biases is not None]
    return logits + torch.cat(biases)[:, None, None] if biases else logits


def _supervise_denoising(
    denoising: DenoisingPredictions, targets: list[Target], num_objects: Tensor
) -> list[Supervised]:
    match = denoising_match(targets, denoising)
    # A batch without objects has one padded query (see Denoising); nothing is to be learnt from it.
    share = 1.0 if len(match) else 0.0
    num_layers = len(denoising.layers)
    return [
        Supervised(_layer_suffix("dn", i, num_layers, "_dn"), prediction, match, num_objects * denoising.groups, share)
        for i, prediction in enumerate(denoising.layers)
    ]


def denoising_match(targets: list[Target], denoising: DenoisingPredictions) -> Match:
    """Slot t of every group belongs to object t."""
    num_queries = denoising.layers[0].class_logits.shape[1]
    device = targets[0].classes.device
    first_slots = torch.arange(denoising.groups, device=device)[:, None] * (num_queries // denoising.groups)
    pairs = []
    for target in targets:
        objects = torch.arange(len(target), device=device).expand(denoising.groups, -1)
        pairs.append(((first_slots + objects).flatten(), objects.flatten()))
    return Match.from_images(pairs, device)


def mean_over_processes(count: int, device: torch.device) -> Tensor:
    """Mean of a count over all processes, a scalar, at least 1."""
    total = torch.tensor(float(count), device=device)
    if comm.get_world_size() > 1:
        torch.distributed.all_reduce(total)
    return (total / comm.get_world_size()).clamp(min=1)


def _layer_suffix(kind: str, layer: int, num_layers: int, last: str = "") -> str:
    return last if layer == num_layers - 1 else f"_{kind}_{layer}"
