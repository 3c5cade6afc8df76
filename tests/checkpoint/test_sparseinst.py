"""SparseInst's published files."""

import pytest
import torch

from insta_rtdetr.checkpoint import Checkpointer
from insta_rtdetr.checkpoint.contents import read_contents
from insta_rtdetr.checkpoint.sparseinst import is_original
from tests.parity.reference import original_state_dict, published_model


@pytest.mark.parametrize("config", ["r50_base", "r50_giam_aug", "r50_dcn_giam_aug", "r50vd_dcn_giam_aug"])
def test_a_published_file_gives_every_tensor_a_value_and_uses_all_of_its_own(config, tmp_path, caplog):
    keys = config.replace("r50_giam_aug", "r50_giam")
    state = original_state_dict(f"sparse_inst_{keys}")
    assert is_original(state)
    torch.save({"model": state, "iteration": 269999}, tmp_path / "original.pth")
    model = published_model(f"sparse_inst_{config}", tmp_path / "original.pth")
    checkpointer = Checkpointer(model)
    checkpointer.load(str(tmp_path / "original.pth"))
    assert checkpointer.unloaded == set()
    assert not any("not in the checkpoint" in message or "not used" in message for message in caplog.messages)
    contents = read_contents(str(tmp_path / "original.pth"))
    assert contents.kind == "SparseInst's original code"
    assert [found.__name__ for found in contents.models] == ["SparseInst"]
