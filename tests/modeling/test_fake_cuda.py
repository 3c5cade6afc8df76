"""Tests that every model trains and predicts with fake CUDA tensors, which raise errors at a wrong device."""

import re

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY, build_model
from torch import nn

from insta_rtdetr.modeling.meta_arch import InstanceSegmenter
from tests import tiny
from tests.fake_cuda import FakeCuda, backward, clear_caches, to_fake_cuda

# All models of the package.  A new model needs a tiny config and no change here.
MODELS = [
    name for name, model in META_ARCH_REGISTRY
    if issubclass(model, InstanceSegmenter) and model.__module__.startswith("insta_rtdetr.")
]  # fmt: skip
TINY_CONFIGS = [make for name, make in vars(tiny).items() if re.fullmatch(r"tiny_(\w+_)?config", name)]
# Options that the tiny configs leave off.
OPTIONS = {
    "InstaRTDETR": (
        "MODEL.DECODER.LOCAL_MAXIMA", True, "MODEL.MASK_HEAD.BOX_PRIOR", True, "MODEL.LOSS.QUALITY", "mask",
        "MODEL.LOSS.ENCODER_MASKS", True, "MODEL.LOSS.POINT_REGION", 2.0, "MODEL.MATCHER.POINT_REGION", 2.0,
        "INPUT.MULTI_SCALE", (96,), "TEST.NMS_THRESHOLD", 0.5, "MODEL.DECODER.MAXIMA_ACROSS_LEVELS", True,
        "MODEL.DECODER.RELATIVE_BOXES", True, "MODEL.DECODER.NUM_ONE_TO_MANY_QUERIES", 10,
        "MODEL.DENOISING.CONTRASTIVE", True, "MODEL.LOSS.CLASS_LOSS", "matchability",
        "MODEL.LOSS.DENSE_POSITIONS", 2, "MODEL.LOSS.QUALITY_EVERYWHERE", True,
    ),
    "MaskRTDETR": ("MODEL.DECODER.MASK_ENHANCED_BOXES", False, "MODEL.STAGE", "masks", "TEST.MASK_RESIZE", "logit"),
}  # fmt: skip
CASES = [pytest.param(name, (), id=name) for name in MODELS] + [
    pytest.param(name, options, id=f"{name} with options") for name, options in OPTIONS.items()
]
# The functions that may wait for the GPU: SciPy's assignment, the assignment of positions, the largest number of
# matches of an image, and Detectron2's check of boxes.
TRAINING_READERS = {"assign", "_assign_image", "MatchedMasks.all_maps"}
PREDICTION_READERS = {"ClippingPostprocessor._boxes"}


@pytest.fixture
def gpu():
    clear_caches()
    yield FakeCuda()
    clear_caches()


def tiny_config_of(name: str, *options: object) -> CfgNode:
    configs = {cfg.MODEL.META_ARCHITECTURE: cfg for cfg in (make(*options) for make in TINY_CONFIGS)}
    assert name in configs, f"tests/tiny.py has no tiny_..._config of {name}."
    return configs[name]


@pytest.mark.parametrize(("name", "options"), CASES)
def test_training_stays_on_the_gpu(name, options, gpu):
    model = build_model(tiny_config_of(name, *options))
    with gpu:
        to_fake_cuda(model)
        losses = model([tiny.training_input(2, 50, 60), tiny.training_input(0), tiny.training_input(3)])
        backward(sum(losses.values()))
    gradients = [parameter.grad for parameter in model.parameters() if parameter.requires_grad]
    assert {tensor.device.type for tensor in (*losses.values(), *gradients)} == {"cuda"}
    assert gpu.readers <= TRAINING_READERS


@pytest.mark.parametrize("is_fused", [False, True])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_prediction_stays_on_the_gpu(name, options, is_fused, gpu, monkeypatch):
    # skip_init replaces a parameter in place, which PyTorch does not do with a fake one.
    monkeypatch.setattr(nn.utils, "skip_init", lambda module, *args, **kwargs: module(*args, **kwargs))
    model = build_model(tiny_config_of(name, *options, "MODEL.FUSE_ON_EVAL", False)).eval()
    inputs = [{"image": tiny.random_image(50, 60), "height": 40, "width": 70}, {"image": tiny.random_image()}]
    with gpu:
        to_fake_cuda(model)
        results = (model.fuse() if is_fused else model)(inputs)
    for result, size in zip(results, [(40, 70), (64, 64)], strict=True):
        fields = result["instances"].get_fields()
        assert fields["pred_masks"].shape[1:] == size and len(fields["pred_masks"]) > 0
        assert {values.device.type for values in fields.values()} == {"cuda"}
    assert gpu.readers <= PREDICTION_READERS


def test_a_tensor_on_the_cpu_is_found(gpu):
    with gpu:
        x = torch.zeros(3, device="cuda")
        assert (x + torch.tensor(1.0)).device.type == "cuda"
        for mistake in (lambda: x + torch.zeros(3), lambda: x.cpu() * x, lambda: x[torch.arange(2)]):
            with pytest.raises(AssertionError, match="a tensor on the GPU and one on the CPU"):
                mistake()


@pytest.mark.parametrize(
    "read", [lambda x: x.cpu(), lambda x: x.sum().item(), lambda x: x.tolist(), lambda x: torch.zeros(3).copy_(x)]
)
def test_taking_values_from_the_gpu_is_noted(gpu, read):
    with gpu:
        read(torch.zeros(3, device="cuda"))
    assert gpu.readers == {"a test"}


def test_gradients_are_those_of_pytorch():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.GELU(), nn.Flatten(), nn.Linear(36, 2)).double()
    gradients = []
    for differentiate in (torch.Tensor.backward, backward):
        model.zero_grad()
        differentiate(model(torch.linspace(-1, 1, 150, dtype=torch.float64).view(2, 3, 5, 5)).square().mean())
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    torch.testing.assert_close(*gradients)
