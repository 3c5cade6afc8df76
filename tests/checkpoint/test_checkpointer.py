"""Which files the checkpointer takes, which it refuses, and that a save is whole or not at all."""

import pickle
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer

from insta_rtdetr.checkpoint import Checkpointer
from insta_rtdetr.engine.ema import ModelEMA
from insta_rtdetr.errors import CheckpointError
from tests.parity.reference import original_state_dict
from tests.tiny import tiny_model


def save(folder: Path, content: object, name: str = "weights.pth") -> str:
    torch.save(content, folder / name)
    return str(folder / name)


def same_weights(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_own_checkpoint_comes_back(tmp_path):
    first, second = tiny_model(seed=0), tiny_model(seed=1)
    Checkpointer(first, str(tmp_path)).save("model_final", iteration=7)
    rest = Checkpointer(second).load(str(tmp_path / "model_final.pth"))
    assert same_weights(first, second)
    assert rest["iteration"] == 7


def test_averaged_weights_are_what_others_load_and_raw_weights_what_training_resumes(tmp_path):
    model = tiny_model(seed=0)
    ema = ModelEMA(model, decay=0.5, ramp_iters=1)
    raw = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        for value in ema.state_dict()["model"].values():
            if value.is_floating_point():
                value.add_(1)
    averaged = {name: value.clone() for name, value in ema.state_dict()["model"].items()}
    Checkpointer(model, str(tmp_path), ema=ema).save("model_0000001")

    evaluated = tiny_model(seed=1)
    DetectionCheckpointer(evaluated).load(str(tmp_path / "model_0000001.pth"))
    torch.testing.assert_close(dict(evaluated.state_dict()), averaged)

    resumed = tiny_model(seed=2)
    resumed_ema = ModelEMA(resumed, decay=0.5, ramp_iters=1)
    Checkpointer(resumed, str(tmp_path), ema=resumed_ema).resume_or_load("", resume=True)
    torch.testing.assert_close(dict(resumed.state_dict()), raw)
    torch.testing.assert_close(dict(resumed_ema.state_dict()["model"]), averaged)


def test_a_kill_while_saving_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    model = tiny_model()
    checkpointer = Checkpointer(model, str(tmp_path))
    checkpointer.save("model_best")
    before = (tmp_path / "model_best.pth").read_bytes()

    def half_a_save(content, file):
        Path(file).write_bytes(before[: len(before) // 2])
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", half_a_save)
    with pytest.raises(KeyboardInterrupt):
        checkpointer.save("model_best")
    assert (tmp_path / "model_best.pth").read_bytes() == before
    assert checkpointer.get_checkpoint_file().endswith("model_best.pth")


def test_backbone_alone_is_found_by_name(tmp_path):
    first, second = tiny_model(seed=0), tiny_model(seed=1)
    Checkpointer(second).load(save(tmp_path, first.backbone.state_dict()))
    assert same_weights(first.backbone, second.backbone)
    assert not torch.equal(first.decoder.class_heads[0].weight, second.decoder.class_heads[0].weight)


def test_rtdetr_without_masks_initialises_all_but_the_mask_branch():
    from insta_rtdetr.checkpoint.insta_rtdetr import from_original

    original = original_state_dict("insta_rtdetr_r50vd")
    detector = {}
    for name, value in original.items():
        if any(part in name for part in ("fusion_", "mask_", "input_proj.0.")):
            continue
        # A detector has no projection of the stride-4 level, so its projections count from 0.
        for part in ("encoder", "decoder"):
            for i in (1, 2, 3):
                name = name.replace(f"{part}.input_proj.{i}.", f"{part}.input_proj.{i - 1}.")
        detector[name] = value
    with_masks, without = from_original(original), from_original(detector)
    mask_branch = ("encoder.mask_fusion.", "decoder.mask_head.")
    assert set(without) == {name for name in with_masks if not name.startswith(mask_branch)}
    assert all(torch.equal(value, with_masks[name]) for name, value in without.items())


def test_bare_resnet_vd_of_rtdetr_is_a_backbone():
    from insta_rtdetr.checkpoint.insta_rtdetr import from_original

    whole = original_state_dict("insta_rtdetr_r50vd")
    bare = {k.removeprefix("backbone."): v for k, v in whole.items() if k.startswith("backbone.")}
    expected = {name for name in from_original(whole) if name.startswith("backbone.")}
    assert set(from_original(bare)) == expected


def test_another_number_of_classes_keeps_the_rest(tmp_path, caplog):
    first, second = tiny_model(seed=0), tiny_model("MODEL.NUM_CLASSES", 3, seed=1)
    Checkpointer(second).load(save(tmp_path, {"model": first.state_dict()}))
    assert torch.equal(first.decoder.box_heads[0].layers[0].weight, second.decoder.box_heads[0].layers[0].weight)
    assert second.decoder.class_heads[0].out_features == 3


class Evil:
    def __reduce__(self):
        return (print, ("code from a checkpoint ran",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model": {"roi_heads.box_head.fc1.weight": torch.zeros(2)}}, "another architecture"),
        ({"model": {"encoder.aifi.layers.0.norm1.weight": torch.zeros(7)}}, "another shape"),
        ({"scores": [1, 2]}, "holds scores"),
        ([1, 2], "holds a list"),
        ({"model": Evil()}, "holds print, which is neither tensor nor number"),
    ],
)
def test_wrong_content_gets_one_clear_line(tmp_path, capsys, content, message):
    model = tiny_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=message) as error:
        Checkpointer(model).load(save(tmp_path, content))
    assert "\n" not in str(error.value)
    assert "code from a checkpoint ran" not in capsys.readouterr().out
    torch.testing.assert_close(dict(model.state_dict()), before)


def test_files_that_are_no_checkpoints_get_one_clear_line(tmp_path):
    model = tiny_model()
    text = tmp_path / "notes.pth"
    text.write_text("not weights")
    whole = Path(save(tmp_path, {"model": model.state_dict()}))
    cut = tmp_path / "cut.pth"
    cut.write_bytes(whole.read_bytes()[:1000])
    hostile = tmp_path / "hostile.pkl"
    hostile.write_bytes(pickle.dumps({"model": Evil()}))
    for file, reason in (
        (text, "is no PyTorch checkpoint"), (cut, "is cut off"), (hostile, "no pickle of numpy arrays"),
        (tmp_path / "missing.pth", "there is no file"),
    ):  # fmt: skip
        with pytest.raises(CheckpointError, match=str(file.name)) as error:
            Checkpointer(model).load(str(file))
        assert reason in str(error.value) and "\n" not in str(error.value)


def test_a_download_that_fails_gets_one_clear_line(tmp_path, monkeypatch):
    def no_network(*_, **__):
        raise URLError("Name or service not known")

    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path))
    monkeypatch.setattr("urllib.request.urlretrieve", no_network)
    address = "detectron2://ImageNetPretrained/torchvision/R-50.pkl"
    with pytest.raises(CheckpointError, match=f"cannot download {address}: .*not known.*MODEL.WEIGHTS"):
        Checkpointer(torch.nn.Linear(1, 1)).load(address)


def test_pickled_numpy_arrays_are_read(tmp_path):
    first, second = tiny_model(seed=0), tiny_model(seed=1)
    arrays = {f"backbone.{k}": np.asarray(v) for k, v in first.backbone.state_dict().items()}
    (tmp_path / "backbone.pkl").write_bytes(pickle.dumps({"model": arrays, "__author__": "timm"}))
    Checkpointer(second).load(str(tmp_path / "backbone.pkl"))
    assert same_weights(first.backbone, second.backbone)
