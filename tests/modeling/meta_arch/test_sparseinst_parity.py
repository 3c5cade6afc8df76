"""The published SparseInst models give the original's numbers, from files of its format.

The references were made by tests/parity/make_sparseinst_reference.py, in float64.
"""

import pytest
import torch

from tests.parity.reference import (
    original_state_dict,
    predict_reference_image,
    published_model,
    reference_outputs,
)

# The models of sparse_inst_r50_giam and r50_giam_aug are the same.
CONFIGS = ("r50_base", "r50_giam", "r50_dcn_giam_aug", "r50vd_giam_aug", "r50vd_dcn_giam_aug")


@pytest.mark.parametrize("config", CONFIGS)
def test_network_outputs_and_final_objects_equal_the_originals(config, tmp_path):
    name = f"sparse_inst_{config}"
    state = original_state_dict(name)
    torch.save({"model": state, "optimizer": {"state": {}}, "iteration": 269999}, tmp_path / "original.pth")
    model = published_model(name, tmp_path / "original.pth")
    assert_same_outputs_and_objects(model, name)
    assert_same_outputs_and_objects(model.fuse(), f"{name}_wide")


def assert_same_outputs_and_objects(model, name):
    """Compare what the model finds in the image of a reference, a square or a wide one."""
    expected = {key: torch.from_numpy(value) for key, value in reference_outputs(name).items()}
    raw = []
    hook = model.decoder.register_forward_hook(lambda decoder, inputs, prediction: raw.append(prediction))
    _, result = predict_reference_image(model, name, expected["orig"])
    hook.remove()

    masks = raw[0].mask_logits[0, :, 3::8, 5::8].float()
    torch.testing.assert_close(raw[0].class_logits[0].float(), expected["pred_logits"], atol=1e-4, rtol=0)
    objectness = raw[0].objectness_logits[0].float()
    torch.testing.assert_close(objectness, expected["pred_objectness"], atol=1e-4, rtol=0)
    torch.testing.assert_close(masks, expected["pred_masks_sub"], atol=1e-4, rtol=0)
    # The original keeps objects whose score falls below its threshold when their masks are measured.
    kept = expected["scores"] >= model.postprocessor.score_threshold
    assert kept.sum() >= 90
    torch.testing.assert_close(result.scores.float(), expected["scores"][kept], atol=1e-6, rtol=0)
    assert result.pred_classes.tolist() == expected["classes"][kept].tolist()
    assert result.pred_masks.sum((1, 2)).tolist() == expected["mask_areas"][kept].tolist()
