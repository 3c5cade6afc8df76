"""Tests that two processes on CPU (gloo) train and evaluate like one."""

import os
import pickle
import signal
import socket
from pathlib import Path

import pytest
import torch
from detectron2.engine import create_ddp_model
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng
from detectron2.utils.events import EventStorage
from torch import multiprocessing

from insta_rtdetr.engine import RunOptions, Trainer, TrainingPlan, TrainingResult, train
from insta_rtdetr.engine.checks import CheckedData
from insta_rtdetr.modeling.loss import SetCriterion
from insta_rtdetr.structures import ModelOutput, Prediction, Target
from tests.engine.predictable import IMAGES, gradients_of_step, predictable_model
from tests.engine.tiny_training import TinySegmenter, register_dataset, tiny_cfg, write_dataset

WORLD = 2
DATASET = "tiny_distributed"


def _worker(rank: int, port: int, folder: Path) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=WORLD)
    # Detectron2 needs the group of processes that share this machine.
    comm._LOCAL_PROCESS_GROUP = torch.distributed.new_group(list(range(WORLD)))
    results = (
        train_and_evaluate(folder), losses_of_each_process(folder), accumulated_gradients(), stopped_run(folder),
    )  # fmt: skip
    torch.save(results, folder / f"{rank}.pth")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("distributed")
    write_dataset(folder)
    return folder


@pytest.fixture(scope="module")
def of_processes(folder) -> list[tuple]:
    """Return the results of `_worker` in each of two processes, which take long to start."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(_worker, (port, folder), nprocs=WORLD)
    return [torch.load(folder / f"{rank}.pth", weights_only=False) for rank in range(WORLD)]


def train_and_evaluate(folder: Path) -> dict:
    """Train four iterations, in the third of which the last process alone meets NaN, and return the metrics too."""
    register_dataset(DATASET, folder)
    cfg = tiny_cfg(DATASET, folder / f"out{comm.get_world_size()}", SOLVER__MAX_ITER=4, SOLVER__STEPS=())
    seed_all_rng(cfg.SEED)
    trainer = Trainer(cfg)
    # Batch norm is in eval mode, because each process would normalise its part of a batch by that part alone.
    trainer.raw_model.backbone[1].eval()
    gradients = {}
    with EventStorage(0):
        for iteration in range(4):
            meets_nan = iteration == 2 and comm.get_rank() == comm.get_world_size() - 1
            trainer.raw_model.disturbance = float("nan") if meets_nan else 0.0
            trainer.step.run_step()
            if iteration == 0:
                gradients = {name: p.grad.clone() for name, p in trainer.raw_model.named_parameters()}
    trainer.raw_model.disturbance = 0.0
    metrics = trainer.test(cfg, trainer.raw_model.eval())
    return {
        "gradients": gradients,
        "weights": trainer.raw_model.state_dict(),
        "metrics": metrics,
        "skipped": trainer.step.skipped_in_all,
    }


def assert_close(left: dict, right: dict) -> None:
    assert left.keys() == right.keys()
    for name in left:
        torch.testing.assert_close(left[name], right[name], rtol=1e-4, atol=1e-6, msg=name)


def test_two_processes_train_and_evaluate_like_one(folder, of_processes):
    first, second = (train for train, *_ in of_processes)
    assert first["skipped"] == second["skipped"] == 1
    for name in first["gradients"]:
        assert torch.equal(first["gradients"][name], second["gradients"][name])
        assert torch.equal(first["weights"][name], second["weights"][name])
    alone = train_and_evaluate(folder)
    assert_close(first["gradients"], alone["gradients"])
    assert_close(first["weights"], alone["weights"])
    assert second["metrics"] == {} and first["metrics"].keys() == {"bbox", "segm"}
    for task, metrics in alone["metrics"].items():
        assert first["metrics"][task] == pytest.approx(metrics, nan_ok=True), task


def losses_of_each_process(folder: Path) -> tuple[dict[str, float], torch.Tensor]:
    """Return the criterion's losses and a gradient for this process's image, of two with 1 and 3 objects."""
    cfg = tiny_cfg("none", folder)
    cfg.MODEL.NUM_CLASSES = 2
    criterion = SetCriterion(cfg)
    draw = torch.Generator().manual_seed(0)
    logits, boxes, embeddings = (torch.rand(2, 5, size, generator=draw) for size in (2, 4, 3))
    # Mask logits are constant in an image, so that it does not matter at which points masks are compared.
    features = torch.rand(2, 3, 1, 1, generator=draw).expand(2, 3, 4, 4)
    targets = [
        Target(torch.arange(count) % 2, torch.rand(count, 4, generator=draw) / 2 + 0.2, torch.ones(count, 8, 8))
        for count in (1, 3)
    ]
    mine = slice(comm.get_rank(), None, comm.get_world_size())
    shared = torch.ones(1, requires_grad=True)
    prediction = Prediction(logits[mine] * shared, boxes[mine] * shared, embeddings[mine] * shared, features[mine])
    losses = criterion(ModelOutput([prediction]), targets[mine])
    sum(losses.values()).backward()
    return {name: loss.item() for name, loss in losses.items()}, shared.grad


def test_two_processes_with_an_image_each_have_the_losses_of_one_with_both(folder, of_processes):
    (first, first_gradient), (second, second_gradient) = (losses for _, losses, *_ in of_processes)
    alone, gradient = losses_of_each_process(folder)
    assert len(alone) == 5
    # Masks are compared at random points, a few of which are on the border, where labels are between 0 and 1.
    assert {name: (first[name] + second[name]) / 2 for name in first} == pytest.approx(alone, rel=0.01)
    torch.testing.assert_close((first_gradient + second_gradient) / 2, gradient, rtol=0.01, atol=0)


def accumulated_gradients() -> dict[str, dict]:
    """Return the gradients of this process's share of four images, one after the other, for each stage."""
    mine = [[image] for image in IMAGES[comm.get_rank() :: comm.get_world_size()]]
    with pytest.MonkeyPatch.context() as patch:
        models = {stage: predictable_model(patch, "MODEL.STAGE", stage) for stage in ("joint", "masks")}
        distributed = {
            stage: create_ddp_model(model, broadcast_buffers=False, device_ids=None) for stage, model in models.items()
        }
        return {stage: gradients_of_step(model, mine)[0] for stage, model in distributed.items()}


def test_two_processes_accumulate_the_gradients_of_one(of_processes):
    first, second = (gradients for _, _, gradients, _ in of_processes)
    alone = accumulated_gradients()
    for stage, gradients in alone.items():
        assert gradients.keys() == first[stage].keys() == second[stage].keys()
        for name, gradient in gradients.items():
            assert torch.equal(first[stage][name], second[stage][name])
            torch.testing.assert_close(first[stage][name], gradient, rtol=1e-6, atol=1e-8, msg=name)
    # These are the gradients of the mask branch.
    assert 0 < len(alone["masks"]) < len(alone["joint"])


def stopped_run(folder: Path) -> TrainingResult:
    """Run a training with evaluations, in whose fourth iteration the last process alone gets SIGTERM."""
    more = {"SOLVER__MAX_ITER": 24, "TEST__EVAL_PERIOD": 8, "SOLVER__EARLY_STOPPING__PATIENCE": 9}
    cfg = tiny_cfg(DATASET, folder / "run", **more)
    plan = TrainingPlan(cfg, cfg, (), CheckedData([], {DATASET: (4, 4)}), "tiny", RunOptions())
    losses, calls = TinySegmenter._losses, []

    def signalled(self, *arguments):
        calls.append(arguments)
        if len(calls) == 4 and comm.get_rank() == WORLD - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return losses(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TinySegmenter, "_losses", signalled)
        # The plan is pickled, as it is for other processes.
        return train(pickle.loads(pickle.dumps(plan)))


def test_processes_stop_together_at_a_signal_to_one(folder, of_processes):
    results = [result for *_, result in of_processes]
    assert [result.signal for result in results] == [signal.SIGTERM, signal.SIGTERM]
    assert results[0].checkpoint == folder / "run" / "model_best.pth" and "segm/AP" in results[0].metrics
    # The processes exchange whether to stop every twenty iterations.
    saved = torch.load(folder / "run" / "model_0000019.pth", weights_only=True)
    assert saved["iteration"] == 19 and saved["ema"]["updates"] == 20
    logs = [(folder / "run" / name).read_text() for name in ("log.txt", "log.txt.rank1")]
    assert "Stopped by SIGTERM after iteration 20" in logs[0] and "2 processes, cpu" in logs[0]
    assert "Starting training from iteration 0" in logs[1]
