"""Metadata of an exported file: all that is needed to use it."""

import dataclasses
import json
from dataclasses import dataclass

from insta_rtdetr.errors import UserError

# Key under which each format stores the metadata.
KEY = "insta_rtdetr"
MODEL_FILE = "model.xml"  # File in the folder of an OpenVINO model.
INPUT_NAME = "images"
# The last output exists only in the cases that `insta_rtdetr.export.network.TopObjects.forward` describes.
OUTPUT_NAMES = ("classes", "scores", "boxes", "masks", "class_scores")


@dataclass(frozen=True)
class Metadata:
    """Metadata that is written into the file as JSON.

    Attributes:
        model: name of the config.
        architecture: name under which the model's class is registered with Detectron2.
        class_names: names of class 0, 1, 2, ...
        category_ids: ids of these classes in COCO files.
        size: (height, width) that images are stretched to, in pixels.
        channels: order of the input's channels, "RGB" or "BGR"; its values are 0 to 255.
        pixel_mean, pixel_std: mean and standard deviation of the channels; the exported network normalises by itself.
        postprocessor: name of the class in `insta_rtdetr.modeling.postprocessing` that makes the final objects.
        max_objects: number of objects `N` that the network gives for an image, whatever their scores.
        score_threshold: objects with a lower score are left out.
        mask_threshold: probability above which a pixel belongs to an object.
        mask_resize: quantity of a mask that is resized, see TEST.MASK_RESIZE.
        nms_threshold: see TEST.NMS_THRESHOLD; `predict` applies it, and the network only if its model does.
        with_postprocess: whether the masks are those of the input's pixels; else they are logits of the mask map.
        precision: "fp32", "fp16", "bf16" or "int8".
        dynamic_batch: whether any number of images can be given at a time, else one.
        version: of insta_rtdetr.
        predicts_boxes: whether boxes are predicted; else they are those around the masks.
        random_flip: INPUT.RANDOM_FLIP of the training, which says what flips `predict(augment=True)` uses.
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
    predicts_boxes: bool = True
    random_flip: str = "horizontal"

    def to_json(self) -> str:
        """Return the metadata as one line of JSON."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str | None, file: str) -> "Metadata":
        """Read the metadata from JSON.

        Raises:
            UserError: the file has no metadata, or those of another version.
        """
        try:
            values = json.loads(text or "")
            return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})
        except (ValueError, TypeError, AttributeError) as error:
            raise UserError(f"{file} has no metadata of insta_rtdetr.  Make it with tools/export.py.") from error
