"""The web application: the page and its endpoints.  It fetches nothing from elsewhere and writes nothing to disk."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles

import insta_rtdetr
from insta_rtdetr.predict import Model

from .examples import Example
from .hosts import KnownHosts
from .limits import Limits
from .predictor import Options, Predictor
from .schemas import About, Found, Refusal

PAGE_FOLDER = Path(__file__).parent / "page"
REFUSALS = {
    400: "empty, or a broken image",
    408: "the upload took too long",
    413: "too many bytes or pixels",
    415: "no image",
    403: "from a page of another server",
    421: "addressed to another server",
    422: "a wrong parameter",
    503: "too many requests at once",
}
_REFUSED = {status: {"model": Refusal, "description": reason} for status, reason in REFUSALS.items()}
_IMAGE_BODY = {"required": True, "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}}


@dataclass(frozen=True)
class Demo:
    """Settings of the application: the model, and what the page offers.

    Attributes:
        model: the model that finds the objects.
        model_name: name of the model on the page.
        threshold: initial threshold of the page, and default of the endpoint; a score from 0 to 1.
        examples: file name -> example image.
        limits: limits of uploads.
        hosts: names of the server, beside localhost and that of the machine.
        tile: side of the tiles that large images are cut into, in pixels.
    """

    model: Model
    model_name: str
    threshold: float = 0.5
    examples: dict[str, Example] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    hosts: tuple[str, ...] = ()
    tile: int = 640


def create_app(demo: Demo) -> FastAPI:
    """Create the application of a demo."""
    predictor = Predictor(demo.model, demo.limits, demo.tile)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        predictor.close()

    # FastAPI's own documentation pages load scripts from elsewhere; page/docs.html does not.
    app = FastAPI(
        title="insta_rtdetr", version=insta_rtdetr.__version__, docs_url=None, redoc_url=None, lifespan=lifespan
    )
    app.add_middleware(KnownHosts, names=demo.hosts)
    _add_error_handlers(app)
    _add_endpoints(app, demo, predictor)
    app.mount("/", StaticFiles(directory=PAGE_FOLDER, html=True))
    return app


def _add_endpoints(app: FastAPI, demo: Demo, predictor: Predictor) -> None:
    @app.get("/api/model")
    async def about() -> About:
        """Return the model's name and classes, and the limits of uploads."""
        return About(
            model=demo.model_name,
            classes=list(demo.model.categories.names),
            threshold=demo.threshold,
            max_bytes=demo.limits.max_bytes,
            max_pixels=demo.limits.max_pixels,
            examples=list(demo.examples),
        )

    @app.get("/api/examples/{name}", response_class=Response, responses={404: {"model": Refusal}})
    async def example(name: str) -> Response:
        """Return an example image."""
        # The name is looked up among the images in memory and never becomes a path.
        if name not in demo.examples:
            raise HTTPException(404, "There is no example of this name.")
        found = demo.examples[name]
        return Response(found.content, media_type=found.media_type, headers={"X-Content-Type-Options": "nosniff"})

    @app.post(
        "/api/predict", response_model=Found, responses=_REFUSED, openapi_extra={"requestBody": _IMAGE_BODY}
    )
    async def predict(
        request: Request,
        threshold: Annotated[float, Query(ge=0, le=1, description="lowest score of an object")] = demo.threshold,
        name: Annotated[str, Query(max_length=255, description="file_name in the answer")] = "image",
        image: Annotated[bool, Query(description="whether the answer has the image, as the model saw it")] = False,
        in_tiles: Annotated[bool | None, Query(description="cut into tiles (default: if the image is large)")] = None,
    ) -> Response:
        """Find the objects in the image that is the body of the request."""
        options = Options(threshold, name, image, in_tiles)
        return Response(await predictor.answer(request, options), media_type="application/json")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> RedirectResponse:
        return RedirectResponse("/docs.html")


def _add_error_handlers(app: FastAPI) -> None:
    """Give every refusal the form {"detail": text}."""

    @app.exception_handler(RequestValidationError)
    async def wrong_parameter(_: Request, error: RequestValidationError) -> JSONResponse:
        messages = [f"{one['loc'][-1]}: {one['msg']}" for one in error.errors()]
        return JSONResponse({"detail": ".  ".join(messages)}, 422)

    @app.exception_handler(Exception)
    async def failure(_: Request, error: Exception) -> JSONResponse:
        # uvicorn logs the traceback.
        return JSONResponse({"detail": f"The server failed: {type(error).__name__}.  Its log says more."}, 500)
