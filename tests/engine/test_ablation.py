"""Tests of ablations: reading a list, running it, reading results and writing the report."""

import json
import sys
from pathlib import Path

import pytest
import yaml

from insta_rtdetr.engine.ablation import command_line
from insta_rtdetr.engine.ablation.report import table, write_report
from insta_rtdetr.engine.ablation.runs import Run, read_list, read_result, run_one
from insta_rtdetr.engine.setup import setup_cfg
from insta_rtdetr.errors import UserError

LIST = """
config: insta_rtdetr_R18vd_D3_640
iterations: 4
seeds: [1, 2]
overrides: {SOLVER.BASE_LR: 0.5, INPUT.CROP.SIZE: [32, 48]}
runs:
  - name: plain
  - name: faster
    seeds: [1]
    overrides: {SOLVER.BASE_LR: 2.0}
"""
LISTS = sorted((Path(__file__).parents[2] / "tools" / "ablations").glob("*.yaml"))
# A stand-in for training, which writes the files of a training, with the seed as AP.
TRAIN = """
import json, pathlib, sys
words = sys.argv[1:]
folder, seed = pathlib.Path(words[words.index("OUTPUT_DIR") + 1]), int(words[words.index("SEED") + 1])
(folder / "config.yaml").write_text("SOLVER: {IMS_PER_BATCH: 8}")
with open(folder / "metrics.json", "a") as file:
    for iteration, more in ((1, {"lr": 1, "time": 3.0}), (4, {})):
        file.write(json.dumps({"iteration": iteration, "segm/AP": seed * iteration, "bbox/AP": 1.0} | more) + "\\n")
print("trained", *words)
"""


@pytest.fixture
def runs(tmp_path) -> list[Run]:
    (tmp_path / "list.yaml").write_text(LIST)
    return read_list(tmp_path / "list.yaml", tmp_path / "out")


def test_first_seeds_come_first_and_changes_override_what_is_shared(runs, tmp_path):
    assert [(run.name, run.seed) for run in runs] == [("plain", 1), ("faster", 1), ("plain", 2)]
    assert runs[1].changes == {"SOLVER.BASE_LR": 2.0}
    assert runs[1].overrides == {"SOLVER.BASE_LR": 2.0, "INPUT.CROP.SIZE": [32, 48]}
    assert runs[2].folder == tmp_path / "out" / "plain" / "seed_2"


def test_the_command_trains_all_runs_with_its_dataset_and_weights_and_reports(tmp_path, monkeypatch):
    monkeypatch.setattr(command_line, "TRAIN", [sys.executable, "-c", TRAIN])
    (tmp_path / "list.yaml").write_text(LIST)
    arguments = [str(tmp_path / "list.yaml"), "--dataset", "mine", "--weights", "a.pth", "--output", str(tmp_path)]
    assert command_line.main(arguments) == 0
    said = (tmp_path / "faster" / "seed_1" / "output.txt").read_text()
    assert said.startswith("trained --config-file insta_rtdetr_R18vd_D3_640 --dataset mine ")
    assert " MODEL.WEIGHTS a.pth " in said
    assert "| plain |" in (tmp_path / "ablation.md").read_text()


def test_the_command_ends_with_1_when_a_run_fails_and_trains_nothing_for_a_report(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command_line, "TRAIN", [sys.executable, "-c", "raise SystemExit(2)"])
    (tmp_path / "list.yaml").write_text(LIST)
    arguments = [str(tmp_path / "list.yaml"), "--output", str(tmp_path)]
    assert command_line.main([*arguments, "--report-only"]) == 0
    assert command_line.main(arguments) == 1
    assert command_line.main(["absent.yaml"]) == 1
    assert "absent.yaml" in capsys.readouterr().err


def test_arguments_are_read_by_the_training_and_resume_a_run_that_has_a_checkpoint(runs):
    words = runs[1].arguments()
    cfg = setup_cfg(words[1], words[2:])
    assert (cfg.SOLVER.BASE_LR, cfg.SOLVER.MAX_ITER, cfg.SEED) == (2.0, 4, 1)
    assert tuple(cfg.INPUT.CROP.SIZE) == (32, 48)
    assert "--resume" not in words
    runs[1].folder.mkdir(parents=True)
    (runs[1].folder / "last_checkpoint").write_text("model_0000001.pth")
    assert "--resume" in runs[1].arguments()


@pytest.mark.parametrize(
    "text, part",
    [
        ("", "`runs`"),
        ("runs: [{name: a}]", "'a' has no config"),
        ("{config: a, iterations: 1, runs: [{name: a}, {name: a}]}", "'a' twice"),
        ("{config: a, iterations: 1, runs: [{name: a, seed: 3}]}", "'seed'"),
        ("{runs: [}", "cannot be read"),
    ],
)
def test_a_wrong_list_is_refused_with_what_is_wrong(tmp_path, text, part):
    (tmp_path / "list.yaml").write_text(text)
    with pytest.raises(UserError, match=part):
        read_list(tmp_path / "list.yaml", tmp_path)


@pytest.mark.parametrize("file", LISTS, ids=lambda file: file.stem)
def test_lists_of_the_repository_name_configs_and_keys_that_exist(file, tmp_path):
    for run in read_list(file, tmp_path):
        words = run.arguments()
        setup_cfg(words[1], words[2:])


def test_complete_runs_are_not_trained_again_and_failed_ones_are_told(runs):
    assert read_result(runs[0]) is None
    assert run_one(runs[0], [sys.executable, "-c", TRAIN])
    assert run_one(runs[0], [sys.executable, "-c", "raise SystemExit(1)"])
    assert not run_one(runs[1], [sys.executable, "-c", "raise SystemExit('no such key')"])
    assert (runs[1].folder / "output.txt").read_text() == "no such key\n"


def test_a_run_without_its_last_evaluation_is_not_complete(runs):
    run_one(runs[0], [sys.executable, "-c", TRAIN])
    longer = Run(**{**runs[0].__dict__, "iterations": 5})
    assert read_result(runs[0]).is_complete and not read_result(longer).is_complete


def test_report_has_means_spreads_and_differences(runs, tmp_path):
    for run in runs:
        run_one(run, [sys.executable, "-c", TRAIN])
    results = [read_result(run) for run in runs]
    write_report(results, tmp_path)
    lines = (tmp_path / "ablation.md").read_text().splitlines()
    # Seeds 1 and 2 have AP 4 and 8, whose mean is 6 and whose standard deviation is 2.8.
    assert lines[2] == "| plain |  | 6.0 ± 2.8 |  | 1.0 ± 0.0 | 2 | 32 | 3.00, 3.00 |"
    assert lines[3] == "| faster | `SOLVER.BASE_LR 2.0` | 4.0 | -2.0 | 1.0 | 1 | 32 | 3.00 |"
    numbers = json.loads((tmp_path / "ablation.json").read_text())
    assert numbers[2]["curves"]["segm/AP"] == [[16, 2], [32, 8]]
    assert {file.name for file in tmp_path.glob("*.png")} == {"ablation.png", "curves.png"}


def test_a_detector_has_a_table_too(runs):
    run_one(runs[0], [sys.executable, "-c", TRAIN])
    result = read_result(runs[0])
    del result.curves["segm/AP"]
    assert "| 1.0 |" in table({"plain": [result]})


def test_lists_are_yaml_that_says_what_they_are_for():
    assert LISTS and all(file.read_text().startswith("#") and yaml.safe_load(file.read_text()) for file in LISTS)
