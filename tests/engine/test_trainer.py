import json
import logging
import os

import pytest
import torch
from detectron2.utils.env import seed_all_rng

from insta_rtdetr.data import load_datasets as load
from insta_rtdetr.engine import Trainer
from insta_rtdetr.engine.curves import read_metrics
from insta_rtdetr.errors import DivergenceError
from tests.engine.tiny_training import TinySegmenter, register_dataset, tiny_cfg, write_dataset

NAN = float("nan")


@pytest.fixture
def dataset(tmp_path, empty_curves) -> str:
    write_dataset(tmp_path)
    return register_dataset("tiny_trainer", tmp_path)


def train(cfg, resume: bool = False, before=None) -> Trainer:
    seed_all_rng(cfg.SEED)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=resume)
    if before is not None:
        before(trainer)
    trainer.train()
    return trainer


def read(folder, name: str) -> dict:
    """The checkpoint, without the scalars for metrics.json, which tell the time that iterations took."""
    checkpoint = torch.load(folder / name, weights_only=True)
    checkpoint["trainer"]["hooks"].pop("CatchUpHook", None)
    return checkpoint


def read_without_folder(folder, name: str) -> dict:
    """Return the checkpoint, in whose config the run's own folder is replaced."""
    checkpoint = read(folder, name)
    return checkpoint | {"config": checkpoint["config"].replace(f"{folder}\n", "\n")}


def assert_same(left, right, path: str = "") -> None:
    assert type(left) is type(right), path
    if isinstance(left, dict):
        assert left.keys() == right.keys(), path
        for key in left:
            assert_same(left[key], right[key], f"{path}/{key}")
    elif isinstance(left, list):
        for index, pair in enumerate(zip(left, right)):
            assert_same(*pair, f"{path}/{index}")
    elif isinstance(left, torch.Tensor):
        assert torch.equal(left, right), path
    else:
        assert left == right, path


def test_interrupted_training_ends_like_one_in_one_go(tmp_path, dataset):
    more = {"SOLVER__CHECKPOINT_PERIOD": 3, "DATASETS__TEST": ()}
    train(tiny_cfg(dataset, tmp_path / "whole", **more))

    class Killed(Exception):
        pass

    def kill_in_iteration_5(trainer):
        run_step = trainer._trainer.run_step

        def step():
            if trainer.iter == 5:
                raise Killed
            run_step()

        trainer._trainer.run_step = step

    with pytest.raises(Killed):
        train(tiny_cfg(dataset, tmp_path / "parts", **more), before=kill_in_iteration_5)
    resumed = train(tiny_cfg(dataset, tmp_path / "parts", **more), resume=True)
    assert resumed.start_iter == 3
    whole, parts = (read_without_folder(tmp_path / name, "model_final.pth") for name in ("whole", "parts"))
    assert {"model", "raw_model", "ema", "trainer"} <= whole.keys()
    assert whole["ema"]["updates"] == 6 and whole["trainer"]["_trainer"]["optimizer"]["state"]
    assert not torch.equal(whole["model"]["box.weight"], whole["raw_model"]["box.weight"])
    assert_same(whole, parts)


def test_training_can_go_on_after_its_end_with_more_iterations(tmp_path, dataset, monkeypatch):
    # Each evaluation is the best so far, so that the last checkpoint is one that is saved after the last iteration.
    scores = iter([1.0, 2.0, 3.0, 4.0])
    monkeypatch.setattr(Trainer, "test", classmethod(lambda *_: {"segm": {"AP": next(scores)}}))
    train(tiny_cfg(dataset, tmp_path / "out", TEST__EVAL_PERIOD=3))
    longer = train(tiny_cfg(dataset, tmp_path / "out", TEST__EVAL_PERIOD=3, SOLVER__MAX_ITER=8), resume=True)
    assert longer.start_iter == 6 and longer.iter == 8


def test_same_seed_same_weights(tmp_path, dataset):
    for name in "ab":
        train(tiny_cfg(dataset, tmp_path / name, DATASETS__TEST=()))
    assert_same(*(read_without_folder(tmp_path / name, "model_final.pth") for name in "ab"))


def test_evaluation_and_the_file_for_it_use_the_average(tmp_path, dataset, monkeypatch):
    seen = []

    def evaluate(cls, cfg, model, evaluators=None):
        seen.append(model.box.weight.detach().clone())
        return {"segm": {"AP": 1.0}}

    monkeypatch.setattr(Trainer, "test", classmethod(evaluate))
    cfg = tiny_cfg(dataset, tmp_path / "out")
    trainer = train(cfg)
    average = trainer.ema.state_dict()["model"]["box.weight"]
    assert torch.equal(seen[-1], average) and not torch.equal(trainer.raw_model.box.weight, average)

    cfg.MODEL.WEIGHTS = str(tmp_path / "out" / "model_final.pth")
    Trainer.evaluate_weights(cfg)
    assert torch.equal(seen[-1], average)


def test_best_checkpoint_outlives_a_resume(tmp_path, dataset, monkeypatch):
    scores = {"now": iter([])}
    monkeypatch.setattr(
        Trainer, "test", classmethod(lambda cls, cfg, model, evaluators=None: {"segm": {"AP": next(scores["now"])}})
    )

    def best_after(new_scores: list[float], max_iter: int) -> tuple[float, int]:
        scores["now"] = iter(new_scores)
        more = {"TEST__EVAL_PERIOD": 2, "SOLVER__CHECKPOINT_PERIOD": 2, "SOLVER__MAX_ITER": max_iter}
        train(tiny_cfg(dataset, tmp_path / "out", **more), resume=True)
        best = read(tmp_path / "out", "model_best.pth")
        return best["best_metric"], best["ema"]["updates"]

    assert best_after([0.0, 30.0, 20.0], 6) == (30.0, 4)
    assert best_after([25.0], 8) == (30.0, 4)
    assert best_after([31.0], 10) == (31.0, 10)


@pytest.mark.parametrize("period", [20, 10])
def test_what_a_kill_left_out_after_a_checkpoint_is_made_up(tmp_path, dataset, monkeypatch, period):
    """The evaluation and the record of an iteration come after its checkpoint."""
    results = {"segm": {"AP": 5.0}}
    monkeypatch.setattr(Trainer, "test", classmethod(lambda *_: results))
    more = {"TEST__EVAL_PERIOD": period, "SOLVER__CHECKPOINT_PERIOD": 20, "SOLVER__MAX_ITER": 30}
    train(tiny_cfg(dataset, tmp_path / "whole", **more))
    wanted = read_metrics(str(tmp_path / "whole" / "metrics.json"))

    class Killed(Exception):
        pass

    def kill(trainer):
        def evaluate():
            if trainer.iter == 19:
                raise Killed
            return results

        monkeypatch.setattr(trainer.evaluation, "run", lambda *_: evaluate())

    cfg = tiny_cfg(dataset, tmp_path / "out", **more)
    with pytest.raises(Killed):
        train(cfg, before=kill)
    train(cfg, resume=True)
    found = read_metrics(str(tmp_path / "out" / "metrics.json"))
    times = "time", "data_time", "eta_seconds"
    for one, other in zip(found, wanted, strict=True):
        assert one.keys() - times == other.keys() - times and one["iteration"] == other["iteration"]
        assert one.get("segm/AP") == other.get("segm/AP")
    assert (tmp_path / "out" / "model_best.pth").is_file()


def test_a_finished_run_that_is_resumed_has_one_final_evaluation(tmp_path, dataset, monkeypatch):
    monkeypatch.setattr(Trainer, "test", classmethod(lambda *_: {"segm": {"AP": 5.0}}))
    cfg = tiny_cfg(dataset, tmp_path / "out")
    train(cfg)
    wanted = (tmp_path / "out" / "metrics.json").read_text().splitlines()
    train(cfg, resume=True)
    found = (tmp_path / "out" / "metrics.json").read_text().splitlines()
    assert [json.loads(line)["iteration"] for line in found] == [5, 6] and len(wanted) == 2 and found[0] == wanted[0]


def test_no_best_checkpoint_from_nan_or_an_unknown_metric(tmp_path, dataset, monkeypatch):
    monkeypatch.setattr(Trainer, "test", classmethod(lambda *_: {"segm": {"AP": NAN}}))
    train(tiny_cfg(dataset, tmp_path / "a"))
    train(tiny_cfg(dataset, tmp_path / "b", TEST__BEST_METRIC="pose/AP"))
    assert not (tmp_path / "a" / "model_best.pth").exists() and not (tmp_path / "b" / "model_best.pth").exists()


def disturb(iterations: set[int], values: list):
    """Hook for `train` with NaN images in some iterations, which appends the weights before each to `values`."""

    def install(trainer):
        run_step = trainer._trainer.run_step

        def step():
            trainer.raw_model.disturbance = NAN if trainer.iter in iterations else 0.0
            values.append({name: tensor.clone() for name, tensor in trainer.raw_model.state_dict().items()})
            run_step()

        trainer._trainer.run_step = step

    return install


def test_a_loss_that_is_not_finite_changes_nothing_and_is_named(tmp_path, dataset, caplog):
    states = []
    with caplog.at_level(logging.WARNING, "insta_rtdetr"):
        trainer = train(tiny_cfg(dataset, tmp_path / "out", DATASETS__TEST=()), before=disturb({2, 3}, states))
    assert_same(states[2], states[4])
    assert not torch.equal(states[4]["box.weight"], states[5]["box.weight"])
    assert trainer.step.skipped_in_all == 2 and trainer.ema.updates == 4
    skipped = [record.message for record in caplog.records if "skipped" in record.message]
    assert len(skipped) == 2 and "loss_box, loss_mask" in skipped[0] and "Iteration 2" in skipped[0]
    lines = [json.loads(line) for line in (tmp_path / "out" / "metrics.json").read_text().splitlines()]
    assert lines[-1]["skipped_iters"] == 2 and lines[-1]["total_loss"] == lines[-1]["total_loss"]


# PyTorch warns because the schedule takes its first step before the optimizer.
@pytest.mark.filterwarnings("ignore:Detected call of .lr_scheduler.step")
def test_too_many_losses_that_are_not_finite_stop_training(tmp_path, dataset):
    cfg = tiny_cfg(dataset, tmp_path / "out", SOLVER__MAX_SKIPPED_ITERS=3)
    with pytest.raises(DivergenceError, match=r"3 of the last 4 iterations \(the last is 3\).*loss_box, loss_mask"):
        train(cfg, before=disturb({0, 2, 3, 4, 5}, []))


def test_every_other_loss_that_is_not_finite_stops_training_and_checkpoints_stay(tmp_path, dataset):
    def disturb(trainer):
        run_step = trainer._trainer.run_step

        def step():
            trainer.raw_model.disturbance = NAN if trainer.iter > 4 and trainer.iter % 2 else 0.0
            run_step()

        trainer._trainer.run_step = step

    more = {"SOLVER__MAX_SKIPPED_ITERS": 4, "SOLVER__MAX_ITER": 40, "SOLVER__CHECKPOINT_PERIOD": 1}
    with pytest.raises(DivergenceError, match=r"4 of the last 8 iterations"):
        train(tiny_cfg(dataset, tmp_path / "out", **more), before=disturb)
    names = [file.name for file in sorted((tmp_path / "out").glob("model_0*.pth"))]
    # From the second skipped iteration on, the seventh, none is removed.
    assert names == [f"model_{number:07d}.pth" for number in range(4, 11)]


def test_batches_need_not_be_of_one_orientation(tmp_path, dataset):
    cfg = tiny_cfg(dataset, tmp_path / "out", DATASETS__TEST=(), DATALOADER__ASPECT_RATIO_GROUPING=False)
    assert train(cfg).iter == 6


def test_gradients_are_clipped_to_one_norm(tmp_path, dataset):
    trainer = train(tiny_cfg(dataset, tmp_path / "out", DATASETS__TEST=(), SOLVER__CLIP_GRADIENTS__CLIP_VALUE=0.01))
    norm = torch.stack([p.grad.norm() for p in trainer.raw_model.parameters()]).norm()
    assert norm.item() == pytest.approx(0.01, rel=1e-3)


def test_strong_augmentation_ends_before_training_does(tmp_path, dataset):
    def record(states: list):
        def install(trainer):
            trainer.mapper.set_strong_augmentation = lambda on: states.append((trainer.iter, on))

        return install

    more = {"INPUT__PLAIN_LAST_ITERS": 2, "SOLVER__CHECKPOINT_PERIOD": 5, "DATASETS__TEST": ()}
    states = []
    trainer = train(tiny_cfg(dataset, tmp_path / "out", **more), before=record(states))
    assert states == [(0, True), (4, False)] and not trainer.raw_model.multi_scale_enabled

    os.remove(tmp_path / "out" / "model_final.pth")
    (tmp_path / "out" / "last_checkpoint").write_text("model_0000004.pth")
    states = []
    trainer = train(tiny_cfg(dataset, tmp_path / "out", **more), resume=True, before=record(states))
    assert states == [(5, False)] and not trainer.raw_model.multi_scale_enabled


def test_a_run_leaves_metrics_curves_and_tensorboard(tmp_path):
    write_dataset(tmp_path)
    dataset = register_dataset("tiny_trainer", tmp_path)
    train(tiny_cfg(dataset, tmp_path / "out", TEST__EVAL_PERIOD=3))
    files = os.listdir(tmp_path / "out")
    assert {"metrics.json", "curves.png", "model_best.pth", "model_final.pth", "last_checkpoint"} <= set(files)
    assert any(name.startswith("events.out.tfevents") for name in files)
    assert (tmp_path / "out" / "curves.png").stat().st_size > 0
    records = [json.loads(line) for line in (tmp_path / "out" / "metrics.json").read_text().splitlines()]
    assert [record["iteration"] for record in records if "segm/AP" in record] == [2, 6]


def test_schedule_warms_up_and_steps_down(tmp_path, dataset):
    rates = []

    def install(trainer):
        run_step = trainer._trainer.run_step

        def step():
            rates.append([group["lr"] for group in trainer.optimizer.param_groups])
            run_step()

        trainer._trainer.run_step = step

    more = {"SOLVER__WARMUP_FACTOR": 0.5, "SOLVER__GAMMA": 0.1, "DATASETS__TEST": ()}
    train(tiny_cfg(dataset, tmp_path / "out", **more), before=install)
    highest = [max(rate) for rate in rates]
    assert highest == pytest.approx([0.005, 0.0075, 0.01, 0.01, 0.001, 0.001])
    assert [min(rate) for rate in rates] == pytest.approx([0.1 * rate for rate in highest])


def test_copy_paste_takes_what_the_trainer_has_loaded(tmp_path, dataset, monkeypatch):
    loaded = []
    monkeypatch.setattr(
        "insta_rtdetr.engine.data.load_datasets", lambda *args, **more: loaded.append(args) or load(*args, **more)
    )
    monkeypatch.setattr("insta_rtdetr.data.instance_mapper.get_detection_dataset_dicts", lambda *_: 1 / 0)
    cfg = tiny_cfg(dataset, tmp_path / "out", INPUT__COPY_PASTE_PROB=1.0, DATASETS__TEST=())
    assert len(Trainer(cfg).mapper._donors) == 4 and len(loaded) == 1
    cfg.INPUT.COPY_PASTE_PROB = 0.0
    assert len(Trainer(cfg).mapper._donors) == 0


@pytest.mark.parametrize("on_cpu", [False, True])
def test_mixed_precision_on_cpu_is_bfloat16_and_only_if_asked_for(tmp_path, dataset, monkeypatch, on_cpu):
    seen, forward = set(), TinySegmenter.forward

    def spy(self, batched_inputs):
        if self.training:
            seen.add((torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")))
        return forward(self, batched_inputs)

    monkeypatch.setattr(TinySegmenter, "forward", spy)
    amp = {"SOLVER__AMP__ENABLED": True, "SOLVER__AMP__ON_CPU": on_cpu, "DATASETS__TEST": ()}
    train(tiny_cfg(dataset, tmp_path / "run", **amp))
    assert seen == {(on_cpu, torch.bfloat16)}
