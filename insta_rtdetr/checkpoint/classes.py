"""Moving the rows of a checkpoint that belong to classes to another set of classes, by name and never by position."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from detectron2.data import MetadataCatalog
from torch import Tensor

Weights = dict[str, Tensor]
# Layer name (a regular expression) -> number of rows after those of the classes; see InstanceSegmenter.class_layers.
ClassLayers = Mapping[str, int]

# Of Detectron2's R-CNNs.
_RCNN_CLASSES = r"roi_heads\.box_predictor(\.\d)?\.cls_score"
_RCNN_BOXES = r"roi_heads\.box_predictor(\.\d)?\.bbox_pred"
_RCNN_MASKS = r"roi_heads\.mask_head\.predictor"
COCO_DATASET = "coco_2017_val"


def num_extra_rows(name: str, layers: ClassLayers) -> int | None:
    """Return the number of rows of a tensor after those of the classes; None if the tensor has no rows for classes."""
    return next((extra for layer, extra in layers.items() if re.fullmatch(rf"{layer}\.(weight|bias)", name)), None)


def rcnn_class_layers(weights: Weights) -> ClassLayers:
    """Return the class layers of a Detectron2 R-CNN, given its state dict.

    Boxes have four rows for each class, or four rows alone (MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG).
    """
    layers = {_RCNN_CLASSES: 1, _RCNN_MASKS: 0}
    num_classes = count_classes(weights, layers)
    rows = [len(value) for name, value in weights.items() if num_extra_rows(name, {_RCNN_BOXES: 0}) is not None]
    is_by_class = num_classes is not None and all(count == 4 * num_classes for count in rows)
    return layers | ({_RCNN_BOXES: 0} if is_by_class else {})


def count_classes(weights: Weights, layers: ClassLayers) -> int | None:
    """Return the number of classes of the weights; None if no tensor has rows for classes."""
    for layer, extra in layers.items():
        if found := next((name for name in weights if num_extra_rows(name, {layer: extra}) is not None), None):
            return len(weights[found]) - extra
    return None


@dataclass(frozen=True)
class ClassMatch:
    """Correspondence of two sets of classes by their names.

    Attributes:
        old: class names in the checkpoint.
        new: class names in the model.
    """

    old: Sequence[str]
    new: Sequence[str]

    @property
    def kept(self) -> list[str]:
        """Return the model's classes that the checkpoint has."""
        return [name for name in self.new if name in self.old]

    @property
    def added(self) -> list[str]:
        """Return the model's classes that the checkpoint does not have."""
        return [name for name in self.new if name not in self.old]

    def move(self, weights: Weights, initial: Weights, layers: ClassLayers) -> Weights:
        """Return the weights with the rows of the model's classes.

        The rows of classes that the checkpoint has come from it; the others stay as initialised.

        Args:
            weights: weights of the checkpoint; they are not changed.
            initial: weights of the model; tensors with rows for classes are copied from here before they are filled.
            layers: class layers of the model.
        """
        return {name: self._move_tensor(name, value, initial, layers) for name, value in weights.items()}

    def _move_tensor(self, name: str, value: Tensor, initial: Weights, layers: ClassLayers) -> Tensor:
        extra = num_extra_rows(name, layers)
        if extra is None or name not in initial or initial[name].shape[1:] != value.shape[1:]:
            return value
        if len(self.old) != len(self.new) and initial[name].shape == value.shape:
            return value  # Its rows are the same for all classes.
        moved = initial[name].to(value.device, value.dtype, copy=True)
        count = (len(value) - extra) // len(self.old)
        for i, class_name in enumerate(self.new):
            if class_name in self.old:
                first = self.old.index(class_name) * count
                moved[i * count : (i + 1) * count] = value[first : first + count]
        if extra:
            moved[-extra:] = value[-extra:]
        return moved

    def summary(self) -> str:
        """Return one line that says which classes are kept by name and which are new."""
        unused = len(self.old) - len(set(self.kept))
        parts = [
            f"{len(self.kept)} kept by name ({shorten(self.kept) or 'none'})",
            f"{len(self.added)} new, left as initialised ({shorten(self.added) or 'none'})",
        ]
        return "classes: " + "; ".join(parts) + (f"; {unused} of the checkpoint not used" if unused else "")


def guess_class_names(num_classes: int | None) -> list[str]:
    """Return the classes of a published checkpoint that does not name them: COCO's for 80 classes, else none."""
    coco = MetadataCatalog.get(COCO_DATASET).thing_classes
    return list(coco) if num_classes == len(coco) else []


def shorten(names: Sequence[str], limit: int = 8) -> str:
    """Return the first few names, and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
