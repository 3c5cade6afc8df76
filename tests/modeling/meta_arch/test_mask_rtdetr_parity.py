"""Tests that the five published Mask-RT-DETR models, loaded from files of its format, give the original's numbers.

The references were made with the original's code (PaddleDetection 666f597, PaddlePaddle 3.0.0) in float64.  With these
random weights the six decoder layers enlarge a difference up to ten million times, so that a comparison in float32 is
useless: the logits of the original itself differ by more than 5 between two machines.  For the same reason its sine
position encoding, which is in float32 and differs from ours by 6e-8, was replaced by ours.
"""

import pickle

import numpy as np
import pytest
import torch

from tests.parity.reference import original_state_dict, published_model, reference_image, reference_outputs

# Size of each model -> millions of numbers in the original's state dict.
PARAMETERS = {"s": 14.66, "m": 18.82, "l": 32.89, "x": 68.78, "h": 130.02}
# Each model is tested without folding (False) or with it, and the first, which has every module, in both ways.
CASES = [("s", (False, True)), ("m", (True,)), ("l", (True,)), ("x", (False,)), ("h", (True,))]


def load(size, folder):
    """Return the model of a size in float64, loaded from a pickle as PaddlePaddle writes it."""
    name = f"mask_rtdetr_hgnetv2_{size}"
    weights = {key: value.numpy() for key, value in original_state_dict(name).items()}
    file = folder / f"{name}.pdparams"
    with file.open("wb") as stream:
        pickle.dump({**weights, "StructuredToParameterName@@": {key: key for key in weights}}, stream, 4)
    del weights  # up to 1 GB
    model = published_model(f"{name}_640", file)
    for module in model.modules():
        if hasattr(module, "eps"):
            # PaddlePaddle keeps it in float32.
            module.eps = float(np.float32(module.eps))
    return model


def assert_queries_are_close(found, expected, tolerance):
    """Assert that all but one query in a hundred agree, because the layers may enlarge roundings of a few further."""
    is_close = (found.float() - expected).abs().flatten(1).amax(1) <= tolerance
    assert is_close.float().mean() >= 0.99


@pytest.mark.parametrize(("size", "ways"), CASES, ids=[size for size, _ in CASES])
def test_network_outputs_and_final_objects_equal_the_originals(size, ways, tmp_path):
    model = load(size, tmp_path)
    count = sum(value.numel() for name, value in model.state_dict().items() if not name.endswith("num_batches_tracked"))
    assert count / 1e6 == pytest.approx(PARAMETERS[size], abs=0.01)
    model.preprocessor.fixed_size = ()
    for fused in ways:
        assert_same_outputs_and_objects(model.fuse() if fused else model, f"mask_rtdetr_hgnetv2_{size}")


def assert_same_outputs_and_objects(model, name):
    expected = {key: torch.from_numpy(value) for key, value in reference_outputs(name).items()}
    height, width = expected["orig"].tolist()
    batch = model.preprocessor([{"image": reference_image(name), "height": height, "width": width}])
    with torch.no_grad():
        prediction = model.run_network(batch.images).layers[-1]
        (result,) = model.postprocessor(prediction, batch.sizes)

    assert_queries_are_close(prediction.class_logits[0], expected["pred_logits"], 1e-4)
    assert_queries_are_close(prediction.boxes_cxcywh[0], expected["pred_boxes"], 1e-4)
    # Mask logits are ten times as large as the others.
    assert_queries_are_close(prediction.mask_logits[0, :100, 3::8, 5::8], expected["pred_masks_sub"], 1e-3)
    torch.testing.assert_close(result.scores.float(), expected["scores"], atol=1e-4, rtol=0)
    assert result.pred_classes.tolist() == expected["classes"].tolist()
    torch.testing.assert_close(result.pred_boxes.tensor.float(), expected["boxes"], atol=1e-2, rtol=0)
    areas = result.pred_masks.sum((1, 2)).float()
    torch.testing.assert_close(areas, expected["mask_areas"].float(), atol=2, rtol=0.005)
