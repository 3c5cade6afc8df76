"""A demo of the tiny model, which finds much in noise, and a client of it."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from insta_rtdetr.web.app import Demo, create_app
from insta_rtdetr.web.examples import Example
from insta_rtdetr.web.limits import Limits

from ..predict.conftest import model, model_folder  # noqa: F401

MAX_BYTES, MAX_PIXELS = 100_000, 10_000


@pytest.fixture(scope="session")
def client(model) -> Iterator[TestClient]:  # noqa: F811
    limits = Limits(MAX_BYTES, MAX_PIXELS, max_requests=16)
    demo = Demo(model, "tiny", examples={"noise.png": Example(b"the content", "image/png")}, limits=limits)
    with TestClient(create_app(demo), "http://localhost", raise_server_exceptions=False) as client:
        yield client
