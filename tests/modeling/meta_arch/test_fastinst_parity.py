"""The five published FastInst models give the original's numbers."""

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_model

from insta_rtdetr import add_insta_rtdetr_config
from insta_rtdetr.checkpoint import Checkpointer
from tests.parity.reference import original_state_dict, reference_image, reference_outputs
from tests.tiny import CONFIG_DIR

# Each with or without folding; the first, and so every room, in both ways.
NAMES = [
    ("fastinst_R50_ppm-fpn_x1_576", False),
    ("fastinst_R50_ppm-fpn_x1_576", True),
    ("fastinst_R50_ppm-fpn_x3_640", True),
    ("fastinst_R101_ppm-fpn_x3_640", True),
    ("fastinst_R50-vd-dcn_ppm-fpn_x1_576", True),
    ("fastinst_R50-vd-dcn_ppm-fpn_x3_640", False),
]


def published_model(name, folder):
    """The model in float64, loaded from a file of the original's format."""
    file = folder / "fastinst.pth"
    torch.save({"model": original_state_dict(name), "optimizer": {"state": {}}, "iteration": 368749}, file)
    cfg = get_cfg()
    add_insta_rtdetr_config(cfg)
    cfg.merge_from_file(f"{CONFIG_DIR}/{name}.yaml")
    cfg.MODEL.DEVICE = "cpu"
    model = build_model(cfg).double().eval()
    Checkpointer(model).load(str(file))
    return model


@pytest.mark.parametrize(("name", "fused"), NAMES)
def test_network_outputs_and_final_objects_equal_the_originals(name, fused, tmp_path):
    model = published_model(name, tmp_path)
    expected = {key: torch.from_numpy(value) for key, value in reference_outputs(name).items()}
    if fused:
        model.fuse()
    height, width = expected["orig"].tolist()
    batch = model.preprocessor([{"image": reference_image(name), "height": height, "width": width}])
    with torch.no_grad():
        prediction = model.run_network(batch.images).layers[-1]
        (result,) = model.postprocessor(prediction, batch.sizes)

    masks = prediction.mask_logits[0, :, 3::8, 5::8].float()
    torch.testing.assert_close(prediction.class_logits[0].float(), expected["pred_logits"], atol=1e-4, rtol=0)
    torch.testing.assert_close(masks, expected["pred_masks_sub"], atol=1e-4, rtol=0)
    torch.testing.assert_close(result.scores.float(), expected["scores"], atol=1e-4, rtol=0)
    assert result.pred_classes.tolist() == expected["classes"].tolist()
    areas = result.pred_masks.sum((1, 2)).float()
    torch.testing.assert_close(areas, expected["mask_areas"].float(), atol=2, rtol=0.005)
