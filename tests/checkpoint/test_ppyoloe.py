"""Files of PaddlePaddle's PP-YOLOE_seg, PP-YOLOE+ and CSPRepResNet."""

import pickle

import pytest
import torch

from insta_rtdetr.checkpoint import Checkpointer, paddle, ppyoloe
from insta_rtdetr.checkpoint.contents import read_contents
from insta_rtdetr.checkpoint.formats import ORIGINALS
from tests.parity.ppyoloe_seg_recipe import ppyoloe_weight_for
from tests.parity.reference import original_state_dict
from tests.tiny import tiny_ppyoloe_seg


@pytest.fixture(scope="module")
def state():
    return original_state_dict("ppyoloe_seg_s", weight_for=ppyoloe_weight_for)


@pytest.fixture
def write(tmp_path):
    """Write a state dict as a file of PaddlePaddle, and return its path."""

    def written(state):
        file = tmp_path / "original.pdparams"
        file.write_bytes(pickle.dumps({name: value.float().numpy() for name, value in state.items()}))
        return str(file)

    return written


def small_model():
    """The published model but for its classes."""
    return tiny_ppyoloe_seg(
        "MODEL.CSPREPRESNET.WIDTH", 0.5, "MODEL.CSPREPRESNET.DEPTH", 0.33, "MODEL.ENCODER.HIDDEN_DIM", 96,
        "MODEL.MASK_HEAD.DIM", 32, "MODEL.MASK_HEAD.FEATURE_DIM", 128,
    )  # fmt: skip


def test_a_published_file_is_known(state, write):
    assert next(name for name, one in ORIGINALS.items() if one.is_original(state)) == "PaddlePaddle's PP-YOLOE"
    contents = read_contents(write(state))
    assert contents.kind == "PaddlePaddle's PP-YOLOE's original code"
    assert [found.__name__ for found in contents.models] == ["PPYOLOESeg"]


def test_a_detector_without_masks_gives_what_it_has(state, write):
    """As PaddleDetection's training starts from one, of 365 classes."""
    model = small_model()
    detector = {name: value for name, value in state.items() if "_ins." not in name and ".proto." not in name}
    checkpointer = Checkpointer(model)
    checkpointer.load(write(detector))
    assert checkpointer.unloaded and all(
        name.startswith(("head.class_heads", "head.mask_", "encoder.prototypes")) or "num_batches" in name
        for name in checkpointer.unloaded
    )


def test_a_backbone_alone_gives_the_backbone(state, write):
    model = small_model()
    backbone = {name.removeprefix("backbone."): value for name, value in state.items() if name.startswith("backbone.")}
    assert paddle.is_original(backbone) and ppyoloe.is_original(backbone)
    checkpointer = Checkpointer(model)
    checkpointer.load(write(backbone))
    assert not any(name.startswith("backbone.") and "num_batches" not in name for name in checkpointer.unloaded)


def test_pooling_stands_after_the_middle_block_of_its_chain():
    chain = {f"neck.fpn_stages.0.0.convs.{part}.conv1.conv.weight": torch.zeros(1) for part in ("0", "1", "spp", "2")}
    state = {**chain, "yolo_head.proj_conv.weight": torch.zeros(1), "yolo_head.pred_cls.0.bias": torch.zeros(1)}
    renamed = ppyoloe.from_original(state)
    wanted = [f"encoder.coarsest_block.blocks.{index}.conv1.conv.weight" for index in (0, 1, 2, 3)]
    assert list(renamed)[:4] == wanted


def test_a_scale_that_is_not_positive_counts_as_one():
    name = "backbone.stages.0.blocks.0.conv2.alpha"
    for given, used in ((0.25, 0.25), (-0.25, 1.0), (0.0, 1.0)):
        (value,) = ppyoloe.from_original({name: torch.tensor([given])}).values()
        assert value.item() == used
