"""Schemas of the endpoints' answers, for their OpenAPI description."""

from pydantic import BaseModel, Field


class Segmentation(BaseModel):
    """Mask in COCO's run-length code."""

    size: list[int] = Field(description="height and width of the image", min_length=2, max_length=2)
    counts: str = Field(description="compressed runs, as pycocotools.mask.decode takes them")


class Annotation(BaseModel):
    """Object that was found."""

    id: int
    image_id: int
    iscrowd: int
    category_id: int
    bbox: list[float] = Field(description="left, top, width, height in pixels", min_length=4, max_length=4)
    score: float = Field(ge=0, le=1)
    area: int | None = Field(None, description="of the mask, in pixels")
    segmentation: Segmentation | None = Field(None, description="missing if the model finds boxes only")


class CocoImage(BaseModel):
    """Image, upright, as an entry of the COCO file."""

    id: int
    file_name: str
    height: int
    width: int


class Category(BaseModel):
    """Class of the model."""

    id: int
    name: str


class Timing(BaseModel):
    """Times that the server took, in seconds."""

    wait: float = Field(description="for images that came before")
    read: float = Field(description="unpacking the file")
    predict: float = Field(description="network and masks")
    encode: float = Field(description="run-length code of the masks, and the image")


class Found(BaseModel):
    """COCO file with one image; its annotations are sorted by score, the highest first."""

    images: list[CocoImage]
    categories: list[Category]
    annotations: list[Annotation]
    timing: Timing
    in_tiles: bool = Field(description="whether the image was cut into tiles")
    image: str | None = Field(None, description="the upright image as a data URL (JPEG), if it was asked for")


class About(BaseModel):
    """Description of the model, and of the uploads that the server takes."""

    model: str
    classes: list[str]
    threshold: float = Field(description="where the page's threshold starts")
    max_bytes: int = Field(description="of a file")
    max_pixels: int = Field(description="of an image")
    examples: list[str] = Field(description="names for /api/examples/{name}")


class Refusal(BaseModel):
    """Reason why a request was refused."""

    detail: str
