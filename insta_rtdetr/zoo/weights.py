"""Finding the published weights of a config or of its backbone."""

from pathlib import Path

from detectron2 import model_zoo
from detectron2.config import CfgNode

from insta_rtdetr.errors import UserError

from .configs import PACKAGE, config_files
from .published import PREFIX, published_files

# Within the package once it is installed from a wheel, in demo/ of the repository.
_SHIPPED = (PACKAGE / "weights", PACKAGE.parent / "demo" / "weights")
# Values of MODEL.WEIGHTS that stand for the weights published with the config, or for its backbone alone.
PUBLISHED, BACKBONE = "published", "backbone"


def published_weights(config_file: str) -> str:
    """Return the file or address of the weights that were published with a config; empty if there are none.

    Nothing is downloaded.  The address may be "published://NAME", see `find_published`.

    Args:
        config_file: path from `find_config`.
    """
    file = Path(config_file).resolve()
    if config_files().get(file.stem) == file:
        for folder in _SHIPPED:
            if (folder / f"{file.stem}.pth").is_file():
                return str(folder / f"{file.stem}.pth")
        return f"{PREFIX}{file.stem}" if file.stem in published_files() else ""
    try:
        example = Path(model_zoo.get_config_file("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml"))
        return model_zoo.get_checkpoint_url(str(file.relative_to(example.resolve().parents[1])))
    except (RuntimeError, ValueError):
        return ""


def resolve_weights(weights: str, config_file: str, cfg: CfgNode | None = None) -> str:
    """Return MODEL.WEIGHTS with "published" and "backbone" replaced by the file or address that they stand for.

    Args:
        weights: MODEL.WEIGHTS; other values are returned as they are.
        config_file: path from `find_config`; empty if there is none.
        cfg: the config, which "backbone" needs.

    Raises:
        UserError: nothing was published with this config, or for its backbone.
    """
    if weights == PUBLISHED:
        found, wanted = published_weights(config_file), config_file or "a model without a config file"
    elif weights == BACKBONE and cfg is not None:
        found, wanted = backbone_weights(cfg), f"the backbone {backbone_name(cfg)}"
    else:
        return weights
    if not found:
        raise UserError(
            f"MODEL.WEIGHTS is {weights}, but none are for {wanted}.  Give a file, or those of another config "
            f"({PREFIX}NAME, see `insta-rtdetr models`)."
        )
    return found


def backbone_name(cfg: CfgNode) -> str:
    """Return the name of a config's backbone for the reader, such as "ResNet-50-vd"."""
    name, resnets = cfg.MODEL.BACKBONE.NAME, cfg.MODEL.RESNETS
    resnet = f"{'ResNet' if resnets.NUM_GROUPS == 1 else 'ResNeXt'}-{resnets.DEPTH}"
    deformable = ", deformable" if any(resnets.DEFORM_ON_PER_STAGE) else ""
    names = {
        "build_resnet_backbone": f"{resnet}{deformable}",
        "build_deformable_resnet_backbone": f"{resnet}{deformable}",
        "build_resnet_fpn_backbone": f"{resnet}{deformable}, FPN",
        "build_resnet_vd_backbone": f"{resnet}-vd{deformable}",
        "build_resnet_vd_fpn_backbone": f"{resnet}-vd{deformable}, FPN",
        "build_hgnetv2_backbone": f"PP-HGNetV2 {cfg.MODEL.HGNETV2.SIZE}",
        "build_csp_represnet_backbone": f"CSPRepResNet, width {cfg.MODEL.CSPREPRESNET.WIDTH:g}",
        "build_dinov2_windowed_backbone": f"windowed {cfg.MODEL.TIMM.NAME}",
        "build_timm_backbone": cfg.MODEL.TIMM.NAME,
    }
    return names.get(name, name.removeprefix("build_").removesuffix("_backbone"))


def backbone_weights(cfg: CfgNode) -> str:
    """Return the address "published://NAME" of weights of a config's backbone alone; empty if none are known."""
    wanted = backbone_name(cfg)
    return next((PREFIX + found.name for found in published_files().values() if found.backbone == wanted), "")
