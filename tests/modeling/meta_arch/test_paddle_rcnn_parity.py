"""PaddleX's Mask R-CNNs, run by Detectron2's own code, find what PaddleDetection finds, from files of its format.

The references were made by tests/parity/make_paddle_rcnn_reference.py, in float64.
"""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_model
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Instances

from insta_rtdetr import add_insta_rtdetr_config
from insta_rtdetr.checkpoint import Checkpointer
from insta_rtdetr.checkpoint.formats import name_format, open_checkpoint
from insta_rtdetr.zoo import find_config
from tests.parity.make_maskdino_reference import in_float64_on_cpu
from tests.parity.paddle_rcnn_recipe import IMAGES, NUM_PROPOSALS, rcnn_weight_for
from tests.parity.reference import FOLDER, original_state_dict, reference_image, reference_outputs

# The SSLDv2 configs have the models of those without.
NAMES = [
    "mask_rcnn_R50_C4", "mask_rcnn_R50_FPN", "mask_rcnn_R50vd_FPN", "mask_rcnn_R101_FPN", "mask_rcnn_R101vd_FPN",
    "mask_rcnn_X101vd_FPN", "cascade_mask_rcnn_R50_FPN", "cascade_mask_rcnn_R50vd_FPN",
]  # fmt: skip
SSLD = {"cascade_mask_rcnn_R50vd_FPN": "cascade_mask_rcnn_R50vd-SSLDv2_FPN"}
# Tensors of more numbers are none of the batch norms' statistics, which differ between the images.
LARGE = 1_000_000
# Of 100 objects, those that get a mask: the mask head takes most of the time, and knows no other objects.
NUM_MASKS = 40


def original_file(name, suffix, folder, weight_for=rcnn_weight_for):
    """A .pdparams file with the original's weights, and their names; empty weights are left out."""
    state = original_state_dict(f"paddle_{name}{suffix}", f"paddle_{name}", weight_for)
    state = {key: value.numpy() for key, value in state.items() if value.numel()}
    file = folder / "model.pdparams"
    with file.open("wb") as stream:
        pickle.dump(state, stream)
    assert name_format(open_checkpoint(str(file))) == "PaddlePaddle's Mask R-CNN's original code"
    return str(file), list(state)


def small_weight_for(name, shape, salt=0):
    return rcnn_weight_for(name, shape, salt) if math.prod(shape) <= LARGE else np.empty(0)


def published_model(name, suffix, folder):
    """The model of a config in float64, with the weights of a .pdparams file, all of which it uses."""
    file, names = original_file(name, suffix, folder)
    cfg = get_cfg()
    add_insta_rtdetr_config(cfg)
    cfg.merge_from_file(find_config(f"{SSLD.get(name, name)}_paddlex"))
    cfg.MODEL.DEVICE, cfg.MODEL.RPN.POST_NMS_TOPK_TEST = "cpu", NUM_PROPOSALS
    model = build_model(cfg).double().eval()
    checkpointer = Checkpointer(model)
    checkpointer.load(file)
    assert checkpointer.unloaded == set() and len(model.state_dict()) == len(names)
    return model


def find(model, image, height, width) -> tuple[Instances, Instances]:
    """All objects in an image, without masks, and the best of them with masks; sizes in pixels of the result."""
    heads, boxes = model.roi_heads, []

    def find_masks_of_best(features, instances):
        boxes.append(copy.deepcopy(instances[0]))  # Detectron2 scales them in place
        return type(heads).forward_with_given_boxes(heads, features, [one[:NUM_MASKS] for one in instances])

    # Detectron2 decodes boxes and suppresses duplicates in float32 otherwise.
    with in_float64_on_cpu(), torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(heads, "forward_with_given_boxes", find_masks_of_best)
        (result,) = model([{"image": image, "height": height, "width": width}])
        return detector_postprocess(boxes[0], height, width), result["instances"]


@pytest.mark.parametrize("name", NAMES)
def test_detections_equal_the_originals(name, tmp_path):
    model = None
    for suffix, *_ in IMAGES:
        reference = f"paddle_{name}{suffix}"
        if model is None:
            model = published_model(name, suffix, tmp_path)
        elif any(key.startswith("stat:") for key in np.load(FOLDER / f"{reference}.npz")):
            file, _ = original_file(name, suffix, tmp_path, small_weight_for)
            Checkpointer(model).load(file)
        expected = {key: torch.from_numpy(value) for key, value in reference_outputs(reference).items()}
        height, width = expected["orig"].tolist()
        found, with_masks = find(model, reference_image(reference), height, width)
        assert len(found) >= 20 and len(with_masks) >= 20
        torch.testing.assert_close(found.scores, expected["scores"], atol=1e-6, rtol=0)
        assert found.pred_classes.tolist() == expected["classes"].tolist()
        torch.testing.assert_close(found.pred_boxes.tensor, expected["boxes"], atol=1e-3, rtol=0)
        areas = with_masks.pred_masks.sum((1, 2)).tolist()
        assert areas == expected["mask_areas"][: len(with_masks)].tolist()
