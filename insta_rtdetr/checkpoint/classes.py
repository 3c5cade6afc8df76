"""The rows of a checkpoint that belong to classes: moved by name to another set of classes, never by position."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from detectron2.data import MetadataCatalog
from torch import Tensor

Weights = dict[str, Tensor]
# Layer name (a regular expression) -> rows behind those of the classes; see InstanceSegmenter.class_layers.
ClassLayers = Mapping[str, int]

COCO_DATASET = "coco_2017_val"


def num_extra_rows(name: str, layers: ClassLayers) -> int | None:
    """Rows of a tensor behind those of the classes; None if it has none for classes."""
    return next((extra for layer, extra in layers.items() if re.fullmatch(rf"{layer}\.(weight|bias)", name)), None)


def count_classes(weights: Weights, layers: ClassLayers) -> int | None:
    """How many classes the weights have; None if no tensor has rows for classes."""
    extras = {name: num_extra_rows(name, layers) for name in weights}
    return next((len(weights[name]) - extra for name, extra in extras.items() if extra is not None), None)


@dataclass(frozen=True)
class ClassMatch:
    """How two sets of classes go together.

    Attributes:
        old: names in the checkpoint.
        new: names in the model.
    """

    old: Sequence[str]
    new: Sequence[str]

    @property
    def kept(self) -> list[str]:
        """The model's classes that the checkpoint has."""
        return [name for name in self.new if name in self.old]

    @property
    def added(self) -> list[str]:
        """The model's classes that the checkpoint does not have."""
        return [name for name in self.new if name not in self.old]

    def move(self, weights: Weights, initial: Weights, layers: ClassLayers) -> Weights:
        """The weights with the rows of the model's classes: kept ones from the checkpoint, others as initialised.

        Args:
            weights: of the checkpoint; not changed.
            initial: of the model; tensors with rows for classes are copied from here before they are filled.
            layers: of the model.
        """
        return {name: self._move_tensor(name, value, initial, layers) for name, value in weights.items()}

    def _move_tensor(self, name: str, value: Tensor, initial: Weights, layers: ClassLayers) -> Tensor:
        extra = num_extra_rows(name, layers)
        if extra is None or name not in initial or initial[name].shape[1:] != value.shape[1:]:
            return value
        moved = initial[name].to(value.device, value.dtype, copy=True)
        for row, class_name in enumerate(self.new):
            if class_name in self.old:
                moved[row] = value[self.old.index(class_name)]
        if extra:
            moved[-extra:] = value[-extra:]
        return moved

    def summary(self) -> str:
        """One line: which classes are kept by name, which are new."""
        unused = len(self.old) - len(set(self.kept))
        parts = [
            f"{len(self.kept)} kept by name ({shorten(self.kept) or 'none'})",
            f"{len(self.added)} new, left as initialised ({shorten(self.added) or 'none'})",
        ]
        return "classes: " + "; ".join(parts) + (f"; {unused} of the checkpoint not used" if unused else "")


def guess_class_names(num_classes: int | None) -> list[str]:
    """The classes of a published checkpoint that does not name them: COCO's for 80, else none."""
    coco = MetadataCatalog.get(COCO_DATASET).thing_classes
    return list(coco) if num_classes == len(coco) else []


def shorten(names: Sequence[str], limit: int = 8) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
