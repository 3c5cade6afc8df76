"""Checks of an exported file against its model, by the AP on a dataset or by the objects in a few images."""

import contextlib
import io
import sys
import tempfile
from pathlib import Path

import numpy as np
from detectron2.config import CfgNode
from PIL import Image
from tabulate import tabulate

from insta_rtdetr.engine.data import load_test_dataset
from insta_rtdetr.errors import UserError
from insta_rtdetr.evaluation import build_evaluator
from insta_rtdetr.predict.exported import ExportedModel
from insta_rtdetr.predict.model import Model
from insta_rtdetr.predict.predictor import Predictor
from insta_rtdetr.visualization import read_image

from .parity import TOLERANCES, Parity

# Number of images in a batch for a file with a dynamic batch size.
COMPARED_BATCH = 3
TASKS = {"segm": "mask AP", "bbox": "box AP"}


class ObjectCheck:
    """Check that compares the objects that model and file find in images."""

    def __init__(self, model: Model, images: list[np.ndarray]) -> None:
        """Set up the check.

        Args:
            model: the exported model.
            images: the images, (H, W, 3), uint8, RGB.
        """
        self.model, self.images = model, images

    def __call__(self, file: Path) -> bool:
        """Return whether the objects agree within the tolerance of the file's precision; write a table to stdout."""
        exported = ExportedModel(file)
        parity = compare(self.model, exported, self.images)
        sys.stdout.write(f"{facts(exported)}\n{parity.to_table()}\n")
        return parity.passed


class AccuracyCheck:
    """Check that compares the AP of model and file on the validation split of a dataset."""

    def __init__(self, model: Model, max_drop: float) -> None:
        """Evaluate the model on the first dataset of its config's DATASETS.TEST.

        Args:
            model: the exported model.
            max_drop: largest accepted drop of the mask AP, in points of 100.

        Raises:
            UserError: there is no such dataset, or the model's mask AP on it is 0.
        """
        if not model.cfg.DATASETS.TEST:
            raise UserError("--dataset has no validation split to check the AP on.  Add one, or give --images instead.")
        self.cfg, self.name, self.max_drop = model.cfg, model.cfg.DATASETS.TEST[0], max_drop
        self.records = load_test_dataset(self.cfg, self.name)
        self.expected = average_precisions(model, self.cfg, self.name, self.records)
        if not self.expected["segm"] > 0:
            raise UserError(
                f"The model's mask AP on {self.name} is {self.expected['segm']:.1f}: nothing to compare.  Give "
                "trained --weights, or --images instead of --dataset."
            )

    def __call__(self, file: Path) -> bool:
        """Return whether the mask AP has dropped by at most `max_drop`, and write a table to stdout."""
        exported = ExportedModel(file)
        found = average_precisions(exported, self.cfg, self.name, self.records)
        passed = self.expected["segm"] - found["segm"] <= self.max_drop
        precision = exported.metadata.precision
        headers = [f"{self.name}, {len(self.records)} images", "float32 model", f"{precision} file", "drop"]
        rows = [
            [TASKS[task], f"{expected:.2f}", f"{found[task]:.2f}", f"{expected - found[task]:.2f}"]
            for task, expected in self.expected.items()
        ]
        verdict = "passed" if passed else "FAILED"
        table = tabulate(rows, headers=headers, disable_numparse=True)
        sys.stdout.write(f"{facts(exported)}\n{table}\naccuracy: {verdict}, the mask AP may drop by {self.max_drop}\n")
        sys.stdout.flush()
        return passed


def facts(exported: ExportedModel) -> str:
    """Describe a file in one line: model, runtime, precision, and the precision in which it is computed here."""
    metadata, session = exported.metadata, exported.session
    return f"{metadata.model}: {session.runtime}, {metadata.precision}, computed in {session.precision}"


def average_precisions(predictor: Predictor, cfg: CfgNode, name: str, records: list[dict]) -> dict[str, float]:
    """Evaluate a model or an exported file on a dataset.

    Args:
        predictor: the model or exported file.
        cfg: config of the evaluation.
        name: name of a registered dataset.
        records: dataset dicts of that dataset.

    Returns:
        AP of masks ("segm") and, if the dataset's evaluator computes it, of boxes ("bbox"), 0 to 100.
    """
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        evaluator = build_evaluator(cfg, name, folder)
        evaluator.reset()
        for record in records:
            (instances,) = predictor.find([read_image(record["file_name"])], cfg.TEST.SCORE_THRESHOLD)
            evaluator.process([record], [{"instances": instances}])
        results = evaluator.evaluate()
    return {task: float(results[task]["AP"]) for task in TASKS if task in results}


def compare(model: Predictor, exported: ExportedModel, images: list[np.ndarray]) -> Parity:
    """Compare model and file on the same images, with objects of all scores."""
    metadata = exported.metadata
    if metadata.with_postprocess:
        # The masks have the size of the input; for an image of another size they would be resized a second time.
        images = [np.asarray(Image.fromarray(image).resize(metadata.size[::-1])) for image in images]
    batch_size = COMPARED_BATCH if metadata.dynamic_batch else 1
    return compare_predictors(model, exported, images, metadata.precision, batch_size)


def compare_predictors(
    model: Predictor, other: Predictor, images: list[np.ndarray], precision: str, batch_size: int = 1
) -> Parity:
    """Compare the objects that two predictors find.

    Args:
        model: the reference.
        other: the predictor that is compared with it.
        images: the images, (H, W, 3), uint8, RGB.
        precision: precision of `other`, a key of `TOLERANCES`.
        batch_size: number of images at a time.
    """
    parity = Parity(TOLERANCES[precision])
    for expected, found in zip(model.predict(images, 0.0, batch_size), other.predict(images, 0.0, batch_size)):
        parity.add(expected, found)
    return parity
