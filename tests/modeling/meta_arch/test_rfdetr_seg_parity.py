"""Tests that the six published RF-DETR-Seg models give the original's numbers."""

import argparse

import pytest
import torch

from insta_rtdetr.checkpoint.rfdetr import coco_outputs
from tests.parity.reference import original_state_dict, published_model, reference_image, reference_outputs

NAMES = [
    ("rfdetr_seg_nano", "rfdetr_seg_nano_312"),
    ("rfdetr_seg_small", "rfdetr_seg_small_384"),
    ("rfdetr_seg_medium", "rfdetr_seg_medium_432"),
    ("rfdetr_seg_large", "rfdetr_seg_large_504"),
    ("rfdetr_seg_xlarge", "rfdetr_seg_xlarge_624"),
    ("rfdetr_seg_2xlarge", "rfdetr_seg_2xlarge_768"),
]
NUM_CLASSES = 80
# Objects that are compared with COCO's classes alone, because masks of all up to 300 take a second each time.
NUM_REAL = 50


@pytest.mark.parametrize(("name", "config"), NAMES)
def test_network_outputs_and_final_objects_equal_the_originals(name, config, tmp_path):
    """The model is compared with all of the original's 91 class outputs, and then with COCO's 80 alone."""
    file = tmp_path / "published.pth"
    torch.save({"model": original_state_dict(name), "args": argparse.Namespace(resolution=312), "epoch": 7}, file)
    model = published_model(config, file)
    expected = {key: torch.from_numpy(value) for key, value in reference_outputs(name).items()}
    outputs = torch.tensor(coco_outputs())
    height, width = expected["orig"].tolist()
    batch = model.preprocessor([{"image": reference_image(name), "height": height, "width": width}])
    assert model.num_classes == NUM_CLASSES
    model.num_classes = len(outputs)
    with torch.no_grad():
        prediction = model.run_network(batch.images).layers[-1]

    masks = prediction.mask_logits[0, : len(expected["pred_masks_sub"]), 3::8, 5::8].float()
    torch.testing.assert_close(
        prediction.class_logits[0].float(), expected["pred_logits"][:, outputs], atol=1e-4, rtol=0
    )
    torch.testing.assert_close(prediction.boxes_cxcywh[0].float(), expected["pred_boxes"], atol=1e-4, rtol=0)
    torch.testing.assert_close(masks, expected["pred_masks_sub"], atol=1e-4, rtol=0)
    assert_same_objects(model.postprocessor(prediction, batch.sizes)[0], expected, outputs, len(outputs))
    only_real = prediction.slice_classes(slice(NUM_CLASSES))
    model.postprocessor.max_objects = NUM_REAL
    assert_same_objects(model.postprocessor(only_real, batch.sizes)[0], expected, outputs, NUM_CLASSES, NUM_REAL)


def assert_same_objects(result, expected, outputs, num_classes, most=None):
    """Our best objects are those of the original's best that have one of the first classes; at most so many."""
    is_wanted = torch.isin(expected["classes"].long(), outputs[:num_classes])
    keys = ("scores", "classes", "boxes", "mask_areas")
    scores, classes, boxes, areas = (expected[key][is_wanted][:most] for key in keys)
    result = result[: len(scores)]
    assert len(scores) > 10
    torch.testing.assert_close(result.scores.float(), scores, atol=1e-4, rtol=0)
    assert outputs[result.pred_classes].tolist() == classes.tolist()
    torch.testing.assert_close(result.pred_boxes.tensor.float(), boxes, atol=1e-2, rtol=0)
    torch.testing.assert_close(result.pred_masks.sum((1, 2)).float(), areas.float(), atol=2, rtol=0.005)
