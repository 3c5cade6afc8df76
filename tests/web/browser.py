"""The page in Chromium, for the tests in a real browser; they are skipped where there is none."""

import base64
import io
import re
import shutil
import threading
from collections.abc import Iterator

import numpy as np
import pytest
import uvicorn
from PIL import Image

from insta_rtdetr import create_model
from insta_rtdetr.web.__main__ import listen
from insta_rtdetr.web.app import Demo, create_app
from insta_rtdetr.web.examples import examples_for

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
playwright = pytest.importorskip("playwright.sync_api")
if not BROWSER:
    pytest.skip("no Chromium here", allow_module_level=True)

MODEL = "quickstart_MNV2_D3_256"
TILE = 192  # pixels; the photograph of coins has 384 x 303
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
REFUSED = "the server responded with a status of 415"  # what Chromium logs of a refused upload


@pytest.fixture(scope="module")
def demo() -> Demo:
    model = create_model(MODEL)
    return Demo(model, MODEL, examples=examples_for(model.categories.names, None), tile=TILE)


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
            + "#examples, .slider, #show-masks, #show-labels, #filter, #found, #save-image, #save-json")]
            .filter((part) => part.offsetParent).map((part) => [part.id || part.className || part.tagName,
                part.getBoundingClientRect()]);
        const wrong = parts.filter(([, box]) => box.left < 0 || box.right > innerWidth + 1).map(([name]) => name);
        parts.forEach(([name, box], i) => parts.slice(i + 1).forEach(([other, its]) => {
            if (box.left < its.right - 1 && its.left < box.right - 1 && box.top < its.bottom - 1
                && its.top < box.bottom - 1) wrong.push(`${name} and ${other}`);
        }));
        return wrong;
    }""")
