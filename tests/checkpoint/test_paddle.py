"""PaddlePaddle's files, without PaddlePaddle."""

import os
import pickle
import re

import numpy as np
import pytest
import torch

from insta_rtdetr.checkpoint import Checkpointer
from insta_rtdetr.checkpoint.convert import convert
from insta_rtdetr.checkpoint.formats import read_checkpoint
from insta_rtdetr.errors import CheckpointError
from tests.parity.reference import original_state_dict
from tests.tiny import tiny_mask_rtdetr

S = "mask_rtdetr_hgnetv2_s"


class RunsACommand:
    def __reduce__(self):
        return os.system, ("touch hacked",)


def write(file, content, protocol=4):
    file.write_bytes(pickle.dumps(content, protocol))
    return str(file)


@pytest.fixture(scope="module")
def original():
    """The weights of S and PaddlePaddle's table of names, as paddle.save writes them."""
    weights = {name: value.float().numpy() for name, value in original_state_dict(S).items()}
    return {**weights, "StructuredToParameterName@@": {name: f"parameter_{i}" for i, name in enumerate(weights)}}


@pytest.mark.parametrize("hostile", [RunsACommand(), {"stem.stem1.bn._variance": RunsACommand()}])
def test_a_pickle_that_would_run_code_is_refused_in_one_line(hostile, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=r"model.pdparams is no pickle of numpy arrays alone: it wants") as error:
        read_checkpoint(write(tmp_path / "model.pdparams", hostile))
    assert "\n" not in str(error.value) and "system" in str(error.value)
    assert not (tmp_path / "hacked").exists()


@pytest.mark.parametrize("content", [b"", b"no pickle", pickle.dumps({"a": np.zeros(9)})[:-9], b"\x80\x04\x95\xff"])
def test_a_damaged_file_is_refused_in_one_line(content, tmp_path):
    (tmp_path / "model.pdparams").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model.pdparams is no pickle of numpy arrays alone") as error:
        read_checkpoint(str(tmp_path / "model.pdparams"))
    assert "\n" not in str(error.value)


def test_a_linear_layer_is_transposed_and_an_embedding_gets_the_row_of_padding(original, tmp_path):
    weights = read_checkpoint(write(tmp_path / "s.pdparams", original, protocol=2))["model"]
    query_head = original["transformer.query_pos_head.layers.0.weight"]
    assert torch.equal(weights["decoder.position_head.layers.0.weight"], torch.from_numpy(query_head).T)
    embedding = torch.from_numpy(original["transformer.denoising_class_embed.weight"])
    assert torch.equal(weights["denoising.label_embedding.weight"][:-1], embedding)
    assert not weights["denoising.label_embedding.weight"][-1].any()


def test_an_imagenet_backbone_initialises_the_backbone_alone(original, tmp_path):
    backbone = {name.removeprefix("backbone."): v for name, v in original.items() if name.startswith("backbone.")}
    classifier = {"last_conv.weight": np.zeros((4, 1024, 1, 1), np.float32), "fc.weight": np.zeros((4, 9), np.float32)}
    file = write(tmp_path / "PPHGNetV2_B1.pdparams", backbone | classifier)
    model = tiny_mask_rtdetr()
    before = model.decoder.class_head.weight.clone()
    Checkpointer(model).load(file)
    expected = torch.from_numpy(original["backbone.stages.2.blocks.1.aggregation_squeeze_conv.conv.weight"])
    assert torch.equal(model.backbone.stages[2].blocks[1].aggregation[0].conv.weight, expected)
    variance = torch.from_numpy(original["backbone.stem.stem3.bn._variance"])
    assert torch.equal(model.backbone.stem.stem3.bn.running_var, variance)
    assert torch.equal(model.decoder.class_head.weight, before)


def test_converted_files_hold_the_same_weights(original, tmp_path):
    backbone = {name.removeprefix("backbone."): v for name, v in original.items() if name.startswith("backbone.")}
    for name, content in (("whole", original), ("backbone", backbone)):
        source = write(tmp_path / f"{name}.pdparams", content)
        line = convert(source, str(tmp_path / f"{name}.pth"))
        weights, expected = (read_checkpoint(str(file))["model"] for file in (tmp_path / f"{name}.pth", source))
        assert re.fullmatch(rf"wrote {len(weights)} tensors to .*{name}.pth", line)
        assert set(weights) == set(expected) and all(torch.equal(weights[key], expected[key]) for key in weights)
        assert "backbone.stem.stem1.conv.weight" in weights
