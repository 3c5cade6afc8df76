"""Make the reference outputs of SOLOv2 by running PaddleDetection.

    git clone https://github.com/PaddlePaddle/PaddleDetection /tmp/PaddleDetection
    git -C /tmp/PaddleDetection checkout 666f597
    pip install paddlepaddle==3.3.1 opencv-python-headless scipy pycocotools    # in an environment of its own
    python -m tests.parity.make_solov2_reference /tmp/PaddleDetection [output folder]

Everything is computed in float64 on the CPU, also PaddlePaddle's interpolation and numbers that the original makes in
float32.  Of PaddleDetection only the modules of this model are imported.  Writes, by default beside this file:

- solov2_r50_fpn.npz with its keys.json, and solov2_r50_fpn_wide.npz: a square and a wide image, with the weights of
  solov2_recipe.py.  Both have the batch-norm statistics of the square image.
- solov2_losses.npz: the grids' cells that the made-up objects of solov2_recipe.py are assigned to, the losses of its
  made-up outputs, and some of the losses' gradients.
"""

import importlib
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np

from .make_paddle_rcnn_reference import (
    BARE_PACKAGES,
    import_paddle_detection,
    inputs_for,
    let_expand_take_tensors,
    measure_batch_norms,
    with_weights,
)
from .making import run, save_keys
from .paddle_rcnn_recipe import IMAGES, SALT
from .solov2_recipe import (
    GRID_SIDES,
    INPUT_SIZE,
    MASK_DIM,
    NUM_CLASSES,
    OBJECTS,
    made_up_objects,
    made_up_outputs,
    solov2_weight_for,
)

MODULES = (
    "architectures.solov2", "backbones.resnet", "necks.fpn", "heads.solov2_head", "losses.solov2_loss", "layers",
)  # fmt: skip
# Functions of PaddlePaddle that the original calls with the type float32.
MAKE_FLOAT32 = ("linspace", "cast", "zeros", "ones")
# Every how many-th cell, row and column of the network's raw outputs and of gradients is kept.
CELL_STEP, MAP_STEP, GRADIENT_STEP = 37, 5, 11


def compute_in_float64() -> None:
    """Numbers that code makes in float32 are float64."""
    import paddle

    def doubled(key: str, value: Any) -> Any:
        # PaddlePaddle 3.3 makes no tensor of a shape that is a tensor.
        value = value.tolist() if key == "shape" and isinstance(value, paddle.Tensor) else value
        return "float64" if isinstance(value, str) and value == "float32" else value

    def in_double(make: Any) -> Any:
        return lambda *values, **options: make(
            *(doubled("", value) for value in values), **{key: doubled(key, value) for key, value in options.items()}
        )

    paddle.set_default_dtype("float64")
    for name in MAKE_FLOAT32:
        setattr(paddle, name, in_double(getattr(paddle, name)))
    one_hot = paddle.nn.functional.one_hot
    paddle.nn.functional.one_hot = lambda *values, **options: one_hot(*values, **options).astype("float64")


def interpolate_in_float64() -> None:
    """Bilinear interpolation is exact, where PaddlePaddle's own has weights in float32 and is off by up to 6e-6."""
    import paddle

    theirs = paddle.nn.functional.interpolate

    def interpolate(x: Any, *values: Any, mode: str = "nearest", **options: Any) -> Any:
        rounded = theirs(x, *values, mode=mode, **options)
        if mode != "bilinear":
            return rounded
        rows, columns = (
            paddle.to_tensor(linear_weights(cells, pixels))
            for cells, pixels in zip(x.shape[2:], rounded.shape[2:], strict=True)
        )
        exact = rows @ x @ columns.T
        assert float((exact - rounded).abs().max()) < 1e-5 * max(1.0, float(x.abs().max()))
        return exact

    paddle.nn.functional.interpolate = interpolate


def linear_weights(cells: int, pixels: int) -> np.ndarray:
    """The weights (pixels, cells) by which pixels are read between the centres of cells."""
    places = ((np.arange(pixels) + 0.5) * cells / pixels - 0.5).clip(0, cells - 1)
    return (1 - np.abs(places[:, None] - np.arange(cells))).clip(0)


def original_model(source: Path) -> Any:
    """PaddleDetection's model in float64 with the weights of `solov2_weight_for`."""
    from ppdet.core.workspace import create, global_config, load_config

    global_config.update({"num_classes": 80, "norm_type": "gn"})
    settings = load_config(str(source / "configs/solov2/_base_/solov2_r50_fpn.yml"))
    settings["ResNet"]["norm_type"] = "bn"
    return with_weights(create(settings.architecture), solov2_weight_for)


def answers(model: Any, size: tuple[int, int], result_size: tuple[int, int]) -> dict[str, np.ndarray]:
    """What the model says of one image; the stand-in that the original appends to its objects is left out."""
    import paddle

    model.inputs = inputs_for(size, result_size, stride=32, precision=np.float64)
    raw_logits: list[Any] = []
    hook = model.solov2_head.solo_cate.register_forward_post_hook(
        lambda layer, inputs, output: raw_logits.append(output)
    )
    with paddle.no_grad():
        model.model_arch()
        candidates = sum(int((probs > 0.1).sum()) for probs in model.cate_pred_list)
        assert candidates < 500, candidates
        found = {name: value.numpy() for name, value in model.get_pred().items() if name != "bbox_num"}
    hook.remove()
    order = np.argsort(-found["cate_score"], kind="stable")
    order = order[found["cate_score"][order] > 0]
    sys.stdout.write(f"{size}: {candidates} candidates, {len(order)} objects\n")
    return {
        "size": np.array(size), "orig": np.array(result_size), "salt": np.array(SALT),
        "class_logits_sub": _cells(raw_logits).astype(np.float32),
        "kernels_sub": _cells(model.kernel_pred_list).astype(np.float32),
        "mask_features_sub": model.seg_pred.numpy()[0, :, 3::MAP_STEP, 2::MAP_STEP].astype(np.float32),
        "scores": found["cate_score"][order], "classes": found["cate_label"][order].astype(np.int16),
        "mask_areas": found["segm"][order].sum((1, 2)).astype(np.int32),
    }  # fmt: skip


def _cells(grids: list[Any]) -> np.ndarray:
    """Some cells of all grids (1, C, S, S) together: (cells, C)."""
    return np.concatenate([grid.numpy()[0].reshape(grid.shape[1], -1).T for grid in grids])[::CELL_STEP]


def assigned_targets() -> list[dict[str, Any]]:
    """What the original's reader makes of the made-up objects of both images."""
    from ppdet.data.transform.batch_operators import Gt2Solov2Target

    samples = []
    for image in range(len(OBJECTS)):
        classes, boxes, masks = made_up_objects(image)
        samples.append({
            "image": np.zeros((3, *INPUT_SIZE)), "gt_class": classes, "gt_bbox": boxes, "gt_segm": masks,
            "is_crowd": None, "gt_poly": None,
        })  # fmt: skip
    return Gt2Solov2Target()(samples)


def losses_reference() -> dict[str, np.ndarray]:
    """Assigned cells, losses and gradients of the made-up outputs and objects."""
    import paddle
    from ppdet.modeling.heads.solov2_head import SOLOv2Head
    from ppdet.modeling.losses.solov2_loss import SOLOv2Loss

    samples, levels = assigned_targets(), range(len(GRID_SIDES))
    outputs = {name: paddle.to_tensor(values, stop_gradient=False) for name, values in made_up_outputs().items()}

    def stacked(name: str) -> list[Any]:
        return [paddle.to_tensor(np.stack([sample[f"{name}{i}"] for sample in samples])) for i in levels]

    head = SOLOv2Head(NUM_CLASSES, kernel_out_channels=MASK_DIM, solov2_loss=SOLOv2Loss())
    losses = head.get_loss(
        [outputs[f"class_logits{i}"] for i in levels], [outputs[f"kernels{i}"] for i in levels],
        outputs["mask_features"], stacked("ins_label"), stacked("cate_label"), stacked("grid_order"),
        paddle.to_tensor([sample["fg_num"] for sample in samples]),
    )  # fmt: skip
    gradients = paddle.grad(sum(losses.values()), list(outputs.values()))
    found = {f"loss/{name}": np.float64(loss.item()) for name, loss in losses.items()}
    for name, gradient in zip(outputs, gradients, strict=True):
        found[f"gradient/{name}"] = gradient.numpy().ravel()[::GRADIENT_STEP].astype(np.float32)
    for image, sample in enumerate(samples):
        found[f"labels/{image}"] = np.concatenate([sample[f"cate_label{i}"] for i in levels]).astype(np.int8)
        for i, side in enumerate(GRID_SIDES):
            areas = sample[f"ins_label{i}"].sum((1, 2), dtype=np.int32)
            found[f"cells/{image}/{i}"] = (sample[f"grid_order{i}"] - image * side**2)[areas > 0]
            found[f"areas/{image}/{i}"] = areas[areas > 0]
    return found


def import_reader() -> None:
    """Register the module of the reader's steps without the readers."""
    stand_in = types.ModuleType("ppdet.data.reader")
    stand_in.Compose = object
    sys.modules["ppdet.data.reader"] = stand_in
    importlib.import_module("ppdet.data.transform.batch_operators")


def main(source: Path, folder: Path) -> None:
    """Write all files."""
    import_paddle_detection(source, MODULES, (*BARE_PACKAGES, "ppdet.data.transform"))
    import_reader()
    compute_in_float64()
    let_expand_take_tensors()
    interpolate_in_float64()
    model = original_model(source)
    statistics, hooks = measure_batch_norms(model)
    for suffix, *sizes in IMAGES:
        found = answers(model, *sizes)
        np.savez_compressed(folder / f"solov2_r50_fpn{suffix}.npz", **found, **({} if suffix else statistics))
        for hook in hooks:
            hook.remove()
    save_keys(model, folder / "solov2_r50_fpn.keys.json")
    np.savez_compressed(folder / "solov2_losses.npz", **losses_reference())


if __name__ == "__main__":
    run(main, __doc__, "PaddleDetection")
