import numpy as np
import pytest
import torch
from detectron2.structures import PolygonMasks
from PIL import Image
from torchvision.ops import masks_to_boxes

from insta_rtdetr.modeling.preprocessing import Preprocessor, resize_like_pil, resize_off_host
from tests.tiny import random_image, training_input


def preprocessor(fixed_size=(), multi_scale=()):
    return Preprocessor([10.0, 20.0, 30.0], [2.0, 2.0, 2.0], fixed_size, multi_scale, divisibility=32)


@pytest.mark.parametrize("size", [(40, 64), (90, 100), (17, 300)])
def test_resizing_equals_pils(size):
    image = random_image(71, 85)
    pil = Image.fromarray(image.permute(1, 2, 0).numpy()).resize(size[::-1], Image.Resampling.BILINEAR)
    assert np.array_equal(resize_like_pil(image, size).permute(1, 2, 0).numpy(), np.asarray(pil))


@pytest.mark.parametrize("size", [(40, 64), (90, 100), (17, 300)])
def test_resizing_off_the_host_is_within_one_level_of_pils(size):
    image = random_image(71, 85)
    difference = resize_off_host(image, size).int() - resize_like_pil(image, size).int()
    assert difference.abs().max() <= 1


def test_float_images_of_whole_numbers_are_resized_like_bytes():
    image = random_image(40, 50)
    assert torch.equal(resize_like_pil(image.float(), (64, 64)), resize_like_pil(image, (64, 64)))


def test_normalisation_and_padding():
    batch = preprocessor()([{"image": torch.full((3, 20, 40), 30)}, {"image": torch.full((3, 33, 30), 30)}])
    assert batch.images.shape == (2, 3, 64, 64)
    assert batch.images[0, :, 5, 5].tolist() == [10.0, 5.0, 0.0]
    assert batch.images[0, :, 25, 5].tolist() == [0.0, 0.0, 0.0]
    assert (batch.sizes[0].output, batch.sizes[0].resized, batch.sizes[0].padded) == ((20, 40), (20, 40), (64, 64))


def test_fixed_size_stretches_and_the_result_has_the_wanted_size():
    batch = preprocessor(fixed_size=(32, 64))([{"image": random_image(50, 50), "height": 100, "width": 70}])
    assert batch.images.shape == (1, 3, 32, 64)
    assert (batch.sizes[0].output, batch.sizes[0].resized, batch.sizes[0].padded) == ((100, 70), (32, 64), (32, 64))


def test_images_are_grouped_by_their_padded_size():
    images = [{"image": random_image(*size)} for size in ((20, 40), (33, 30), (32, 64))]
    assert preprocessor().group_by_size(images) == {(32, 64): [0, 2], (64, 32): [1]}
    assert preprocessor(fixed_size=(64, 64)).group_by_size(images) == {(64, 64): [0, 1, 2]}


def test_targets_are_relative_to_the_padded_input():
    inputs = training_input(2, height=32, width=48)
    process = preprocessor()
    batch = process([inputs, {"image": random_image(64, 64)}])
    (target,) = process.targets([inputs], batch.sizes[:1])
    x0, y0, x1, y1 = inputs["instances"].gt_boxes.tensor[0].tolist()
    expected = torch.tensor([(x0 + x1) / 2 / 64, (y0 + y1) / 2 / 64, (x1 - x0) / 64, (y1 - y0) / 64])
    torch.testing.assert_close(target.boxes_cxcywh[0], expected)
    assert target.masks.shape == (2, 64, 64)
    assert torch.equal(target.masks[:, :32, :48], inputs["instances"].gt_masks.tensor)
    assert not target.masks[:, 32:].any()


def test_targets_of_images_that_are_stretched_lie_on_one_canvas():
    process = preprocessor(fixed_size=(32, 64))
    inputs = [training_input(2, height=64, width=64), training_input(1, height=20, width=90), training_input(0)]
    targets = process.targets(inputs, process(inputs).sizes)
    assert [tuple(target.masks.shape) for target in targets] == [(2, 32, 64), (1, 32, 64), (0, 32, 64)]
    boxes = masks_to_boxes(targets[0].masks)
    expected = inputs[0]["instances"].gt_boxes.tensor * torch.tensor([1.0, 0.5, 1.0, 0.5])
    # The far pixel is inside the box, and nearest sampling moves an edge by less than a pixel.
    assert (boxes + torch.tensor([0, 0, 1, 1]) - expected).abs().max() <= 1


def test_polygons_are_refused_with_the_key_to_change():
    inputs = training_input(1)
    inputs["instances"].gt_masks = PolygonMasks([[[0.0, 0, 9, 0, 9, 9]]])
    process = preprocessor()
    with pytest.raises(ValueError, match=r"BitMasks, got PolygonMasks. Set INPUT.MASK_FORMAT"):
        process.targets([inputs], process([inputs]).sizes)


def test_scales_are_drawn_for_a_batch():
    process = preprocessor(fixed_size=(64, 64), multi_scale=(32, 64, 96))
    images = torch.rand(2, 3, 64, 64)
    torch.manual_seed(0)
    assert {process.rescale(images).shape[-1] for _ in range(30)} == {32, 64, 96}


def test_mistakes_name_their_key():
    with pytest.raises(ValueError, match=r"INPUT.FIXED_SIZE"):
        preprocessor(fixed_size=(640,))
    with pytest.raises(ValueError, match=r"INPUT.MULTI_SCALE needs INPUT.FIXED_SIZE"):
        preprocessor(multi_scale=(480, 640))
