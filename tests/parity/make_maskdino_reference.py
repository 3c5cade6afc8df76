"""Make the reference outputs of Mask DINO by running the original.

    git clone https://github.com/IDEA-Research/MaskDINO /tmp/MaskDINO && git -C /tmp/MaskDINO checkout 3831d85
    python -m tests.parity.make_maskdino_reference /tmp/MaskDINO [output folder]

Nothing has to be compiled: the original's attention falls back to its PyTorch version.  Everything is computed in
float64 on the CPU, constants that the original makes in float32 included.  Writes, by default beside this file:

- maskdino_R50_3s*.npz and maskdino_R50_3s_dowsample1_2048*.npz with their keys.json: a square and a wide image each,
  in the format of the other references, with the weights of maskdino_recipe.py.
- maskdino_training.npz and .keys.json: what a small Mask DINO gives in training, without noise, for two images with
  three objects and one, and the norm of every parameter's gradient of `weighted_sum` of all that.
- maskdino_losses.npz: made-up outputs, and the matches and weighted losses that the original computes from them.
"""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import build_model
from detectron2.projects.deeplab import add_deeplab_config
from torch import Tensor, nn

from .making import run, save_keys
from .maskdino_recipe import maskdino_weight_for, weighted_sum
from .recipe import image_for

# What the original imports and this work does not need: compiled operators of its own and of Detectron2.
UNUSED_MODULES = {
    "MultiScaleDeformableAttention": SimpleNamespace(),
    "detectron2.evaluation.fast_eval_api": SimpleNamespace(COCOeval_opt=None),
}
# Suffix of the file, size of the input, size of the result.
IMAGES = [("", (256, 256), (400, 400)), ("_wide", (200, 330), (260, 429))]
# With their salts, by which boxes, classes and masks of one image differ most (of twelve that were tried).
CONFIGS = {"3s": 3, "3s_dowsample1_2048": 10}
SMALL = [
    "MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64, "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 5,
    "MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS", 1, "MODEL.MaskDINO.DEC_LAYERS", 3, "MODEL.MaskDINO.DN_NUM", 8,
    "MODEL.MaskDINO.NUM_OBJECT_QUERIES", 12,
]  # fmt: skip
TRAINING_SIZE = (96, 128)
NUM_OBJECTS = (3, 1)
# Of the made-up outputs.
NUM_QUERIES, DN_GROUPS, MAP_SIDE, MASK_SIDE, NUM_DRAWS = 40, 20, 40, 160, 8


@contextmanager
def in_float64_on_cpu() -> Iterator[None]:
    """Numbers that code makes in float32 are float64, and what it sends to a GPU stays where it is."""
    move = Tensor.to

    def stay(tensor: Tensor, *where: object, **options: object) -> Tensor:
        return tensor if where == ("cuda",) else move(tensor, *where, **options)

    with ExitStack() as stack:
        for owner, name, value in (
            (torch, "float32", torch.float64), (torch, "float", torch.float64), (Tensor, "float", Tensor.double),
            (Tensor, "cuda", lambda tensor: tensor), (Tensor, "to", stay),
        ):  # fmt: skip
            stack.enter_context(patch.object(owner, name, value))
        stack.callback(torch.set_default_dtype, torch.get_default_dtype())
        torch.set_default_dtype(torch.float64)
        yield


def original_model(source: Path, config: str, salt: int, settings: list | None = None) -> nn.Module:
    """The original's model of one of its configs, in float64, with the weights of `maskdino_weight_for`."""
    from maskdino import add_maskdino_config

    cfg: CfgNode = get_cfg()
    add_deeplab_config(cfg)
    add_maskdino_config(cfg)
    cfg.merge_from_file(str(source / f"configs/coco/instance-segmentation/maskdino_R50_bs16_50ep_{config}.yaml"))
    cfg.merge_from_list(["MODEL.DEVICE", "cpu", *(settings or [])])
    model = build_model(cfg).double()
    for name, value in model.state_dict().items():
        value.copy_(torch.from_numpy(np.asarray(maskdino_weight_for(name, value.shape, salt))))
    return model


def measure_batch_norms(model: nn.Module) -> dict[str, np.ndarray]:
    """From the next forward on, every norm has the statistics of its input, which this dict is filled with."""
    found: dict[str, np.ndarray] = {}

    def measure(name: str, norm: FrozenBatchNorm2d, inputs: Tensor) -> None:
        moments = {"running_mean": inputs.mean((0, 2, 3)), "running_var": inputs.var((0, 2, 3), correction=0)}
        for kind, values in moments.items():
            found[f"stat:{name}.{kind}"] = values.numpy().astype(np.float16)
            getattr(norm, kind).copy_(torch.from_numpy(found[f"stat:{name}.{kind}"]))

    for name, module in model.named_modules():
        if isinstance(module, FrozenBatchNorm2d):
            module.register_forward_pre_hook(lambda norm, inputs, name=name: measure(name, norm, inputs[0]))
    return found


@torch.no_grad()
def answers(
    model: nn.Module, salt: int, size: tuple[int, int], result_size: tuple[int, int]
) -> dict[str, np.ndarray]:
    """What the model says of one image, and the statistics that its norms had."""
    statistics = measure_batch_norms(model)
    raw: dict[str, Tensor] = {}
    model.sem_seg_head.register_forward_hook(lambda head, inputs, outputs: raw.update(outputs[0]))
    image = torch.from_numpy(image_for(*size, salt)).permute(2, 0, 1)
    height, width = result_size
    (result,) = model.eval()([{"image": image, "height": height, "width": width}])
    found = result["instances"]
    order = found.scores.argsort(descending=True)
    return {
        "size": np.array(size), "orig": np.array(result_size), "salt": np.array(salt),
        "pred_logits": in_single(raw["pred_logits"][0]), "pred_boxes": in_single(raw["pred_boxes"][0]),
        "pred_masks_sub": in_single(raw["pred_masks"][0, :100, 3::8, 5::8]),
        "scores": in_single(found.scores[order]), "classes": found.pred_classes[order].numpy().astype(np.int16),
        "boxes": in_single(found.pred_boxes.tensor[order]),
        "mask_areas": found.pred_masks[order].sum((1, 2)).numpy().astype(np.int32), **statistics,
    }  # fmt: skip


def in_single(values: Tensor) -> np.ndarray:
    """float32 numbers for a file."""
    return values.detach().numpy().astype(np.float32)


def random_targets(num_objects: tuple[int, ...], num_classes: int, mask_size: tuple[int, int], seed: int) -> list[dict]:
    """Targets as the original wants them, whose boxes are exact in float32 and whose masks are all ones."""
    rng = np.random.default_rng(seed)
    targets = []
    for count in num_objects:
        size = rng.uniform(0.1, 0.4, (count, 2))
        boxes = np.concatenate([rng.uniform(size / 2, 1 - size / 2), size], axis=1).astype(np.float32)
        labels = torch.from_numpy(rng.integers(0, num_classes, count))
        masks = torch.ones(count, *mask_size, dtype=torch.bool)
        targets.append({"labels": labels, "boxes": torch.from_numpy(boxes).double(), "masks": masks})
    return targets


def described(targets: list[dict]) -> dict[str, np.ndarray]:
    """Targets for a file."""
    return {
        f"target{i}/{name}": target[key].numpy() if key == "labels" else in_single(target[key])
        for i, target in enumerate(targets)
        for name, key in (("labels", "labels"), ("boxes_cxcywh", "boxes"))
    }


def training_reference(model: nn.Module, salt: int) -> dict[str, np.ndarray]:
    """What the head gives in training, and the gradients."""
    model.train()
    images = torch.stack([torch.from_numpy(image_for(*TRAINING_SIZE, i)).permute(2, 0, 1) for i in range(2)])
    targets = random_targets(NUM_OBJECTS, 5, TRAINING_SIZE, seed=1)
    # Draws of 0.5 replace no label and move no side.
    with patch.object(torch, "rand_like", lambda like: torch.full_like(like, 0.5)):
        features = model.backbone((images - model.pixel_mean) / model.pixel_std)
        outputs, denoising = model.sem_seg_head(features, targets=targets)
    known = denoising["output_known_lbs_bboxes"]
    layers = {
        "encoder": outputs["interm_outputs"],
        **{f"layer{i}": layer for i, layer in enumerate([*outputs["aux_outputs"], outputs])},
        **{f"dn_layer{i}": layer for i, layer in enumerate([*known["aux_outputs"], known])},
    }
    found = {
        f"{name}/{kind}": values
        for name, layer in layers.items()
        for kind, values in (
            ("class_logits", layer["pred_logits"]), ("boxes_cxcywh", layer["pred_boxes"]),
            ("mask_logits_sub", layer["pred_masks"][..., 1::4, 2::4]),
        )
    }  # fmt: skip
    weighted_sum(list(found.values())).backward()
    gradients = {
        f"gradient/{name}": np.float64(parameter.grad.norm())
        for name, parameter in model.named_parameters(remove_duplicate=False)
    }
    facts = {"size": TRAINING_SIZE, "salt": salt, "dn_groups": denoising["scalar"]}
    facts = {name: np.array(value) for name, value in facts.items()}
    return facts | described(targets) | {name: in_single(values) for name, values in found.items()} | gradients


def made_up_prediction(rng: np.random.Generator, num_queries: int, near: list[Tensor]) -> dict[str, Tensor]:
    """A prediction whose first queries are near some boxes of each image, with one constant logit a mask."""
    size = rng.uniform(0.05, 0.5, (2, num_queries, 2))
    boxes = np.concatenate([rng.uniform(size / 2, 1 - size / 2), size], axis=2)
    for image, wanted in zip(boxes, near, strict=True):
        image[: len(wanted)] = wanted.numpy() * rng.uniform(0.9, 1.1, wanted.shape)
    logits, constants = rng.normal(-2, 1.5, (2, num_queries, 80)), rng.normal(0, 2, (2, num_queries))
    logits, boxes, constants = (torch.from_numpy(x.astype(np.float32)).double() for x in (logits, boxes, constants))
    masks = constants[..., None, None].expand(-1, -1, MAP_SIDE, MAP_SIDE)
    return {"pred_logits": logits.requires_grad_(), "pred_boxes": boxes.requires_grad_(), "pred_masks": masks}


def losses_reference(criterion: nn.Module) -> dict[str, np.ndarray]:
    """Made-up outputs; matches and losses, the means over some draws of the points at which masks are compared."""
    rng = np.random.default_rng(5)
    targets = random_targets((3, 5), 80, (MASK_SIDE, MASK_SIDE), seed=2)
    boxes = [target["boxes"] for target in targets]
    names = ("encoder", "initial", "layer0", "layer1")
    layers = {name: made_up_prediction(rng, NUM_QUERIES, boxes) for name in names}
    copies = [torch.cat([b, b.new_full((5 - len(b), 4), 0.5)]).repeat(DN_GROUPS, 1) for b in boxes]
    layers |= {f"dn_{name}": made_up_prediction(rng, 5 * DN_GROUPS, copies) for name in names[1:]}
    outputs = {
        **layers["layer1"], "aux_outputs": [layers["initial"], layers["layer0"]], "interm_outputs": layers["encoder"],
    }  # fmt: skip
    known = {**layers["dn_layer1"], "aux_outputs": [layers["dn_initial"], layers["dn_layer0"]]}
    denoising = {
        "output_known_lbs_bboxes": known, "known_indice": torch.arange(8 * DN_GROUPS), "scalar": DN_GROUPS,
        "pad_size": 5 * DN_GROUPS,
    }  # fmt: skip
    draws = []
    for seed in range(NUM_DRAWS):
        torch.manual_seed(seed)
        losses = criterion(outputs, targets, denoising)
        draws.append({name: loss * criterion.weight_dict[name] for name, loss in losses.items()})
    last = layers["layer1"]
    gradients = torch.autograd.grad(sum(draws[0].values()), [last["pred_logits"], last["pred_boxes"]])
    found = {"dn_groups": np.array(DN_GROUPS), **described(targets)}
    for name, layer in layers.items():
        found[f"{name}/class_logits"] = in_single(layer["pred_logits"])
        found[f"{name}/boxes_cxcywh"] = in_single(layer["pred_boxes"])
        found[f"{name}/mask_logit_constant"] = in_single(layer["pred_masks"][..., 0, 0])
    for name in draws[0]:
        values = [float(draw[name]) for draw in draws]
        found |= {f"loss/{name}": np.mean(values), f"loss_spread/{name}": np.std(values, ddof=1)}
    found |= {"gradient/class_logits": in_single(gradients[0]), "gradient/boxes_cxcywh": in_single(gradients[1])}
    return found | {key: value for name in names for key, value in matches(criterion, name, layers[name], targets)}


def matches(criterion: nn.Module, name: str, layer: dict, targets: list[dict]) -> Iterator[tuple[str, np.ndarray]]:
    """The pairs of one layer, which must not depend on the points."""
    found = [criterion.matcher(layer, targets) for _ in range(NUM_DRAWS)]
    for image, (queries, objects) in enumerate(found[0]):
        if any(not torch.equal(queries, other[image][0]) for other in found):
            raise RuntimeError(f"the match of {name}, image {image}, depends on the drawn points. Change the seed.")
        yield f"match/{name}/{image}/query", queries.numpy()
        yield f"match/{name}/{image}/target", objects.numpy()


def main(source: Path, folder: Path) -> None:
    """Write all files."""
    sys.path.insert(0, str(source))
    with patch.dict(sys.modules, UNUSED_MODULES), in_float64_on_cpu():
        for config, salt in CONFIGS.items():
            for suffix, *sizes in IMAGES:
                model = original_model(source, config, salt)
                np.savez_compressed(folder / f"maskdino_R50_{config}{suffix}.npz", **answers(model, salt, *sizes))
            save_keys(model, folder / f"maskdino_R50_{config}.keys.json")
        np.savez_compressed(folder / "maskdino_losses.npz", **losses_reference(model.criterion))
        model = original_model(source, "3s", CONFIGS["3s"], SMALL)
        save_keys(model, folder / "maskdino_training.keys.json")
        np.savez_compressed(folder / "maskdino_training.npz", **training_reference(model, CONFIGS["3s"]))


if __name__ == "__main__":
    run(main, __doc__, "the original")
