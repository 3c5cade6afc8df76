"""Make the reference outputs of SparseInst by running the original.

    git clone https://github.com/hustvl/SparseInst /tmp/SparseInst && git -C /tmp/SparseInst checkout a899015
    python -m tests.parity.make_sparseinst_reference /tmp/SparseInst [output folder]

Nothing has to be compiled: torchvision's deformable convolution stands in for Detectron2's.  Everything is computed in
float64 on the CPU.  Writes, by default beside this file:

- sparse_inst_*.npz with their keys.json, and *_wide.npz: a square and a wide image of each kind of model, in the format
  of the other references, with the weights of recipe.py.  Both have the batch-norm statistics of the square image.
- sparse_inst_losses.npz: made-up outputs for two images, the matches and weighted losses that the original computes of
  them, and the losses' gradients.
"""

import sys
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.layers import DeformConv, FrozenBatchNorm2d
from detectron2.modeling import build_model
from detectron2.structures import BitMasks
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

from .make_maskdino_reference import in_float64_on_cpu, in_single, measure_batch_norms
from .making import run, save_keys
from .recipe import image_for, tensor_for

# Configs with models of different kinds.
CONFIGS = ("r50_base", "r50_giam", "r50_dcn_giam_aug", "r50vd_giam_aug", "r50vd_dcn_giam_aug")
# Suffix of the file, size of the input, size of the result.
IMAGES = [("", (256, 256), (400, 400)), ("_wide", (200, 330), (260, 429))]
SALT = 0
# Of the made-up outputs: queries, sides of the input and of the mask map, and objects of the two images.
NUM_QUERIES, INPUT_SIZE, MAP_SIZE, NUM_OBJECTS = 20, (64, 96), (16, 24), (3, 5)


class FrozenNorm(FrozenBatchNorm2d):
    """Detectron2's norm with the arguments that blocks of a timm give that is newer than the original."""

    def __init__(self, num_features: int, device: object = None, dtype: object = None):
        super().__init__(num_features)


def deform(conv: DeformConv, x: Tensor, offset: Tensor) -> Tensor:
    """What Detectron2's compiled operator computes."""
    y = deform_conv2d(x, offset, conv.weight, None, conv.stride, conv.padding, conv.dilation)
    return y if conv.norm is None else conv.norm(y)


def original_config(source: Path, config: str) -> CfgNode:
    """One of the original's configs, for the CPU."""
    from sparseinst import add_sparse_inst_config

    cfg = get_cfg()
    add_sparse_inst_config(cfg)
    cfg.merge_from_file(str(source / f"configs/sparse_inst_{config}.yaml"))
    cfg.MODEL.DEVICE = "cpu"
    return cfg


def original_model(cfg: CfgNode) -> nn.Module:
    """The original's model in float64 with the weights of `tensor_for`."""
    model = build_model(cfg).double().eval()
    model.pixel_mean = torch.tensor(cfg.MODEL.PIXEL_MEAN).view(3, 1, 1)
    model.pixel_std = torch.tensor(cfg.MODEL.PIXEL_STD).view(3, 1, 1)
    for name, value in model.state_dict().items():
        value.copy_(torch.from_numpy(np.asarray(tensor_for(name, value.shape, SALT))))
    return model


@torch.no_grad()
def answers(model: nn.Module, size: tuple[int, int], result_size: tuple[int, int]) -> dict[str, np.ndarray]:
    """What the model says of one image."""
    raw: dict[str, Tensor] = {}
    model.decoder.register_forward_hook(lambda decoder, inputs, outputs: raw.update(outputs))
    image = torch.from_numpy(image_for(*size, SALT)).permute(2, 0, 1)
    height, width = result_size
    (result,) = model([{"image": image, "height": height, "width": width}])
    found = result["instances"]
    order = found.scores.argsort(descending=True)
    return {
        "size": np.array(size), "orig": np.array(result_size), "salt": np.array(SALT),
        "pred_logits": in_single(raw["pred_logits"][0]), "pred_objectness": in_single(raw["pred_scores"][0, :, 0]),
        "pred_masks_sub": in_single(raw["pred_masks"][0, :, 3::8, 5::8]),
        "scores": in_single(found.scores[order]), "classes": found.pred_classes[order].numpy().astype(np.int16),
        "mask_areas": found.pred_masks[order].sum((1, 2)).numpy().astype(np.int32),
    }  # fmt: skip


def stop_measuring(model: nn.Module) -> None:
    """From now on, norms keep the statistics that `measure_batch_norms` gave them."""
    for module in model.modules():
        if isinstance(module, FrozenBatchNorm2d):
            module._forward_pre_hooks.clear()


def random_targets(rng: np.random.Generator) -> list[dict]:
    """Targets with rectangles as masks."""
    targets = []
    for count in NUM_OBJECTS:
        masks = torch.zeros(count, *INPUT_SIZE, dtype=torch.bool)
        for mask in masks:
            y, x = (int(rng.integers(0, side // 2)) for side in INPUT_SIZE)
            mask[y : y + int(rng.integers(5, 30)), x : x + int(rng.integers(5, 40))] = True
        targets.append({"labels": torch.from_numpy(rng.integers(0, 80, count)), "masks": BitMasks(masks)})
    return targets


def losses_reference(cfg: CfgNode) -> dict[str, np.ndarray]:
    """Made-up outputs, matches, losses and gradients."""
    from sparseinst import build_sparse_inst_criterion

    criterion = build_sparse_inst_criterion(cfg)
    rng = np.random.default_rng(3)
    targets = random_targets(rng)
    shapes = {"pred_logits": (80,), "pred_masks": MAP_SIZE, "pred_scores": (1,)}
    outputs = {
        name: torch.from_numpy(rng.normal(-1, 1.5, (2, NUM_QUERIES, *shape)).astype(np.float16)).double()
        for name, shape in shapes.items()
    }
    outputs = {name: value.requires_grad_() for name, value in outputs.items()}
    matches = criterion.matcher(outputs, targets, INPUT_SIZE)
    losses = criterion(outputs, targets, INPUT_SIZE)
    gradients = torch.autograd.grad(sum(losses.values()), list(outputs.values()))
    found = {name: value.detach().numpy().astype(np.float16) for name, value in outputs.items()}
    found |= {f"loss/{name}": np.float64(loss.item()) for name, loss in losses.items()}
    found |= {f"gradient/{name}": in_single(gradient) for name, gradient in zip(outputs, gradients, strict=True)}
    for i, (target, (queries, objects)) in enumerate(zip(targets, matches, strict=True)):
        found |= {
            f"target{i}/labels": target["labels"].numpy(), f"target{i}/masks": target["masks"].tensor.numpy(),
            f"match/{i}/query": queries.numpy(), f"match/{i}/target": objects.numpy(),
        }  # fmt: skip
    return found


def main(source: Path, folder: Path) -> None:
    """Write all files."""
    sys.path.insert(0, str(source))
    norm = "sparseinst.backbones.resnet.FrozenBatchNorm2d"
    with patch(norm, FrozenNorm), patch.object(DeformConv, "forward", deform), in_float64_on_cpu():
        for config in CONFIGS:
            model = original_model(original_config(source, config))
            statistics = measure_batch_norms(model)
            for suffix, *sizes in IMAGES:
                found = answers(model, *sizes)
                if not suffix:
                    found |= statistics
                    stop_measuring(model)
                np.savez_compressed(folder / f"sparse_inst_{config}{suffix}.npz", **found)
            save_keys(model, folder / f"sparse_inst_{config}.keys.json")
        np.savez_compressed(folder / "sparse_inst_losses.npz", **losses_reference(original_config(source, "r50_giam")))


if __name__ == "__main__":
    run(main, __doc__, "the original")
