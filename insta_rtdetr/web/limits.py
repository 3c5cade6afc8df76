"""Limits of uploads, which the functions that read and decode uploads enforce."""

import asyncio
import io
from dataclasses import dataclass

import numpy as np
from fastapi import HTTPException, Request
from PIL import Image
from starlette.requests import ClientDisconnect

from insta_rtdetr.image_file import UNREADABLE, reason_unreadable, upright_rgb

MEGA = 10**6
# Of an upload, and of a pause within it: each upload takes one of few places.
UPLOAD_SECONDS, PAUSE_SECONDS = 60, 10
# A browser shows the refusal of an upload only if the upload is read to its end.  So uploads are read up to this many
# times the limit, and what is beyond the limit is forgotten.
READ_AND_FORGOTTEN = 8
# Image formats that Pillow reads by itself.  Other formats start programs (EPS) or are not used for photographs.
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "PPM")


@dataclass(frozen=True)
class Limits:
    """Limits of uploads.

    Attributes:
        max_bytes: largest size of an uploaded file in bytes.
        max_pixels: largest number of pixels of an image, which decides how much memory its masks need.
        max_requests: largest number of requests that are read, wait or are predicted at the same time.
    """

    max_bytes: int = 20 * MEGA
    max_pixels: int = 16 * MEGA
    max_requests: int = 16


async def read_upload(request: Request, limits: Limits) -> bytes:
    """Read the body of a request.

    Raises:
        HTTPException: it is empty, too large, or too slow; or nobody waits for the answer any more.
    """
    try:
        async with asyncio.timeout(UPLOAD_SECONDS):
            body = await _read_body(request, limits.max_bytes)
    except TimeoutError as error:
        seconds = f"{UPLOAD_SECONDS} seconds, or paused for {PAUSE_SECONDS}"
        raise HTTPException(408, f"The image did not arrive within {seconds}.") from error
    except ClientDisconnect as error:
        raise HTTPException(400, "The upload was given up.") from error
    if not body:
        raise HTTPException(400, "The file is empty.  Send an image as the body of the request.")
    return body


async def _read_body(request: Request, max_bytes: int) -> bytes:
    chunks: list[bytes] = []
    num_bytes = 0
    async with asyncio.timeout(PAUSE_SECONDS) as pause:
        async for chunk in request.stream():
            pause.reschedule(asyncio.get_running_loop().time() + PAUSE_SECONDS)
            num_bytes += len(chunk)
            if num_bytes <= max_bytes:
                chunks.append(chunk)
            else:
                chunks.clear()
            if num_bytes > READ_AND_FORGOTTEN * max_bytes:
                break
    if num_bytes > max_bytes:
        raise HTTPException(413, f"The file is larger than {max_bytes / MEGA:g} MB.  Choose a smaller one.")
    return b"".join(chunks)


def decode_upload(content: bytes, limits: Limits) -> np.ndarray:
    """Decode an image file as uint8 (H, W, 3), RGB, upright; see `upright_rgb`.

    Raises:
        HTTPException: it is no image, damaged, or has too many pixels, which is checked before they are decoded.
    """
    try:
        with Image.open(io.BytesIO(content), formats=_formats()) as image:
            width, height = image.size
            if width * height > limits.max_pixels:
                raise HTTPException(
                    413,
                    f"The image has {width} x {height} pixels, {width * height / MEGA:.1f} million; the limit is "
                    f"{limits.max_pixels / MEGA:g} million.  Choose a smaller one.",
                )
            return upright_rgb(image)
    except Image.DecompressionBombError as error:
        raise HTTPException(413, f"The image is too large: {reason_unreadable(error)}") from error
    except Image.UnidentifiedImageError as error:
        raise HTTPException(415, f"The file is no image.  Choose one of {', '.join(_formats())}.") from error
    except UNREADABLE as error:
        raise HTTPException(400, f"The image is broken: {reason_unreadable(error)}") from error


def _formats() -> list[str]:
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]
