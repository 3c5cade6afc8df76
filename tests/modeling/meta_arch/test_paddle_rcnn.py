"""PaddleX's R-CNNs train and predict; their numbers are in test_paddle_rcnn_parity.py."""

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from tests.tiny import random_image, tiny_paddlex_rcnn_config, training_input

CASCADE = ("MODEL.ROI_HEADS.NAME", "CascadeROIHeads", "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", True)
RESNEXT = ("MODEL.RESNETS.DEPTH", 50, "MODEL.RESNETS.NUM_GROUPS", 8, "MODEL.RESNETS.WIDTH_PER_GROUP", 4)


@pytest.mark.parametrize("overrides", [(), CASCADE, RESNEXT])
def test_variants_train_and_predict(overrides):
    torch.manual_seed(0)
    model = build_model(tiny_paddlex_rcnn_config(*overrides))
    with EventStorage():
        losses = model([training_input(3, 96, 64), training_input(2, 64, 64, seed=1)])
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    (result,) = model.eval()([{"image": random_image(64, 96), "height": 32, "width": 48}])
    assert result["instances"].pred_masks.shape[1:] == (32, 48)
