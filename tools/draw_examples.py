#!/usr/bin/env python3
"""Draw the images of README.md and docs/ that show what the shipped models find.

    python tools/draw_examples.py --output docs/images

Writes strip.jpg (an image, its masks, a crowded image, the web page), coins_found.jpg, nuclei_found.jpg (three
validation images of the nuclei) and web.png (the web page).  Needs scikit-image, playwright and a Chromium.
"""

import contextlib
import io
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

# A checkout works without `pip install`, as it does for train_net.py.
sys.path.append(str(Path(__file__).resolve().parents[1]))

import numpy as np
import uvicorn
from PIL import Image, ImageOps
from playwright.sync_api import sync_playwright

from insta_rtdetr import create_model
from insta_rtdetr.command_line import CommandParser, run_command
from insta_rtdetr.errors import UserError
from insta_rtdetr.predict import Model
from insta_rtdetr.visualization import read_image
from insta_rtdetr.web.__main__ import listen
from insta_rtdetr.web.app import Demo, create_app
from insta_rtdetr.web.examples import FOLDER, examples_for

QUICKSTART, NUCLEI = "quickstart_MNV2_D3_256", "insta_rtdetr_MNV2_D3_320"
PANEL, GAP = (480, 379), 10  # pixels: width and height of an image in the strip, and the space between two
COINS_SIZE = (768, 606)  # pixels, of coins_found.jpg
FOUND_HEIGHT = 420  # pixels, of nuclei_found.jpg
DRAWN_SIDE = 1000  # pixels that drawings have at least before they are made small, so that their edges are smooth
VIEWPORT = {"width": 1000, "height": 790}
WAIT_MS = 60_000


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    return run_command(lambda: draw_all(arguments))


def draw_all(arguments: list[str] | None) -> None:
    """Write the images.

    Raises:
        UserError: there is no Chromium.
    """
    parser = CommandParser("python tools/draw_examples.py", __doc__)
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="an existing folder")
    folder = parser.parse_args(arguments).output
    nuclei = create_model(NUCLEI)
    files = sorted(FOLDER.glob("nuclei_*.jpg"))
    found = [drawn(nuclei, read_image(file)) for file in files]
    page = screenshot(nuclei, files[1].name)
    page.save(folder / "web.png", optimize=True)
    save([image.resize((round(image.width * FOUND_HEIGHT / image.height), FOUND_HEIGHT)) for image in found],
         folder / "nuclei_found.jpg")  # fmt: skip
    photograph = coins()
    masks = drawn(create_model(QUICKSTART), photograph)
    save([masks.resize(COINS_SIZE)], folder / "coins_found.jpg")
    panels = [Image.fromarray(photograph), masks, found[0], page]
    save([ImageOps.fit(panel, PANEL, Image.Resampling.LANCZOS) for panel in panels], folder / "strip.jpg")


def coins() -> np.ndarray:
    """Return scikit-image's photograph of coins as RGB."""
    from skimage import data

    return np.repeat(data.coins()[:, :, None], 3, axis=2)


def drawn(model: Model, image: np.ndarray) -> Image.Image:
    """Draw what a model finds in an image, enlarged."""
    (found,) = model.predict(image)
    return Image.fromarray(found.draw(max(1, DRAWN_SIDE / max(image.shape))))


def save(images: list[Image.Image], file: Path) -> None:
    """Put images of one height side by side and write them as a JPEG."""
    width = sum(image.width + GAP for image in images) - GAP
    strip = Image.new("RGB", (width, images[0].height), "white")
    left = 0
    for image in images:
        strip.paste(image, (left, 0))
        left += image.width + GAP
    strip.save(file, quality=84, optimize=True)


def screenshot(model: Model, example: str) -> Image.Image:
    """Return the web page with an example, and one object of it selected."""
    browser_file = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser_file is None:
        raise UserError("The screenshot needs a Chromium.  Debian has the package chromium.")
    demo = Demo(model, NUCLEI, examples=examples_for(model.categories.names, None))
    with served(demo) as address, sync_playwright() as started:
        browser = started.chromium.launch(executable_path=browser_file, args=["--no-sandbox"])
        page = browser.new_page(viewport=VIEWPORT)
        page.goto(address)
        page.click(f"#examples button[title='{example}']", timeout=WAIT_MS)
        page.wait_for_selector("#object-4", timeout=WAIT_MS)
        page.click("#object-4")
        page.mouse.move(0, 0)
        page.wait_for_timeout(500)
        content = page.screenshot()
        browser.close()
    return Image.open(io.BytesIO(content)).convert("RGB")


@contextlib.contextmanager
def served(demo: Demo) -> Iterator[str]:
    """Serve the page during a `with` block, and give its address."""
    listener = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(create_app(demo), log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


if __name__ == "__main__":
    sys.exit(main())
