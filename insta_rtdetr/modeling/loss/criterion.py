"""The training losses of the RT-DETR family.

Letters: B images, N matched pairs, Q queries, K classes, T objects of an image, P points.
"""

from dataclasses import dataclass

import torch
from detectron2.config import configurable
from detectron2.utils import comm
from torch import Tensor, nn

from ...layers.boxes import cxcywh_to_xyxy, iou_and_giou
from ...layers.point_sampling import sample_masks, sample_points, uncertain_points
from ...structures import DenoisingPredictions, ModelOutput, Prediction, Target
from .functions import mask_bce_loss, mask_dice_loss, varifocal_loss
from .matcher import Match, build_matcher, full_precision

# Larger logits say nothing more to the loss and overflow in half precision.
MAX_MASK_LOGIT = 15.0


@dataclass
class _BatchTargets:
    """All objects of a batch in a row; the objects of image i start at `first[i]`."""

    classes: Tensor
    boxes_cxcywh: Tensor
    masks: Tensor | None
    first: Tensor

    @classmethod
    def join(cls, targets: list[Target]) -> "_BatchTargets":
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


class SetCriterion(nn.Module):
    """Varifocal, L1, GIoU and point-sampled mask losses on every layer, the encoder and the denoising queries."""

    @configurable
    def __init__(
        self, *, matcher: nn.Module, num_classes: int, weights: dict[str, float], alpha: float, gamma: float,
        num_points: int, oversample_ratio: float, importance_ratio: float,
    ):  # fmt: skip
        """Build.

        Args:
            matcher: called with (predictions, targets), gives one `Match` for each prediction.
            num_classes: `K`.
            weights: factor of loss_vfl, loss_bbox, loss_giou, loss_mask_bce and loss_mask_dice.
            alpha: weight of negatives in the varifocal loss.
            gamma: its exponent.
            num_points: points at which each mask is compared.
            oversample_ratio: candidates drawn for each point.
            importance_ratio: share of the points that are the most uncertain candidates.
        """
        super().__init__()
        self.matcher, self.num_classes, self.weights = matcher, num_classes, weights
        self.alpha, self.gamma = alpha, gamma
        self.num_points, self.oversample_ratio, self.importance_ratio = num_points, oversample_ratio, importance_ratio

    @classmethod
    def from_config(cls, cfg) -> dict:
        """Read MODEL.LOSS.* and MODEL.MATCHER.*."""
        loss = cfg.MODEL.LOSS
        return {
            "matcher": build_matcher(cfg),
            "num_classes": cfg.MODEL.NUM_CLASSES,
            "weights": {
                "loss_vfl": loss.CLASS_WEIGHT,
                "loss_bbox": loss.BOX_WEIGHT,
                "loss_giou": loss.GIOU_WEIGHT,
                "loss_mask_bce": loss.MASK_WEIGHT,
                "loss_mask_dice": loss.DICE_WEIGHT,
            },
            "alpha": loss.VARIFOCAL_ALPHA,
            "gamma": loss.VARIFOCAL_GAMMA,
            "num_points": loss.NUM_POINTS,
            "oversample_ratio": loss.OVERSAMPLE_RATIO,
            "importance_ratio": loss.IMPORTANCE_RATIO,
        }

    def forward(self, output: ModelOutput, targets: list[Target]) -> dict[str, Tensor]:
        """Weighted losses.

        Returns:
            loss_vfl, loss_bbox, loss_giou, loss_mask_bce and loss_mask_dice of the last layer; the same with the
            suffix _aux_<layer> for the layers before it, _enc for the encoder (no masks), _dn for the last layer's
            denoising queries and _dn_<layer> for the layers before it.  Sums over the matched pairs divided by the
            mean number of objects a process has.
        """
        batch = _BatchTargets.join(targets)
        num_objects = _mean_over_processes(len(batch.classes), batch.boxes_cxcywh.device)
        predictions = {_layer_suffix("aux", i, len(output.layers)): p for i, p in enumerate(output.layers)}
        if output.encoder is not None:
            predictions["_enc"] = output.encoder
        matches = self.matcher(list(predictions.values()), targets)
        losses = {}
        for (suffix, prediction), match in zip(predictions.items(), matches, strict=True):
            losses |= self._prediction_losses(prediction, match, batch, num_objects, suffix)
        if output.denoising is not None:
            losses |= self._denoising_losses(output.denoising, targets, batch, num_objects)
        return losses

    def _denoising_losses(
        self, denoising: DenoisingPredictions, targets: list[Target], batch: _BatchTargets, num_objects: Tensor
    ) -> dict[str, Tensor]:
        match = denoising_match(targets, denoising)
        # A batch without objects has one padded query (see Denoising); nothing is to be learnt from it.
        share = 1.0 if len(match) else 0.0
        losses = {}
        for i, prediction in enumerate(denoising.layers):
            suffix = _layer_suffix("dn", i, len(denoising.layers), last="_dn")
            losses |= self._prediction_losses(prediction, match, batch, num_objects * denoising.groups, suffix, share)
        return losses

    def _prediction_losses(
        self, prediction: Prediction, match: Match, batch: _BatchTargets, normaliser: Tensor, suffix: str,
        share: float = 1.0,
    ) -> dict[str, Tensor]:  # fmt: skip
        boxes = full_precision(prediction.boxes_cxcywh)[match.image, match.query]
        target_boxes = batch.boxes_cxcywh[batch.index(match)].to(boxes)
        iou, giou = iou_and_giou(cxcywh_to_xyxy(boxes), cxcywh_to_xyxy(target_boxes))
        losses = {
            "loss_vfl": self._class_loss(prediction, match, batch, iou.detach()),
            "loss_bbox": (boxes - target_boxes).abs().sum(),
            "loss_giou": (1 - giou).sum(),
        }
        if prediction.mask_embeddings is not None and batch.masks is not None:
            losses |= self._mask_losses(prediction, match, batch)
        return {name + suffix: loss * (self.weights[name] * share) / normaliser for name, loss in losses.items()}

    def _class_loss(self, prediction: Prediction, match: Match, batch: _BatchTargets, quality: Tensor) -> Tensor:
        logits = full_precision(prediction.class_logits)
        position = (match.image, match.query, batch.classes[batch.index(match)])
        target_scores = torch.zeros_like(logits).index_put(position, quality.to(logits))
        is_positive = torch.zeros_like(logits, dtype=torch.bool).index_put(position, torch.ones_like(quality).bool())
        return varifocal_loss(logits, target_scores, is_positive, self.alpha, self.gamma)

    def _mask_losses(self, prediction: Prediction, match: Match, batch: _BatchTargets) -> dict[str, Tensor]:
        mask_logits = matched_mask_logits(prediction, match)
        points = uncertain_points(
            mask_logits.detach(), self.num_points, self.oversample_ratio, self.importance_ratio
        )
        labels = sample_masks(batch.masks, batch.index(match), points)
        logits = sample_points(mask_logits[:, None], points).squeeze(1).clamp(-MAX_MASK_LOGIT, MAX_MASK_LOGIT)
        return {"loss_mask_bce": mask_bce_loss(logits, labels), "loss_mask_dice": mask_dice_loss(logits, labels)}


def matched_mask_logits(prediction: Prediction, match: Match) -> Tensor:
    """(N, h, w) mask logits of the matched queries only."""
    of_image = [
        prediction.of_image(i, match.query[match.image == i]).mask_logits[0]
        for i in range(len(prediction.class_logits))
    ]
    return full_precision(torch.cat(of_image))


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


def _mean_over_processes(count: int, device: torch.device) -> Tensor:
    total = torch.tensor(float(count), device=device)
    if comm.get_world_size() > 1:
        torch.distributed.all_reduce(total)
    return (total / comm.get_world_size()).clamp(min=1)


def _layer_suffix(kind: str, layer: int, num_layers: int, last: str = "") -> str:
    return last if layer == num_layers - 1 else f"_{kind}_{layer}"
