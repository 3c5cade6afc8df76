"""A small sound dataset, and every way in which the tests break it or make it unusual."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 40, 60
# (left, top, right, bottom) of the two objects of each image, and the colour of each.
BOXES = [(5, 8, 25, 30), (30, 4, 55, 20)]
COLORS = [(250, 20, 20), (20, 20, 250)]


def polygon(left, top, right, bottom):
    return [left, top, right, top, right, bottom, left, bottom]


def pixels(brightness=90):
    """An image whose objects are of one colour each on grey."""
    image = np.full((HEIGHT, WIDTH, 3), brightness, np.uint8)
    for (left, top, right, bottom), color in zip(BOXES, COLORS):
        image[top:bottom, left:right] = color
    return image


def sound_dataset(folder: Path) -> Path:
    """train with three images and val with two, in COCO's layout; no two images are the same."""
    (folder / "annotations").mkdir(parents=True)
    for split, names in (("train", "abc"), ("val", "de")):
        (folder / split).mkdir()
        content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "red"}, {"id": 2, "name": "blue"}]}
        for image_id, name in enumerate(names, start=1):
            Image.fromarray(pixels(ord(name))).save(folder / split / f"{name}.png")
            content["images"].append({"id": image_id, "file_name": f"{name}.png", "height": HEIGHT, "width": WIDTH})
            content["annotations"] += [
                {
                    "id": 10 * image_id + category, "image_id": image_id, "category_id": category, "iscrowd": 0,
                    "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
                    "area": (box[2] - box[0]) * (box[3] - box[1]), "segmentation": [polygon(*box)],
                }
                for category, box in enumerate(BOXES, start=1)
            ]  # fmt: skip
        write(folder, split, content)
    return folder


def annotation_file(folder: Path, split: str = "train") -> Path:
    return folder / "annotations" / f"instances_{split}.json"


def read(folder: Path, split: str = "train") -> dict:
    return json.loads(annotation_file(folder, split).read_text())


def write(folder: Path, split: str, content: dict) -> None:
    annotation_file(folder, split).write_text(json.dumps(content), encoding="utf-8")


def change(part: str, index: int = 0, split: str = "train", **fields):
    """A damage: fields of one image, annotation or category; "absent" takes a field away."""

    def damage(folder: Path) -> None:
        content = read(folder, split)
        content[part][index] |= fields
        content[part][index] = {key: value for key, value in content[part][index].items() if value != "absent"}
        write(folder, split, content)

    return damage


def file_name(name: str, save=None):
    """A damage: the first training image is called `name` and saved by save(file)."""

    def damage(folder: Path) -> None:
        file = folder / "train" / name
        file.parent.mkdir(exist_ok=True)
        (folder / "train" / "a.png").rename(file)
        if save:
            save(file)
        change("images", file_name=name)(folder)

    return damage


def truncate(folder: Path) -> None:
    file = folder / "train" / "a.png"
    file.write_bytes(file.read_bytes()[:90])


def truncate_jpeg(folder: Path) -> None:
    file_name("a.jpg", lambda file: Image.fromarray(pixels()).save(file, quality=95))(folder)
    file = folder / "train" / "a.jpg"
    file.write_bytes(file.read_bytes()[:-300])


def replace_bytes(content: bytes):
    return lambda folder: (folder / "train" / "a.png").write_bytes(content)


def remove_image(folder: Path) -> None:
    (folder / "train" / "a.png").unlink()


def link_loop(folder: Path) -> None:
    remove_image(folder)
    (folder / "train" / "a.png").symlink_to(folder / "train" / "loop.png")
    (folder / "train" / "loop.png").symlink_to(folder / "train" / "a.png")


def empty_split(folder: Path) -> None:
    write(folder, "train", read(folder) | {"images": [], "annotations": []})


def no_annotations(folder: Path) -> None:
    write(folder, "train", read(folder) | {"annotations": []})


def wrong_json(folder: Path) -> None:
    file = annotation_file(folder)
    file.write_text(file.read_text()[:100])


def wrong_content(folder: Path) -> None:
    annotation_file(folder).write_text('{"shapes": []}')


def both_splits(folder: Path) -> None:
    (folder / "val" / "d.png").write_bytes((folder / "train" / "a.png").read_bytes())


def repeat(part: str):
    """A damage: the first image or annotation is listed twice."""

    def damage(folder: Path) -> None:
        content = read(folder)
        content[part].append(content[part][0])
        write(folder, "train", content)

    return damage


def same_file_twice(folder: Path) -> None:
    content = read(folder)
    content["images"].append(content["images"][0] | {"id": 99})
    write(folder, "train", content)


def outside_file(folder: Path) -> None:
    (folder / "train" / "a.png").rename(folder / "a.png")
    change("images", file_name="../a.png")(folder)


def absolute_file(folder: Path) -> None:
    change("images", file_name=str(folder / "train" / "a.png"))(folder)


def all_annotations(**fields):
    """A damage: fields of every training annotation."""

    def damage(folder: Path) -> None:
        content = read(folder)
        content["annotations"] = [annotation | fields for annotation in content["annotations"]]
        write(folder, "train", content)

    return damage


def animated(file: Path) -> None:
    frames = [Image.fromarray(pixels(brightness)) for brightness in (97, 150)]
    frames[0].save(file, save_all=True, append_images=frames[1:])


NAN, FAR, INF = float("nan"), 1e9, float("inf")
# Broken: name -> (damage, kind that the check finds, what happens in training: part of the error's message, or of the
# warning about what is left out, or "" where training goes on as if nothing were wrong).
BROKEN = {
    "truncated PNG": (truncate, "image_unreadable", "error: a.png cannot be read"),
    "truncated JPEG": (truncate_jpeg, "image_unreadable", "error: a.jpg cannot be read"),
    "zero-byte image": (replace_bytes(b""), "image_unreadable", "error: a.png cannot be read"),
    "text instead of an image": (replace_bytes(b"text"), "image_unreadable", "error: it is no image"),
    "missing image": (remove_image, "image_missing", "error: 1 of 3 images are missing"),
    "symlink loop": (link_loop, "image_unreadable", "error: Too many levels of symbolic links"),
    "wrong JSON": (wrong_json, "dataset_unreadable", "error: is not JSON"),
    "another JSON": (wrong_content, "dataset_unreadable", "error: wanted COCO's lists"),
    "empty split": (empty_split, "split_empty", "error: lists no image"),
    "split without objects": (no_annotations, "no_objects", "error: there is nothing to learn"),
    "crowds alone": (all_annotations(iscrowd=1), "no_objects", "error: there is nothing to learn"),
    "all boxes outside": (all_annotations(bbox=[900, 8, 9, 9]), "no_objects", "error: there is nothing to learn"),
    "size of another image": (change("images", width=WIDTH + 1), "image_size_differs", "error: is 60 x 40 pixels"),
    "negative size": (change("images", height=-HEIGHT), "image_field_invalid", "error: height -40"),
    "no file_name": (change("images", file_name="absent"), "image_field_invalid", "error: no file_name"),
    "image id twice": (repeat("images"), "image_id_duplicate", "error: image id 1 is used twice"),
    "file twice": (same_file_twice, "file_duplicate", "error: a.png is listed twice"),
    "escaping file_name": (outside_file, "file_outside", "error: leaves the image folder"),
    "absolute file_name": (absolute_file, "file_outside", "error: leaves the image folder"),
    "image in two splits": (both_splits, "image_in_two_splits", ""),
    "annotation id twice": (repeat("annotations"), "annotation_id_duplicate", "error: annotation id 11 is used 2"),
    "unknown image": (change("annotations", image_id=77), "image_unknown", "error: of image 77"),
    "category missing": (change("categories", id=5), "category_unknown", "error: of category 1"),
    "category id twice": (change("categories", 1, id=1), "category_id_duplicate", "error: category id 1 is used 2"),
    "category name twice": (
        change("categories", 1, name="red"), "category_name_duplicate", "warn: 2 categories have the name 'red'"
    ),
    "no bbox": (change("annotations", bbox="absent"), "annotation_field_invalid", "error: annotation 11 has no bbox"),
    "bbox of three numbers": (change("annotations", bbox=[1, 2, 3]), "box_invalid", "error: bbox [1, 2, 3]"),
    "bbox of no area": (change("annotations", bbox=[5, 8, 20, 0]), "box_no_area", "skip: 1 with a box of no area"),
    "bbox with NaN": (change("annotations", bbox=[5, 8, NAN, 9]), "box_not_finite", "skip: 1 with a box that is not"),
    "bbox at NaN": (change("annotations", bbox=[NAN, 8, 9, 9]), "box_not_finite", "skip: 1 with a box that is not"),
    "bbox with infinity": (change("annotations", bbox=[5, 8, INF, 9]), "box_not_finite", "skip: 1 with a box that is"),
    "bbox of negative size": (change("annotations", bbox=[25, 8, -20, 22]), "box_no_area", "skip: 1 with a box of no"),
    "bbox of strings": (change("annotations", bbox=["5", "8", "9", "9"]), "box_invalid", "error: has the bbox ['5'"),
    "bbox outside": (change("annotations", bbox=[99, 8, 9, 9]), "box_outside", "skip: 1 with a box outside"),
    "bbox of another object": (change("annotations", bbox=[30, 4, 25, 16]), "box_mask_disagree", ""),
    "no mask": (change("annotations", segmentation="absent"), "mask_missing", "skip: 1 without a mask"),
    "NaN in a polygon": (
        change("annotations", segmentation=[[5, 8, NAN, 8, 25, 30]]), "mask_unusable", "skip: 1 with a polygon"
    ),
    "polygon far outside": (
        change("annotations", segmentation=[[5, 8, FAR, 8, 25, FAR]]), "mask_unusable", "skip: 1 with a polygon"
    ),
    "polygon of 2 points": (
        change("annotations", segmentation=[[5, 8, 25, 30]]), "mask_unusable", "skip: 1 whose polygons have fewer"
    ),
    "polygon of odd length": (
        change("annotations", segmentation=[[5, 8, 25, 8, 25, 30, 5]]), "mask_unusable", "skip: 1 whose polygons"
    ),
    "polygon of strings": (
        change("annotations", segmentation=[["5", "8", "25", "8", "25", "30"]]), "mask_invalid", "error: hold a str"
    ),
    "RLE beyond the image": (
        change("annotations", segmentation={"size": [HEIGHT, WIDTH], "counts": [9, 10**9]}), "mask_invalid",
        "error: its counts make",
    ),
    "polygon reaching out": (change("annotations", segmentation=[polygon(-9, 8, 25, 30)]), "mask_outside", ""),
    "RLE of another size": (
        change("annotations", segmentation={"size": [9, 9], "counts": [9, 72]}), "mask_invalid",
        "error: its size is [9, 9]",
    ),
    "RLE too short": (
        change("annotations", segmentation={"size": [HEIGHT, WIDTH], "counts": [9, 72]}), "mask_invalid",
        "error: its counts make 81 pixels",
    ),
    "RLE of nonsense": (
        change("annotations", segmentation={"size": [HEIGHT, WIDTH], "counts": "zzz~"}), "mask_invalid",
        "error: its counts",
    ),
    "mask as a word": (change("annotations", segmentation="mask"), "mask_invalid", "error: it is a str"),
}  # fmt: skip


def exif_turned(file: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6  # to be shown rotated by 90 degrees clockwise
    Image.fromarray(np.rot90(pixels())).save(file, exif=exif)


def palette(file: Path) -> None:
    Image.fromarray(pixels()).quantize(8).save(file)


def sixteen_bit(file: Path) -> None:
    grey = pixels()[:, :, 0].astype(np.uint16)
    Image.fromarray(grey * 257).save(file)


def with_alpha(file: Path) -> None:
    alpha = np.full((HEIGHT, WIDTH, 1), 128, np.uint8)
    Image.fromarray(np.concatenate([pixels(), alpha], axis=2)).save(file)


# Unusual but valid: name -> (change, whether it keeps colour).
UNUSUAL = {
    "Unicode name": (file_name("für 雨 🎈.png"), True),
    "name with a space and a folder": (file_name("more images/a b.png"), True),
    "EXIF rotation": (file_name("a.jpg", exif_turned), True),
    "palette PNG": (file_name("a.png", palette), True),
    "16-bit PNG": (file_name("a.png", sixteen_bit), False),
    "CMYK JPEG": (file_name("a.jpg", lambda f: Image.fromarray(pixels()).convert("CMYK").save(f, quality=95)), True),
    "grey JPEG": (file_name("a.jpg", lambda f: Image.fromarray(pixels()[:, :, 0]).save(f, quality=95)), False),
    "alpha PNG": (file_name("a.png", with_alpha), True),
    "class id gap": (lambda folder: [_renumber(folder, split) for split in ("train", "val")], True),
}


def _renumber(folder: Path, split: str) -> None:
    content = read(folder, split)
    for item, key in [(c, "id") for c in content["categories"]] + [(a, "category_id") for a in content["annotations"]]:
        item[key] = {1: 7, 2: 90}[item[key]]
    write(folder, split, content)
