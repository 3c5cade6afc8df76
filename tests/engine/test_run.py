"""Tests of what a run shows on the terminal, and where everything else goes."""

import logging
import re
import warnings
from pathlib import Path

import pytest
import torch
import yaml

from insta_rtdetr.engine import command_line
from insta_rtdetr.engine.log import RunLog, say
from tests.data import trees
from tests.engine.tiny_training import TinySegmenter, register_dataset, tiny_overrides, write_dataset
from tests.tiny import SMALL

DATASET = "tiny_run"
CONFIG = ["--config-file", "insta_rtdetr_R18vd_D3_640"]
FROM_SCRATCH = ["MODEL.WEIGHTS", ""]


@pytest.fixture
def folder(tmp_path) -> Path:
    write_dataset(tmp_path)
    register_dataset(DATASET, tmp_path)
    return tmp_path


def rows_of(text: str) -> dict[str, str]:
    """Return the rows of the first screen by name."""
    rows, name = {}, ""
    for line in text.split("\n\n")[0].splitlines():
        label, value = re.match(r"(\S+(?: \S+)*)?\s+(.*)", line).groups()
        name = label or name
        rows[name] = f"{rows[name]} {value}" if name in rows else value
    return rows


@pytest.fixture(scope="module")
def fine_tuned(tmp_path_factory) -> tuple[Path, Path]:
    """Return a YOLO dataset of two classes, and the folder of a training of two epochs on it."""
    folder = tmp_path_factory.mktemp("run")
    data = trees.write_yolo(folder / "cups")
    small = _without(SMALL, "SOLVER.MAX_ITER", "TEST.EVAL_PERIOD")
    more = ["SOLVER.MAX_EPOCHS", "2", *FROM_SCRATCH, "OUTPUT_DIR", str(folder / "out")]
    assert command_line.main([*CONFIG, "--dataset", str(data), *small, *more]) == 0
    return data, folder / "out"


def _without(words: list[str], *keys: str) -> list[str]:
    pairs = zip(words[::2], words[1::2])
    return [word for key, value in pairs if key not in keys for word in (key, value)]


def run(capsys, arguments: list[str], code: int = 0) -> str:
    """Run the command line; return what it wrote to stdout, and assert that it wrote nothing else."""
    capsys.readouterr()
    assert command_line.main(arguments) == code
    output = capsys.readouterr()
    assert output.err == ""
    return output.out


def test_the_first_screen_tells_what_is_trained_on_what_and_how(folder, capsys):
    more = {"SOLVER__MAX_EPOCHS": 3, "SOLVER__EARLY_STOPPING__PATIENCE": 5}
    arguments = _without(tiny_overrides(DATASET, folder / "out", **more), "SOLVER.MAX_ITER")
    rows = rows_of(run(capsys, arguments))
    assert list(rows) == [
        "model", "weights", "training", "validation", "schedule", "learning rate", "device", "output", "changed",
    ]  # fmt: skip
    assert re.fullmatch(r"TinySegmenter: \d+ parameters trained, 0 frozen", rows["model"])
    assert rows["weights"] == "none: from scratch"
    assert rows["training"] == f"{DATASET}: 4 images, 4 objects, 1 class (square)"
    assert rows["validation"] == rows["training"] + ", which are also trained on: there is no split for validation"
    assert rows["schedule"] == (
        "3 epochs = 6 iterations of 2 images, evaluated every epoch, stops after 5 evaluations without a better mask AP"
    )
    assert rows["device"].startswith("cpu (") and rows["device"].endswith("float32")
    assert rows["output"].startswith(str(folder / "out"))
    assert rows["changed"].startswith("MODEL.META_ARCHITECTURE TinySegmenter; MODEL.DEVICE cpu; MODEL.NUM_CLASSES 1; ")
    assert rows["changed"].endswith(" more in config.yaml")


def test_progress_tables_and_the_end_follow(folder, capsys):
    text = run(capsys, _without(tiny_overrides(DATASET, folder / "out", SOLVER__MAX_EPOCHS=3), "SOLVER.MAX_ITER"))
    lines = text.split("\n\n")[1].splitlines()
    assert [line.split()[0] for line in lines] == ["epoch", "epoch", "box", "mask"] * 3
    assert lines[0].startswith("epoch 1/3  iteration 2/6  loss ") and lines[0].endswith(" left")
    assert lines[1].split() == ["epoch", "1,", DATASET, "AP", "AP50", "AP75", "small", "medium", "large"]
    end = text.split("\n\n")[2]
    assert end.startswith("Best checkpoint, after epoch ") and str(folder / "out" / "model_best.pth") in end
    assert [line.split()[0] for line in end.splitlines()[1:]] == ["evaluate", "predict", "export"]


def test_everything_else_is_in_the_log_without_colours(fine_tuned):
    log = (fine_tuned[1] / "log.txt").read_text()
    for part in ("Command: ", "PyTorch built with", "BACKBONE_MULTIPLIER", "Average Precision", "loss_vfl", "model   "):
        assert part in log, part
    assert "\x1b" not in log
    assert yaml.safe_load((fine_tuned[1] / "config.yaml").read_text())["SOLVER"]["MAX_EPOCHS"] == 2


def test_a_run_leaves_drawn_images(fine_tuned):
    names = {file.name for file in fine_tuned[1].iterdir()}
    assert {"curves.png", "predictions.png", "worst.png", "metrics.json", "model_best.pth", "model_final.pth"} <= names


def test_the_commands_at_the_end_can_be_given(fine_tuned, tmp_path, capsys):
    out = fine_tuned[1]
    end = (out / "log.txt").read_text().split("Best checkpoint")[1]
    evaluate, predict, _ = (line.split("python -m insta_rtdetr ")[1].split() for line in end.splitlines()[1:4])
    assert evaluate[0] == "evaluate" and predict[0] == "predict"
    text = run(capsys, ["--eval-only", *evaluate[1:], "--output", str(tmp_path), "--verbose"])
    assert rows_of(text)["weights"].startswith(f"{out}/model_best.pth: ") and "class" in text
    assert [line.split()[0] for line in text.split("\n\n")[2].splitlines()] == ["class", "cup", "pen"]
    assert {"log.txt", "predictions.png"} <= {file.name for file in (tmp_path / "inference").iterdir()}


def test_no_table_of_classes_without_verbose(fine_tuned, tmp_path, capsys):
    data, out = fine_tuned
    options = ["--eval-only", "--config-file", str(out / "config.yaml"), "--dataset", str(data)]
    text = run(capsys, [*options, "--weights", str(out / "model_best.pth"), "--output", str(tmp_path)])
    assert "pen " not in text.split("\n\n")[1]


def test_weights_that_do_not_fit_leave_nothing_printed_or_written(folder, capsys):
    torch.save({"model": {"stem.conv.weight": torch.zeros(3)}}, folder / "other.pth")
    arguments = tiny_overrides(DATASET, folder / "out", MODEL__WEIGHTS=str(folder / "other.pth"))
    assert command_line.main(arguments) == 1
    output = capsys.readouterr()
    assert output.out == "" and output.err.startswith("error: ") and output.err.count("\n") == 1
    assert not (folder / "out").exists()


def test_a_missing_training_set_is_the_only_line_without_a_validation_set(folder, capsys):
    (folder / "annotations.json").unlink()
    assert command_line.main(tiny_overrides(DATASET, folder / "out", DATASETS__TEST=())) == 1
    output = capsys.readouterr()
    assert output.out == "" and "annotations.json not found" in output.err and output.err.count("\n") == 1
    assert not (folder / "out").exists()


def test_other_libraries_are_heard_in_the_log_alone(folder, capsys, monkeypatch):
    losses = TinySegmenter._losses

    def talkative(self, *arguments):
        warnings.warn("a library's warning", stacklevel=1)
        logging.getLogger("some.library").warning("a library's log")
        logging.getLogger("insta_rtdetr.data").warning("an image is odd")
        return losses(self, *arguments)

    monkeypatch.setattr(TinySegmenter, "_losses", talkative)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        text = run(capsys, tiny_overrides(DATASET, folder / "out", SOLVER__MAX_ITER=1, DATASETS__TEST=()))
    assert "a library's" not in text and "warning: an image is odd" in text
    log = (folder / "out" / "log.txt").read_text()
    assert "a library's warning" in log and "a library's log" in log


def test_what_is_logged_before_the_folder_is_known_is_kept(tmp_path, capsys):
    with RunLog() as log:
        logging.getLogger("insta_rtdetr.data").warning("early")
        say("not yet")
        assert capsys.readouterr().out == ""
        log.open(tmp_path)
        say("now")
    assert capsys.readouterr().out == "warning: early\nnot yet\nnow\n"
    assert [line.split(": ", 1)[1] for line in (tmp_path / "log.txt").read_text().splitlines()] == [
        "early", "not yet", "now",
    ]  # fmt: skip


def test_loggers_are_as_before_a_run(tmp_path):
    logger = logging.getLogger("insta_rtdetr")
    before = logger.handlers, logger.level, logger.propagate
    with pytest.raises(ZeroDivisionError), RunLog() as log:
        log.open(tmp_path)
        raise ZeroDivisionError
    assert (logger.handlers, logger.level, logger.propagate) == before
