"""SOLOv2 gives PaddleDetection's numbers, from a file of its format.

The references were made by tests/parity/make_solov2_reference.py, in float64.
"""

import pickle

import pytest
import torch

from tests.parity.make_solov2_reference import CELL_STEP, MAP_STEP
from tests.parity.reference import original_state_dict, predict_reference_image, published_model, reference_outputs
from tests.parity.solov2_recipe import solov2_weight_for

NAME = "solov2_r50_fpn"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    state = original_state_dict(NAME, weight_for=solov2_weight_for)
    file = tmp_path_factory.mktemp(NAME) / "model.pdparams"
    file.write_bytes(pickle.dumps({key: value.numpy() for key, value in state.items()}))
    return published_model("solov2_r50_fpn_1x_coco", file)


@pytest.mark.parametrize("suffix", ["", "_wide"])
def test_network_outputs_and_final_objects_equal_the_originals(model, suffix):
    expected = {key: torch.from_numpy(value) for key, value in reference_outputs(f"{NAME}{suffix}").items()}
    raw = []
    hook = model.grid_head.register_forward_hook(lambda head, inputs, prediction: raw.append(prediction))
    _, result = predict_reference_image(model, f"{NAME}{suffix}", expected["orig"])
    hook.remove()
    features = raw[0].mask_features[0, :, 3::MAP_STEP, 2::MAP_STEP].float()
    for found, name in (
        (raw[0].class_logits[0, ::CELL_STEP].float(), "class_logits_sub"),
        (raw[0].mask_embeddings[0, ::CELL_STEP].float(), "kernels_sub"), (features, "mask_features_sub"),
    ):  # fmt: skip
        torch.testing.assert_close(found, expected[name], atol=1e-4, rtol=0)
    # The original keeps objects whose score falls below its threshold; none is left out.
    kept = expected["scores"] >= model.postprocessor.score_threshold
    assert kept.sum() >= 50
    torch.testing.assert_close(result.scores, expected["scores"][kept], atol=1e-6, rtol=0)
    assert result.pred_classes.tolist() == expected["classes"][kept].tolist()
    assert result.pred_masks.sum((1, 2)).tolist() == expected["mask_areas"][kept].tolist()
