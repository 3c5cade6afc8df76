"""The trainer: Detectron2's DefaultTrainer with this package's mapper, optimizer, EMA, checkpoints and hooks."""

import logging
import math
import os
import weakref
from collections.abc import Iterable, Sequence
from contextlib import nullcontext

import torch
from detectron2.config import CfgNode
from detectron2.data import build_detection_test_loader
from detectron2.engine import DefaultTrainer, TrainerBase, create_ddp_model, hooks
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng
from detectron2.utils.events import EventWriter, JSONWriter, TensorboardXWriter
from torch import nn

from insta_rtdetr.checkpoint import Checkpointer
from insta_rtdetr.data import InstanceMapper, config_class_names
from insta_rtdetr.errors import config_errors
from insta_rtdetr.evaluation import build_evaluator
from insta_rtdetr.views import with_views

from .checkpoints import BestCheckpointer, PeriodicCheckpointer
from .data import build_train_loader, load_test_dataset, load_train_dataset
from .ema import ModelEMA
from .evaluating import Evaluation
from .hooks import WRITE_PERIOD, CatchUpHook, DrawingHook, EMAHook, PlainAugmentationHook, WritersHook
from .log import say
from .optimizer import build_optimizer
from .progress import EvaluationLoader, ProgressHook
from .stage import best_metric, check_detector, check_stage
from .step import OptimizationStep
from .stopping import EarlyStoppingHook, SignalHook, TrainingStopped
from .writers import ProgressPrinter, WandbWriter

logger = logging.getLogger(__name__)

AMP_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class Trainer(DefaultTrainer):
    """Trains the model of a config.

    Attributes:
        ema: the moving average of the weights, or None.
        mapper: the mapper of the training images.
        epoch: number of iterations of an epoch.
        best: hook that knows the best evaluation; None without evaluations, and in all processes but the main one.
        evaluation: the evaluation on DATASETS.TEST.
        stopped: the exception that ended training before its last iteration, or None.
        signals: the hook that stops training at a signal.
    """

    def __init__(self, cfg: CfgNode, dataset: list[dict] | None = None) -> None:
        """Build the model, the loader, the optimizer and the hooks; nothing is written yet.

        Args:
            cfg: the config.
            dataset: the checked dataset dicts of DATASETS.TRAIN; by default they are loaded.
        """
        # DefaultTrainer's own __init__ would build Detectron2's loop, checkpointer and data loader.
        TrainerBase.__init__(self)
        cfg = self.auto_scale_workers(cfg, comm.get_world_size())
        self.cfg = cfg
        self.max_iter = cfg.SOLVER.MAX_ITER
        dataset = load_train_dataset(cfg) if dataset is None else dataset
        self.epoch = math.ceil(len(dataset) / cfg.SOLVER.IMS_PER_BATCH)
        self.stopped: TrainingStopped | None = None
        with config_errors("mapper"):
            self.mapper = InstanceMapper(cfg, is_train=True, donors=dataset)
        data_loader, self._sampler = build_train_loader(cfg, dataset, self.mapper)
        # Convolutions are faster with this memory format.
        model = self.build_model(cfg).to(memory_format=torch.channels_last)
        optimizer = self.build_optimizer(cfg, model)
        self.ema = ModelEMA(model, cfg.SOLVER.EMA.DECAY, cfg.SOLVER.EMA.RAMP_ITERS) if cfg.SOLVER.EMA.ENABLED else None
        self._trainer = _build_step(cfg, model, data_loader, optimizer)
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        parts = {"trainer": weakref.proxy(self)} | ({"ema": self.ema} if self.ema else {})
        names = config_class_names(cfg)
        self.checkpointer = Checkpointer(model, cfg.OUTPUT_DIR, class_names=names, config=cfg.dump(), **parts)
        self.register_hooks(self.build_hooks())

    @property
    def step(self) -> OptimizationStep:
        """Return the training iteration, which is Detectron2's inner trainer."""
        return self._trainer

    @property
    def raw_model(self) -> nn.Module:
        """Return the model without the wrapper of distributed training."""
        return getattr(self.model, "module", self.model)

    @property
    def _metrics_file(self) -> str:
        return os.path.join(self.cfg.OUTPUT_DIR, "metrics.json")

    def train(self) -> None:
        """Train until the last iteration, or until a hook stops the training."""
        try:
            super().train()
        except TrainingStopped as stop:
            self.stopped = stop
            say(str(stop))
        finally:
            self.signals.restore()
            self.step.close()

    def resume_or_load(self, resume: bool = True) -> None:
        """Resume from OUTPUT_DIR's last checkpoint if `resume` is set and there is one; otherwise load MODEL.WEIGHTS.

        Raises:
            UserError: MODEL.STAGE is "masks", and MODEL.WEIGHTS lack a tensor of the detector.
        """
        super().resume_or_load(resume)
        if self.cfg.MODEL.STAGE == "masks" and not (resume and self.checkpointer.has_checkpoint()):
            check_detector(self.raw_model, self.checkpointer.unloaded, self.cfg.MODEL.WEIGHTS)
        if self.start_iter > 0:
            if self._sampler is not None:
                self._sampler.num_seen = self.start_iter * self.cfg.SOLVER.IMS_PER_BATCH
            if self.cfg.SEED >= 0:
                # Seeded anew, so that the random numbers of the first iterations are not repeated.
                seed_all_rng(self.cfg.SEED + comm.get_rank() + self.start_iter)
        if self.ema is not None and self.ema.updates == 0:
            self.ema.restart(self.raw_model)

    def build_hooks(self) -> list[hooks.HookBase]:
        """Build the hooks, in the order in which they run after each iteration."""
        cfg, is_main = self.cfg, comm.is_main_process()
        self.signals = SignalHook(self.checkpointer, "Give the same command with --resume to go on.")
        self.evaluation = Evaluation(cfg, self.build_evaluator, lambda: self.signals.received is not None)
        self.best = None
        if is_main and cfg.DATASETS.TEST:
            self.best = BestCheckpointer(cfg.TEST.EVAL_PERIOD, self.checkpointer, best_metric(cfg))
        built = [
            hooks.IterationTimer(),
            PlainAugmentationHook(self.mapper, cfg.INPUT.PLAIN_LAST_ITERS),
            EMAHook(self.ema) if self.ema else None,
            hooks.LRScheduler(),
        ]
        if is_main:
            solver = cfg.SOLVER
            built.append(ProgressHook(self.epoch, solver.IMS_PER_BATCH, self.best, WRITE_PERIOD))
            built.append(PeriodicCheckpointer(self.checkpointer, solver.CHECKPOINT_PERIOD, solver.KEEP_CHECKPOINTS))
        behind = self._build_hooks_behind_saving(is_main)
        period = cfg.TEST.EVAL_PERIOD
        self._catch_up = CatchUpHook(self._metrics_file, period, bool(cfg.DATASETS.TEST), behind)
        return [hook for hook in [*built, *behind, self._catch_up, self.signals] if hook is not None]

    def _build_hooks_behind_saving(self, is_main: bool) -> list[hooks.HookBase]:
        cfg = self.cfg
        period, patience = cfg.TEST.EVAL_PERIOD, cfg.SOLVER.EARLY_STOPPING.PATIENCE
        built = [hooks.EvalHook(period, self._evaluate) if cfg.DATASETS.TEST else None, self.best]
        if is_main:
            writers = WritersHook(self.build_writers)
            built += [writers, DrawingHook(cfg.OUTPUT_DIR, period, cfg.SOLVER.IMS_PER_BATCH, writers, self.best)]
        if patience:
            built.append(EarlyStoppingHook(self.best, self.checkpointer, period, patience))
        return [hook for hook in built if hook is not None]

    def after_train(self) -> None:
        """Call the hooks' after_train."""
        # After a resumed run that has no iteration left, Detectron2's counter is one ahead.
        self.iter = min(self.iter, self.max_iter)
        super().after_train()

    def build_writers(self) -> list[EventWriter]:
        """Build the writers of log lines, metrics.json, TensorBoard and, if WANDB.ENABLED, Weights & Biases."""
        directory = self.cfg.OUTPUT_DIR
        os.makedirs(directory, exist_ok=True)
        self._catch_up.prepare_metrics()
        writers = [
            ProgressPrinter(self.max_iter),
            JSONWriter(self._metrics_file),
            TensorboardXWriter(directory),
        ]
        if self.cfg.WANDB.ENABLED:
            writers.append(WandbWriter(self.cfg))
        return writers

    def _evaluate(self) -> dict:
        with self.ema.applied(self.raw_model) if self.ema else nullcontext():
            self._last_eval_results = self.evaluation.run(self.test, self.raw_model)
        if self._last_eval_results and comm.is_main_process():
            epochs = min(self.iter + 1, self.max_iter) / self.epoch
            say(self.evaluation.table(self._last_eval_results, f"epoch {epochs:.3g}"))
        return self._last_eval_results

    def state_dict(self) -> dict:
        """Return the state of the loop, the hooks and the optimizer."""
        state = super().state_dict()
        # After the last iteration the counter is one too high; resumed with a larger MAX_ITER, a run would skip one.
        state["iteration"] = min(self.iter, self.max_iter - 1)
        state["_trainer"] = self._trainer.state_dict()
        return state

    def load_state_dict(self, state: dict) -> None:
        """Load the result of `state_dict`."""
        TrainerBase.load_state_dict(self, state)
        self._trainer.load_state_dict(state["_trainer"])

    @classmethod
    def load_weights(cls, cfg: CfgNode) -> tuple[nn.Module, Checkpointer]:
        """Build a config's model and load MODEL.WEIGHTS (the moving average if the file has one) for an evaluation."""
        model = cls.build_model(cfg)
        checkpointer = Checkpointer(model, cfg.OUTPUT_DIR, class_names=config_class_names(cfg))
        checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=False)
        return model, checkpointer

    @classmethod
    def evaluate_weights(cls, cfg: CfgNode) -> dict:
        """Evaluate MODEL.WEIGHTS on DATASETS.TEST and return the metrics."""
        return cls.test(cfg, cls.load_weights(cfg)[0])

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        """Build the model on its device.

        Raises:
            UserError: no model can be built from the config's values, or it has no such stage.
        """
        with config_errors("model"):
            model = super().build_model(cfg)
        check_stage(cfg, model)
        return model

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        """Build the optimizer; see `insta_rtdetr.engine.optimizer`."""
        return build_optimizer(cfg, model)

    @classmethod
    def build_lr_scheduler(cls, cfg: CfgNode, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        """Build Detectron2's scheduler; a step at SOLVER.MAX_ITER is left out, like later ones, and is no error."""
        cfg = cfg.clone()
        cfg.defrost()
        cfg.SOLVER.STEPS = tuple(step for step in cfg.SOLVER.STEPS if step < cfg.SOLVER.MAX_ITER)
        with config_errors("learning-rate schedule (SOLVER.LR_SCHEDULER_NAME and the keys around it)"):
            return super().build_lr_scheduler(cfg, optimizer)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Iterable:
        """Build Detectron2's training loader with this package's mapper."""
        dataset = load_train_dataset(cfg)
        return build_train_loader(cfg, dataset, InstanceMapper(cfg, is_train=True, donors=dataset))[0]

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Iterable:
        """Build Detectron2's test loader with this package's mapper and a progress bar."""
        dataset = load_test_dataset(cfg, dataset_name)
        mapper = InstanceMapper(cfg, is_train=False)
        loader = build_detection_test_loader(dataset, mapper=mapper, num_workers=cfg.DATALOADER.NUM_WORKERS)
        return EvaluationLoader(loader, f"evaluation on {dataset_name}" if comm.is_main_process() else "")

    @classmethod
    def test(
        cls, cfg: CfgNode, model: nn.Module, evaluators: DatasetEvaluator | Sequence[DatasetEvaluator] | None = None
    ) -> dict:
        """Evaluate a model on DATASETS.TEST as Detectron2 does, on views of the images where the config asks for it."""
        return super().test(cfg, with_views(cfg, model), evaluators)

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> DatasetEvaluator:
        """Build the evaluator of a dataset; see `insta_rtdetr.evaluation.build_evaluator`."""
        return build_evaluator(cfg, dataset_name)


def _build_step(
    cfg: CfgNode, model: nn.Module, data_loader: Iterable, optimizer: torch.optim.Optimizer
) -> OptimizationStep:
    on_gpu = next(model.parameters()).device.type == "cuda"
    is_mixed = cfg.SOLVER.AMP.ENABLED and (on_gpu or cfg.SOLVER.AMP.ON_CPU)
    if cfg.SOLVER.AMP.ENABLED and not is_mixed:
        logger.info("SOLVER.AMP.ENABLED is for GPUs: training in float32")
    clip = cfg.SOLVER.CLIP_GRADIENTS
    return OptimizationStep(
        create_ddp_model(model, broadcast_buffers=False, **({} if on_gpu else {"device_ids": None})),
        data_loader,
        optimizer,
        clip_norm=clip.CLIP_VALUE if clip.ENABLED and clip.CLIP_TYPE == "full_model" else float("inf"),
        norm_type=clip.NORM_TYPE,
        amp_dtype=AMP_DTYPES[cfg.SOLVER.AMP.DTYPE] if is_mixed else None,
        max_skipped=cfg.SOLVER.MAX_SKIPPED_ITERS,
        accumulation_steps=cfg.SOLVER.ACCUMULATION_STEPS,
    )
