"""PP-YOLOE_seg-S gives the original's numbers, from a file of its format.

The references were made by tests/parity/make_ppyoloe_seg_reference.py, in float64.
"""

import pickle

import pytest
import torch

from insta_rtdetr.checkpoint import Checkpointer
from insta_rtdetr.checkpoint.formats import name_format, open_checkpoint
from insta_rtdetr.layers.boxes import cxcywh_to_xyxy
from tests.parity.make_ppyoloe_seg_reference import STEP
from tests.parity.ppyoloe_seg_recipe import IMAGES, STRIDES, ppyoloe_weight_for
from tests.parity.reference import (
    original_state_dict,
    predict_reference_image,
    published_model,
    reference_outputs,
)

NAME = "ppyoloe_seg_s"


def coarsest_first(values, size):
    """The rows (Q, ...) of the positions of all levels in the original's order."""
    counts = [size[0] // stride * (size[1] // stride) for stride in STRIDES]
    return torch.cat(values.split(counts)[::-1])


@pytest.mark.parametrize(("suffix", "is_fused"), [("", False), ("_wide", True)])
def test_network_outputs_and_final_objects_equal_the_originals(suffix, is_fused, tmp_path):
    state = original_state_dict(f"{NAME}{suffix}", NAME, ppyoloe_weight_for)
    file = tmp_path / "original.pdparams"
    file.write_bytes(pickle.dumps({key: value.numpy() for key, value in state.items()}))
    assert name_format(open_checkpoint(str(file))) == "PaddlePaddle's PP-YOLOE's original code"
    model = published_model(f"{NAME}_640", file)
    checkpointer = Checkpointer(model)
    checkpointer.load(str(file))
    assert checkpointer.unloaded == set() and len(model.state_dict()) == len(state) - 1 + num_counters(model)
    expected = {key: torch.from_numpy(value) for key, value in reference_outputs(f"{NAME}{suffix}").items()}
    model.preprocessor.fixed_size = ()
    if is_fused:
        model.fuse()
    raw, result = predict_reference_image(model, f"{NAME}{suffix}", expected["orig"])

    size = dict((end, size) for end, size, _ in IMAGES)[suffix]
    expected["boxes_raw"] /= torch.tensor([*size[::-1], *size[::-1]])  # from pixels
    found = {
        "class_logits": coarsest_first(raw.class_logits[0], size)[::STEP],
        "boxes_raw": coarsest_first(cxcywh_to_xyxy(raw.boxes_cxcywh[0]), size),
        "mask_embeddings": coarsest_first(raw.mask_embeddings[0], size)[::STEP],
        "mask_features": raw.mask_features[0, :, 3::8, 5::8],
    }  # fmt: skip
    for name, values in found.items():
        torch.testing.assert_close(values.float(), expected[name], atol=1e-4, rtol=0, msg=name)
    assert len(result) == 300
    torch.testing.assert_close(result.scores, expected["scores"], atol=1e-6, rtol=0)
    assert result.pred_classes.tolist() == expected["classes"].tolist()
    torch.testing.assert_close(result.pred_boxes.tensor, expected["boxes"].float(), atol=1e-3, rtol=0)
    assert result.pred_masks.sum((1, 2)).tolist() == expected["mask_areas"].tolist()


def num_counters(model):
    """PyTorch's batch norms count their batches, PaddlePaddle's do not."""
    return sum(name.endswith("num_batches_tracked") for name in model.state_dict())
