"""The published model gives the original's numbers."""

import pytest
import torch

from tests.parity.reference import original_state_dict, published_model, reference_image, reference_outputs

NAME = "insta_rtdetr_r50vd"


@pytest.fixture(scope="module")
def reference():
    return {key: torch.from_numpy(value) for key, value in reference_outputs(NAME).items()}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The model in float64, loaded from a file of the original's format."""
    state = original_state_dict(NAME)
    zeros = {name: torch.zeros_like(value) for name, value in state.items()}
    checkpoint = {"model": zeros, "ema": {"module": state, "updates": 7}, "last_epoch": 3, "date": "today"}
    file = tmp_path_factory.mktemp("original") / "original.pth"
    torch.save(checkpoint, file)
    return published_model("insta_rtdetr_R50vd_D6_640", file)


@pytest.mark.parametrize("fused", [False, True])
def test_network_outputs_equal_the_originals(model, reference, fused):
    model.fuse_on_eval = fused
    raw = model.forward_raw([{"image": reference_image(NAME)}])
    masks = raw["mask_logits"][0, :100, 3::8, 5::8]
    torch.testing.assert_close(raw["class_logits"][0].float(), reference["pred_logits"], atol=1e-4, rtol=0)
    torch.testing.assert_close(raw["boxes_cxcywh"][0].float(), reference["pred_boxes"], atol=1e-4, rtol=0)
    torch.testing.assert_close(masks.float(), reference["pred_masks_sub"], atol=1e-4, rtol=0)


def test_final_objects_equal_the_originals(model, reference):
    model.fuse_on_eval = True
    height, width = reference["orig"].tolist()
    result = model([{"image": reference_image(NAME), "height": height, "width": width}])[0]["instances"]
    torch.testing.assert_close(result.scores.float(), reference["scores"], atol=1e-4, rtol=0)
    assert result.pred_classes.tolist() == reference["classes"].tolist()
    torch.testing.assert_close(result.pred_boxes.tensor.float(), reference["boxes"], atol=1e-2, rtol=0)
    areas = result.pred_masks.sum((1, 2)).float()
    torch.testing.assert_close(areas, reference["mask_areas"].float(), atol=2, rtol=0.005)
