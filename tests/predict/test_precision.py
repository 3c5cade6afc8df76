"""bfloat16 for backbone and encoder in PyTorch."""

import numpy as np
import pytest
import torch
from torch import nn

from insta_rtdetr import create_model, processor
from insta_rtdetr.errors import UserError
from insta_rtdetr.export.check import compare_predictors
from insta_rtdetr.predict.precision import use_precision
from tests.tiny import (
    random_image,
    tiny_fastinst,
    tiny_mask_rtdetr,
    tiny_maskdino,
    tiny_model,
    tiny_rfdetr_seg,
    training_input,
)

FAMILIES = {
    "insta_rtdetr": tiny_model, "fastinst": tiny_fastinst, "mask_rtdetr": tiny_mask_rtdetr, "maskdino": tiny_maskdino,
    "rfdetr_seg": tiny_rfdetr_seg,
}  # fmt: skip
# Mask DINO's encoder leaves autocast.
FLOAT32_PARTS = {"maskdino": "encoder."}


@pytest.fixture
def can_bfloat16(monkeypatch):
    """The processor of this test has it, whatever it is."""
    monkeypatch.setattr("insta_rtdetr.predict.precision.multiplies_bfloat16", lambda: True)


@pytest.mark.parametrize("family", FAMILIES)
def test_backbone_and_encoder_compute_in_bfloat16_and_the_rest_in_float32(family, can_bfloat16):
    model = FAMILIES[family]().eval()
    model.fuse_on_eval = False
    seen: dict[str, torch.dtype] = {}
    for name, module in model.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(lambda m, i, output, name=name: seen.update({name: output.dtype}))
    inputs = [{"image": random_image()}]
    expected = model.forward_raw(inputs)
    assert set(seen.values()) == {torch.float32}
    seen.clear()
    assert use_precision(model, "bf16") == "bf16"
    found = model.forward_raw(inputs)
    in_bfloat16 = {name for name, dtype in seen.items() if dtype == torch.bfloat16}
    features = {name for name in seen if name.startswith(("backbone.", "encoder."))}
    assert in_bfloat16 == {name for name in features if not name.startswith(FLOAT32_PARTS.get(family, "-"))} != set()
    assert {values.dtype for values in found.values()} == {torch.float32}
    assert not torch.equal(found["class_logits"], expected["class_logits"])


def test_the_fused_network_computes_in_bfloat16_too(can_bfloat16):
    model = tiny_model().eval()
    inputs = [{"image": random_image()}]
    use_precision(model, "bf16")
    found = model.forward_raw(inputs)["class_logits"]
    model.fuse_on_eval = False
    torch.testing.assert_close(found, model.forward_raw(inputs)["class_logits"], atol=0.1, rtol=0.1)
    model.feature_dtype = None
    assert not torch.equal(found, model.forward_raw(inputs)["class_logits"])


def test_training_stays_in_float32(can_bfloat16):
    inputs = [training_input(3)]
    losses = []
    for precision in ("fp32", "bf16"):
        model = tiny_model(seed=1)
        use_precision(model, precision)
        torch.manual_seed(0)
        losses.append(model(inputs))
    assert all(torch.equal(values, losses[1][name]) for name, values in losses[0].items())


def test_create_model_finds_the_same_objects(model_folder, model, can_bfloat16):
    half = create_model(model_folder / "tiny.yaml", model_folder / "tiny.pth", precision="bf16")
    assert half.precision == "bf16" and model.precision == "fp32"
    images = [np.random.default_rng(i).integers(0, 256, (48, 80, 3), dtype=np.uint8) for i in range(2)]
    parity = compare_predictors(model, half, images, "bf16")
    assert parity.rank_score > 0
    assert parity.rank_score <= parity.tolerance.score


def test_a_processor_without_bfloat16_computes_in_float32_and_says_so(monkeypatch, tmp_path, caplog):
    (tmp_path / "cpuinfo").write_text("model name\t: Old\nflags\t\t: fpu avx2 avx512f avx512_vnni\n\nprocessor : 1\n")
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "cpuinfo")
    model = tiny_model().eval()
    assert use_precision(model, "bf16") == "fp32"
    assert model.feature_dtype is None
    assert "AVX2, AVX-512, AVX-512 VNNI, no BF16" in caplog.text


def test_wrong_precisions_are_refused(model_folder):
    with pytest.raises(UserError, match="'fp8', wanted one of fp32, bf16"):
        create_model(model_folder / "tiny.yaml", model_folder / "tiny.pth", precision="fp8")
    with pytest.raises(UserError, match="Linear does not have"):
        use_precision(nn.Linear(1, 1), "bf16")
    (model_folder / "some.onnx").write_bytes(b"")
    with pytest.raises(UserError, match="got precision bf16"):
        create_model(model_folder / "some.onnx", precision="bf16")
