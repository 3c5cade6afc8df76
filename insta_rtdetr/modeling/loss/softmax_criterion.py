"""The training losses of FastInst.

Shapes: B images, Q queries, K classes, (h, w) the map that queries are taken from.
Source: FastInst, https://arxiv.org/abs/2303.08594
"""

import torch
import torch.nn.functional as F
from detectron2.config import configurable
from torch import Tensor

from ...structures import GradientAccumulation, Match, ModelOutput, Prediction, Target
from .criterion import BatchTargets, MaskCriterion, MatchedPrediction, count_objects
from .matcher import full_precision


class SoftmaxCriterion(MaskCriterion):
    """Softmax cross-entropy and point-sampled mask losses of every layer, and cross-entropy of the proposal map."""

    bce_name = "loss_mask"
    dice_name = "loss_dice"

    @configurable
    def __init__(self, *, no_object_weight: float, **shared):
        """Set up the criterion.

        Args:
            no_object_weight: weight of the class "no object"; the other classes have the weight 1.
            shared: more arguments of `MaskCriterion`; `weights` also has those of loss_ce and loss_proposal.
        """
        super().__init__(**shared)
        self.no_object_weight = no_object_weight

    @classmethod
    def from_config(cls, cfg) -> dict:
        """Read MODEL.LOSS.* and MODEL.MATCHER.*."""
        loss, shared = cfg.MODEL.LOSS, super().from_config(cfg)
        weights = {"loss_ce": loss.CLASS_WEIGHT, "loss_proposal": loss.PROPOSAL_WEIGHT}
        return shared | {"weights": weights | shared["weights"], "no_object_weight": loss.NO_OBJECT_WEIGHT}

    def forward(
        self, output: ModelOutput, targets: list[Target], accumulated: GradientAccumulation | None = None
    ) -> dict[str, Tensor]:
        """Compute the weighted losses.

        Args:
            output: the model's predictions.
            targets: the objects of each image, with masks.
            accumulated: size of the accumulated batches; by default that of this batch.

        Returns:
            loss_ce, loss_mask and loss_dice of the last layer, the same with the suffixes _0, _1, ... for other
            predictions, and loss_proposal.  As in the original, the suffixes number the mask-guided layers, the queries
            before the first layer, and the layers before the last, in this order.  Mask losses are sums over the
            matched pairs divided by `count_objects`; cross-entropies are weighted means.
        """
        batch = BatchTargets.join(targets)
        losses = {}
        matched = self._match(output, targets, count_objects(batch, accumulated))
        for one in matched:
            losses["loss_ce" + one.suffix] = self._class_loss(one.prediction, one.match, batch)
        losses |= self.mask_losses(matched, batch)
        if output.proposal_logits is not None:
            losses["loss_proposal"] = self._proposal_loss(output.proposal_logits, targets, batch)
        return losses

    def _match(self, output: ModelOutput, targets: list[Target], num_objects: Tensor) -> list[MatchedPrediction]:
        predictions, matches = list(output.layers), self.matcher(output.layers, targets)
        if output.guided is not None:
            predictions = output.guided.layers + predictions
            matches = [output.guided.match] * len(output.guided.layers) + matches
        suffixes = [f"_{i}" for i in range(len(predictions) - 1)] + [""]
        return [
            MatchedPrediction(suffix, prediction, match, num_objects)
            for suffix, prediction, match in zip(suffixes, predictions, matches, strict=True)
        ]

    def _class_loss(self, prediction: Prediction, match: Match, batch: BatchTargets) -> Tensor:
        logits = full_precision(prediction.class_logits)
        class_weights = torch.ones(self.num_classes + 1, device=logits.device, dtype=logits.dtype)
        class_weights[-1] = self.no_object_weight
        classes = self._target_classes(logits.shape[:2], match, batch)
        return F.cross_entropy(logits.flatten(0, 1), classes.flatten(), class_weights) * self.weights["loss_ce"]

    def _proposal_loss(self, proposal_logits: Tensor, targets: list[Target], batch: BatchTargets) -> Tensor:
        """Compute the cross-entropy of the proposal logits (B, K + 1, h, w)."""
        match = self.matcher.match_proposals(proposal_logits, targets)
        logits = full_precision(proposal_logits).flatten(2)
        classes = self._target_classes((logits.shape[0], logits.shape[2]), match, batch)
        return F.cross_entropy(logits, classes) * self.weights["loss_proposal"]

    def _target_classes(self, shape: tuple[int, int], match: Match, batch: BatchTargets) -> Tensor:
        """Return the class of each query's object, (B, Q); `K` ("no object") for queries without one."""
        classes = torch.full(shape, self.num_classes, device=batch.classes.device)
        return classes.index_put((match.image, match.query), batch.classes[batch.index(match)])
