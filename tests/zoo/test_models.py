"""Models by name, from a server in place of the authors': downloaded, checked, loaded, predicting."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.utils.file_io import PathManager

import train_net
from insta_rtdetr import create_model
from insta_rtdetr.checkpoint import Checkpointer, read_checkpoint
from insta_rtdetr.engine import setup_cfg
from insta_rtdetr.errors import UserError
from insta_rtdetr.predict.model import build_module
from insta_rtdetr.zoo import (
    backbone_weights,
    config_files,
    find_config,
    published_files,
    published_weights,
    resolve_weights,
)
from insta_rtdetr.zoo.cache import cached_path, is_cached
from tests.engine.tiny_training import write_dataset
from tests.predict.conftest import noise

from .files import backbone_bytes, published_bytes

CONFIGS = sorted(name for name in config_files() if name in published_files())
NAME = "rfdetr_seg_nano_312"
REPOSITORY = Path(__file__).resolve().parents[2]
SMALL_IMAGES = ["MODEL.DEVICE", "cpu", "INPUT.MIN_SIZE_TEST", "64"]


def small_images(name: str) -> list[str]:
    """KEY VALUE ... for images of 64 x 64."""
    return SMALL_IMAGES + (["INPUT.FIXED_SIZE", "(64, 64)"] if setup_cfg(name, []).INPUT.FIXED_SIZE else [])


def holds(module: torch.nn.Module, file: str) -> bool:
    """Whether all of a model's tensors are those of a file of any format; PaddlePaddle counts no batches."""
    weights, found = read_checkpoint(file)["model"], module.state_dict()
    names = [name for name in found if not name.endswith("num_batches_tracked")]
    return all(torch.equal(found[name], weights[name].to(found[name].dtype)) for name in names)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_name_is_enough(publish, server, name):
    published = publish(name, published_bytes(name))
    model = create_model(name, opts=small_images(name))
    assert f"published://{name}" == model.cfg.MODEL.WEIGHTS and len(server.requests) == 1
    assert holds(model.module, str(cached_path(published)))
    (result,) = model.predict(noise(0), threshold=0)
    # R-CNNs and SOLOv2 leave out what is below a threshold or overlaps: with these weights it may be all.
    most, leaves_out = model.cfg.TEST.DETECTIONS_PER_IMAGE, name.endswith("_paddlex") or name.startswith("solov2")
    assert len(result) == most or (leaves_out and len(result) < most)
    assert np.isfinite(result.boxes).all()
    # No second copy is made for Detectron2.
    assert not (cached_path(published).parent / "detectron2.pth").exists()
    cached_path(published).unlink()  # up to 260 MB


@pytest.fixture
def nano(publish):
    return publish(NAME, published_bytes(NAME))


def test_older_weights_are_taken_by_their_own_name(publish):
    published = publish(f"{NAME}_old", published_bytes(NAME))
    model = create_model(NAME, weights=f"published://{NAME}_old", opts=small_images(NAME))
    assert is_cached(published) and holds(model.module, str(cached_path(published)))


@pytest.mark.parametrize("weights", ["published", f"published://{NAME}"])
def test_the_config_key_takes_the_name(nano, weights):
    cfg = setup_cfg(NAME, ["MODEL.WEIGHTS", weights])
    assert f"published://{NAME}" == cfg.MODEL.WEIGHTS and not is_cached(nano)
    model = create_model(cfg, opts=small_images(NAME))
    assert holds(model.module, str(cached_path(nano)))


@pytest.mark.parametrize("name", [NAME, "mask_rtdetr_hgnetv2_s_640"])
def test_detectron2s_own_checkpointer_takes_the_name(publish, name):
    published = publish(name, published_bytes(name))
    module = build_module(setup_cfg(name, ["MODEL.DEVICE", "cpu"]))
    DetectionCheckpointer(module).load(f"published://{name}")
    assert holds(module, str(cached_path(published)))


def test_detectron2s_path_manager_knows_the_names(nano):
    assert PathManager.isfile(f"published://{NAME}") and not PathManager.exists("published://absent")
    with PathManager.open(f"published://{NAME}", "rb") as file:
        assert file.read(2) == b"PK"
    with pytest.raises(UserError, match=f"called 'rfdetr_seg_nano'.  The nearest name is {NAME}"):
        PathManager.get_local_path("published://rfdetr_seg_nano")


def test_what_published_stands_for(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    assert published_weights(find_config("quickstart_MNV2_D3_256")).endswith("demo/weights/quickstart_MNV2_D3_256.pth")
    # A path as it is typed in the repository's folder, too.
    file = "configs/coco/instance-segmentation/fastinst_R50_ppm-fpn_x1_576.yaml"
    assert resolve_weights("published", file) == "published://fastinst_R50_ppm-fpn_x1_576"
    # ADE20K's config has the name of COCO's, but other classes.
    file = "configs/ade20k/instance-segmentation/fastinst_R50_ppm-fpn_x3_640.yaml"
    assert published_weights(file) == ""
    assert resolve_weights("a/file.pth", file) == "a/file.pth" and resolve_weights("", file) == ""


def test_what_backbone_stands_for():
    cfg = setup_cfg("insta_rtdetr_R50vd_D3_640", ["MODEL.WEIGHTS", "backbone"])
    assert cfg.MODEL.WEIGHTS == "published://resnet50vd_ssld_v2"
    with pytest.raises(UserError, match=r"backbone, but none are for the backbone ResNet-200"):
        setup_cfg("insta_rtdetr_R50vd_D3_640", ["MODEL.RESNETS.DEPTH", "200", "MODEL.WEIGHTS", "backbone"])


@pytest.mark.parametrize("config", ["insta_rtdetr_R18vd_D3_640", ""])
def test_nothing_published_is_one_line(config):
    with pytest.raises(UserError, match=r"MODEL.WEIGHTS is published, but none are for .*(R18vd|without a config)"):
        setup_cfg(config, ["MODEL.WEIGHTS", "published"])


@pytest.mark.parametrize(
    "config, backbone, is_new",
    [
        ("insta_rtdetr_R50vd_D3_640", "resnet50vd_ssld_v2", "nothing"),
        ("mask_rtdetr_hgnetv2_s_640", "pphgnetv2_s_ssld", "num_batches_tracked"),
        ("fastinst_R50-vd-dcn_ppm-fpn_x1_576", "resnet50d_timm", "conv2_offset"),
        ("insta_rtdetr_mobilenetv2_D3_640", "mobilenetv2_100_timm", "nothing"),
        # With patches of 12 pixels, where DINOv2 has 14.
        (NAME, "dinov2_vits14", "nothing"),
    ],
)
def test_a_backbones_weights_are_all_of_its_tensors(publish, config, backbone, is_new):
    publish(backbone, backbone_bytes(backbone))
    cfg = setup_cfg(config, ["MODEL.DEVICE", "cpu", "MODEL.TIMM.PRETRAINED", "False"])
    assert backbone_weights(cfg) == f"published://{backbone}"
    checkpointer = Checkpointer(build_module(cfg))
    checkpointer.load(backbone_weights(cfg))
    unloaded = [name for name in checkpointer.unloaded if name.startswith("backbone.")]
    assert [name for name in unloaded if is_new not in name] == [] and checkpointer.unloaded


@pytest.fixture
def run_train_net(tmp_path, loggers_as_before):
    """Run train_net.py on images of 64 x 64; the exit code."""
    options = ["--config-file", NAME, "--dataset", str(write_dataset(tmp_path))]
    overrides = ["DATALOADER.NUM_WORKERS", "0", "OUTPUT_DIR", str(tmp_path / "out"), *small_images(NAME)]
    return lambda *arguments: train_net.main([*options, *arguments, *overrides])


def test_an_evaluation_takes_the_published_weights(nano, run_train_net, tmp_path):
    assert run_train_net("--eval-only", "MODEL.WEIGHTS", "published") == 0
    recorded = yaml.safe_load((tmp_path / "out/inference/config.yaml").read_text())
    assert recorded["MODEL"]["WEIGHTS"] == f"published://{NAME}"


def test_a_training_without_its_weights_ends_before_anything_is_written(nano, server, run_train_net, tmp_path, capsys):
    server.files.clear()
    assert run_train_net("MODEL.WEIGHTS", "published") == 1
    line = capsys.readouterr().err
    assert f"error: {server.address}/storage.googleapis.com/rfdetr/rf-detr-seg-n-ft.pth" in line and "404" in line
    assert line.count("\n") == 1 and not (tmp_path / "out").exists()
