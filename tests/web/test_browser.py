"""The page in a real browser; skipped where there is no Chromium (Debian: apt-get install chromium).

    python -m pytest tests/web/test_browser.py --basetemp shots    # screenshots are in shots/
"""

import base64
import io
import json
import re
import shutil
import threading
from collections.abc import Iterator

import numpy as np
import pycocotools.mask as coco_mask
import pytest
import uvicorn
from PIL import Image

from insta_rtdetr import create_model
from insta_rtdetr.web.__main__ import listen
from insta_rtdetr.web.app import Demo, create_app
from insta_rtdetr.web.examples import examples_for
from tests.predict.conftest import noise

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
playwright = pytest.importorskip("playwright.sync_api")
if not BROWSER:
    pytest.skip("no Chromium here", allow_module_level=True)

MODEL = "quickstart_MNV2_D3_256"
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
REFUSED = "the server responded with a status of 415"  # what Chromium logs of a refused upload


@pytest.fixture(scope="module")
def demo() -> Demo:
    model = create_model(MODEL)
    return Demo(model, MODEL, examples=examples_for(model.categories.names, None))


@pytest.fixture(scope="module")
def address(demo) -> Iterator[str]:
    listener = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(create_app(demo), log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser, address, request):
    """The page; a test's parameter is its viewport.  Fails on errors in the console and on foreign addresses."""
    viewport = getattr(request, "param", DESKTOP)
    is_phone = viewport == PHONE
    context = browser.new_context(
        viewport=viewport, color_scheme="dark" if is_phone else "light", device_scale_factor=2 if is_phone else 1
    )
    page = context.new_page()
    page.set_default_timeout(20_000)
    errors, foreign = [], []
    page.on("console", lambda message: message.type == "error" and errors.append(message.text))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda sent: sent.url.startswith(("data:", "blob:", address)) or foreign.append(sent.url))
    page.goto(address)
    page.wait_for_selector("#examples img")
    yield page
    assert not [error for error in errors if REFUSED not in error] and not foreign
    context.close()


def open_example(page, name: str) -> None:
    page.click(f"#examples button[title='{name}']")
    wait_for(page, name)


def wait_for(page, name: str) -> None:
    playwright.expect(page.locator("#status")).to_contain_text(re.compile(f"^{name}.* shown$"), timeout=20_000)
    settle(page)


def settle(page) -> None:
    """Wait until what was asked for is drawn."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def num_shown(page) -> int:
    return int(page.text_content("#status").split(": ")[1].split(" of ")[0])


def canvas_pixels(page) -> np.ndarray:
    """(H, W, 3), uint8."""
    settle(page)
    address = page.evaluate("() => document.getElementById('canvas').toDataURL()")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))).convert("RGB"))


def set_threshold(page, percent: int) -> None:
    page.evaluate(
        "(value) => { const slider = document.getElementById('threshold'); slider.value = value;"
        " slider.dispatchEvent(new Event('input')); }",
        percent,
    )
    settle(page)


def overlapping_parts(page) -> list[str]:
    """Pairs of visible parts that lie over one another, and parts that stick out of the page."""
    return page.evaluate("""() => {
        const parts = [...document.querySelectorAll("h1, #model, header a, #stage, #status, #timing, #choose,"
            + "#examples, .slider, #show-masks, #show-labels, #filter, #found, #save-picture, #save-json")]
            .filter((part) => part.offsetParent).map((part) => [part.id || part.className || part.tagName,
                part.getBoundingClientRect()]);
        const wrong = parts.filter(([, box]) => box.left < 0 || box.right > innerWidth + 1).map(([name]) => name);
        parts.forEach(([name, box], i) => parts.slice(i + 1).forEach(([other, its]) => {
            if (box.left < its.right - 1 && its.left < box.right - 1 && box.top < its.bottom - 1
                && its.top < box.bottom - 1) wrong.push(`${name} and ${other}`);
        }));
        return wrong;
    }""")


@pytest.mark.parametrize("page", [DESKTOP, PHONE], indirect=True, ids=["desktop", "phone"])
def test_masks_lie_on_their_objects(page, demo, tmp_path):
    open_example(page, "coins.jpg")
    page.screenshot(path=tmp_path / "coins.png")
    page.screenshot(path=tmp_path / "whole.png", full_page=True)
    assert overlapping_parts(page) == []
    for part in ("boxes", "labels"):
        page.uncheck(f"#show-{part}")
    with_masks = canvas_pixels(page).astype(int)
    page.uncheck("#show-masks")
    difference = np.abs(with_masks - canvas_pixels(page)).max(axis=2) > 25  # half of a mask's, at its smoothed edge
    picture = Image.open(io.BytesIO(demo.examples["coins.jpg"].content))
    expected = next(demo.model.predict(picture)).masks.any(axis=0)
    height, width = difference.shape
    expected = np.asarray(Image.fromarray(expected).resize((width, height), Image.Resampling.NEAREST))
    iou = (difference & expected).sum() / (difference | expected).sum()
    assert iou > 0.95, iou
    open_example(page, "scene_2.jpg")
    for part in ("masks", "boxes", "labels"):
        page.check(f"#show-{part}")
    page.screenshot(path=tmp_path / "scene_2.png", full_page=True)


def test_threshold_and_classes_need_no_request(page, demo, tmp_path):
    open_example(page, "scene_2.jpg")
    picture = Image.open(io.BytesIO(demo.examples["scene_2.jpg"].content))
    expected = next(demo.model.predict(picture, threshold=0.05))
    requests = []
    page.on("request", lambda sent: requests.append(sent.url))
    for percent in (5, 30, 80, 100):
        set_threshold(page, percent)
        assert num_shown(page) == (expected.scores >= percent / 100).sum() == visible_rows(page)
    slider = page.locator("#threshold").bounding_box()
    middle = slider["y"] + slider["height"] / 2
    page.mouse.move(slider["x"] + slider["width"] - 8, middle)
    page.mouse.down()
    page.mouse.move(slider["x"] + slider["width"] * 0.3, middle, steps=10)
    page.mouse.up()
    assert page.input_value("#threshold") in {"32", "33", "34"}
    set_threshold(page, 30)
    page.uncheck("#classes input[value=coin]")
    is_kept = (expected.scores >= 0.3) & (np.array(expected.class_names) != "coin")
    assert 0 < num_shown(page) == is_kept.sum() < (expected.scores >= 0.3).sum()
    page.screenshot(path=tmp_path / "without_coins.png")
    page.click("#no-classes")
    assert num_shown(page) == 0
    page.click("#all-classes")
    assert not requests


def visible_rows(page) -> int:
    return page.locator("#objects div:visible").count()


def test_files_are_dropped_pasted_and_chosen_and_wrong_ones_refused(page, demo, tmp_path):
    for event in ("paste", "drop"):
        page.evaluate(
            """async ([kind, name]) => {
                const blob = await (await fetch("api/examples/coins.jpg")).blob();
                const data = new DataTransfer();
                data.items.add(new File([blob], name, {type: blob.type}));
                const event = kind === "paste" ? new ClipboardEvent("paste", {clipboardData: data, bubbles: true})
                    : new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true});
                document.body.dispatchEvent(event);
            }""",
            [event, f"{event}.jpg"],
        )
        wait_for(page, f"{event}.jpg")
        assert num_shown(page) > 20
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = tmp_path / "turned.jpg"
    Image.open(io.BytesIO(demo.examples["coins.jpg"].content)).save(turned, exif=exif)
    page.set_input_files("#file", turned)
    wait_for(page, "turned.jpg, 303 × 384")
    page.screenshot(path=tmp_path / "turned.png")
    (tmp_path / "wrong.jpg").write_text("no picture")
    page.set_input_files("#file", tmp_path / "wrong.jpg")
    playwright.expect(page.locator("#error")).to_contain_text("wrong.jpg: The file is no picture", timeout=20_000)
    assert "turned.jpg" in page.text_content("#status")
    assert overlapping_parts(page) == []
    page.screenshot(path=tmp_path / "wrong_file.png")


def test_what_is_saved_is_what_is_shown(page, demo, tmp_path):
    open_example(page, "coins.jpg")
    set_threshold(page, 90)
    for button, name in (("#save-json", "coins.json"), ("#save-picture", "coins_found.png")):
        with page.expect_download() as download:
            page.click(button)
        assert download.value.suggested_filename == name
        download.value.save_as(tmp_path / name)
    picture = Image.open(io.BytesIO(demo.examples["coins.jpg"].content))
    expected = next(demo.model.predict(picture, threshold=0.9)).to_coco_file()
    saved = json.loads((tmp_path / "coins.json").read_text())
    assert saved["annotations"] == expected["annotations"] and "picture" not in saved
    assert Image.open(tmp_path / "coins_found.png").size == (1000, 789)


def test_the_keyboard_reaches_everything(page, tmp_path):
    reached = []
    page.keyboard.press("Tab")
    for _ in range(40):
        reached.append(page.evaluate("() => document.activeElement.id || document.activeElement.title"))
        if reached[-1] == "coins.jpg" and page.locator("#canvas").is_hidden():
            page.keyboard.press("Enter")
            wait_for(page, "coins.jpg")
        if reached[-1] == "threshold":
            page.keyboard.press("ArrowRight")
        if reached[-1] == "objects":
            page.keyboard.press("ArrowDown")
            page.keyboard.press("ArrowDown")
            assert page.get_attribute("#objects", "aria-activedescendant") == "object-1"
            page.screenshot(path=tmp_path / "second_object.png")
        if reached[-1] == "save-json":
            break
        page.keyboard.press("Tab")
    wanted = ["choose", "coins.jpg", "threshold", "show-masks", "show-labels", "objects", "save-picture", "save-json"]
    assert [name for name in reached if name in wanted] == wanted
    assert page.input_value("#threshold") == "51"


def test_the_description_is_readable_offline(page, address, tmp_path):
    page.goto(f"{address}/docs")
    playwright.expect(page.locator("article")).to_contain_text("POST /api/predict")
    playwright.expect(page.locator("#types")).to_contain_text("Annotation")
    page.screenshot(path=tmp_path / "docs.png", full_page=True)


def test_400_objects_are_fluid(page, tmp_path):
    """A step of the slider over 400 objects of a large picture, masks included, takes less than 0.2 s (the median)."""
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
        "picture": "data:image/jpeg;base64," + base64.b64encode(jpeg.getvalue()).decode(),
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
