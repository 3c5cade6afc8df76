"""Write the reference outputs of RF-DETR-Seg's original implementation.

    pip install rfdetr==1.11.2
    python -m tests.parity.make_rfdetr_reference nano xlarge 2xlarge --output FOLDER

Run it from the root of the repository; no test does.  It needs no published weights: `recipe.tensor_for` makes some.
For each size it writes rfdetr_seg_<size>.keys.json, every key of the original's state dict with its shape, and
rfdetr_seg_<size>.npz: the network's answer, computed in float64 and stored as float32, and the objects of an image of
480 x 640, see `reference_of`.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import rfdetr.config
import torch
from rfdetr.models.lwdetr import LWDETR, build_model_from_config
from rfdetr.models.postprocess import PostProcess
from torch import Tensor

from tests.parity.recipe import image_for, tensor_for

CONFIGS = {
    "nano": rfdetr.config.RFDETRSegNanoConfig,
    "small": rfdetr.config.RFDETRSegSmallConfig,
    "medium": rfdetr.config.RFDETRSegMediumConfig,
    "large": rfdetr.config.RFDETRSegLargeConfig,
    "xlarge": rfdetr.config.RFDETRSegXLargeConfig,
    "2xlarge": rfdetr.config.RFDETRSeg2XLargeConfig,
}
# Queries whose masks are stored; fewer of the larger maps, so that a file stays under 250 KB.
NUM_MASKS = {"nano": 100, "small": 100, "medium": 100, "large": 100, "xlarge": 50, "2xlarge": 50}
NUM_OBJECTS = 100
ORIGINAL_SIZE = (480, 640)
SALT = 0
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def main() -> None:
    """Parse the command line and write the files of each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", nargs="+", choices=CONFIGS, help="published sizes of RF-DETR-Seg")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent, help="folder (default: this one)")
    arguments = parser.parse_args()
    for size in arguments.sizes:
        model, reference = reference_of(size)
        shapes = {name: list(value.shape) for name, value in model.state_dict().items()}
        stem = f"rfdetr_seg_{size}"
        (arguments.output / f"{stem}.keys.json").write_text(json.dumps(shapes, indent=0))
        np.savez_compressed(arguments.output / f"{stem}.npz", **reference)


@torch.no_grad()
def reference_of(size: str) -> tuple[LWDETR, dict[str, np.ndarray]]:
    """Run the original on the recipe's image.

    Returns:
        The model, and size (height, width of the input), orig (those of the result), salt, pred_logits (Q, 91),
        pred_boxes (Q, 4) as cxcywh in [0, 1], pred_masks_sub (the first queries' logits, rows 3, 11, ..., columns
        5, 13, ...), and of the best objects scores, classes, boxes (xyxy in pixels) and mask_areas (pixels).
    """
    config = CONFIGS[size](pretrain_weights=None)
    model = build_model_from_config(config).double().eval()
    fill(model)
    output = model(network_input(config.resolution))
    (objects,) = PostProcess(config.num_select)(output, torch.tensor([ORIGINAL_SIZE]))
    best = {name: values[:NUM_OBJECTS] for name, values in objects.items()}
    return model, {
        "size": np.array([config.resolution] * 2),
        "orig": np.array(ORIGINAL_SIZE),
        "salt": np.array(SALT),
        "pred_logits": output["pred_logits"][0].float().numpy(),
        "pred_boxes": output["pred_boxes"][0].float().numpy(),
        "pred_masks_sub": output["pred_masks"][0, : NUM_MASKS[size], 3::8, 5::8].float().numpy(),
        "scores": best["scores"].float().numpy(),
        "classes": best["labels"].short().numpy(),
        "boxes": best["boxes"].float().numpy(),
        "mask_areas": best["masks"].flatten(1).sum(1).int().numpy(),
    }


def fill(model: LWDETR) -> None:
    """Set every entry of floating point to the recipe's; others keep the value they were built with."""
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.from_numpy(tensor_for(name, value.shape, SALT)))


def network_input(side: int) -> Tensor:
    """(1, 3, side, side), float64, normalised with the mean and deviation of ImageNet, which are float32."""
    image = torch.from_numpy(image_for(side, side, SALT)).permute(2, 0, 1).double() / 255
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
    return ((image - mean) / std)[None]


if __name__ == "__main__":
    main()
