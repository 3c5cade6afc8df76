"""Bad input ends in one line on stderr and exit code 1, and leaves everything as it was."""

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import train_net
from tests.engine.tiny_training import TinySegmenter, register_dataset, tiny_overrides, write_dataset
from tests.tiny import tiny_config

REPOSITORY = Path(__file__).resolve().parents[1]
DATASET = "tiny_train_net"


@pytest.fixture
def folder(tmp_path, empty_curves) -> Path:
    write_dataset(tmp_path)
    register_dataset(DATASET, tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def loggers_as_before():
    """Detectron2's log handlers hold on to the stdout of one test and to the files of its folder."""
    loggers = [logging.getLogger(name) for name in ("detectron2", "fvcore", "insta_rtdetr")]
    before = [(logger, list(logger.handlers), logger.propagate, logger.level) for logger in loggers]
    yield
    for logger, logger.handlers, logger.propagate, level in before:
        logger.setLevel(level)


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def fails(capsys, arguments: list[str], *parts: str) -> str:
    """Assert that the command line ends with exit code 1 and one line that has these parts."""
    capsys.readouterr()
    assert train_net.main(arguments) == 1
    line = capsys.readouterr().err
    assert line.startswith("error: ") and line.count("\n") == 1, line
    for part in parts:
        assert part in line, line
    return line


@pytest.mark.parametrize(
    "arguments, parts",
    [
        (["--config-file", "absent.yaml"], ["absent.yaml", "Give an existing yaml file"]),
        (["--confg"], ["--confg", "--help"]),
        (["SOLVER.BASE_LRR", "0.1"], ["SOLVER.BASE_LRR", "nearest is SOLVER.BASE_LR"]),
        (["SOLVER.BASE_LR", "fast"], ["SOLVER.BASE_LR is fast (str), wanted a value of type float such as 0.01"]),
        (["SOLVER.BASE_LR"], ["KEY VALUE", "SOLVER.BASE_LR"]),
        (["SOLVER.IMS_PER_BATCH", "0"], ["SOLVER.IMS_PER_BATCH is 0"]),
        (["SOLVER.MAX_ITER", "0"], ["SOLVER.MAX_ITER is 0"]),
        (["SOLVER.ACCUMULATION_STEPS", "0"], ["SOLVER.ACCUMULATION_STEPS is 0"]),
        (["SOLVER.ACCUMULATION_STEPS", "4"], ["SOLVER.IMS_PER_BATCH is 2, wanted a multiple of 4"]),
        (["SOLVER.EARLY_STOPPING.PATIENCE", "3"], ["EARLY_STOPPING.PATIENCE needs evaluations", "TEST.EVAL_PERIOD"]),
        (["MODEL.STAGE", "masks"], ["MODEL.STAGE masks needs a trained detector", "MODEL.WEIGHTS"]),
        (["SOLVER.CHECKPOINT_PERIOD", "0"], ["SOLVER.CHECKPOINT_PERIOD is 0, wanted at least 1"]),
        (["SOLVER.BASE_LR", "nan"], ["SOLVER.BASE_LR is nan"]),
        (["MODEL.DEVICE", "tpu"], ["MODEL.DEVICE is 'tpu'", "cpu or cuda"]),
        (["--num-gpus", "-1"], ["--num-gpus is -1"]),
        (["SOLVER.AMP.DTYPE", "float64"], ["SOLVER.AMP.DTYPE", "float64", "bfloat16, float16"]),
        (["SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "half"], ["CLIP_TYPE", "half", "full_model"]),
        (["DATASETS.TRAIN", "()"], ["DATASETS.TRAIN is empty"]),
        (["DATASETS.TRAIN", "('coco_2017_trian',)"], ["DATASETS.TRAIN", "coco_2017_trian", "'coco_2017_train'"]),
        (["MODEL.WEIGHTS", "absent.pth"], ["MODEL.WEIGHTS absent.pth not found"]),
        (["--eval-only"], ["--eval-only", "MODEL.WEIGHTS"]),
        (["--num-gpus", "99"], ["--num-gpus 99"]),
    ],
)
def test_bad_arguments_are_named(capsys, folder, arguments, parts):
    good = tiny_overrides(DATASET, folder / "out")
    # Options go before the overrides, overrides of overrides behind them.
    arguments = [*arguments, *good] if arguments[0].startswith("--") else [*good, *arguments]
    before = files_in(folder)
    fails(capsys, arguments, *parts)
    assert files_in(folder) == before and not (folder / "out").exists()


@pytest.mark.parametrize(
    "content, parts",
    [
        ("MODEL: [unclosed", ["c.yaml", "not valid yaml"]),
        ("SOLVR: {BASE_LR: 0.1}", ["c.yaml", "SOLVR", "nearest is SOLVER"]),
        ("SOLVER: {BASE_LR: {A: 1}}", ["c.yaml", "BASE_LR"]),
        ("_BASE_: absent.yaml", ["absent.yaml", "_BASE_"]),
        ("just words", ["c.yaml"]),
    ],
)
def test_bad_config_files_are_named(capsys, folder, content, parts):
    (folder / "c.yaml").write_text(content)
    fails(capsys, ["--config-file", str(folder / "c.yaml"), *tiny_overrides(DATASET, folder / "out")], *parts)
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    "key, value, part",
    [
        ("MODEL.META_ARCHITECTURE", "InstaRTDET", "MODEL.META_ARCHITECTURE is 'InstaRTDET'"),
        ("MODEL.MATCHER.NAME", "Hungry", "MODEL.MATCHER.NAME is 'Hungry'"),
        ("MODEL.ENCODER.NAME", "Hybrid", "MODEL.ENCODER.NAME is 'Hybrid'"),
        ("MODEL.BACKBONE.NAME", "resnet", "MODEL.BACKBONE.NAME is 'resnet'"),
        ("MODEL.BACKBONE.FREEZE_AT", "9", "MODEL.BACKBONE.FREEZE_AT must be 0 to 5, got 9"),
        ("MODEL.RESNETS.NORM", "GroupNorm", "MODEL.RESNETS.NORM must be one of"),
        ("MODEL.ENCODER.NUM_HEADS", "7", "MODEL.ENCODER.NUM_HEADS"),
        ("MODEL.ENCODER.EXPANSION", "0.0", "MODEL.ENCODER.EXPANSION"),
        ("MODEL.ENCODER.POSITION_ORDER", "any", "MODEL.ENCODER.POSITION_ORDER must be"),
        ("MODEL.DECODER.NUM_HEADS", "7", "MODEL.DECODER.NUM_HEADS"),
        ("MODEL.DECODER.NUM_LAYERS", "0", "MODEL.DECODER.NUM_LAYERS must be at least 1"),
        ("MODEL.DECODER.EVAL_LAYERS", "9", "MODEL.DECODER.EVAL_LAYERS must be from 0"),
        ("MODEL.DECODER.NUM_QUERIES", "0", "MODEL.DECODER.NUM_QUERIES must be at least 1"),
        ("MODEL.DECODER.ANCHOR_SIZES", "(0.1,)", "MODEL.DECODER.ANCHOR_SIZES has 1 values for 3 levels"),
        ("MODEL.MASK_HEAD.STRIDE", "16", "MODEL.MASK_HEAD.STRIDE must be 2, 4 or 8"),
        ("INPUT.FIXED_SIZE", "(640,)", "INPUT.FIXED_SIZE must be"),
        ("INPUT.FIXED_SIZE", "('a', 'b')", "INPUT.FIXED_SIZE must be"),
        ("INPUT.MULTI_SCALE", "(0,)", "INPUT.MULTI_SCALE must be"),
        ("INPUT.TRAIN_SIZE", "(640,)", "INPUT.TRAIN_SIZE must be"),
        ("INPUT.FILL_LEVEL", "256", "INPUT.FILL_LEVEL must be"),
        ("INPUT.FORMAT", "HSV", "INPUT.FORMAT must be"),
        ("INPUT.RANDOM_FLIP", "diagonal", "INPUT.RANDOM_FLIP must be"),
        ("SOLVER.LR_SCHEDULER_NAME", "Falling", "SOLVER.LR_SCHEDULER_NAME"),
        ("DATALOADER.SAMPLER_TRAIN", "Any", "DATALOADER"),
    ],
)
def test_bad_values_that_only_a_constructor_sees_are_named(capsys, folder, key, value, part):
    cfg = tiny_config("DATASETS.TRAIN", (DATASET,), "DATASETS.TEST", (), "OUTPUT_DIR", str(folder / "out"))
    cfg.DATALOADER.NUM_WORKERS = 0
    (folder / "c.yaml").write_text(cfg.dump())
    fails(capsys, ["--config-file", str(folder / "c.yaml"), key, value], part)


def test_an_output_folder_that_cannot_be_made_is_named(capsys, folder):
    (folder / "file").write_text("mine")
    for output_dir in (folder / "file", folder / "file" / "below"):
        fails(capsys, tiny_overrides(DATASET, output_dir), "OUTPUT_DIR", str(output_dir))
    assert (folder / "file").read_text() == "mine"


def break_annotations(folder: Path) -> None:
    (folder / "annotations.json").write_text('{"shapes": []}')


def break_image(folder: Path) -> None:
    for file in folder.glob("*.png"):
        file.write_bytes(b"no image")


@pytest.mark.parametrize(
    "damage, parts",
    [
        (lambda folder: (folder / "annotations.json").unlink(), ["annotations.json not found", "DETECTRON2_DATASETS"]),
        (break_annotations, ["annotations.json", "shapes", "COCO"]),
        (lambda folder: (folder / "1.png").unlink(), ["1 of 4 images are missing", "1.png"]),
        (break_image, [".png cannot be read", "DATALOADER.MAX_UNREADABLE_IMAGES"]),
    ],
)
@pytest.mark.parametrize("key", ["DATASETS__TRAIN", "DATASETS__TEST"])
def test_damaged_datasets_are_named(capsys, folder, tmp_path_factory, key, damage, parts):
    damaged = tmp_path_factory.mktemp("damaged")
    write_dataset(damaged)
    register_dataset("tiny_damaged", damaged)
    damage(damaged)
    arguments = tiny_overrides(DATASET, folder / "out", **{key: ("tiny_damaged",)})
    assert train_net.main(arguments) == 1
    output = capsys.readouterr()
    assert output.err.count("error: ") == 1 and "Traceback" not in output.err
    line = next(line for line in output.err.splitlines() if line.startswith("error: "))
    for part in parts:
        assert part in line, line


def test_losses_that_stay_infinite_end_in_one_line(capsys, folder, monkeypatch):
    scales = iter([1.0, 1.0] + 4 * [float("inf")])
    losses = lambda self, batch, boxes, masks: {"loss_box": boxes.sum() * next(scales)}  # noqa: E731
    monkeypatch.setattr(TinySegmenter, "_losses", losses)
    arguments = tiny_overrides(DATASET, folder / "out", SOLVER__MAX_SKIPPED_ITERS=2, DATASETS__TEST=())
    line = fails(capsys, arguments, "2 of the last 4 iterations (the last is 3)", "loss_box", "SOLVER.BASE_LR")
    assert "Traceback" not in line and not list((folder / "out").glob("*.pth"))


def test_more_classes_in_the_data_than_in_the_model_are_named(capsys, folder):
    fails(capsys, tiny_overrides(DATASET, folder / "out", MODEL__NUM_CLASSES=0), "MODEL.NUM_CLASSES to 1")


def test_weights_of_another_architecture_are_refused(capsys, folder):
    torch.save({"model": {"stem.conv.weight": torch.zeros(3)}}, folder / "other.pth")
    arguments = tiny_overrides(DATASET, folder / "out", MODEL__WEIGHTS=str(folder / "other.pth"))
    fails(capsys, arguments, "other.pth", "another architecture", "MODEL.WEIGHTS")
    assert not list((folder / "out").glob("*.pth"))


def test_trained_checkpoints_are_not_overwritten(capsys, folder):
    arguments = tiny_overrides(DATASET, folder / "out", SOLVER__MAX_ITER=2)
    assert train_net.main(arguments) == 0
    before = files_in(folder / "out")
    fails(capsys, arguments, "OUTPUT_DIR", "--resume", "model_final.pth")
    assert files_in(folder / "out") == before


def test_evaluation_leaves_the_files_of_the_training_run(folder):
    arguments = tiny_overrides(DATASET, folder / "out", SOLVER__MAX_ITER=2, DATASETS__TEST=())
    assert train_net.main(arguments) == 0
    before = files_in(folder / "out")
    arguments += ["MODEL.WEIGHTS", str(folder / "out" / "model_final.pth"), "DATASETS.TEST", f"('{DATASET}',)"]
    assert train_net.main(["--eval-only", *arguments]) == 0
    after = files_in(folder / "out")
    assert {name: after[name] for name in before if "log.txt" not in name} == {
        name: content for name, content in before.items() if "log.txt" not in name
    }
    assert (folder / "out" / "inference" / "coco_instances_results.json").exists()


def script(folder: Path, arguments: list[str], before: str = "") -> list[str]:
    """A process that knows the tiny model and dataset, and then is train_net.py."""
    code = f"""
import sys
sys.path.insert(0, {str(REPOSITORY)!r})
from pathlib import Path
import torch
torch.set_num_threads(1)
from tests.engine import tiny_training
tiny_training.register_dataset({DATASET!r}, Path({str(folder)!r}))
{before}
import train_net
sys.exit(train_net.main({arguments!r}))
"""
    return [sys.executable, "-c", code]


def test_a_process_says_one_line_and_exits_with_1(folder):
    process = subprocess.run(
        [sys.executable, str(REPOSITORY / "train_net.py"), "SOLVER.BASE_LRR", "1"],
        capture_output=True, text=True, cwd=folder, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert process.returncode == 1 and process.stdout == ""
    assert process.stderr.splitlines()[-1].startswith("error: In command line: there is no config key SOLVER.BASE_LRR")
    assert "Traceback" not in process.stderr


# Half of the second checkpoint is on the disk when the process stands still, to be killed.
HALT_WHILE_SAVING = """
import time
real_save, saves = torch.save, []
def slow_save(content, file, *more, **options):
    real_save(content, file, *more, **options)
    saves.append(file)
    if len(saves) == 2:
        whole = open(file, "rb").read()
        open(file, "wb").write(whole[: len(whole) // 2])
        print("half saved", flush=True)
        time.sleep(60)
torch.save = slow_save
"""


def test_a_run_killed_while_saving_goes_on_from_a_whole_checkpoint(folder):
    arguments = tiny_overrides(DATASET, folder / "out", SOLVER__CHECKPOINT_PERIOD=2, DATASETS__TEST=())
    process = subprocess.Popen(script(folder, arguments, HALT_WHILE_SAVING), stdout=subprocess.PIPE, text=True)
    try:
        started = time.monotonic()
        while "half saved" not in process.stdout.readline():
            assert process.poll() is None and time.monotonic() - started < 60
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    assert [file.name for file in (folder / "out").glob("model_*.pth")] == ["model_0000001.pth"]
    assert (folder / "out" / "last_checkpoint").read_text() == "model_0000001.pth"
    assert train_net.main(["--resume", *arguments]) == 0
    final = torch.load(folder / "out" / "model_final.pth", weights_only=True)
    assert final["trainer"]["iteration"] == 5 and final["ema"]["updates"] == 6
    assert "Starting training from iteration 2" in (folder / "out" / "log.txt").read_text()
