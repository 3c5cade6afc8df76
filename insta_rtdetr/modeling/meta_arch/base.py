"""The base class of all models: preprocessing, losses in training, and postprocessing around the network."""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ...layers.foldable import fold_
from ...structures import GradientAccumulation, ModelOutput, Prediction, Pyramid, Target
from ..postprocessing import Postprocessor
from ..preprocessing import Preprocessor

# Values of MODEL.STAGE, which says what part of a model is trained.
STAGES = ("joint", "detector", "masks")


class InstanceSegmenter(nn.Module):
    """Base class of Detectron2 meta-architectures that return losses in training, and `Instances` otherwise.

    A subclass defines `run_network` and `class_layers`.

    Attributes:
        class_layers: the layers whose weight and bias have a row for each class, in the order of the classes.  Maps a
            regular expression for the layer's name to the number of rows after those, for "no object" or padding.
            Another set of classes changes these rows and nothing else.
        mask_branch: names of the modules that only masks depend on; empty if the model has no boxes without masks.
        predicts_boxes: whether the network predicts boxes; otherwise results have the boxes around their masks.
    """

    class_layers: dict[str, int] = {}
    mask_branch: tuple[str, ...] = ()
    predicts_boxes = True

    def __init__(
        self, *, preprocessor: Preprocessor, criterion: nn.Module, postprocessor: Postprocessor, fuse_on_eval: bool,
        stage: str = "joint",
    ):  # fmt: skip
        """Build the model.

        Args:
            preprocessor: turns images and instances into the batch and its targets.
            criterion: computes the losses.
            postprocessor: turns predictions into `Instances`.
            fuse_on_eval: whether a folded copy of the network predicts in eval mode.
            stage: the part that is trained, one of `STAGES`.

        Raises:
            ValueError: the stage is unknown, or it is not "joint" and the model has no `mask_branch`.
        """
        super().__init__()
        if stage not in STAGES:
            raise ValueError(f"MODEL.STAGE must be one of {', '.join(STAGES)}, got {stage!r}.")
        if stage != "joint" and not self.mask_branch:
            name = type(self).__name__
            raise ValueError(f"MODEL.STAGE is {stage}, but {name} has no box head to train alone. Set it to joint.")
        self.stage = stage
        self.preprocessor, self.criterion, self.postprocessor = preprocessor, criterion, postprocessor
        self.fuse_on_eval = fuse_on_eval
        # Whether training batches are rescaled; the trainer turns it off for the last iterations.
        self.multi_scale_enabled = True
        # Losses are normalised over the accumulated batches; the trainer sets this.  None stands for the batch alone.
        self.accumulated: GradientAccumulation | None = None
        # Type of autocast for backbone and encoder in eval mode; None for no autocast.
        self.feature_dtype: torch.dtype | None = None
        self.is_fused = False
        # A one-element list, because a module stored as an attribute would become part of the checkpoint.
        self._fused_copy: list[tuple[tuple, InstanceSegmenter]] = []

    def run_network(self, images: Tensor, targets: list[Target] | None = None) -> ModelOutput:
        """Run the network without pre- and postprocessing.

        Args:
            images: (B, 3, H, W), normalised.
            targets: the objects of each image, in training.
        """
        raise NotImplementedError

    def extract_features(self, images: Tensor, **options: bool) -> Pyramid:
        """Run backbone and encoder; for `run_network`.

        Args:
            images: (B, 3, H, W), normalised.
            options: more arguments of the encoder.
        """
        if self.feature_dtype is None or self.training:
            return self.encoder(self.backbone(images), **options)
        with torch.autocast(images.device.type, dtype=self.feature_dtype):
            pyramid = self.encoder(self.backbone(images), **options)
        masks = pyramid.mask_features
        return Pyramid([level.to(images) for level in pyramid.levels], None if masks is None else masks.to(images))

    @property
    def predicts_masks(self) -> bool:
        """Return whether the mask branch runs."""
        return self.stage != "detector"

    def is_of_mask_branch(self, name: str) -> bool:
        """Return whether a module, parameter or buffer belongs to the mask branch."""
        return f"{name}.".startswith(tuple(f"{branch}." for branch in self.mask_branch))

    def freeze_for_stage(self) -> None:
        """Freeze all that this stage does not train; a subclass calls it at the end of its constructor."""
        for part, learns in self._parts_by_stage():
            part.requires_grad_(learns)
        self.train(self.training)

    def _parts_by_stage(self) -> Iterator[tuple[nn.Module, bool]]:
        """Yield modules and whether this stage trains them; of overlapping modules, the later one counts."""
        if self.stage == "masks":
            yield from ((part, False) for part in self.children())
        if self.stage != "joint":
            branches = [module for name, module in self.named_modules() if name in self.mask_branch]
            yield from ((branch, self.stage == "masks") for branch in branches)

    @property
    def device(self) -> torch.device:
        """Return the model's device."""
        return self.preprocessor.device

    def forward(self, batched_inputs: list[dict]) -> dict[str, Tensor] | list[dict]:
        """Compute the losses in training mode, or predict.

        Args:
            batched_inputs: one dict for each image.  "image": (3, h, w), 0 to 255, with channels in the order of
                INPUT.FORMAT; "height" and "width": size of the result in pixels, by default the image's; in training,
                "instances": with gt_boxes, gt_classes and gt_masks (BitMasks).

        Returns:
            in training, a dict of weighted losses; otherwise [{"instances": Instances}, ...] with pred_boxes,
            pred_masks (except in the stage "detector"), scores and pred_classes.
        """
        if self.training:
            return self._losses(batched_inputs)
        return self.inference(batched_inputs)

    def _losses(self, batched_inputs: list[dict]) -> dict[str, Tensor]:
        if self.is_fused:
            raise RuntimeError("a fused model cannot be trained. Build the model again and load the weights.")
        batch = self.preprocessor(batched_inputs)
        targets = self.preprocessor.targets(batched_inputs, batch.sizes)
        images = self.preprocessor.rescale(batch.images) if self.multi_scale_enabled else batch.images
        output = self.run_network(images, targets)
        with torch.autocast(self.device.type, enabled=False):
            return self.criterion(output, targets, self.accumulated)

    @torch.no_grad()
    def inference(self, batched_inputs: list[dict]) -> list[dict]:
        """Predict the instances of each image, which do not depend on the other images of the batch."""
        results: list[dict] = [{} for _ in batched_inputs]
        for indices in self.preprocessor.group_by_size(batched_inputs).values():
            batch = self.preprocessor([batched_inputs[i] for i in indices])
            prediction = self._predict(batch.images)
            for i, instances in zip(indices, self.postprocessor(prediction, batch.sizes), strict=True):
                results[i] = {"instances": instances}
        return results

    @torch.no_grad()
    def forward_raw(self, batched_inputs: list[dict]) -> dict[str, Tensor]:
        """Return the last layer's predictions for all queries, before postprocessing.

        Returns:
            class_logits (B, Q, K), or (B, Q, K + 1) for a model with a class "no object", and, if the model predicts
            them, boxes_cxcywh (B, Q, 4) in [0, 1] and mask_logits (B, Q, h, w).  Boxes and masks are relative to the
            network's input, to which all images of the batch are padded.

        Raises:
            RuntimeError: the model is in training mode.
        """
        if self.training:
            raise RuntimeError("forward_raw needs eval mode. Call model.eval() first.")
        prediction = self._predict(self.preprocessor(batched_inputs).images)
        raw = {
            "class_logits": prediction.class_logits,
            "boxes_cxcywh": prediction.boxes_cxcywh,
            "mask_logits": prediction.mask_logits if prediction.has_masks else None,
        }
        return {name: values for name, values in raw.items() if values is not None}

    def _predict(self, images: Tensor) -> Prediction:
        network = self._inference_network()
        if network.is_fused and images.device.type == "cpu":
            images = images.contiguous(memory_format=torch.channels_last)
        return network.run_network(images).layers[-1]

    def fuse(self) -> "InstanceSegmenter":
        """Fold batch norms, RepVGG branches and successive linear layers, in place, for inference only.

        Raises:
            RuntimeError: the model is in training mode.
        """
        if self.training:
            raise RuntimeError("only a model in eval mode can be fused. Call model.eval() first.")
        if not self.is_fused:
            self._fused_copy.clear()
            fold_(self)
            if self.device.type == "cpu":
                self.to(memory_format=torch.channels_last)
            self.is_fused = True
        return self

    def train(self, mode: bool = True) -> "InstanceSegmenter":
        """Switch between training and eval mode.  In training mode, frozen parts stay in eval mode."""
        super().train(mode)
        if mode:
            self._fused_copy.clear()
            for part, learns in self._parts_by_stage():
                part.train(learns)
        return self

    def _inference_network(self) -> "InstanceSegmenter":
        """Return this model or its fused copy, which is renewed when a weight has changed."""
        if self.is_fused or not self.fuse_on_eval or torch.jit.is_tracing() or torch.compiler.is_compiling():
            return self
        fingerprint = tuple((t.data_ptr(), t._version) for t in (*self.parameters(), *self.buffers()))
        if not self._fused_copy or self._fused_copy[0][0] != fingerprint:
            self._fused_copy.clear()
            self._fused_copy.append((fingerprint, copy.deepcopy(self).fuse()))
        return self._fused_copy[0][1]


def require_masks(model: InstanceSegmenter, targets: list[Target]) -> None:
    """Refuse targets without masks, for a model that has nothing to learn from them.

    Raises:
        ValueError: an image's objects have none.
    """
    if any(target.masks is None for target in targets):
        name = type(model).__name__
        raise ValueError(f"{name} learns from masks, but instances have no gt_masks. Give the objects masks.")


# The sides of the network's input are multiples of this number of pixels.
COARSEST_STRIDE = 32


def shared_arguments(
    cfg, criterion: nn.Module, postprocessor: type[Postprocessor], divisibility: int = COARSEST_STRIDE
) -> dict:
    """Build the arguments of `InstanceSegmenter`, which all models share.

    Reads MODEL.{PIXEL_MEAN, PIXEL_STD, FUSE_ON_EVAL, STAGE}, INPUT.{FIXED_SIZE, MULTI_SCALE} and TEST.
    """
    return {
        "preprocessor": _build_preprocessor(cfg, divisibility),
        "criterion": criterion,
        "postprocessor": _build_postprocessor(cfg, postprocessor),
        "fuse_on_eval": cfg.MODEL.FUSE_ON_EVAL,
        "stage": cfg.MODEL.STAGE,
    }


def _build_preprocessor(cfg, divisibility: int) -> Preprocessor:
    return Preprocessor(
        cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD, cfg.INPUT.FIXED_SIZE, cfg.INPUT.MULTI_SCALE, divisibility
    )


def _build_postprocessor(cfg, kind: type[Postprocessor]) -> Postprocessor:
    return kind(
        max_objects=cfg.TEST.DETECTIONS_PER_IMAGE,
        score_threshold=cfg.TEST.SCORE_THRESHOLD,
        mask_threshold=cfg.TEST.MASK_THRESHOLD,
        resize=cfg.TEST.MASK_RESIZE,
        nms_threshold=cfg.TEST.NMS_THRESHOLD,
    )
