"""Conversion to COCO: the masks of each format survive, the source is untouched, and nothing half-written stays."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as mask_util
from skimage.draw import ellipse as draw_ellipse
from skimage.draw import polygon2mask

from insta_rtdetr.data.segmentation import rasterise
from insta_rtdetr.dataset_tools import coco_folder
from insta_rtdetr.dataset_tools.check import check_folder
from insta_rtdetr.dataset_tools.command_line import main

HEIGHT, WIDTH = 200, 260
STAR = [(40, 20), (110, 35), (180, 15), (150, 90), (170, 170), (90, 140), (30, 175), (55, 95)]
SECOND_PART = [(190, 100), (250, 110), (240, 190), (195, 185)]


def polygon_mask(corners):
    """(x, y) corners in pixels; skimage's points are pixel centres."""
    return polygon2mask((HEIGHT, WIDTH), np.array(corners, dtype=float)[:, ::-1] - 0.5)


def ring_mask():
    """A disc with a hole, and a part of its own."""
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[draw_ellipse(100, 90, 70, 80)] = True
    mask[draw_ellipse(95, 85, 30, 25)] = False
    mask[150:195, 200:255] = True
    return mask


def save_image(file, seed=0, size=(WIDTH, HEIGHT)):
    file.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 255, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(noise).save(file)


def snapshot(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def converted(source_format, source, tmp_path):
    """split -> {file name: [(class, mask)]} after conversion by the command, the source unchanged."""
    before = snapshot(source)
    target = tmp_path / "coco"
    assert main(["convert", "--from", source_format, str(source), str(target)]) == 0
    assert snapshot(source) == before
    result = {}
    for file in (target / "annotations").iterdir():
        split = file.stem.removeprefix("instances_")
        content = json.loads(file.read_text())
        names = {category["id"]: category["name"] for category in content["categories"]}
        result[split] = {}
        for image in content["images"]:
            assert (target / split / image["file_name"]).is_file()
            result[split][image["file_name"]] = [
                (names[annotation["category_id"]], decoded(annotation, image))
                for annotation in content["annotations"]
                if annotation["image_id"] == image["id"]
            ]
    return result


def decoded(annotation, image):
    rle = rasterise(annotation["segmentation"], image["height"], image["width"])
    mask = mask_util.decode(rle).astype(bool)
    assert annotation["area"] == pytest.approx(mask.sum(), rel=0.005)
    left, top, width, height = annotation["bbox"]
    assert np.abs(np.array([left, top, width, height]) - mask_util.toBbox(rle)).max() <= 1.0
    return mask


def assert_same_masks(found, wanted):
    assert [name for name, _ in found] == [name for name, _ in wanted]
    for (_, mask), (_, wanted_mask) in zip(found, wanted):
        assert (mask & wanted_mask).sum() >= 0.99 * (mask | wanted_mask).sum()


def labelme_shape(label, points, kind="polygon", **fields):
    return {"label": label, "points": [list(map(float, point)) for point in points], "shape_type": kind} | fields


def save_labelme(folder, name, shapes, image_path=None):
    save_image(folder / f"{name}.png", seed=sum(map(ord, name)))
    content = {"imagePath": image_path or f"{name}.png", "imageHeight": HEIGHT, "imageWidth": WIDTH, "shapes": shapes}
    (folder / f"{name}.json").write_text(json.dumps(content))


def test_labelme_keeps_polygons_groups_holes_and_shapes(tmp_path, capsys):
    ring = ring_mask()
    buffer = io.BytesIO()
    Image.fromarray(ring[20:196, 5:256].astype(np.uint8) * 255).save(buffer, "PNG")
    image = base64.b64encode(buffer.getvalue()).decode()
    shapes = [
        labelme_shape("star", STAR),
        labelme_shape("pair", STAR, group_id=3),
        labelme_shape("pair", SECOND_PART, group_id=3),
        labelme_shape("ring", [(5, 20), (255, 195)], "mask", mask=image),
        labelme_shape("box", [(150, 160), (20, 30)], "rectangle"),
        labelme_shape("disc", [(100, 100), (100, 160)], "circle"),
        labelme_shape("cut", [(1, 1), (9, 9)], "line"),
        labelme_shape("dot", [(1, 1)], "point"),
        labelme_shape("thin", [(1, 1), (5, 5)]),
    ]
    source = tmp_path / "labelme"
    save_labelme(source / "train", "one", shapes)
    save_labelme(source / "val", "zwei ü", [], image_path="..\\val\\zwei ü.png")
    found = converted("labelme", source, tmp_path)
    box, disc = np.zeros((2, HEIGHT, WIDTH), dtype=bool)
    box[30:160, 20:150] = True
    disc[draw_ellipse(99.5, 99.5, 60, 60)] = True
    star, second = polygon_mask(STAR), polygon_mask(SECOND_PART)
    wanted = [("star", star), ("pair", star | second), ("ring", ring), ("box", box), ("disc", disc)]
    assert_same_masks(found["train"]["one.png"], wanted)
    assert found["val"] == {"zwei ü.png": []}
    said = capsys.readouterr().out
    assert "left out 1 times: LabelMe's line has no area" in said
    assert "left out 1 times: a polygon of fewer than three points" in said


@pytest.mark.parametrize("version", [1, 2])
def test_via_keeps_its_shapes_and_finds_the_class(tmp_path, version):
    xs, ys = zip(*STAR)
    regions = [
        ({"name": "polygon", "all_points_x": xs, "all_points_y": ys}, {"type": "star"}),
        ({"name": "rect", "x": 20, "y": 30, "width": 130, "height": 130}, {"type": {"box": True}}),
        ({"name": "circle", "cx": 100, "cy": 100, "r": 60}, {}),
        ({"name": "ellipse", "cx": 130, "cy": 90, "rx": 80, "ry": 40, "theta": 0.5}, {"type": "oval", "note": "x"}),
        ({"name": "point", "cx": 5, "cy": 5}, {"type": "dot"}),
    ]  # fmt: skip
    regions = [{"shape_attributes": shape, "region_attributes": attributes} for shape, attributes in regions]
    if version == 1:
        regions = {str(index): region for index, region in enumerate(regions)}
    entries = {"a.png123": {"filename": "a.png", "size": 123, "regions": regions, "file_attributes": {}}}
    source = tmp_path / "via"
    save_image(source / "a.png")
    (source / "project.json").write_text(json.dumps(entries if version == 1 else {"_via_img_metadata": entries}))
    found = converted("via", source, tmp_path)
    box, disc, oval = np.zeros((3, HEIGHT, WIDTH), dtype=bool)
    box[30:160, 20:150] = True
    disc[draw_ellipse(99.5, 99.5, 60, 60)] = True
    # skimage turns the other way, its y axis points up
    oval[draw_ellipse(89.5, 129.5, 40, 80, rotation=-0.5)] = True
    wanted = [("star", polygon_mask(STAR)), ("box", box), ("object", disc), ("oval", oval)]
    assert_same_masks(found["train"]["a.png"], wanted)


def test_mask_images_keep_every_pixel(tmp_path):
    ring, star = ring_mask(), polygon_mask(STAR)
    source = tmp_path / "masks"
    for index, name in enumerate(("values", "files", "palette", "colours", "classes", "nothing")):
        save_image(source / "images" / f"{name}.png", seed=index)
    second = np.zeros_like(ring)
    second[:12, :9] = True
    values = np.where(second, 40000, np.where(ring, 300, 0))
    masks = source / "masks"
    (masks / "files").mkdir(parents=True)
    Image.fromarray(values.astype(np.uint16)).save(masks / "values.png")
    Image.fromarray(ring).save(masks / "files" / "1.png")
    Image.fromarray(star.astype(np.uint8) * 255).save(masks / "files" / "2.png")
    image = Image.fromarray((ring + 2 * second).astype(np.uint8), mode="P")
    image.putpalette([0, 0, 0, 128, 0, 0, 128, 0, 0])
    image.save(masks / "palette.png")
    colours = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    colours[ring], colours[second] = (255, 0, 0), (255, 1, 0)
    Image.fromarray(colours).save(masks / "colours.png")
    for name, mask in (("cat", ring), ("dog", second)):
        (masks / name).mkdir()
        Image.fromarray(mask).save(masks / name / "classes.png")
    Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint8)).save(masks / "nothing.png")
    found = converted("masks", source, tmp_path)["train"]
    for name, wanted in {
        "values": [("object", ring), ("object", second)],
        "files": [("object", ring), ("object", star)],
        "palette": [("object", ring), ("object", second)],
        "colours": [("object", ring), ("object", second)],
        "classes": [("cat", ring), ("dog", second)],
        "nothing": [],
    }.items():
        assert [class_name for class_name, _ in found[f"{name}.png"]] == [class_name for class_name, _ in wanted]
        assert all((mask == wanted_mask).all() for (_, mask), (_, wanted_mask) in zip(found[f"{name}.png"], wanted))


def save_yolo(source):
    for index, split in enumerate(("train", "val")):
        save_image(source / "images" / split / "a.png", seed=index)
        (source / "labels" / split).mkdir(parents=True)
        numbers = " ".join(f"{x / WIDTH:.6f} {y / HEIGHT:.6f}" for x, y in STAR)
        (source / "labels" / split / "a.txt").write_text(f"1 {numbers}\n0 0.5 0.5 0.2 0.2\n")
    (source / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [box, star]\n")


def test_yolo_keeps_polygons_and_counts_boxes(tmp_path, capsys):
    save_yolo(tmp_path / "yolo")
    found = converted("yolo", tmp_path / "yolo", tmp_path)
    assert list(found) == ["train", "val"] or list(found) == ["val", "train"]
    for split in ("train", "val"):
        assert_same_masks(found[split]["a.png"], [("star", polygon_mask(STAR))])
    assert "left out 2 times: a box without a polygon" in capsys.readouterr().out
    assert check_folder(tmp_path / "coco", num_workers=1, show_progress=False).passes


def test_files_of_one_name_in_two_folders_stay_apart(tmp_path):
    source = tmp_path / "labelme"
    for index, folder in enumerate(("x", "y")):
        save_labelme(source / folder, "a", [labelme_shape("star", STAR[: 5 + index])])
    found = converted("labelme", source, tmp_path)
    assert sorted(found["train"]) == ["x/a.png", "y/a.png"]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, OSError("disk full")])
def test_an_interrupted_conversion_leaves_nothing(tmp_path, monkeypatch, interruption):
    save_yolo(tmp_path / "yolo")
    calls = []

    def interrupted(source, target):
        calls.append(target)
        if len(calls) == 2:
            raise interruption
        target.write_bytes(b"")

    monkeypatch.setattr(coco_folder.shutil, "copyfile", interrupted)
    arguments = ["convert", "--from", "yolo", str(tmp_path / "yolo"), str(tmp_path / "coco")]
    assert main(arguments) == (1 if isinstance(interruption, OSError) else 130)
    assert len(calls) == 2 and sorted(file.name for file in tmp_path.iterdir()) == ["yolo"]


def broken_labelme(source):
    save_labelme(source, "a", [])
    (source / "a.json").write_text('{"imagePath": "a.png"')


def labelme_without_image(source):
    save_labelme(source, "a", [])
    (source / "a.png").unlink()


def other_json(source):
    save_labelme(source, "a", [])
    (source / "a.json").write_text("[1]")


def mask_of_another_size(source):
    save_image(source / "images" / "a.png")
    save_image(source / "masks" / "a.png", size=(30, 20))


def mask_of_no_image(source):
    save_image(source / "images" / "a.png")
    save_image(source / "masks" / "b.png")


def via_of_many_attributes(source):
    save_image(source / "a.png")
    region = {"shape_attributes": {"name": "rect"}, "region_attributes": {"colour": "red", "shape": "round"}}
    (source / "via.json").write_text(json.dumps({"a": {"filename": "a.png", "regions": [region]}}))


@pytest.mark.parametrize(
    ("source_format", "make", "said"),
    [
        ("labelme", broken_labelme, "a.json cannot be read"),
        ("labelme", labelme_without_image, "a.png cannot be read: it is missing"),
        ("labelme", other_json, "a.json is not a file of LabelMe"),
        ("labelme", lambda source: None, "has no JSON file of LabelMe"),
        ("masks", mask_of_another_size, "is 30 x 20 pixels, its image 260 x 200"),
        ("masks", mask_of_no_image, "b.png is the mask of no image"),
        ("masks", lambda source: None, "has no folder images"),
        ("via", lambda source: None, "has 0 JSON files"),
        ("via", via_of_many_attributes, "has the attributes colour, shape, wanted one of"),
        ("yolo", lambda source: None, "data.yaml cannot be read"),
    ],
)
def test_a_source_that_is_not_of_the_format_is_one_line(tmp_path, capsys, source_format, make, said):
    source = tmp_path / "source"
    source.mkdir()
    make(source)
    assert main(["convert", "--from", source_format, str(source), str(tmp_path / "coco")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and said in error and error.count("\n") == 1
    assert not (tmp_path / "coco").exists()


def test_a_destination_that_exists_is_left_alone(tmp_path, capsys):
    save_yolo(tmp_path / "yolo")
    (tmp_path / "coco").mkdir()
    (tmp_path / "coco" / "mine.txt").write_text("mine")
    assert main(["convert", "--from", "yolo", str(tmp_path / "yolo"), str(tmp_path / "coco")]) == 1
    assert "coco exists already" in capsys.readouterr().err
    assert snapshot(tmp_path / "coco") == {"mine.txt": b"mine"}
