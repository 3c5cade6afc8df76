"""Losses of two iterations of small models in float64, which a change for speed alone must not change.

    python -m tests.engine.fixed_losses > tests/parity/training_losses.json

The file has the losses that this package computed at 07921e7.
"""

import json
import sys

import torch

from insta_rtdetr.engine import build_optimizer
from insta_rtdetr.modeling.meta_arch import InstanceSegmenter
from tests.tiny import (
    tiny_config,
    tiny_fastinst,
    tiny_fastinst_config,
    tiny_mask_rtdetr,
    tiny_mask_rtdetr_config,
    tiny_model,
    tiny_rfdetr_seg,
    tiny_rfdetr_seg_config,
    training_input,
)

# Options in which the config for nuclei differs from the others.
NUCLEI = (
    "MODEL.MASK_HEAD.BOX_PRIOR", True, "MODEL.MATCHER.POINT_REGION", 1.5, "MODEL.LOSS.POINT_REGION", 2.0,
    "MODEL.LOSS.QUALITY", "mask", "MODEL.LOSS.ENCODER_MASKS", True, "MODEL.BACKBONE.FREEZE_AT", 2,
)  # fmt: skip
MODELS = {
    "insta_rtdetr": (tiny_model, tiny_config, ()),
    "insta_rtdetr, frozen norms": (tiny_model, tiny_config, ("MODEL.RESNETS.NORM", "FrozenBN")),
    "insta_rtdetr, as for nuclei": (tiny_model, tiny_config, NUCLEI),
    # There are so few points that windows around the objects are computed in place of whole maps.
    "insta_rtdetr, as for nuclei, few points": (tiny_model, tiny_config, (*NUCLEI, "MODEL.LOSS.NUM_POINTS", 16)),
    "mask_rtdetr": (tiny_mask_rtdetr, tiny_mask_rtdetr_config, ()),
    "fastinst": (tiny_fastinst, tiny_fastinst_config, ()),
    "rfdetr_seg": (tiny_rfdetr_seg, tiny_rfdetr_seg_config, ()),
}
SIDES = {"rfdetr_seg": 48}


def losses_of(name: str) -> list[dict[str, float]]:
    """Return the losses of each of two iterations, on images with three objects and one."""
    build, build_config, overrides = MODELS[name]
    model: InstanceSegmenter = build(*overrides).double()
    model.multi_scale_enabled = False
    optimizer = build_optimizer(build_config(*overrides, "SOLVER.BASE_LR", 1e-3), model)
    side = SIDES.get(name, 64)
    batch = [training_input(count, side, side, seed=count) for count in (3, 1)]
    torch.manual_seed(0)
    history = []
    for _ in range(2):
        losses = model(batch)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        history.append({loss: value.item() for loss, value in losses.items()})
    return history


if __name__ == "__main__":
    json.dump({name: losses_of(name) for name in MODELS}, sys.stdout, indent=1)
