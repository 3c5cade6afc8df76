"""Tests that the published model gives the original's numbers."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from insta_rtdetr.modeling.head import query_selection
from tests.parity.reference import original_state_dict, published_model, reference_image, reference_outputs

NAME = "insta_rtdetr_r50vd"


@pytest.fixture(scope="module", autouse=True)
def logarithms_of_the_reference(tmp_path_factory):
    """Anchors are logarithms in float32, which MKL rounds differently on processors with AVX-512.

    The random weights enlarge that difference of 1e-7 to 0.1.  The reference has the roundings of MKL's portable code.
    """
    file = tmp_path_factory.mktemp("logarithms") / "numbers.npy"
    script = "import sys, numpy as n, torch; f = sys.argv[1]; n.save(f, torch.from_numpy(n.load(f)).log().numpy())"
    log = torch.log

    def portable_log(x):
        if x.dtype != torch.float32:
            return log(x)
        np.save(file, x.numpy())
        environment = {**os.environ, "MKL_CBWR": "COMPATIBLE"}
        subprocess.run([sys.executable, "-c", script, str(file)], env=environment, check=True)
        return torch.from_numpy(np.load(file))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "log", portable_log)
        query_selection.anchors.cache_clear()
        yield
    query_selection.anchors.cache_clear()


@pytest.fixture(scope="module")
def reference():
    return {key: torch.from_numpy(value) for key, value in reference_outputs(NAME).items()}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Return the model in float64, loaded from a file of the original's format."""
    state = original_state_dict(NAME)
    zeros = {name: torch.zeros_like(value) for name, value in state.items()}
    checkpoint = {"model": zeros, "ema": {"module": state, "updates": 7}, "last_epoch": 3, "date": "today"}
    file = tmp_path_factory.mktemp("original") / "original.pth"
    torch.save(checkpoint, file)
    return published_model("insta_rtdetr_R50vd_D6_640", file)


def assert_same_outputs(class_logits, boxes_cxcywh, mask_logits, reference):
    masks = mask_logits[0, :100, 3::8, 5::8]
    torch.testing.assert_close(class_logits[0].float(), reference["pred_logits"], atol=1e-4, rtol=0)
    torch.testing.assert_close(boxes_cxcywh[0].float(), reference["pred_boxes"], atol=1e-4, rtol=0)
    torch.testing.assert_close(masks.float(), reference["pred_masks_sub"], atol=1e-4, rtol=0)


def test_network_outputs_equal_the_originals(model, reference):
    model.fuse_on_eval = False
    assert_same_outputs(**model.forward_raw([{"image": reference_image(NAME)}]), reference=reference)


def test_folded_network_outputs_and_final_objects_equal_the_originals(model, reference, monkeypatch):
    model.fuse_on_eval = True
    # The network runs once for both, because it takes seconds in float64.
    predictions, predict = [], model._predict
    monkeypatch.setattr(model, "_predict", lambda images: predictions.append(predict(images)) or predictions[-1])
    height, width = reference["orig"].tolist()
    result = model([{"image": reference_image(NAME), "height": height, "width": width}])[0]["instances"]
    (prediction,) = predictions
    assert_same_outputs(prediction.class_logits, prediction.boxes_cxcywh, prediction.mask_logits, reference)
    torch.testing.assert_close(result.scores.float(), reference["scores"], atol=1e-4, rtol=0)
    assert result.pred_classes.tolist() == reference["classes"].tolist()
    torch.testing.assert_close(result.pred_boxes.tensor.float(), reference["boxes"], atol=1e-2, rtol=0)
    areas = result.pred_masks.sum((1, 2)).float()
    torch.testing.assert_close(areas, reference["mask_areas"].float(), atol=2, rtol=0.005)
