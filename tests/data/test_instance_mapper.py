"""The mapper: its contract with Detectron2, its edge cases, and what loader processes share."""

import logging

import cloudpickle
import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, DatasetMapper, MapDataset, build_detection_test_loader
from detectron2.data import transforms as T
from detectron2.data.build import worker_init_reset_seed
from detectron2.structures import BitMasks, BoxMode
from PIL import Image
from pycocotools import mask as mask_util

from insta_rtdetr.config import add_insta_rtdetr_config
from insta_rtdetr.data import InstanceMapper
from insta_rtdetr.data import instance_mapper as module
from insta_rtdetr.data.augmentation import RandomView
from insta_rtdetr.errors import DatasetError

HEIGHT, WIDTH = 40, 50
STRONG = {"PHOTOMETRIC_PROB": 0.5, "ZOOM_OUT_PROB": 0.5, "IOU_CROP_PROB": 0.8}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
    np.random.seed(0)


@pytest.fixture
def image_file(tmp_path):
    pixels = np.random.randint(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    file = tmp_path / "image.png"
    Image.fromarray(pixels).save(file)
    return file


def rle(*pixels):
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8, order="F")
    for row, column in pixels:
        mask[row, column] = 1
    return mask_util.encode(mask)


def square(left, top, side, category=0, **fields):
    polygon = [left, top, left + side, top, left + side, top + side, left, top + side]
    box = {"bbox": [left, top, side, side], "bbox_mode": BoxMode.XYWH_ABS, "segmentation": [polygon]}
    return box | {"category_id": category, "iscrowd": 0} | fields


def item(file, *annotations):
    return {
        "file_name": str(file), "height": HEIGHT, "width": WIDTH, "image_id": 3, "annotations": list(annotations)
    }  # fmt: skip


def make_cfg(**inputs):
    cfg = get_cfg()
    add_insta_rtdetr_config(cfg)
    cfg.INPUT.FORMAT, cfg.INPUT.RANDOM_FLIP, cfg.INPUT.FIXED_SIZE = "RGB", "none", (80, 100)
    for key, value in inputs.items():
        cfg.INPUT[key] = value
    return cfg


def make_mapper(is_train=True, max_unreadable=0, **inputs):
    cfg = make_cfg(**inputs)
    cfg.DATALOADER.MAX_UNREADABLE_IMAGES = max_unreadable
    return InstanceMapper(cfg, is_train=is_train)


def test_training_target_by_hand(image_file):
    mapped = make_mapper()(item(image_file, square(10, 5, 20, category=7)))
    instances = mapped["instances"]
    assert mapped["image"].shape == (3, 80, 100) and mapped["image"].dtype == torch.uint8
    assert (mapped["height"], mapped["width"], mapped["image_id"]) == (HEIGHT, WIDTH, 3)
    assert mapped["file_name"] == str(image_file) and "annotations" not in mapped
    assert instances.image_size == (80, 100) and instances.gt_classes.tolist() == [7]
    assert instances.gt_boxes.tensor.tolist() == [[20, 10, 60, 50]]
    assert isinstance(instances.gt_masks, BitMasks)
    assert instances.gt_masks.tensor[0].nonzero().aminmax(dim=0)[0].tolist() == [10, 20]
    assert int(instances.gt_masks.tensor.sum()) == 40 * 40


def test_plain_training_gives_what_detectron2s_mapper_gives(image_file):
    augmentations = [T.Resize((80, 100))]
    theirs = DatasetMapper(
        True, augmentations=augmentations, image_format="BGR", use_instance_mask=True, instance_mask_format="bitmask"
    )
    triangle = square(0, 0, 1) | {"bbox": [3, 2, 30, 30], "segmentation": [[3.5, 2.25, 33, 20, 12, 32]]}
    data = item(image_file, triangle, square(20, 10, 9, category=2))
    ours, wanted = make_mapper(FORMAT="BGR")(data), theirs(data)
    assert torch.equal(ours["image"], wanted["image"])
    for field in ("gt_classes", "gt_boxes", "gt_masks"):
        one, other = (getattr(mapped["instances"], field) for mapped in (ours, wanted))
        assert torch.equal(getattr(one, "tensor", one), getattr(other, "tensor", other))


@pytest.mark.parametrize("image_format", ["RGB", "BGR"])
@pytest.mark.parametrize("min_size", [0, 64])
def test_evaluation_input_is_that_of_detectron2s_predictor(image_file, image_format, min_size):
    mapper = make_mapper(is_train=False, FORMAT=image_format, MIN_SIZE_TEST=min_size, MAX_SIZE_TEST=70)
    bgr = np.asarray(Image.open(image_file))[:, :, ::-1]
    image = bgr if image_format == "BGR" else bgr[:, :, ::-1]
    resize = T.ResizeShortestEdge([min_size, min_size], 70)
    wanted = resize.get_transform(bgr).apply_image(image).astype("float32").transpose(2, 0, 1)
    mapped = mapper(item(image_file, square(1, 1, 5)))
    assert np.array_equal(mapped["image"].numpy(), wanted)
    assert "instances" not in mapped and "annotations" not in mapped and mapped["height"] == HEIGHT


def test_the_dataset_dict_is_not_changed(image_file):
    data = item(image_file, square(1, 1, 5))
    before = repr(data)
    for _ in range(5):
        make_mapper(**STRONG)(data)
    assert repr(data) == before


def test_crowds_are_left_out_and_rle_polygons_and_one_pixel_are_kept(image_file):
    annotations = [
        square(2, 2, 9, category=1),
        square(4, 4, 30, category=2, iscrowd=1),
        square(30, 30, 1, category=3, segmentation=rle((30, 30))),
        square(20, 20, 2, category=4, segmentation={"size": [HEIGHT, WIDTH], "counts": [20 * 40 + 20, 2, 38, 2, 1138]}),
    ]
    instances = make_mapper(FIXED_SIZE=(HEIGHT, WIDTH))(item(image_file, *annotations))["instances"]
    assert instances.gt_classes.tolist() == [1, 3, 4]
    assert instances.gt_masks.tensor.flatten(1).sum(1).tolist() == [81, 1, 4]
    assert instances.gt_masks.tensor[1].nonzero().tolist() == [[30, 30]]


@pytest.mark.parametrize("annotations", [[], [square(0, 0, 20, iscrowd=1)], [square(3, 3, 5, segmentation=rle())]])
def test_images_without_objects_give_empty_instances(image_file, annotations):
    instances = make_mapper(**STRONG)(item(image_file, *annotations))["instances"]
    assert len(instances) == 0 and instances.gt_boxes.tensor.shape == (0, 4)
    assert instances.gt_masks.tensor.shape == (0, 80, 100) and instances.gt_classes.dtype == torch.int64


def test_objects_that_a_crop_loses_leave_empty_instances(image_file):
    mapper = make_mapper()
    cfg = make_cfg(FIXED_SIZE=())
    cfg.INPUT.CROP.ENABLED, cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE = True, "absolute", (4, 4)
    mapper.random_view = RandomView(cfg)
    counts = {len(mapper(item(image_file, square(0, 0, 3)))["instances"]) for _ in range(40)}
    assert 0 in counts


def test_an_object_without_a_mask_is_named(image_file):
    data = item(image_file, square(1, 1, 5, category=6, segmentation=[]))
    with pytest.raises(DatasetError, match=r"image.png: the object of class 6 at \[1, 1, 5, 5\] has no mask"):
        make_mapper()(data)


def test_a_size_that_differs_from_the_annotation_names_both(image_file):
    with pytest.raises(DatasetError, match=r"image.png is 50 x 40 pixels, but its annotation says 50 x 41"):
        make_mapper()(item(image_file) | {"height": 41})


def test_exif_orientation_is_applied(tmp_path):
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[:, :10] = 255
    exif = Image.Exif()
    exif[274] = 6  # stored turned: to be shown rotated by 90 degrees clockwise
    file = tmp_path / "turned.jpg"
    Image.fromarray(pixels).save(file, exif=exif, quality=95)
    mapped = make_mapper(is_train=False, MIN_SIZE_TEST=0)({"file_name": str(file), "height": WIDTH, "width": HEIGHT})
    assert mapped["image"].shape == (3, WIDTH, HEIGHT)
    assert mapped["image"][:, :8].min() > 200 and mapped["image"][:, 12:].max() < 50


@pytest.fixture
def broken_files(tmp_path, image_file):
    text = tmp_path / "text.jpg"
    text.write_text("no image")
    short = tmp_path / "short.png"
    short.write_bytes(image_file.read_bytes()[:2000])
    return [text, short, tmp_path / "missing.jpg"]


def test_an_unreadable_image_is_an_error_that_names_file_and_key(broken_files):
    for file in broken_files:
        with pytest.raises(DatasetError, match=rf"{file.name} cannot .*DATALOADER.MAX_UNREADABLE_IMAGES, now 0") as got:
            make_mapper()(item(file))
        assert "\n" not in str(got.value)


@pytest.mark.parametrize("is_train", [True, False])
def test_as_many_unreadable_images_as_allowed_become_black_and_each_is_logged_once(broken_files, is_train, caplog):
    mapper = make_mapper(is_train=is_train, max_unreadable=2, MIN_SIZE_TEST=0)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            for file in broken_files[:2]:
                mapped = mapper(item(file, square(1, 1, 5)))
                assert mapped["image"].shape[1:] == ((80, 100) if is_train else (HEIGHT, WIDTH))
                assert int(mapped["image"].sum()) == 0 and (not is_train or len(mapped["instances"]) == 0)
    assert [file.name in record.message for file, record in zip(broken_files, caplog.records)] == [True, True]
    assert len(caplog.records) == 2
    with pytest.raises(DatasetError, match="now 2"):
        mapper(item(broken_files[2]))


def test_an_evaluation_goes_on_over_an_unreadable_image(broken_files, image_file):
    data = [item(image_file), item(broken_files[0]) | {"image_id": 4}]
    loader = build_detection_test_loader(data, mapper=make_mapper(is_train=False, max_unreadable=1, MIN_SIZE_TEST=0))
    assert [batch[0]["image_id"] for batch in loader] == [3, 4]


def test_the_switch_turns_every_strong_augmentation_off_and_on(image_file):
    mapper = make_mapper(PHOTOMETRIC_PROB=1.0, ZOOM_OUT_PROB=1.0, IOU_CROP_PROB=1.0)
    data = item(image_file, square(10, 5, 20))
    plain = make_mapper()(data)["image"]
    assert mapper.strong_augmentation and not torch.equal(mapper(data)["image"], plain)
    mapper.set_strong_augmentation(False)
    assert not mapper.strong_augmentation
    assert all(torch.equal(mapper(data)["image"], plain) for _ in range(3))
    mapper.set_strong_augmentation(True)
    assert not torch.equal(mapper(data)["image"], plain)


def test_running_loader_processes_hear_the_switch(image_file):
    mapper = make_mapper(ZOOM_OUT_PROB=1.0)
    data = [item(image_file, square(10, 5, 20))] * 24
    loader = torch.utils.data.DataLoader(
        MapDataset(data, mapper), num_workers=1, prefetch_factor=2, batch_size=None, collate_fn=_area,
        multiprocessing_context="fork",
    )  # fmt: skip
    areas = []
    for area in loader:
        areas.append(area)
        mapper.set_strong_augmentation(False)
    assert areas[0] < 1600 and areas[-12:] == [1600] * 12


def _area(mapped):
    return int(mapped["instances"].gt_masks.tensor.sum())


def test_copies_sent_to_other_processes_share_the_switch_and_the_count(broken_files):
    mapper = make_mapper(max_unreadable=1)
    copy = cloudpickle.loads(cloudpickle.dumps(mapper))
    mapper.set_strong_augmentation(False)
    assert not copy.strong_augmentation
    copy(item(broken_files[0]))
    with pytest.raises(DatasetError):
        mapper(item(broken_files[1]))


def test_loader_processes_do_not_draw_the_same(image_file):
    data = [item(image_file, square(10, 5, 20))] * 2
    loader = torch.utils.data.DataLoader(
        MapDataset(data, make_mapper(ZOOM_OUT_PROB=1.0, PHOTOMETRIC_PROB=0.9)), num_workers=2, batch_size=None,
        collate_fn=lambda mapped: mapped["image"], worker_init_fn=worker_init_reset_seed,
    )  # fmt: skip
    one, other = loader
    assert not torch.equal(one, other)


def test_the_same_seed_draws_the_same(image_file):
    mapper = make_mapper(**STRONG, COPY_PASTE_PROB=0.0)
    images = []
    for _ in range(2):
        torch.manual_seed(5)
        np.random.seed(5)
        images.append(torch.stack([mapper(item(image_file, square(10, 5, 20)))["image"] for _ in range(4)]))
    assert torch.equal(*images)


def test_copy_paste_takes_objects_from_the_training_set(image_file):
    DatasetCatalog.register("mapper_donors", lambda: [item(image_file, square(5, 5, 25, category=9))])
    try:
        cfg = make_cfg(COPY_PASTE_PROB=1.0)
        cfg.DATASETS.TRAIN = ("mapper_donors",)
        mapper = InstanceMapper(cfg, is_train=True)
    finally:
        DatasetCatalog.remove("mapper_donors")
    data = item(image_file, square(40, 30, 4, category=1))
    assert 9 in [c for _ in range(5) for c in mapper(data)["instances"].gt_classes.tolist()]
    mapper.set_strong_augmentation(False)
    assert mapper(data)["instances"].gt_classes.tolist() == [1]


def test_attached_donors_are_packed_and_an_unreadable_one_is_passed_over(image_file, broken_files):
    mapper = InstanceMapper(True, copy_paste_prob=1.0, max_unreadable=1)
    data = item(image_file, square(40, 30, 4, category=1))
    assert mapper(data)["instances"].gt_classes.tolist() == [1]
    mapper.attach([item(broken_files[0], square(1, 1, 30, category=9))])
    assert not isinstance(mapper._donors, list)
    assert mapper(data)["instances"].gt_classes.tolist() == [1]


def test_the_order_is_paste_then_colours_then_geometry(image_file, monkeypatch):
    calls = []
    for name in ("copy_paste", "photometric_distort"):
        original = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, name=name, original=original: calls.append(name) or original(*a))
    mapper = InstanceMapper(True, copy_paste_prob=1.0, photometric_prob=0.5)
    mapper.attach([item(image_file, square(1, 1, 30))])
    draw = mapper.random_view
    mapper.random_view = lambda *a: calls.append("view") or draw(*a)
    mapper(item(image_file))
    assert calls == ["copy_paste", "photometric_distort", "view"]


def test_unknown_image_format_names_the_key():
    with pytest.raises(ValueError, match=r"INPUT.FORMAT must be RGB or BGR, got 'L'"):
        make_mapper(FORMAT="L")


def test_grey_images_become_three_channels(tmp_path):
    file = tmp_path / "grey.png"
    Image.fromarray(np.full((HEIGHT, WIDTH), 77, np.uint8)).save(file)
    assert (make_mapper()(item(file))["image"] == 77).all()
