"""A stand-in for a network, which finds discs by their grey value, and images of discs."""

import numpy as np
import torch
from detectron2.structures import Boxes, Instances
from scipy import ndimage

from insta_rtdetr.layers.boxes import boxes_of_occupied
from insta_rtdetr.predict.categories import Categories
from insta_rtdetr.predict.predictor import Predictor

HEIGHT, WIDTH = 150, 210


def disc(y: float, x: float, radius: float) -> np.ndarray:
    rows, columns = np.ogrid[:HEIGHT, :WIDTH]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def draw(*discs: tuple[float, float, float]) -> np.ndarray:
    """Image (H, W, 3) on which disc i has the grey value i + 1."""
    image = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    for number, one in enumerate(discs, start=1):
        image[disc(*one)] = number
    return image


def find_grey(images: list[np.ndarray]) -> list[Instances]:
    """Stand-in for a network: each connected region of one grey value is an object of class 0, with score 0.9."""
    return [found_in(image[:, :, 0]) for image in images]


def found_in(grey: np.ndarray, score: float = 0.9) -> Instances:
    masks = []
    for value in np.unique(grey[grey > 0]):
        labels, count = ndimage.label(grey == value)
        masks += [labels == label for label in range(1, count + 1)]
    instances = Instances(grey.shape)
    instances.pred_masks = torch.from_numpy(np.array(masks, dtype=bool).reshape(-1, *grey.shape))
    occupied = instances.pred_masks
    instances.pred_boxes = Boxes(boxes_of_occupied(occupied.any(1), occupied.any(2)))
    instances.scores = torch.full((len(masks),), score)
    instances.pred_classes = torch.zeros(len(masks), dtype=torch.int64)
    return instances


class GreyModel(Predictor):
    """Model of the class "disc" that predicts with `find_grey`."""

    categories = Categories(("disc",), (1,))

    def find(self, images: list[np.ndarray], threshold: float) -> list[Instances]:
        """Find the discs; see `Predictor.find`."""
        return [found[found.scores >= threshold] for found in find_grey(images)]
