"""The trainer: Detectron2's DefaultTrainer with this package's mapper, optimizer, EMA, checkpoints and hooks."""

import logging
import os
import sys
import weakref
from collections.abc import Iterable

import torch
from detectron2.config import CfgNode
from detectron2.data import build_detection_test_loader, build_detection_train_loader
from detectron2.engine import DefaultTrainer, TrainerBase, create_ddp_model, hooks
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng
from detectron2.utils.events import EventWriter, JSONWriter, TensorboardXWriter
from torch import nn

from insta_rtdetr.checkpoint import Checkpointer
from insta_rtdetr.data import InstanceMapper, config_class_names, load_datasets, needs_masks
from insta_rtdetr.errors import config_errors
from insta_rtdetr.evaluation import build_evaluator

from .ema import ModelEMA
from .hooks import (
    BestCheckpointer,
    CurvesHook,
    EarlyStoppingHook,
    EMAHook,
    PlainAugmentationHook,
    ProgressBarHook,
    TrainingStopped,
)
from .optimizer import build_optimizer
from .sampler import ResumableSampler
from .setup import load_test_dataset
from .stage import best_metric, check_detector, check_stage, log_trained
from .step import OptimizationStep
from .writers import ProgressPrinter, WandbWriter

logger = logging.getLogger(__name__)

WRITE_PERIOD = 20
AMP_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class Trainer(DefaultTrainer):
    """Trains the model of a config.

    Attributes:
        ema: the moving average of the weights, or None.
        mapper: the mapper of the training images.
    """

    def __init__(self, cfg: CfgNode) -> None:
        # DefaultTrainer's own __init__ would build Detectron2's loop, checkpointer and data loader.
        TrainerBase.__init__(self)
        cfg = self.auto_scale_workers(cfg, comm.get_world_size())
        self.cfg = cfg
        self.max_iter = cfg.SOLVER.MAX_ITER
        dataset = load_train_dataset(cfg)
        with config_errors("mapper"):
            self.mapper = InstanceMapper(cfg, is_train=True, donors=dataset)
        data_loader, self._sampler = build_train_loader(cfg, dataset, self.mapper)
        # Convolutions are faster so, a third of the time on CPU.
        model = self.build_model(cfg).to(memory_format=torch.channels_last)
        log_trained(model, cfg.MODEL.STAGE)
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
        """What runs in each iteration."""
        return self._trainer

    @property
    def raw_model(self) -> nn.Module:
        """The model without the wrapper of distributed training."""
        return getattr(self.model, "module", self.model)

    def train(self) -> None:
        """Train to the last iteration, or until a hook stops it."""
        try:
            super().train()
        except TrainingStopped as stop:
            logger.info(str(stop))

    def resume_or_load(self, resume: bool = True) -> None:
        """Go on from OUTPUT_DIR's last checkpoint if resume is set and there is one, else load MODEL.WEIGHTS."""
        super().resume_or_load(resume)
        if self.cfg.MODEL.STAGE == "masks" and not (resume and self.checkpointer.has_checkpoint()):
            check_detector(self.raw_model, self.checkpointer.unloaded, self.cfg.MODEL.WEIGHTS)
        if self.start_iter > 0:
            if self._sampler is not None:
                self._sampler.num_seen = self.start_iter * self.cfg.SOLVER.IMS_PER_BATCH
            if self.cfg.SEED >= 0:
                # Not the random numbers of the first iterations once more.
                seed_all_rng(self.cfg.SEED + comm.get_rank() + self.start_iter)
        if self.ema is not None and self.ema.updates == 0:
            self.ema.restart(self.raw_model)

    def build_hooks(self) -> list[hooks.HookBase]:
        """The hooks, in the order in which they run after each iteration."""
        cfg, is_main = self.cfg, comm.is_main_process()
        writers = self.build_writers() if is_main else []
        built = [
            hooks.IterationTimer(),
            PlainAugmentationHook(self.mapper, cfg.INPUT.PLAIN_LAST_ITERS),
            EMAHook(self.ema) if self.ema else None,
            hooks.LRScheduler(),
            hooks.PeriodicCheckpointer(self.checkpointer, cfg.SOLVER.CHECKPOINT_PERIOD) if is_main else None,
            hooks.EvalHook(cfg.TEST.EVAL_PERIOD, self._evaluate) if cfg.DATASETS.TEST else None,
        ]
        best = None
        if is_main and cfg.DATASETS.TEST:
            best = BestCheckpointer(cfg.TEST.EVAL_PERIOD, self.checkpointer, best_metric(cfg))
            built.append(best)
        if is_main:
            built.append(hooks.PeriodicWriter(writers, period=WRITE_PERIOD))
            built.append(CurvesHook(cfg.OUTPUT_DIR, cfg.TEST.EVAL_PERIOD, cfg.SOLVER.IMS_PER_BATCH, writers))
            built.append(ProgressBarHook(sys.stderr))
        if patience := cfg.SOLVER.EARLY_STOPPING.PATIENCE:
            built.append(EarlyStoppingHook(best, self.checkpointer, cfg.TEST.EVAL_PERIOD, patience))
        return [hook for hook in built if hook is not None]

    def build_writers(self) -> list[EventWriter]:
        """A line in the log, metrics.json, TensorBoard, and Weights & Biases if WANDB.ENABLED."""
        directory = self.cfg.OUTPUT_DIR
        os.makedirs(directory, exist_ok=True)
        writers = [
            ProgressPrinter(self.max_iter),
            JSONWriter(os.path.join(directory, "metrics.json")),
            TensorboardXWriter(directory),
        ]
        if self.cfg.WANDB.ENABLED:
            writers.append(WandbWriter(self.cfg))
        return writers

    def _evaluate(self) -> dict:
        if self.ema is None:
            self._last_eval_results = self.test(self.cfg, self.raw_model)
        else:
            with self.ema.applied(self.raw_model):
                self._last_eval_results = self.test(self.cfg, self.raw_model)
        return self._last_eval_results

    def state_dict(self) -> dict:
        """The loop's, the hooks' and the optimizer's state."""
        state = super().state_dict()
        # After the last iteration the counter is one ahead; a run resumed with a larger MAX_ITER would leave one out.
        state["iteration"] = min(self.iter, self.max_iter - 1)
        state["_trainer"] = self._trainer.state_dict()
        return state

    def load_state_dict(self, state: dict) -> None:
        """Load what state_dict gave."""
        TrainerBase.load_state_dict(self, state)
        self._trainer.load_state_dict(state["_trainer"])

    @classmethod
    def evaluate_weights(cls, cfg: CfgNode) -> dict:
        """Evaluate MODEL.WEIGHTS (the moving average, where the file has one) on DATASETS.TEST; the metrics."""
        model = cls.build_model(cfg)
        checkpointer = Checkpointer(model, cfg.OUTPUT_DIR, class_names=config_class_names(cfg))
        checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=False)
        return cls.test(cfg, model)

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        """The model on its device.

        Raises:
            UserError: the config's values give no model.
        """
        with config_errors("model"):
            model = super().build_model(cfg)
        check_stage(cfg, model)
        return model

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        """AdamW, see optimizer.py."""
        return build_optimizer(cfg, model)

    @classmethod
    def build_lr_scheduler(cls, cfg: CfgNode, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        """Detectron2's, but a step at the very end is left out like the later ones, instead of being an error."""
        cfg = cfg.clone()
        cfg.defrost()
        cfg.SOLVER.STEPS = tuple(step for step in cfg.SOLVER.STEPS if step < cfg.SOLVER.MAX_ITER)
        with config_errors("learning-rate schedule (SOLVER.LR_SCHEDULER_NAME and the keys around it)"):
            return super().build_lr_scheduler(cfg, optimizer)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Iterable:
        """Detectron2's loader with this package's mapper."""
        dataset = load_train_dataset(cfg)
        return build_train_loader(cfg, dataset, InstanceMapper(cfg, is_train=True, donors=dataset))[0]

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Iterable:
        """Detectron2's loader with this package's mapper."""
        dataset = load_test_dataset(cfg, dataset_name)
        mapper = InstanceMapper(cfg, is_train=False)
        return build_detection_test_loader(dataset, mapper=mapper, num_workers=cfg.DATALOADER.NUM_WORKERS)

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> DatasetEvaluator:
        """By the dataset's metadata, see evaluation/build.py."""
        return build_evaluator(cfg, dataset_name)


def load_train_dataset(cfg: CfgNode) -> list[dict]:
    """The checked dataset dicts of DATASETS.TRAIN.

    Raises:
        DatasetError: see insta_rtdetr.data.check_dataset.
    """
    return load_datasets(
        cfg.DATASETS.TRAIN,
        cfg.MODEL.NUM_CLASSES,
        filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS,
        max_missing=cfg.DATALOADER.MAX_UNREADABLE_IMAGES,
        with_masks=needs_masks(cfg),
    )


def build_train_loader(
    cfg: CfgNode, dataset: list[dict], mapper: InstanceMapper
) -> tuple[Iterable, ResumableSampler | None]:
    """Detectron2's endless loader of a dataset, and its sampler (None for samplers that cannot go on later).

    Raises:
        UserError: the config's values give no loader.
    """
    sampler = None
    if cfg.DATALOADER.SAMPLER_TRAIN == "TrainingSampler":
        sampler = ResumableSampler(len(dataset), seed=cfg.SEED if cfg.SEED >= 0 else None)
    batch_size = cfg.SOLVER.IMS_PER_BATCH // cfg.SOLVER.ACCUMULATION_STEPS
    with config_errors("data loader (DATALOADER.*)"):
        loader = build_detection_train_loader(
            cfg, mapper=mapper, dataset=dataset, sampler=sampler, total_batch_size=batch_size
        )
    return loader, sampler


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
