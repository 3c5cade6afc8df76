"""The page with many objects, in a real browser."""

# ruff: noqa: F811 (pytest finds fixtures by the names of imports and arguments)

import base64
import io

import numpy as np
import pycocotools.mask as coco_mask
from PIL import Image

from tests.predict.conftest import noise

from .browser import address, browser, canvas_pixels, demo, num_shown, page, set_threshold, wait_for  # noqa: F401


def test_400_objects_are_fluid(page, tmp_path):
    """A step of the slider over 400 objects of a large image, masks included, takes less than 0.2 s (the median)."""
    height, width, count = 1500, 2000, 400
    rng = np.random.default_rng(0)
    annotations = []
    for number in range(count):
        size = int(rng.integers(40, 400))
        x, y = int(rng.integers(0, width - size)), int(rng.integers(0, height - size))
        segmentation = {"size": [height, width], "counts": rectangle_rle(x, y, size, height, width)}
        annotations.append({
            "id": number + 1, "image_id": 1, "iscrowd": 0, "category_id": number % 5 + 1, "area": size * size,
            "bbox": [x, y, size, size], "score": 1 - number / 500, "segmentation": segmentation,
        })  # fmt: skip
    jpeg = io.BytesIO()
    Image.fromarray(noise(0, height, width)).save(jpeg, "JPEG", quality=30)
    answer = {
        "images": [{"id": 1, "file_name": "many", "height": height, "width": width}],
        "categories": [{"id": i + 1, "name": f"class {i}"} for i in range(5)],
        "annotations": annotations, "timing": {"wait": 0, "read": 0, "predict": 0, "encode": 0},
        "image": "data:image/jpeg;base64," + base64.b64encode(jpeg.getvalue()).decode(),
    }  # fmt: skip
    page.route("**/api/predict*", lambda route: route.fulfill(json=answer))
    page.click("#examples button >> nth=0")
    wait_for(page, "coins.jpg, 2000 × 1500")
    milliseconds = page.evaluate("""async () => {
        const slider = document.getElementById("threshold"), times = [];
        for (let value = 20; value < 40; value++) {
            const start = performance.now();
            slider.value = value;
            slider.dispatchEvent(new Event("input"));
            await new Promise((done) => requestAnimationFrame(done));
            times.push(performance.now() - start);
        }
        return times.sort((a, b) => a - b)[times.length / 2];
    }""")
    assert num_shown(page) > 300
    # What steps left on the canvas is what drawing all anew gives.
    stepped = canvas_pixels(page)
    page.click("#all-classes")
    assert (stepped == canvas_pixels(page)).all()
    set_threshold(page, 100)
    set_threshold(page, 39)
    assert (stepped == canvas_pixels(page)).all()
    page.screenshot(path=tmp_path / "many.png")
    assert milliseconds < 200, milliseconds


def rectangle_rle(x: int, y: int, size: int, height: int, width: int) -> str:
    runs = [x * height + y]
    for _ in range(size):
        runs += [size, height - size]
    runs[-1] = height * width - sum(runs[:-1])
    return coco_mask.frPyObjects({"size": [height, width], "counts": runs}, height, width)["counts"].decode()
