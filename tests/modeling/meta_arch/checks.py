"""What is checked of several meta-architectures alike."""

import torch

from insta_rtdetr.modeling.meta_arch import InstanceSegmenter
from tests.modeling.meta_arch.test_insta_rtdetr import same
from tests.tiny import random_image, training_input


def in_eval_mode(model: InstanceSegmenter) -> InstanceSegmenter:
    """Return a model in float64 and eval mode, whose batch norms have statistics of two images."""
    with torch.no_grad():
        model([training_input(2, seed=i) for i in range(2)])
    return model.double().eval()


def check_batch_independence(model: InstanceSegmenter) -> None:
    """Check that an image's result is the same alone and in a batch of other sizes."""
    sizes = [(64, 64), (50, 90), (97, 33), (64, 60)]
    inputs = [{"image": random_image(*size, seed=i), "height": 40, "width": 70} for i, size in enumerate(sizes)]
    for one, result in zip(inputs, model(inputs), strict=True):
        assert result["instances"].image_size == (40, 70)
        assert same(model([one])[0]["instances"], result["instances"])


def check_fusing_without_boxes(model: InstanceSegmenter) -> None:
    """Check that a model without boxes gives the same logits when it is fused, and that its batch norms are folded."""
    inputs = [{"image": random_image()}]
    model.fuse_on_eval = False
    expected = model.forward_raw(inputs)
    assert set(expected) == {"class_logits", "mask_logits"}
    model.fuse_on_eval = True
    for name, value in model.forward_raw(inputs).items():
        torch.testing.assert_close(value, expected[name])
    assert not any("norm" in name and "running" in name for name in model._inference_network().state_dict())
