"""PaddleDetection's file of SOLOv2."""

import json
import pickle

import numpy as np

from insta_rtdetr.checkpoint import Checkpointer
from insta_rtdetr.checkpoint.contents import read_contents
from tests.parity.reference import FOLDER, published_model


def test_a_published_file_gives_every_tensor_a_value_and_uses_all_of_its_own(tmp_path, caplog):
    shapes = json.loads((FOLDER / "solov2_r50_fpn.keys.json").read_text())
    state = {name: np.broadcast_to(np.float32(0.5), shape) for name, shape in shapes.items()}
    file = tmp_path / "solov2.pdparams"
    file.write_bytes(pickle.dumps({name: np.array(value, np.float16) for name, value in state.items()}))
    model = published_model("solov2_r50_fpn_3x_coco", file)
    checkpointer = Checkpointer(model)
    checkpointer.load(str(file))
    assert checkpointer.unloaded == set()
    assert not any("not in the checkpoint" in message or "not used" in message for message in caplog.messages)
    contents = read_contents(str(file))
    assert contents.kind == "PaddlePaddle's SOLOv2's original code"
    assert [found.__name__ for found in contents.models] == ["SOLOv2"]
