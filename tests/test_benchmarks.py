"""COCO, Cityscapes and ADE20K, each through train_net.py with its configs, on tiny datasets in their formats."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.data import trees

REPOSITORY = Path(__file__).resolve().parents[1]
CONFIGS = {
    "coco": ("insta_rtdetr_R50vd_D3_640", "fastinst_R50_ppm-fpn_x3_640"),
    "cityscapes": ("insta_rtdetr_R50vd_D3_512x1024", "fastinst_R50_ppm-fpn_x3_1024"),
    "ade20k": ("insta_rtdetr_R50vd_D3_640", "fastinst_R50_ppm-fpn_x3_640"),
}
SCORES = {"Oracle": 100.0, "HalfBlindOracle": 50.0, "ConfusedOracle": 0.0}
VIEWS = ("TEST.TILE.SIZE 64", "TEST.AUG.ENABLED True", "TEST.AUG.ENABLED True TEST.TILE.SIZE 64")
# In a process of its own, which finds the datasets where the environment says, as a user's does.
SCRIPT = """
import contextlib, json, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
import train_net
from datasets import prepare_ade20k_instance
from insta_rtdetr.engine import Trainer, hooks
from tests.data import oracle
from tests.tiny import SMALL

root, runs = Path(sys.argv[1]), json.loads(sys.argv[2])
measured = {}
real = Trainer.test.__func__
def record(cls, cfg, model, evaluators=None):
    measured["last"] = real(cls, cfg, model, evaluators)
    return measured["last"]
Trainer.test = classmethod(record)
hooks.draw_curves = lambda *_: None  # takes longer than the trainings
torch.save({"model": {"weight": torch.zeros(1)}}, root / "oracle.pth")
assert prepare_ade20k_instance.main([str(root / "ADEChallengeData2016")]) == 0
results = {}
for name, arguments in runs.items():
    measured.clear()
    code = train_net.main(arguments + SMALL * ("oracle.pth" not in str(arguments)))
    results[name] = [code, measured.get("last", {}).get("segm", {}).get("AP")]
(root / "results.json").write_text(json.dumps(results))
"""


def training(root: Path, dataset: str, config: str) -> list[str]:
    return [
        "--config-file", str(REPOSITORY / "configs" / dataset / "instance-segmentation" / f"{config}.yaml"),
        "MODEL.WEIGHTS", "", "OUTPUT_DIR", str(root / "out" / dataset / config),
    ]  # fmt: skip


def evaluation(root: Path, dataset: str, model: str) -> list[str]:
    weights = ["MODEL.META_ARCHITECTURE", model, "MODEL.WEIGHTS", str(root / "oracle.pth"), "MODEL.DEVICE", "cpu"]
    return ["--eval-only", *training(root, dataset, CONFIGS[dataset][0]), *weights, "DATALOADER.NUM_WORKERS", "0"]


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> dict[str, tuple[int, float]]:
    """Exit code and mask AP of every run."""
    root = tmp_path_factory.mktemp("datasets")
    trees.write_coco(root / "coco")
    trees.write_cityscapes(root / "cityscapes")
    trees.write_ade20k(root / "ADEChallengeData2016")
    runs = {f"{data}/{config}": training(root, data, config) for data, names in CONFIGS.items() for config in names}
    runs |= {f"{data}/{model}": evaluation(root, data, model) for data in CONFIGS for model in SCORES}
    runs |= {f"cityscapes/{keys}": [*evaluation(root, "cityscapes", "SeeingOracle"), *keys.split()] for keys in VIEWS}
    environment = os.environ | {"DETECTRON2_DATASETS": str(root), "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(root), json.dumps(runs)],
        cwd=REPOSITORY, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr[-3000:]
    return json.loads((root / "results.json").read_text())


@pytest.mark.parametrize("dataset, config", [(data, config) for data, names in CONFIGS.items() for config in names])
def test_a_benchmark_trains_and_is_evaluated(results, dataset, config):
    code, ap = results[f"{dataset}/{config}"]
    assert code == 0 and ap is not None


@pytest.mark.parametrize("model, expected", SCORES.items())
@pytest.mark.parametrize("dataset", CONFIGS)
def test_known_predictions_score_what_they_must(results, dataset, model, expected):
    code, ap = results[f"{dataset}/{model}"]
    assert code == 0 and ap == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("keys", VIEWS)
def test_views_of_images_can_be_scored_by_cityscapes(results, keys):
    assert results[f"cityscapes/{keys}"] == [0, pytest.approx(100.0)]
