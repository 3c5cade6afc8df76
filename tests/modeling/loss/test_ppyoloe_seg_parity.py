"""PP-YOLOE_seg's losses and gradients equal those that the original computes from the same network outputs.

ppyoloe_seg_losses.npz was made by tests/parity/make_ppyoloe_seg_reference.py.
"""

import pytest
import torch

from insta_rtdetr.layers.boxes import xyxy_to_cxcywh
from insta_rtdetr.modeling.head.task_aligned import decode_boxes, positions_of
from insta_rtdetr.modeling.loss import TaskAlignedCriterion
from insta_rtdetr.structures import GradientAccumulation, ModelOutput, PositionPrediction, Target
from tests.parity.ppyoloe_seg_recipe import (
    GRADIENT_STEP,
    INPUT_SIZE,
    NUM_CLASSES,
    level_sizes,
    made_up_outputs,
    made_up_targets,
)
from tests.parity.reference import reference_outputs
from tests.tiny import tiny_ppyoloe_seg_config

ORIGINAL_NAMES = {"loss_vfl": "loss_cls", "loss_giou": "loss_iou", "loss_dfl": "loss_dfl", "loss_mask": "loss_mask"}


@pytest.fixture(scope="module")
def criterion():
    return TaskAlignedCriterion(tiny_ppyoloe_seg_config("MODEL.NUM_CLASSES", NUM_CLASSES))


@pytest.fixture(scope="module")
def targets():
    size = torch.tensor([*INPUT_SIZE[::-1], *INPUT_SIZE[::-1]], dtype=torch.float64)
    return [
        Target(
            torch.from_numpy(one["classes"]), xyxy_to_cxcywh(torch.from_numpy(one["boxes"]) / size),
            torch.from_numpy(one["masks"]),
        )
        for one in made_up_targets()
    ]  # fmt: skip


@pytest.fixture
def outputs():
    return {name: torch.from_numpy(value).requires_grad_() for name, value in made_up_outputs().items()}


def prediction(outputs):
    """What the head makes of the outputs of its convolutions."""
    side_logits = outputs["side_logits"].unflatten(2, (4, -1))
    points, cells = positions_of([torch.zeros(1, 1, *size, dtype=torch.float64) for size in level_sizes()])
    return PositionPrediction(
        class_logits=outputs["class_logits"],
        boxes_cxcywh=decode_boxes(side_logits, points, cells),
        mask_embeddings=outputs["mask_embeddings"],
        mask_features=outputs["mask_features"],
        query_points=points.expand(len(side_logits), -1, -1),
        side_logits=side_logits,
        cells=cells,
    )


def test_losses_and_their_gradients_equal_the_originals(criterion, targets, outputs):
    reference = reference_outputs("ppyoloe_seg_losses")
    losses = criterion(ModelOutput([prediction(outputs)]), targets)
    assert losses.keys() == ORIGINAL_NAMES.keys()
    for name, original in ORIGINAL_NAMES.items():
        assert losses[name].item() == pytest.approx(reference[f"loss/{original}"].item(), rel=1e-6), name
    assert sum(losses.values()).item() == pytest.approx(reference["loss/total"].item(), rel=1e-6)
    gradients = torch.autograd.grad(sum(losses.values()), list(outputs.values()))
    for name, gradient in zip(outputs, gradients, strict=True):
        expected = torch.from_numpy(reference[f"gradient/{name}"])
        torch.testing.assert_close(gradient[:, ::GRADIENT_STEP].float(), expected, rtol=1e-4, atol=1e-7, msg=name)


def test_some_positions_are_contested_by_objects(criterion, targets, outputs):
    """The references cover the rule for them only if there are some."""
    one = prediction(outputs)
    (match,) = criterion.matcher([one], targets)
    assert len(match) == len(set(zip(match.image.tolist(), match.query.tolist())))
    alone = [criterion.matcher([one], [pick(target, t) for target in targets])[0] for t in range(5)]
    assert sum(len(other) for other in alone) > len(match)


def pick(target, index):
    return Target(*(values[index : index + 1] for values in (target.classes, target.boxes_cxcywh, target.masks)))


def test_accumulated_batches_share_the_weight(criterion, targets, outputs):
    output = ModelOutput([prediction(outputs)])
    alone, shared = criterion(output, targets), criterion(output, targets, GradientAccumulation(16, num_batches=2))
    assert all(shared[name].item() == pytest.approx(loss.item() / 2) for name, loss in alone.items())
