"""The endpoint finds what `Model.predict` finds, answers many at once, and refuses what it must with a message."""

import asyncio
import base64
import io
import os
import tempfile
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor

import httpx2
import numpy as np
import pycocotools.mask as coco_mask
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from insta_rtdetr.web.app import PAGE_FOLDER, Demo, create_app
from insta_rtdetr.web.limits import Limits
from insta_rtdetr.web.predictor import Predictor
from insta_rtdetr.web.schemas import About, Found
from tests.predict.conftest import noise
from tests.web.conftest import MAX_BYTES, MAX_PIXELS


def as_file(image: Image.Image | np.ndarray, file_format: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(file, file_format, **options)
    return file.getvalue()


def ask(client, content: bytes, threshold: float = 0.0, **options: object) -> dict:
    response = client.post("/api/predict", content=content, params={"threshold": threshold, **options})
    assert response.status_code == 200, response.text
    return response.json()


def refused(response, status: int, *words: str) -> None:
    """Assert that a response is a refusal whose message has these words."""
    assert response.status_code == status, response.text
    detail = response.json()["detail"]
    assert isinstance(detail, str) and all(word in detail for word in words), detail


def shown(answer: dict) -> np.ndarray:
    """The image within an answer."""
    head, content = answer["image"].split(",")
    assert head == "data:image/jpeg;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))


def test_tiles_are_used_when_asked_for_and_for_large_images(model):
    app = create_app(Demo(model, "tiny", tile=64))
    with TestClient(app, "http://localhost") as client:
        for seed, shape, in_tiles, used in (
            (0, (48, 256), None, False), (1, (48, 257), None, True), (1, (48, 257), False, False),
            (0, (48, 100), True, True),
        ):  # fmt: skip
            image = noise(seed, *shape)
            expected = next(model.predict(image, threshold=0, tile=64 if used else 0))
            answer = ask(client, as_file(image), **({} if in_tiles is None else {"in_tiles": in_tiles}))
            assert answer["in_tiles"] is used and answer["annotations"] == expected.to_coco_file()["annotations"]


def test_the_objects_are_those_of_predict(client, model):
    median = float(np.median(next(model.predict(noise(1), threshold=0)).scores))
    for seed, threshold in ((0, 0.0), (1, median)):
        expected = next(model.predict(noise(seed), threshold=threshold))
        answer = ask(client, as_file(noise(seed)), threshold, name="noise.png")
        Found.model_validate(answer)
        assert answer["annotations"] == expected.to_coco_file()["annotations"]
        assert answer["images"] == [{"id": 1, "file_name": "noise.png", "height": 48, "width": 80}]
        masks = coco_mask.decode([one["segmentation"] for one in answer["annotations"]])
        assert len(expected) > 0 and (masks.transpose(2, 0, 1) == expected.masks).all()
        assert [category["name"] for category in answer["categories"]] == list(model.categories.names)


def test_nothing_found_is_an_answer(client):
    assert ask(client, as_file(noise(0)), 1.0)["annotations"] == []


def test_several_at_once_get_their_own_answers(client, model):
    images = [noise(seed, 40 + seed, 60 + seed) for seed in range(12)]
    expected = [next(model.predict(image, threshold=0)).to_coco() for image in images]
    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(lambda image: ask(client, as_file(image)), images))
    for answer, objects, image in zip(answers, expected, images):
        assert (answer["images"][0]["height"], answer["images"][0]["width"]) == image.shape[:2]
        assert len(objects) == len(answer["annotations"]) > 0
        assert all(one.items() >= other.items() for one, other in zip(answer["annotations"], objects))


def test_too_many_at_once_are_refused_and_the_server_answers_meanwhile(model, monkeypatch):
    may_go_on = threading.Event()
    predict = Predictor._predict
    monkeypatch.setattr(Predictor, "_predict", lambda *args: may_go_on.wait(60) and predict(*args))
    app = create_app(Demo(model, "tiny", limits=Limits(max_requests=2)))

    async def run() -> None:
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
            taken = [asyncio.create_task(client.post("/api/predict", content=as_file(noise(0)))) for _ in range(2)]
            await asyncio.sleep(0.2)
            assert (await client.get("/api/model")).status_code == 200
            refusal = await client.post("/api/predict", content=as_file(noise(0)))
            refused(refusal, 503, "Try again")
            assert int(refusal.headers["Retry-After"]) > 0
            may_go_on.set()
            assert [(await one).status_code for one in taken] == [200, 200]
            assert (await client.post("/api/predict", content=as_file(noise(0)))).status_code == 200

    asyncio.run(run())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_image_is_the_one_that_the_masks_lie_on(client, model, orientation, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = as_file(noise(3), "JPEG", exif=exif, quality=95)
    (tmp_path / "turned.jpg").write_bytes(content)
    expected = next(model.predict(tmp_path / "turned.jpg", threshold=0))
    answer = ask(client, content, image=True)
    height, width = (80, 48) if orientation > 4 else (48, 80)
    assert (answer["images"][0]["height"], answer["images"][0]["width"]) == (height, width)
    assert answer["annotations"] == expected.to_coco_file()["annotations"]
    difference = np.abs(shown(answer).astype(int) - expected.image)
    assert difference.shape == (height, width, 3) and difference.mean() < 30  # of noise; 85 for another turn


def gradient(low: float, high: float) -> np.ndarray:
    return np.linspace(low, high, 48 * 80).reshape(48, 80)


GREY = gradient(0, 255)
KINDS = {
    "transparent": as_file(np.dstack([GREY] * 4).astype(np.uint8)),
    "grey": as_file(GREY.astype(np.uint8)),
    "16 bits": as_file(gradient(0, 65535).astype(np.uint16)),
    "16 bits tiff": as_file(gradient(0, 65535).astype(np.uint16), "TIFF"),
    "CMYK": as_file(Image.fromarray(np.dstack([GREY] * 3).astype(np.uint8)).convert("CMYK"), "JPEG", quality=95),
    "palette": as_file(Image.fromarray(GREY.astype(np.uint8)).convert("P"), "GIF"),
    "webp": as_file(np.dstack([GREY] * 3).astype(np.uint8), "WEBP", quality=95),
    "bmp": as_file(GREY.astype(np.uint8), "BMP"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_is_seen_as_it_is_meant(client, kind):
    image = shown(ask(client, KINDS[kind], image=True))
    assert image.shape == (48, 80, 3)
    assert np.abs(image.astype(int).mean(axis=2) - GREY).mean() < 4


def png_that_claims(width: int, height: int) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4) + name + content + zlib.crc32(name + content).to_bytes(4)

    header = width.to_bytes(4) + height.to_bytes(4) + bytes([8, 2, 0, 0, 0])
    pixels = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


WRONG_FILES = {
    "empty": (b"", 400, "empty"),
    "text": (b"no image", 415, "no image"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 415, "no image"),
    "cut": (as_file(noise(0))[:3000], 400, "broken"),
    "only a header": (png_that_claims(60, 60), 400, "broken"),
    "pixels": (as_file(np.zeros((101, 100), np.uint8)), 413, "100 x 101", "limit"),
    "bomb": (png_that_claims(60_000, 60_000), 413, "too large"),
    "bytes": (bytes(MAX_BYTES + 1), 413, "MB"),
    "many bytes": (bytes(20 * MAX_BYTES), 413, "MB"),
}


@pytest.mark.parametrize("kind", WRONG_FILES)
def test_wrong_files_are_refused(client, kind):
    content, status, *words = WRONG_FILES[kind]
    refused(client.post("/api/predict", content=content), status, *words)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # so it is
def test_garbage_for_exif_data_is_ignored_or_told(client):
    exif = b"Exif\0\0II*\0" + bytes(range(200, 250))
    response = client.post("/api/predict", content=as_file(noise(0), "JPEG", exif=exif))
    assert response.status_code in {200, 400}, response.text


def test_the_limits_themselves_are_taken(client):
    content = as_file(np.zeros((100, MAX_PIXELS // 100), np.uint8), "BMP")
    assert ask(client, content + bytes(MAX_BYTES - len(content)))["images"]


def test_wrong_parameters_are_refused(client):
    for name, value in {"threshold": 1.5, "threshold ": "much", "name": "x" * 300, "image": "perhaps"}.items():
        response = client.post("/api/predict", content=as_file(noise(0)), params={name.strip(): value})
        refused(response, 422, f"{name.strip()}: ")


def test_a_failure_of_the_model_is_told_as_json_and_the_next_request_works(client, model, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(model, "predict_batch", lambda *_: 1 / 0)
        refused(client.post("/api/predict", content=as_file(noise(0))), 500, "ZeroDivisionError")
    assert ask(client, as_file(noise(0)))["annotations"]


def test_examples_are_looked_up_by_name_only(client):
    about = About.model_validate(client.get("/api/model").json())
    assert about.examples == ["noise.png"] and about.max_pixels == MAX_PIXELS and about.classes
    found = client.get("/api/examples/noise.png")
    assert found.content == b"the content" and found.headers["content-type"] == "image/png"
    for path in ("../app.py", "..%2Fapp.py", "%2e%2e%2fapp.py", "%2Fetc%2Fpasswd", "absent.png"):
        assert client.get(f"/api/examples/{path}").status_code == 404, path
        assert client.get(f"/{path}").status_code == 404, path


def test_the_pages_load_nothing_from_elsewhere(client):
    files = [f"/{file.name}" for file in PAGE_FOLDER.iterdir()]
    assert len(files) > 8
    for path in ("/", "/docs", *files):
        response = client.get(path)
        assert response.status_code == 200 and "https://" not in response.text, path
    description = client.get("/openapi.json").json()
    predict = description["paths"]["/api/predict"]["post"]
    assert {one["name"] for one in predict["parameters"]} == {"threshold", "name", "image", "in_tiles"}
    assert "image/*" in predict["requestBody"]["content"] and "415" in predict["responses"]


def test_no_file_is_written(client, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    opened = []
    monkeypatch.setattr(os, "open", lambda *args, **kwargs: opened.append(args))
    large = as_file(noise(0, 99, 100), "BMP")
    ask(client, large, image=True)
    client.post("/api/predict", content=large[:-10])
    client.post("/api/predict", content=bytes(20 * MAX_BYTES))
    assert list(tmp_path.iterdir()) == [] == opened


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "127.0.0.1:5123"}, 200),
        ({"Host": "[::1]:5123"}, 200),
        ({"Host": "LOCALHOST"}, 200),
        ({"Host": "localhost:5123", "Origin": "http://localhost:5123"}, 200),
        ({"Host": "localhost.evil.example"}, 421),
        ({"Host": "evil.example:5123"}, 421),
        ({"Host": "[::1"}, 421),
        ({"Host": ""}, 421),
        ({"Host": "localhost:5123", "Origin": "http://evil.example"}, 403),
        ({"Host": "localhost:5123", "Origin": "http://localhost:8000"}, 403),
        ({"Host": "localhost:5123", "Origin": "null"}, 403),
    ],
)
def test_pages_elsewhere_are_refused(client, headers, status):
    for path in ("/", "/api/model"):
        response = client.get(path, headers=headers)
        assert response.status_code == status
        assert not any(name.startswith("access-control") for name in response.headers)


def test_a_name_of_the_server_can_be_added(model):
    with TestClient(create_app(Demo(model, "tiny", hosts=("Demo.Example",))), "http://demo.example") as client:
        assert client.get("/api/model").status_code == 200


def test_an_upload_that_pauses_is_refused(model, monkeypatch):
    monkeypatch.setattr("insta_rtdetr.web.limits.PAUSE_SECONDS", 0.05)

    async def stalling():
        yield b"the beginning"
        await asyncio.sleep(60)

    async def run() -> None:
        transport = httpx2.ASGITransport(create_app(Demo(model, "tiny")))
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
            refused(await client.post("/api/predict", content=stalling()), 408, "did not arrive")

    asyncio.run(run())
