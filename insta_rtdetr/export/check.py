"""Whether an exported file is as good as the model: by the AP on a dataset, or by the objects in a few images."""

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

# Images that are given at a time to a file that takes any number.
COMPARED_BATCH = 3
TASKS = {"segm": "mask AP", "bbox": "box AP"}


class ObjectCheck:
    """Compares the objects that model and file find in images."""

    def __init__(self, model: Model, images: list[np.ndarray]) -> None:
        """Keep what is compared.

        Args:
            model: that was exported.
            images: (H, W, 3), uint8, RGB.
        """
        self.model, self.images = model, images

    def __call__(self, file: Path) -> bool:
        """Tell whether the objects agree, within the tolerance of the file's precision; a table goes to stdout."""
        exported = ExportedModel(file)
        parity = compare(self.model, exported, self.images)
        sys.stdout.write(f"{facts(exported)}\n{parity.to_table()}\n")
        return parity.passed


class AccuracyCheck:
    """Compares the AP of model and file on the validation split of a dataset."""

    def __init__(self, model: Model, max_drop: float) -> None:
        """Evaluate the model on the first dataset of its config's DATASETS.TEST.

        Args:
            model: that was exported.
            max_drop: of the mask AP, in points of 100.

        Raises:
            UserError: there is no such dataset, or the model finds nothing in it.
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
        """Tell whether the mask AP has dropped by no more than is allowed; a table goes to stdout."""
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
    """One line on a file: what it is, and how it is computed here."""
    metadata, session = exported.metadata, exported.session
    return f"{metadata.model}: {session.runtime}, {metadata.precision}, computed in {session.precision}"


def average_precisions(predictor: Predictor, cfg: CfgNode, name: str, records: list[dict]) -> dict[str, float]:
    """Evaluate.

    Args:
        predictor: model or exported file.
        cfg: says what is evaluated, and how.
        name: of a registered dataset.
        records: of that dataset.

    Returns:
        AP of masks ("segm") and, where the dataset's evaluator gives it, of boxes ("bbox"), 0 to 100.
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
    """Both on the same images, whatever the scores."""
    metadata = exported.metadata
    if metadata.with_postprocess:
        # Masks are made for the input's pixels; in an image of another size they would be resized once more.
        images = [np.asarray(Image.fromarray(image).resize(metadata.size[::-1])) for image in images]
    batch_size = COMPARED_BATCH if metadata.dynamic_batch else 1
    return compare_predictors(model, exported, images, metadata.precision, batch_size)


def compare_predictors(
    model: Predictor, other: Predictor, images: list[np.ndarray], precision: str, batch_size: int = 1
) -> Parity:
    """Compare what two predictors find.

    Args:
        model: what the other should be like.
        other: computes in the precision.
        images: (H, W, 3), uint8, RGB.
        precision: a key of `TOLERANCES`.
        batch_size: images given at a time.
    """
    parity = Parity(TOLERANCES[precision])
    for expected, found in zip(model.predict(images, 0.0, batch_size), other.predict(images, 0.0, batch_size)):
        parity.add(expected, found)
    return parity
