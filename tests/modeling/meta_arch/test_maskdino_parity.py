"""Tests that the Mask DINO models, loaded from files of the original's format, give its numbers, also in training.

The references were made by tests/parity/make_maskdino_reference.py, in float64.
"""

import pytest
import torch

from insta_rtdetr.checkpoint.maskdino import from_original
from insta_rtdetr.structures import Prediction, Target
from tests.parity.maskdino_recipe import maskdino_weight_for, weighted_sum
from tests.parity.reference import (
    image_for,
    original_state_dict,
    predict_reference_image,
    published_model,
    reference_outputs,
)
from tests.tiny import tiny_maskdino

# For each model, the end of its config's and of its reference's name, and millions of parameters.
PARAMETERS = {"3s": 43.82, "3s_dowsample1_2048": 52.06}
# Each case is a square or a wide image, with or without folding.
CASES = [
    ("3s", "", False),
    ("3s", "_wide", True),
    ("3s_dowsample1_2048", "", True),
    ("3s_dowsample1_2048", "_wide", False),
]


def original_weights(name, keys):
    """Return the original's state dict, in which tensors with several names have the same values."""
    return original_state_dict(name, keys, maskdino_weight_for)


@pytest.mark.parametrize(("kind", "suffix", "fused"), CASES)
def test_network_outputs_and_final_objects_equal_the_originals(kind, suffix, fused, tmp_path):
    name = f"maskdino_R50_{kind}{suffix}"
    state = original_weights(name, f"maskdino_R50_{kind}")
    torch.save({"model": state, "trainer": {"iteration": 368749}, "iteration": 368749}, tmp_path / "original.pth")
    model = published_model(f"maskdino_R50_bs16_50ep_{kind}", tmp_path / "original.pth")
    assert sum(parameter.numel() for parameter in model.parameters()) / 1e6 == pytest.approx(PARAMETERS[kind], abs=0.01)
    expected = {key: torch.from_numpy(value) for key, value in reference_outputs(name).items()}
    if fused:
        model.fuse()
    prediction, result = predict_reference_image(model, name, expected["orig"])

    masks = prediction.mask_logits[0, :100, 3::8, 5::8].float()
    torch.testing.assert_close(prediction.class_logits[0].float(), expected["pred_logits"], atol=1e-4, rtol=0)
    torch.testing.assert_close(prediction.boxes_cxcywh[0].float(), expected["pred_boxes"], atol=1e-4, rtol=0)
    torch.testing.assert_close(masks, expected["pred_masks_sub"], atol=1e-4, rtol=0)
    torch.testing.assert_close(result.scores.float(), expected["scores"], atol=1e-6, rtol=0)
    assert result.pred_classes.tolist() == expected["classes"].tolist()
    torch.testing.assert_close(result.pred_boxes.tensor.float(), expected["boxes"], atol=1e-3, rtol=0)
    assert result.pred_masks.sum((1, 2)).tolist() == expected["mask_areas"].tolist()


@pytest.fixture(scope="module")
def training():
    """Return a small model, and the original's outputs with its weights in training without noise."""
    model = tiny_maskdino(
        "MODEL.ENCODER.HIDDEN_DIM", 256, "MODEL.ENCODER.FEEDFORWARD_DIM", 1024, "MODEL.ENCODER.NUM_LAYERS", 1,
        "MODEL.DECODER.NUM_LAYERS", 3, "MODEL.DECODER.FEEDFORWARD_DIM", 2048, "MODEL.DECODER.NUM_QUERIES", 12,
        "MODEL.MASK_HEAD.DIM", 256, "MODEL.DENOISING.NUM_QUERIES", 8, "MODEL.DENOISING.LABEL_NOISE", 0.0,
        "MODEL.DENOISING.BOX_NOISE", 0.0, "MODEL.RESNETS.NORM", "FrozenBN",
    ).double()  # fmt: skip
    name = "maskdino_training"
    model.load_state_dict(from_original(original_weights(name, name)))
    expected = {key: torch.as_tensor(value) for key, value in reference_outputs(name).items()}
    size = tuple(expected["size"].tolist())
    images = torch.stack([torch.from_numpy(image_for(*size, i)).permute(2, 0, 1) for i in range(2)])
    images = (images - model.preprocessor.pixel_mean) / model.preprocessor.pixel_std
    targets = [
        Target(expected[f"target{i}/labels"], expected[f"target{i}/boxes_cxcywh"].double()) for i in range(2)
    ]
    return model, model.run_network(images, targets), expected


def parts(prediction: Prediction) -> dict:
    """Return the values of a prediction that are in the reference."""
    return {
        "class_logits": prediction.class_logits,
        "boxes_cxcywh": prediction.boxes_cxcywh,
        "mask_logits_sub": prediction.mask_logits[..., 1::4, 2::4],
    }


def test_training_outputs_and_gradients_equal_the_originals(training):
    model, output, expected = training
    assert output.denoising.groups == int(expected["dn_groups"])
    predictions = {
        "encoder": output.encoder,
        **{f"layer{i}": layer for i, layer in enumerate(output.layers)},
        **{f"dn_layer{i}": layer for i, layer in enumerate(output.denoising.layers)},
    }
    found = {f"{name}/{kind}": value for name, layer in predictions.items() for kind, value in parts(layer).items()}
    assert len(found) == 9 * 3
    for name, value in found.items():
        torch.testing.assert_close(value.float(), expected[name], atol=1e-4, rtol=0, msg=lambda text, n=name: n + text)
    weighted_sum(list(found.values())).backward()
    # A state dict whose tensors are filled with the norms of the gradients is converted, which gives our names of them.
    norms = {key.removeprefix("gradient/"): norm for key, norm in expected.items() if key.startswith("gradient/")}
    state = original_weights("maskdino_training", "maskdino_training")
    renamed = from_original({name: torch.full_like(state[name], norms[name]) for name in norms})
    gradients = {name: parameter.grad.norm() for name, parameter in model.named_parameters()}
    assert set(gradients) == set(renamed)
    for name, norm in gradients.items():
        assert norm.item() == pytest.approx(renamed[name].flatten()[0].item(), rel=1e-4), name
