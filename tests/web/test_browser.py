"""The page in a real browser; skipped where there is no Chromium (Debian: apt-get install chromium).

    python -m pytest tests/web/test_browser.py --basetemp shots    # screenshots are in shots/
"""

# ruff: noqa: F811 (pytest finds fixtures by the names of imports and arguments)

import io
import json

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import binary_dilation

from .browser import (  # noqa: F401
    DESKTOP,
    PHONE,
    TILE,
    address,
    browser,
    canvas_pixels,
    demo,
    num_shown,
    open_example,
    overlapping_parts,
    page,
    playwright,
    set_threshold,
    wait_for,
)


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
    image = Image.open(io.BytesIO(demo.examples["coins.jpg"].content))
    expected = next(demo.model.predict(image)).masks.any(axis=0)
    height, width = difference.shape
    expected = np.asarray(Image.fromarray(expected).resize((width, height), Image.Resampling.NEAREST))
    # Outlines lie half inside.
    assert difference[expected].mean() > 0.98 and not difference[~binary_dilation(expected, iterations=8)].any()
    assert difference[~binary_dilation(expected, iterations=4)].mean() < 0.005
    open_example(page, "scene_2.jpg")
    for part in ("masks", "boxes", "labels"):
        page.check(f"#show-{part}")
    page.screenshot(path=tmp_path / "scene_2.png", full_page=True)


def test_threshold_and_classes_need_no_request(page, demo, tmp_path):
    open_example(page, "scene_2.jpg")
    image = Image.open(io.BytesIO(demo.examples["scene_2.jpg"].content))
    expected = next(demo.model.predict(image, threshold=0.05))
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
    (tmp_path / "wrong.jpg").write_text("no image")
    page.set_input_files("#file", tmp_path / "wrong.jpg")
    playwright.expect(page.locator("#error")).to_contain_text("wrong.jpg: The file is no image", timeout=20_000)
    assert "turned.jpg" in page.text_content("#status")
    assert overlapping_parts(page) == []
    page.screenshot(path=tmp_path / "wrong_file.png")


def test_wheel_keys_and_drag_zoom_and_move_the_image(page, tmp_path):
    open_example(page, "coins.jpg")
    whole = canvas_pixels(page)
    canvas = page.locator("#canvas").bounding_box()
    left, top = canvas["x"] + canvas["width"] * 0.25, canvas["y"] + canvas["height"] * 0.25
    page.mouse.move(left, top)
    page.mouse.wheel(0, -400)
    playwright.expect(page.locator("#zoom-reset")).to_have_text("182 %")
    enlarged = canvas_pixels(page)
    page.screenshot(path=tmp_path / "zoomed.png")
    page.mouse.down()
    page.mouse.move(left - 100, top, steps=4)
    page.mouse.up()
    page.mouse.move(0, 0)
    moved = canvas_pixels(page)
    width, middle = moved.shape[1], np.s_[100:-100, 200:-200]
    pixels = round(100 * width / canvas["width"])
    shifted = np.roll(enlarged, -pixels, axis=1)
    assert np.median(np.abs(moved[middle].astype(int) - shifted[middle])) < 8
    assert np.median(np.abs(moved[middle].astype(int) - enlarged[middle])) > 8
    page.focus("#canvas")
    page.keyboard.press("0")
    playwright.expect(page.locator("#zoom-reset")).to_be_disabled()
    assert (canvas_pixels(page) == whole).all()
    page.keyboard.press("+")
    page.click("#zoom-in")
    playwright.expect(page.locator("#zoom-reset")).to_have_text("280 %")


def test_a_selected_object_keeps_its_label_in_a_crowd(page, tmp_path):
    open_example(page, "coins.jpg")
    page.uncheck("#show-labels")
    without = canvas_pixels(page)
    page.click("#object-3")
    page.mouse.move(0, 0)
    selected = canvas_pixels(page)
    page.screenshot(path=tmp_path / "selected.png")
    assert 1000 < (selected != without).any(axis=2).sum() < 0.1 * without[..., 0].size
    page.click("#object-3")
    page.mouse.move(0, 0)
    assert (canvas_pixels(page) == without).all()


def test_the_image_is_found_in_tiles_and_whole_again(page, demo, tmp_path):
    open_example(page, "coins.jpg")
    image = Image.open(io.BytesIO(demo.examples["coins.jpg"].content))
    shown = []
    for is_on, options in ((True, {"tile": TILE}), (False, {})):
        with page.expect_response(lambda answer: "api/predict" in answer.url) as answered:
            page.set_checked("#in-tiles", is_on)
        assert f"in_tiles={str(is_on).lower()}" in answered.value.url
        wait_for(page, "coins.jpg")
        assert page.is_checked("#in-tiles") == is_on
        shown.append(page.locator("#objects div:visible .score").all_inner_texts())
        assert shown[-1] == [f"{score:.3f}" for score in next(demo.model.predict(image, **options)).scores]
    assert shown[0] != shown[1]


def test_what_is_saved_is_what_is_shown(page, demo, tmp_path):
    open_example(page, "coins.jpg")
    set_threshold(page, 90)
    for button, name in (("#save-json", "coins.json"), ("#save-image", "coins_found.png")):
        with page.expect_download() as download:
            page.click(button)
        assert download.value.suggested_filename == name
        download.value.save_as(tmp_path / name)
    image = Image.open(io.BytesIO(demo.examples["coins.jpg"].content))
    expected = next(demo.model.predict(image, threshold=0.9)).to_coco_file()
    saved = json.loads((tmp_path / "coins.json").read_text())
    assert saved["annotations"] == expected["annotations"] and "image" not in saved
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
    wanted = ["choose", "coins.jpg", "threshold", "show-masks", "show-labels", "objects", "save-image", "save-json"]
    assert [name for name in reached if name in wanted] == wanted
    assert page.input_value("#threshold") == "51"


def test_the_description_is_readable_offline(page, address, tmp_path):
    page.goto(f"{address}/docs")
    playwright.expect(page.locator("article")).to_contain_text("POST /api/predict")
    playwright.expect(page.locator("#types")).to_contain_text("Annotation")
    page.screenshot(path=tmp_path / "docs.png", full_page=True)
