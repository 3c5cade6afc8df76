"""Make the reference outputs of PaddlePaddle's Mask R-CNNs by running PaddleDetection.

    git clone https://github.com/PaddlePaddle/PaddleDetection /tmp/PaddleDetection
    git -C /tmp/PaddleDetection checkout 666f597
    pip install paddlepaddle==3.3.1    # in an environment of its own
    python -m tests.parity.make_paddle_rcnn_reference /tmp/PaddleDetection [output folder]

Everything is computed in float64 on the CPU, for weights of paddle_rcnn_recipe.py.  Of PaddleDetection only the modules
of these models are imported.  Writes, by default beside this file, paddle_*.npz with their keys.json, and
paddle_*_wide.npz: what is found in a square and in a wide image.  Both have the batch-norm statistics of the square
one, but for the models in OWN_STATISTICS.
"""

import importlib
import multiprocessing
import sys
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .making import run, save_keys
from .paddle_rcnn_recipe import IMAGES, NUM_PROPOSALS, SALT, rcnn_weight_for
from .recipe import image_for

# Packages whose own __init__ would import all of PaddleDetection.
BARE_PACKAGES = (
    "ppdet", "ppdet.core", "ppdet.data", "ppdet.utils", "ppdet.modeling", "ppdet.modeling.architectures",
    "ppdet.modeling.assigners", "ppdet.modeling.backbones", "ppdet.modeling.heads", "ppdet.modeling.necks",
    "ppdet.modeling.proposal_generator", "ppdet.modeling.losses", "ppdet.modeling.transformers",
)  # fmt: skip
MODULES = (
    "architectures.mask_rcnn", "architectures.cascade_rcnn", "backbones.resnet", "necks.fpn", "heads.bbox_head",
    "heads.cascade_head", "heads.mask_head", "heads.roi_extractor", "proposal_generator.rpn_head",
    "losses.cot_loss", "proposal_generator.target_layer", "post_process", "layers",
)  # fmt: skip
# With the statistics of another image, scores of these deep models are so near 1 that which of two boxes suppresses the
# other is chance.
OWN_STATISTICS = ("mask_rcnn_R101vd_FPN", "mask_rcnn_X101vd_FPN")
MASK, CASCADE = "mask_rcnn/_base_/mask_rcnn_r50_fpn.yml", "cascade_rcnn/_base_/cascade_mask_rcnn_r50_fpn.yml"
# Name of a reference -> PaddleDetection's config of the model, and what is changed of its ResNet.
CONFIGS = {
    "mask_rcnn_R50_C4": ("mask_rcnn/_base_/mask_rcnn_r50.yml", {}),
    "mask_rcnn_R50_FPN": (MASK, {}),
    "mask_rcnn_R50vd_FPN": (MASK, {"variant": "d"}),
    "mask_rcnn_R101_FPN": (MASK, {"depth": 101}),
    "mask_rcnn_R101vd_FPN": (MASK, {"depth": 101, "variant": "d"}),
    "mask_rcnn_X101vd_FPN": (MASK, {"depth": 101, "variant": "d", "groups": 64, "base_width": 4}),
    "cascade_mask_rcnn_R50_FPN": (CASCADE, {}),
    "cascade_mask_rcnn_R50vd_FPN": (CASCADE, {"variant": "d"}),
}
MEAN, STD = ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])


def import_paddle_detection(source: Path, modules: Sequence[str], packages: Sequence[str] = BARE_PACKAGES) -> None:
    """Register some modules of `ppdet.modeling`, the parts of models, without the rest of these packages."""
    make_bare_packages(source, packages)
    for name in modules:
        importlib.import_module(f"ppdet.modeling.{name}")


def make_bare_packages(source: Path, packages: Sequence[str] = BARE_PACKAGES) -> None:
    """Make packages from whose folders modules can be imported, without what their own __init__ imports."""
    sys.path.insert(0, str(source))
    for name in packages:
        package = types.ModuleType(name)
        package.__path__ = [str(source.joinpath(*name.split(".")))]
        sys.modules[name] = package
    sys.modules["ppdet.modeling.transformers"].bbox_cxcywh_to_xyxy = None  # which these models do not use


def let_expand_take_tensors() -> None:
    """PaddlePaddle 3.3 takes no tensors with one dimension as sides where NumPy makes no numbers of them."""
    import paddle

    expand = paddle.expand
    paddle.expand = lambda x, shape: expand(x, [np.asarray(side).item() for side in shape])


def original_model(source: Path, config: str, resnet: dict[str, Any]) -> Any:
    """PaddleDetection's model in float64 with the weights of `rcnn_weight_for`."""
    from ppdet.core.workspace import create, global_config, load_config

    global_config.update({"num_classes": 80})
    settings = load_config(str(source / "configs" / config))
    settings["ResNet"].update({"variant": "b", "groups": 1, "base_width": 64} | resnet)
    settings["RPNHead"]["test_proposal"]["post_nms_top_n"] = NUM_PROPOSALS
    return with_weights(create(settings.architecture), rcnn_weight_for)


def with_weights(model: Any, weight_for: Callable[[str, tuple[int, ...], int], np.ndarray]) -> Any:
    """The model in float64 and eval mode, with the weights of a recipe."""
    import paddle

    model.to(dtype="float64")
    for name, value in model.state_dict().items():
        value.set_value(paddle.to_tensor(weight_for(name, value.shape, SALT), dtype="float64"))
    model.eval()
    return model


def measure_batch_norms(model: Any) -> tuple[dict[str, np.ndarray], list[Any]]:
    """At its next call, every norm takes the statistics of its input, which the dict is filled with; and the hooks."""
    import paddle

    found: dict[str, np.ndarray] = {}

    def measure(name: str, norm: Any, inputs: Any) -> None:
        if f"stat:{name}._mean" in found:
            return  # The last stage of a model without a pyramid runs twice.
        for kind, values in (("_mean", inputs.mean((0, 2, 3))), ("_variance", inputs.var((0, 2, 3), unbiased=False))):
            found[f"stat:{name}.{kind}"] = values.numpy().astype(np.float16)
            getattr(norm, kind).set_value(paddle.to_tensor(found[f"stat:{name}.{kind}"].astype(np.float64)))

    hooks = [
        layer.register_forward_pre_hook(lambda norm, inputs, name=name: measure(name, norm, inputs[0]))
        for name, layer in model.named_sublayers()
        if isinstance(layer, paddle.nn.BatchNorm2D)
    ]
    return found, hooks


def inputs_for(
    size: tuple[int, int], result_size: tuple[int, int], stride: int, precision: type = np.float32
) -> dict[str, Any]:
    """The model's inputs for one image, whose sides are padded to multiples of the stride.

    Detectron2's own models have `MEAN` and `STD` in float32, ours in the precision of the model.
    """
    import paddle

    mean, std = (precision(values).astype(np.float64)[:, None, None] for values in (MEAN, STD))
    image = (image_for(*size, SALT).transpose(2, 0, 1) - mean) / std
    padding = [(0, -side % stride) for side in size]
    inputs = {
        "image": np.pad(image, [(0, 0), *padding])[None], "im_shape": np.array([size], dtype=np.float64),
        "scale_factor": np.array([np.divide(size, result_size)]),
    }  # fmt: skip
    return {name: paddle.to_tensor(value, dtype="float64") for name, value in inputs.items()}


def answers(model: Any, size: tuple[int, int], result_size: tuple[int, int]) -> dict[str, np.ndarray]:
    """What the model finds in one image."""
    import paddle

    model.inputs = inputs_for(size, result_size, stride=32 if model.neck is not None else 1)
    with paddle.no_grad():
        found = {name: value.numpy() for name, value in model.get_pred().items()}
    kept = found["bbox"][:, 0] >= 0
    classes, scores, boxes = np.split(found["bbox"][kept], [1, 2], axis=1)
    order = np.argsort(-scores[:, 0], kind="stable")
    return {
        "size": np.array(size), "orig": np.array(result_size), "salt": np.array(SALT),
        "classes": classes[order, 0].astype(np.int16), "scores": scores[order, 0], "boxes": boxes[order],
        "mask_areas": found["mask"][kept][order].sum((1, 2)).astype(np.int32),
    }  # fmt: skip


def write(source: Path, folder: Path, name: str) -> None:
    """Write the files of one model."""
    import paddle

    import_paddle_detection(source, MODULES)
    paddle.set_default_dtype("float64")
    let_expand_take_tensors()
    model = original_model(source, *CONFIGS[name])
    for suffix, *sizes in IMAGES:
        has_own = not suffix or name in OWN_STATISTICS
        statistics, hooks = measure_batch_norms(model) if has_own else ({}, [])
        found = answers(model, *sizes) | statistics
        for hook in hooks:
            hook.remove()
        np.savez_compressed(folder / f"paddle_{name}{suffix}.npz", **found)
    save_keys(model, folder / f"paddle_{name}.keys.json")


def main(source: Path, folder: Path) -> None:
    """Write all files, each model's in a process: what a config says of a part would hold for the next one."""
    for name in CONFIGS:
        process = multiprocessing.get_context("spawn").Process(target=write, args=(source, folder, name))
        process.start()
        process.join()
        if process.exitcode:
            raise SystemExit(f"{name} failed.")


if __name__ == "__main__":
    run(main, __doc__, "PaddleDetection")
