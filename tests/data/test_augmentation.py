"""View, the random views and colours, and Sample: boxes, masks and classes stay in step."""

import dataclasses

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import transforms as T
from PIL import Image
from pycocotools import mask as mask_util

from insta_rtdetr.config import add_insta_rtdetr_config
from insta_rtdetr.data.augmentation import RandomView, iou_crop, photometric_distort, zoom_out
from insta_rtdetr.data.sample import Sample
from insta_rtdetr.data.view import View


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
    np.random.seed(0)


def rle(mask):
    return mask_util.encode(np.asfortranarray(mask, dtype=np.uint8))


def rectangle(left, top, right, bottom):
    return [[left, top, right, top, right, bottom, left, bottom]]


def noise(height, width):
    return np.random.randint(0, 256, (height, width, 3), dtype=np.uint8)


def rectangles_sample(height=60, width=80, count=6, as_rle=False):
    """Random rectangles with whole corners; object i has class i."""
    corners = np.random.rand(count, 2, 2) * (width - 2, height - 2)
    boxes = np.concatenate([np.floor(corners.min(axis=1)), np.ceil(corners.max(axis=1)) + 1], axis=1)
    segmentations = []
    for left, top, right, bottom in boxes.astype(int):
        mask = np.zeros((height, width), dtype=bool)
        mask[top:bottom, left:right] = True
        segmentations.append(rle(mask) if as_rle else rectangle(left, top, right, bottom))
    return Sample(noise(height, width), boxes, np.arange(count), segmentations)


def test_a_view_moves_scales_and_mirrors_boxes_as_worked_out_by_hand():
    view = View(left=10, top=0, width=20, height=40, out_width=40, out_height=40, flip_x=True)
    # x: (12 - 10) * 2 = 4 and (15 - 10) * 2 = 10, mirrored in 40: 30 and 36.  y stays.
    assert view.apply_boxes(np.array([[12.0, 5, 15, 6]])).tolist() == [[30, 5, 36, 6]]


def test_a_view_clips_boxes_to_the_output():
    view = View(left=10, top=10, width=10, height=10, out_width=10, out_height=10)
    assert view.apply_boxes(np.array([[5.0, 12, 15, 99], [0, 0, 5, 5]])).tolist() == [[0, 2, 5, 10], [0, 0, 0, 0]]


def test_the_whole_image_view_changes_nothing():
    sample = rectangles_sample()
    view = View.identity(60, 80)
    assert (view.apply_image(sample.image) == sample.image).all()
    assert (view.apply_boxes(sample.boxes_xyxy) == sample.boxes_xyxy).all()


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("window", [(-50, -30, 150, 90), (10, 5, 31, 40), (-7, 20, 60, 20), (3, -9, 200, 33)])
@pytest.mark.parametrize(("out_wh", "fill"), [((64, 64), 0), ((97, 41), 128), ((300, 20), 255)])
def test_a_view_gives_the_pixels_of_the_full_canvas_cropped_and_resized(window, out_wh, fill, flip):
    image = noise(50, 70)
    left, top, width, height = window
    canvas = np.full((450, 470, 3), fill, dtype=np.uint8)
    canvas[200:250, 200:270] = image
    cut_out = Image.fromarray(canvas[200 + top : 200 + top + height, 200 + left : 200 + left + width])
    wanted = np.asarray(cut_out.resize(out_wh, Image.Resampling.BILINEAR)).astype(int)
    view = View(left, top, width, height, *out_wh, flip_x=flip, fill_level=fill)
    got = view.apply_image(image).astype(int)
    assert np.abs(got[:, ::-1] - wanted if flip else got - wanted).max() <= 1


@pytest.mark.parametrize("flips", [(False, False), (True, False), (False, True)])
def test_rle_masks_are_resized_to_the_nearest_pixel(flips):
    mask = np.random.rand(40, 30) < 0.5
    # Sizes at which no pixel centre falls on the border of two pixels.
    view = View(-6, 4, 36, 20, 56, 44, *flips)
    window = np.pad(mask, ((0, 0), (6, 0)))[4:24].astype(np.uint8)
    wanted = np.asarray(Image.fromarray(window).resize((56, 44), Image.Resampling.NEAREST))
    output = np.zeros((44, 56), dtype=bool)
    view.draw_mask(rle(mask), output)
    assert (output == wanted[:: -1 if flips[1] else 1, :: -1 if flips[0] else 1]).all()


def test_uncompressed_rle_is_read_like_compressed():
    output = np.zeros((2, 3), dtype=bool)
    View.identity(2, 3).draw_mask({"size": [2, 3], "counts": [1, 2, 3]}, output)
    assert output.tolist() == [[False, True, False], [True, False, False]]


def test_polygons_become_the_pixels_that_detectron2_gives():
    view = View(3, -4, 30, 30, 64, 50, flip_x=True)
    polygon = [5.5, 1.0, 20.25, 3.5, 35.0, 22.0, 9.0, 14.5]
    points = view.apply_points(np.reshape(polygon, (-1, 2)))
    wanted = mask_util.decode(mask_util.merge(mask_util.frPyObjects([points.ravel().tolist()], 50, 64))).astype(bool)
    output = np.zeros((50, 64), dtype=bool)
    view.draw_mask([polygon], output)
    assert wanted.any() and (output == wanted).all()


def test_polygon_outside_the_view_leaves_an_empty_mask():
    output = np.zeros((8, 8), dtype=bool)
    View(0, 0, 8, 8, 8, 8).draw_mask(rectangle(20, 20, 30, 30), output)
    assert not output.any()


@pytest.mark.parametrize("as_rle", [False, True])
def test_after_any_augmentation_each_box_holds_its_mask_and_classes_follow(as_rle):
    draw = RandomView(zoom_out_prob=0.5, iou_crop_prob=0.8, flip="horizontal", fixed_size=(48, 64))
    kept_any = 0
    for _ in range(40):
        sample = rectangles_sample(as_rle=as_rle)
        view, kept = draw(60, 80, sample.boxes_xyxy, is_strong=True)
        instances = sample.select(kept).instances(view, min_size=1.0)
        masks, boxes = instances.gt_masks.tensor, instances.gt_boxes.tensor
        assert len(masks) == len(boxes) == len(instances.gt_classes) and masks.shape[1:] == (48, 64)
        wanted_boxes = torch.as_tensor(view.apply_boxes(sample.boxes_xyxy[instances.gt_classes.numpy()])).float()
        assert torch.equal(boxes, wanted_boxes)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes):
            ys, xs = torch.nonzero(mask, as_tuple=True)
            assert xs.min() >= x1 - 1 and ys.min() >= y1 - 1 and xs.max() + 1 <= x2 + 1 and ys.max() + 1 <= y2 + 1
            # rectangles: the mask also fills its box, so it is not shifted or of another object
            assert mask.sum() >= 0.5 * (x2 - x1 - 1) * (y2 - y1 - 1)
        kept_any += len(boxes)
    assert kept_any > 40


def test_zoom_out_keeps_the_image_whole_within_a_larger_window():
    for _ in range(20):
        view = zoom_out(View.identity(30, 40), max_scale=3.0)
        assert view.left <= 0 and view.top <= 0
        assert view.left + view.width >= 40 and view.top + view.height >= 30
        assert view.width <= 120 and view.height <= 90


def test_iou_crop_lies_in_the_window_and_keeps_the_objects_whose_centre_it_holds():
    boxes = np.array([[0.0, 0, 10, 10], [30, 20, 40, 30], [12, 5, 30, 25]])
    num_cropped = 0
    for _ in range(50):
        view, kept = iou_crop(View(-5, -5, 60, 50, 60, 50), boxes)
        assert view.left >= -5 and view.top >= -5 and view.left + view.width <= 55 and view.top + view.height <= 45
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2 - (view.left, view.top)
        inside = ((centres > 0) & (centres < (view.width, view.height))).all(axis=1)
        is_cropped = (view.width, view.height) != (60, 50)
        num_cropped += is_cropped
        assert kept.any() and (not is_cropped or (kept == inside).all())
    assert num_cropped > 25


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (3, 200)])
def test_iou_crop_leaves_tiny_images_and_images_without_objects(size):
    view = View.identity(*size)
    assert iou_crop(view, np.array([[0.0, 0, 1, 1]]))[0] == view
    assert iou_crop(View.identity(90, 90), np.zeros((0, 4)))[0] == View.identity(90, 90)


def test_photometric_distortion_changes_colours_but_not_its_input():
    image = noise(20, 20)
    before = image.copy()
    assert any((photometric_distort(image, 0.9) != image).any() for _ in range(5))
    assert (image == before).all()
    assert photometric_distort(image, 0.0) is image


def cfg_with(**inputs):
    cfg = get_cfg()
    add_insta_rtdetr_config(cfg)
    for key, value in inputs.items():
        cfg.INPUT[key] = value
    return cfg


def test_without_fixed_size_the_shape_is_detectron2s():
    draw = RandomView(cfg_with(MIN_SIZE_TRAIN=(48,), MAX_SIZE_TRAIN=70, RANDOM_FLIP="none"))
    view, _ = draw(60, 120, np.zeros((0, 4)), is_strong=True)
    wanted = T.ResizeShortestEdge(48, 70).get_transform(np.zeros((60, 120, 3)))
    assert (view.out_height, view.out_width) == (wanted.new_h, wanted.new_w) == (35, 70)


def test_training_has_a_size_and_a_fill_of_its_own():
    settings = {"TRAIN_SIZE": (64, 64), "SCALE_JITTER": (0.5, 0.5), "FILL_LEVEL": 128, "RANDOM_FLIP": "none"}
    for fixed_size in ((), (20, 20)):
        draw = RandomView(cfg_with(FIXED_SIZE=fixed_size, **settings))
        view, _ = draw(60, 120, np.zeros((0, 4)), is_strong=True)
        pixels = view.apply_image(np.zeros((60, 120, 3), dtype=np.uint8))
        # 120 x 60 fits 64 x 64 as 64 x 32, half of that is left.
        assert pixels.shape == (64, 64, 3) and (pixels[:15, :31] == 0).all()
        assert (pixels[18:] == 128).all() and (pixels[:, 34:] == 128).all()


def test_min_size_train_of_zero_means_no_resize():
    view, _ = RandomView(cfg_with(MIN_SIZE_TRAIN=(0,), RANDOM_FLIP="none"))(60, 120, np.zeros((0, 4)), is_strong=True)
    assert view == View.identity(60, 120)


def test_detectron2s_crop_has_its_size_and_is_off_when_plain():
    cfg = cfg_with(MIN_SIZE_TRAIN=(0,), RANDOM_FLIP="none")
    cfg.INPUT.CROP.ENABLED, cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE = True, "absolute", (20, 30)
    draw = RandomView(cfg)
    strong, plain = (draw(60, 120, np.zeros((0, 4)), is_strong)[0] for is_strong in (True, False))
    assert (strong.height, strong.width) == (20, 30) and plain == View.identity(60, 120)
    assert 0 <= strong.left <= 90 and 0 <= strong.top <= 40


def test_a_crop_after_a_resize_is_drawn_in_resized_pixels_with_its_probability():
    cfg = cfg_with(MIN_SIZE_TRAIN=(40,), MAX_SIZE_TRAIN=100, RANDOM_FLIP="none")
    cfg.INPUT.CROP.ENABLED, cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE = True, "absolute", (20, 30)
    cfg.INPUT.CROP.RESIZE_SHORTEST_EDGE, cfg.INPUT.CROP.PROB = (40, 80), 0.5
    draw = RandomView(cfg)
    views = [draw(160, 320, np.zeros((0, 4)), is_strong=True)[0] for _ in range(60)]
    # Resized to half and to a quarter, a crop of 20 x 30 pixels is one of 40 x 60 and of 80 x 120.
    assert {(view.height, view.width) for view in views} == {(160, 320), (40, 60), (80, 120)}
    assert all(view.left + view.width <= 320 and view.top + view.height <= 160 for view in views)
    assert {(view.out_height, view.out_width) for view in views} == {(40, 80), (40, 60)}
    assert 15 < sum(view.height < 160 for view in views) < 45


@pytest.mark.parametrize(
    "flip, seen",
    [
        ("none", {(0, 0)}),
        ("horizontal", {(0, 0), (1, 0)}),
        ("vertical", {(0, 0), (0, 1)}),
        ("both", {(0, 0), (1, 0), (0, 1), (1, 1)}),
    ],
)
def test_flips_are_those_of_the_key(flip, seen):
    draw = RandomView(flip=flip)
    views = [draw(8, 8, np.zeros((0, 4)), is_strong=False)[0] for _ in range(30)]
    assert {(int(view.flip_x), int(view.flip_y)) for view in views} == seen


def test_unknown_flip_names_the_key():
    with pytest.raises(ValueError, match=r"INPUT.RANDOM_FLIP .* 'diagonal'"):
        RandomView(flip="diagonal")


def test_small_and_invisible_objects_are_dropped_and_the_others_keep_their_class():
    one_pixel = np.zeros((20, 20), dtype=bool)
    one_pixel[7, 9] = True
    sample = Sample(
        noise(20, 20),
        np.array([[11.0, 11, 19, 19], [0, 0, 8, 8], [2, 2, 2.5, 9], [9, 7, 10, 8]]),
        np.array([6, 3, 5, 4]),
        [rle(np.zeros((20, 20))), rectangle(0, 0, 8, 8), rectangle(2, 2, 2.5, 9), rle(one_pixel)],
    )
    view = View.identity(20, 20)
    assert sample.instances(view, min_size=1.0).gt_classes.tolist() == [3, 4]
    assert sample.instances(view, min_size=2.0).gt_classes.tolist() == [3]
    kept = sample.instances(view, min_size=1.0)
    assert kept.gt_boxes.tensor.tolist() == [[0, 0, 8, 8], [9, 7, 10, 8]]
    assert kept.gt_masks.tensor[1].nonzero().tolist() == [[7, 9]]
    nothing = sample.instances(dataclasses.replace(view, left=100), min_size=1.0)
    assert (
        len(nothing) == 0 and nothing.gt_masks.tensor.shape == (0, 20, 20) and nothing.gt_boxes.tensor.shape == (0, 4)
    )
