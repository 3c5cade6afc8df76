import pytest
import torch
import torch.nn.functional as F
from detectron2.config import get_cfg
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import build_backbone
from torch import nn

from insta_rtdetr import add_insta_rtdetr_config
from insta_rtdetr.engine.optimizer import parameter_groups
from insta_rtdetr.layers.foldable import fold_
from insta_rtdetr.layers.traced_folding import merge_frozen_norms_
from insta_rtdetr.modeling.backbone.resnet_vd import DeformableBottleneck
from tests.layers.test_folding import with_random_statistics

LEVELS = ["res2", "res3", "res4", "res5"]


def resnet_vd(depth=18, norm="BN", freeze_at=0, levels=LEVELS, deform=(False, False, False, False)):
    cfg = get_cfg()
    add_insta_rtdetr_config(cfg)
    cfg.MODEL.BACKBONE.NAME = "build_resnet_vd_backbone"
    cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.NORM, cfg.MODEL.BACKBONE.FREEZE_AT = depth, norm, freeze_at
    cfg.MODEL.RESNETS.OUT_FEATURES, cfg.MODEL.RESNETS.DEFORM_ON_PER_STAGE = levels, deform
    return build_backbone(cfg)


def timm_backbone(
    name="mobilenetv2_050", norm="FrozenBN", levels=LEVELS, freeze_at=0, arguments=(), pretrained=False, weights=""
):
    cfg = get_cfg()
    add_insta_rtdetr_config(cfg)
    cfg.MODEL.BACKBONE.NAME, cfg.MODEL.BACKBONE.FREEZE_AT = "build_timm_backbone", freeze_at
    cfg.MODEL.TIMM.NAME, cfg.MODEL.TIMM.NORM, cfg.MODEL.TIMM.OUT_FEATURES = name, norm, levels
    cfg.MODEL.TIMM.ARGS, cfg.MODEL.TIMM.PRETRAINED, cfg.MODEL.WEIGHTS = arguments, pretrained, weights
    return build_backbone(cfg)


def hgnetv2(size="S", norm="BN", freeze_at=0, levels=LEVELS, factors=()):
    cfg = get_cfg()
    add_insta_rtdetr_config(cfg)
    cfg.MODEL.BACKBONE.NAME, cfg.MODEL.BACKBONE.FREEZE_AT = "build_hgnetv2_backbone", freeze_at
    cfg.MODEL.HGNETV2.SIZE, cfg.MODEL.HGNETV2.NORM, cfg.MODEL.HGNETV2.OUT_FEATURES = size, norm, levels
    cfg.MODEL.HGNETV2.LEARNING_RATE_FACTORS = factors
    return build_backbone(cfg)


def assert_features_are_as_announced(backbone, levels=LEVELS):
    features = backbone(torch.rand(1, 3, 64, 96))
    assert list(features) == levels
    for name, shape in backbone.output_shape().items():
        assert features[name].shape == (1, shape.channels, 64 // shape.stride, 96 // shape.stride)


@pytest.mark.parametrize("depth", [18, 34, 50, 101])
def test_resnet_vd_gives_strides_4_to_32(depth):
    assert_features_are_as_announced(resnet_vd(depth))


@pytest.mark.parametrize("size", ["S", "M", "L"])
def test_hgnetv2_gives_strides_4_to_32(size):
    assert_features_are_as_announced(hgnetv2(size))


def test_only_wanted_levels_are_given():
    assert_features_are_as_announced(hgnetv2(levels=["res3", "res5"]), ["res3", "res5"])
    assert_features_are_as_announced(resnet_vd(levels=["res4", "res5"]), ["res4", "res5"])
    assert_features_are_as_announced(timm_backbone(levels=["res3", "res5"]), ["res3", "res5"])


def test_timm_model_gives_strides_2_to_32():
    levels = ["res1", *LEVELS]
    assert_features_are_as_announced(timm_backbone(levels=levels), levels)


@pytest.mark.parametrize("freeze_at", [0, 1, 2, 4])
def test_timm_trains_only_what_comes_after_the_frozen_stages(freeze_at):
    backbone = timm_backbone(levels=["res1", *LEVELS], freeze_at=freeze_at)
    features = backbone(torch.rand(1, 3, 64, 64))
    assert [name for name, level in features.items() if level.requires_grad] == ["res1", *LEVELS][freeze_at:]
    # Parameters that no frozen level depends on are trained.
    sum(level.sum() for level in features.values() if level.requires_grad).backward()
    assert all((p.grad is None) != p.requires_grad for p in backbone.parameters())


def test_timm_has_no_sixth_stage():
    with pytest.raises(ValueError, match=r"MODEL.BACKBONE.FREEZE_AT must be 0 to 5, got 6"):
        timm_backbone(freeze_at=6)


def test_timm_arguments_reach_the_model():
    with_same_padding = timm_backbone(arguments=('pad_type="same"',))
    assert type(with_same_padding.body.conv_stem) is not type(timm_backbone().body.conv_stem)


def test_freeze_at_freezes_the_stem_first():
    backbone = resnet_vd(freeze_at=2)
    frozen = {name.split(".")[0] for name, p in backbone.named_parameters() if not p.requires_grad}
    assert frozen <= {"conv1", "bn1", "layer1"}
    assert {name.split(".")[0] for name, p in backbone.named_parameters() if p.requires_grad} == {
        "layer2", "layer3", "layer4",
    }  # fmt: skip
    assert isinstance(backbone.bn1, FrozenBatchNorm2d)
    assert isinstance(backbone.layer2[0].bn1, nn.BatchNorm2d)


def test_hgnetv2_freezes_the_stem_first_and_gives_each_stage_its_learning_rate():
    model = nn.ModuleDict({"backbone": hgnetv2(norm="FrozenBN", freeze_at=1, factors=[0.1, 0.2, 0.3, 0.4])})
    assert not any(p.requires_grad for p in model.backbone.stem.parameters())
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    groups = parameter_groups(model, 1.0, 0.5, 0.0, 0.0, 0.0)
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    for stage, factor in zip(model.backbone.stages, [0.1, 0.2, 0.3, 0.4]):
        assert {rates[id(p)] for p in stage.parameters()} == {factor}


@pytest.mark.parametrize("build", [resnet_vd, timm_backbone, hgnetv2])
def test_frozen_norms_do_not_change_in_training(build):
    backbone = build(norm="FrozenBN").train()
    before = {name: value.clone() for name, value in backbone.state_dict().items() if "running" in name}
    backbone(torch.rand(2, 3, 64, 64))["res5"].sum().backward()
    assert before
    assert all(torch.equal(value, backbone.state_dict()[name]) for name, value in before.items())


def test_deformable_convolutions_start_as_ordinary_ones():
    plain = resnet_vd(50).eval()
    deformable = resnet_vd(50, deform=(False, False, True, True)).eval()
    missing, unexpected = deformable.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected and len(missing) == 2 * (6 + 3) and all("conv2_offset" in name for name in missing)
    image = torch.rand(1, 3, 64, 96)
    for name, features in deformable(image).items():
        torch.testing.assert_close(features, plain(image)[name], rtol=1e-4, atol=1e-4)


def test_offsets_move_where_a_deformable_convolution_reads():
    block = DeformableBottleneck(8, 4, 1, is_first=True, norm="BN").eval()
    x = torch.rand(1, 4, 6, 6)
    block.conv2_offset.weight.data.zero_()
    block.conv2_offset.bias.data[:] = torch.tensor([0.0, 1.0]).repeat(9)  # one pixel to the right
    expected = F.conv2d(F.pad(x, [0, 2, 1, 1]), block.conv2.weight)
    torch.testing.assert_close(block._spatial_conv(x), expected)


@pytest.mark.parametrize(
    ("build", "overrides"),
    [
        (resnet_vd, {"depth": 18}),
        (resnet_vd, {"depth": 50}),
        (resnet_vd, {"depth": 50, "deform": [False, True, False, True]}),
        (hgnetv2, {}),
        (timm_backbone, {"arguments": ('pad_type="same"',)}),
    ],
)
def test_folded_backbone_is_the_same_function(build, overrides):
    torch.manual_seed(0)
    backbone = build(norm="BN", **overrides)
    backbone(torch.rand(4, 3, 64, 64))  # changes the running statistics
    backbone = backbone.double().eval()
    image = torch.rand(1, 3, 64, 96).double()
    expected = backbone(image)
    fold_(backbone)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in backbone.modules())
    for name, features in backbone(image).items():
        torch.testing.assert_close(features, expected[name])


@pytest.mark.parametrize(
    ("build", "overrides"),
    [
        (resnet_vd, {}),
        (resnet_vd, {"depth": 50, "deform": [False, True, False, False]}),
        (hgnetv2, {}),
        (timm_backbone, {}),
    ],
)
def test_merged_frozen_norms_change_no_feature_and_no_name(build, overrides):
    torch.manual_seed(0)
    backbone = with_random_statistics(build(norm="FrozenBN", **overrides)).train()
    image = torch.rand(1, 3, 64, 96).double()
    expected, names = backbone(image), list(backbone.state_dict())
    merge_frozen_norms_(backbone)
    left = [name for name, module in backbone.named_modules() if type(module) is FrozenBatchNorm2d]
    # The norms of deformable convolutions, one in each of the four blocks of res3, are not merged.
    assert len(left) == (4 if overrides else 0)
    assert list(backbone.state_dict()) == names
    for name, features in backbone(image).items():
        torch.testing.assert_close(features, expected[name])


def test_mistakes_name_their_key():
    with pytest.raises(ValueError, match=r"MODEL.RESNETS.DEPTH must be one of \[18, 34, 50, 101\], got 20"):
        resnet_vd(20)
    with pytest.raises(ValueError, match=r"MODEL.RESNETS.DEFORM_ON_PER_STAGE needs MODEL.RESNETS.DEPTH 50 or 101"):
        resnet_vd(34, deform=[False, False, True, True])
    with pytest.raises(ValueError, match=r"MODEL.RESNETS.OUT_FEATURES"):
        resnet_vd(levels=["res6"])
    with pytest.raises(ValueError, match=r"MODEL.HGNETV2.SIZE must be one of S, M, L, X, H, got 'B1'"):
        hgnetv2("B1")
    with pytest.raises(ValueError, match=r"MODEL.HGNETV2.NORM"):
        hgnetv2(norm="GN")
    with pytest.raises(ValueError, match=r"MODEL.HGNETV2.OUT_FEATURES"):
        hgnetv2(levels=["res6"])
    with pytest.raises(ValueError, match=r"MODEL.HGNETV2.LEARNING_RATE_FACTORS"):
        hgnetv2(factors=[0.1])
    with pytest.raises(ValueError, match=r"MODEL.BACKBONE.FREEZE_AT"):
        hgnetv2(freeze_at=6)
    with pytest.raises(ValueError, match=r"MODEL.TIMM.NAME"):
        timm_backbone("resnet_of_my_dreams")
    with pytest.raises(ValueError, match=r"MODEL.TIMM.OUT_FEATURES"):
        timm_backbone("vgg11", levels=["res2", "res6"])
    with pytest.raises(ValueError, match=r"MODEL.TIMM.ARGS"):
        timm_backbone(arguments=("pad_type",))


def test_timm_downloads_only_what_is_needed_and_says_what_to_do_without(monkeypatch):
    def no_network(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", no_network)
    monkeypatch.setattr("timm.models._builder.load_pretrained", no_network)
    timm_backbone(pretrained=True, weights="model_final.pth")
    with pytest.raises(ValueError, match=r"MODEL.TIMM.PRETRAINED to False"):
        timm_backbone(name="mobilenetv2_100", pretrained=True)
