"""Make the reference outputs of PP-YOLOE_seg-S by running PaddleDetection.

    git clone https://github.com/PaddlePaddle/PaddleDetection /tmp/PaddleDetection
    git -C /tmp/PaddleDetection checkout 666f597
    pip install paddlepaddle==3.3.1    # in an environment of its own
    python -m tests.parity.make_ppyoloe_seg_reference /tmp/PaddleDetection [output folder]

Everything is computed in float64 on the CPU, with what ppyoloe_seg_recipe.py gives.  Writes, by default beside this
file:

- ppyoloe_seg_s.npz with its keys.json, and ppyoloe_seg_s_wide.npz: what is found in a square and in a wide image, each
  with its own batch-norm statistics.  PaddleDetection's config fixes the input to 640 x 640 (eval_size);
  without that key, the same code takes any size.
- ppyoloe_seg_losses.npz: the losses of made-up outputs for three images, one of them without objects, and gradients.
  The original takes every input to be 640 x 640 when it compares masks; the one number that says so is replaced.
"""

import importlib
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from .make_paddle_rcnn_reference import make_bare_packages, measure_batch_norms
from .making import run, save_keys
from .ppyoloe_seg_recipe import (
    GRADIENT_STEP,
    IMAGES,
    INPUT_SIZE,
    NUM_CLASSES,
    NUM_OBJECTS,
    SALT,
    STRIDES,
    level_sizes,
    made_up_outputs,
    made_up_targets,
    ppyoloe_weight_for,
)
from .recipe import image_for

MODULES = (
    "architectures.ppyoloe", "backbones.cspresnet", "necks.custom_pan", "assigners.atss_assigner",
    "assigners.task_aligned_assigner", "heads.ppyoloe_ins_head",
)  # fmt: skip
CONFIG = "ppyoloe_seg/_base_/ppyoloe_plus_crn_seg.yml"
# Of the raw outputs, every so manieth position is stored.
STEP = 7


def import_original(source: Path) -> None:
    """Register the model's parts."""
    make_bare_packages(source)
    # Heads take the loss from the package.
    sys.modules["ppdet.modeling.losses"].GIoULoss = importlib.import_module("ppdet.modeling.losses.iou_loss").GIoULoss
    for name in MODULES:
        importlib.import_module(f"ppdet.modeling.{name}")


def original_model(source: Path, **settings: Any) -> Any:
    """PaddleDetection's model in float64 with the weights of `ppyoloe_weight_for`.

    Args:
        source: checkout of PaddleDetection.
        settings: settings of the config that several parts share.
    """
    import paddle
    from ppdet.core.workspace import create, global_config, load_config

    config = load_config(str(source / "configs" / CONFIG))
    global_config.update({"depth_mult": 0.33, "width_mult": 0.5, **settings})
    config["PPYOLOE"]["ssod_loss"] = None  # which is for training without labels
    model = create(config.architecture)
    model.to(dtype="float64")
    for name, value in model.state_dict().items():
        value.set_value(paddle.to_tensor(ppyoloe_weight_for(name, tuple(value.shape), SALT), dtype="float64"))
    model.eval()
    return model


def answers(model: Any, size: tuple[int, int], result_size: tuple[int, int]) -> dict[str, np.ndarray]:
    """What the model finds in one image, and raw outputs of some positions, which come coarsest level first."""
    import paddle

    raw: list[Any] = []
    hook = model.yolo_head.register_forward_post_hook(lambda head, inputs, outputs: raw.extend(outputs))
    inputs = {
        "image": image_for(*size, SALT).transpose(2, 0, 1)[None] / 255.0,
        "im_shape": np.array([size], dtype=np.float64), "scale_factor": np.array([np.divide(size, result_size)]),
    }  # fmt: skip
    model.inputs = {name: paddle.to_tensor(value, dtype="float64") for name, value in inputs.items()}
    with paddle.no_grad():
        found = {name: value.numpy() for name, value in model.get_pred().items()}
    hook.remove()
    probs, sides, embeddings, features, points, strides = (values.numpy() for values in raw)
    corners = np.concatenate([points - sides[0, :, :2], points + sides[0, :, 2:]], axis=1) * strides
    classes, scores, boxes = np.split(found["bbox"], [1, 2], axis=1)
    order = np.argsort(-scores[:, 0], kind="stable")
    probs = probs[0].T[::STEP]
    return {
        "size": np.array(size), "orig": np.array(result_size), "salt": np.array(SALT),
        "class_logits": np.log(probs / (1 - probs)).astype(np.float32), "boxes_raw": corners.astype(np.float32),
        "mask_embeddings": embeddings[0].T[::STEP].astype(np.float32),
        "mask_features": features[0, :, 3::8, 5::8].astype(np.float32),
        "classes": classes[order, 0].astype(np.int16), "scores": scores[order, 0], "boxes": boxes[order],
        "mask_areas": found["mask"][order].sum((1, 2)).astype(np.int32),
    }  # fmt: skip


def losses_reference(head: Any) -> dict[str, np.ndarray]:
    """Weighted losses of the made-up outputs, and gradients of their sum at some positions."""
    import paddle
    from ppdet.modeling.assigners.utils import generate_anchors_for_grid_cell

    outputs = {name: paddle.to_tensor(value, stop_gradient=False) for name, value in made_up_outputs().items()}
    levels = [paddle.zeros([1, 1, *size]) for size in level_sizes()]
    anchors = generate_anchors_for_grid_cell(levels, STRIDES, 5.0, 0.5, "float64")
    scores = paddle.nn.functional.sigmoid(outputs["class_logits"])
    raw = [scores, outputs["side_logits"], outputs["mask_embeddings"], outputs["mask_features"], *anchors]
    to_tensor = paddle.to_tensor

    def with_real_size(data: Any, *args: Any, **kwargs: Any) -> Any:
        return to_tensor(list(INPUT_SIZE) if data == [640, 640] else data, *args, **kwargs)

    targets, mask_loss = padded_targets(), head.single_mask_loss
    # The original makes masks float32, which PaddlePaddle's loss does not take beside float64.
    head.single_mask_loss = lambda masks, *others: mask_loss(masks.cast("float64"), *others)
    with patch.object(paddle, "to_tensor", with_real_size):
        losses = head.get_loss(raw, targets)
    losses["loss"].backward()
    weights = {"loss_cls": "class", "loss_iou": "iou", "loss_dfl": "dfl", "loss_mask": "iou"}
    found = {f"loss/{name}": head.loss_weight[kind] * losses[name].numpy().item() for name, kind in weights.items()}
    found["loss/total"] = losses["loss"].numpy().item()
    for name, value in outputs.items():
        found[f"gradient/{name}"] = value.grad.numpy()[:, ::GRADIENT_STEP].astype(np.float32)
    return {name: np.asarray(value) for name, value in found.items()}


def padded_targets() -> dict[str, list[Any]]:
    """The made-up targets as the original's reader pads them."""
    import paddle

    most = max(NUM_OBJECTS)
    padded: dict[str, list[Any]] = {"gt_class": [], "gt_bbox": [], "pad_gt_mask": [], "gt_segm": []}
    for target, count in zip(made_up_targets(), NUM_OBJECTS, strict=True):
        values = {
            "gt_class": target["classes"][:, None], "gt_bbox": target["boxes"], "pad_gt_mask": np.ones((count, 1)),
            "gt_segm": target["masks"].astype(np.float64),
        }  # fmt: skip
        for name, value in values.items():
            missing = [(0, most - count), *[(0, 0)] * (value.ndim - 1)]
            padded[name].append(paddle.to_tensor(np.pad(value, missing)))
    return padded


def compute_exactly() -> None:
    """Replace two functions of PaddlePaddle that round to seven digits even in float64.

    It reads between pixels at places in float32, and its hard sigmoid has the slope 0.1666667.  Of 21 of the 600 masks
    one pixel is so near the threshold that this decides about it.
    """
    import paddle
    import paddle.nn.functional as F

    interpolate, hardsigmoid = F.interpolate, F.hardsigmoid

    def exactly(x: Any, size: Any = None, scale_factor: Any = None, mode: str = "nearest", **options: Any) -> Any:
        if mode != "bilinear":
            return interpolate(x, size, scale_factor, mode, **options)
        rows, columns = (
            paddle.to_tensor(linear_resize(old, int(new)), dtype="float64")
            for old, new in zip(x.shape[2:], size, strict=True)
        )
        return rows @ x @ columns.T

    F.interpolate = exactly
    F.hardsigmoid = lambda x: hardsigmoid(x, slope=1 / 6)


def linear_resize(old: int, new: int) -> np.ndarray:
    """The matrix (new, old) that resizes along an axis, reading between the centres of pixels."""
    place = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    return np.maximum(1 - np.abs(place[:, None] - np.arange(old)), 0)


def main(source: Path, folder: Path) -> None:
    """Write all files."""
    import paddle

    import_original(source)
    compute_exactly()
    paddle.set_default_dtype("float64")
    model = original_model(source, num_classes=80)
    for suffix, *sizes in IMAGES:
        # With the statistics of another image, scores would be so near 1 that their order would be chance.
        statistics, hooks = measure_batch_norms(model)
        np.savez_compressed(folder / f"ppyoloe_seg_s{suffix}.npz", **answers(model, *sizes), **statistics)
        for hook in hooks:
            hook.remove()
    save_keys(model, folder / "ppyoloe_seg_s.keys.json")
    head = original_model(source, num_classes=NUM_CLASSES).yolo_head
    np.savez_compressed(folder / "ppyoloe_seg_losses.npz", **losses_reference(head))


if __name__ == "__main__":
    run(main, __doc__, "PaddleDetection")
