"""What an exported file says of itself: all that is needed to use it."""

import dataclasses
import json
from dataclasses import dataclass

from insta_rtdetr.errors import UserError

# Where each format keeps the metadata.
KEY = "insta_rtdetr"
MODEL_FILE = "model.xml"  # within the folder of an OpenVINO model
INPUT_NAME = "images"
# The last one is only there where `insta_rtdetr.export.network.TopObjects.forward` says so.
OUTPUT_NAMES = ("classes", "scores", "boxes", "masks", "class_scores")


@dataclass(frozen=True)
class Metadata:
    """Written into the file as JSON.

    Attributes:
        model: name of the config.
        architecture: Detectron2's name of the model's class.
        class_names: of class 0, 1, 2 ...
        category_ids: their ids in COCO files.
        size: (height, width) that images are stretched to, pixels.
        channels: their order, "RGB" or "BGR"; values are 0 to 255.
        pixel_mean, pixel_std: of the channels; the exported network normalises by itself.
        postprocessor: class in `insta_rtdetr.modeling.postprocessing` that makes the final objects.
        max_objects: objects `N` that the network gives for an image, whatever their scores.
        score_threshold: objects with a lower score are left out.
        mask_threshold: probability above which a pixel belongs to an object.
        mask_resize: what of a mask is enlarged, see TEST.MASK_RESIZE.
        nms_threshold: see TEST.NMS_THRESHOLD; not in the network, `predict` does it.
        with_postprocess: whether masks are those of pixels of the input, else logits of the mask map.
        precision: "fp32", "fp16" or "bf16".
        dynamic_batch: whether any number of images can be given at a time, else one.
        version: of insta_rtdetr.
    """

    model: str
    architecture: str
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    size: tuple[int, int]
    channels: str
    pixel_mean: tuple[float, ...]
    pixel_std: tuple[float, ...]
    postprocessor: str
    max_objects: int
    score_threshold: float
    mask_threshold: float
    mask_resize: str
    nms_threshold: float
    with_postprocess: bool
    precision: str
    dynamic_batch: bool
    version: str

    def to_json(self) -> str:
        """One line."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str | None, file: str) -> "Metadata":
        """Read.

        Raises:
            UserError: the file has none, or those of another version.
        """
        try:
            values = json.loads(text or "")
            return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})
        except (ValueError, TypeError, AttributeError) as error:
            raise UserError(f"{file} has no metadata of insta_rtdetr.  Make it with tools/export.py.") from error
