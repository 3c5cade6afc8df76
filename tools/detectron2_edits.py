"""Changes to the Python sources of Detectron2 0.6 that make them run with current libraries, with their reasons.

tools/install_detectron2.py applies the table and refuses sources to which it does not apply exactly.
"""

from dataclasses import dataclass

UNCOMPILED_PATH = "detectron2/_uncompiled.py"
UNCOMPILED_SOURCE = '''\
# Added by insta_rtdetr's tools/install_detectron2.py; not part of upstream Detectron2.
"""Stands in for detectron2._C, the compiled operators, which a pure-Python wheel does not have."""


class _MissingOperators:
    """Raises on first use of an operator, so that importing the layers that could use one still works."""

    def __getattr__(self, name):
        raise ImportError(
            f"detectron2._C.{name} is a compiled operator, and this Detectron2 is the pure-Python build. "
            "Use a layer that torchvision runs, or build Detectron2 from source (INSTALL.md of insta_rtdetr)."
        )


_C = _MissingOperators()
'''


@dataclass(frozen=True)
class Edit:
    """Replacement of every whole-word `old` by `new` in one file, where it must occur exactly `count` times."""

    path: str  # Path in the wheel.
    old: str
    new: str
    count: int
    why: str


_NUMPY = "NumPy 1.24 removed the aliases of Python's own types"
_COMPILED = "there are no compiled operators in a pure-Python wheel"
_AMP = "PyTorch 2.4 deprecated torch.cuda.amp for torch.amp"
_MESHGRID = "torch.meshgrid warns unless indexing is given; 'ij' is what it did before"
_PKG_RESOURCES = "setuptools 82 removed pkg_resources"
_IMPORT_C = "from detectron2 import _C"
_GUARDED_C = """\
try:
    from detectron2 import _C
except ImportError:
    from detectron2._uncompiled import _C"""
_IMPORT_FAST_EVAL = "from detectron2.evaluation.fast_eval_api import COCOeval_opt"
_GUARDED_FAST_EVAL = """\
try:
    from detectron2.evaluation.fast_eval_api import COCOeval_opt
except ImportError:
    COCOeval_opt = COCOeval"""
_IMPORT_CAFFE2 = "from .api import *"
_GUARDED_CAFFE2 = """\
try:
    from .api import *
except ImportError:
    pass"""
_IMPORT_RGB2ID = "from panopticapi.utils import rgb2id\n"
_USE_RGB2ID = "        targets = self.panoptic_target_generator(rgb2id(pan_seg_gt)"
_PANOPTICAPI = "panopticapi is on no package index; only reading panoptic annotations needs it"
_PANOPTIC = "detectron2/projects/panoptic_deeplab/"
_ARANGE_W = "torch.arange(width, dtype=offsets.dtype, device=offsets.device),"
_ZOO_LOOKUP = """\
pkg_resources.resource_filename(
        "detectron2.model_zoo", os.path.join("configs", config_path)
    )"""

EDITS = (
    Edit("detectron2/data/build.py", "np.int", "int", 2, _NUMPY),
    Edit("detectron2/data/datasets/pascal_voc.py", "np.str", "str", 1, _NUMPY),
    Edit("detectron2/evaluation/pascal_voc_evaluation.py", "np.bool", "bool", 2, _NUMPY),
    Edit("detectron2/evaluation/sem_seg_evaluation.py", "np.int", "int", 2, _NUMPY),
    Edit("detectron2/evaluation/sem_seg_evaluation.py", "np.float", "float", 5, _NUMPY),
    Edit("detectron2/structures/masks.py", "np.bool", "bool", 3, _NUMPY),
    Edit("detectron2/utils/visualizer.py", "np.bool", "bool", 3, _NUMPY),
    Edit("detectron2/utils/video_visualizer.py", "np.bool", "bool", 1, _NUMPY),
    Edit(
        "detectron2/layers/mask_ops.py",
        "np.array(mask, copy=False)",
        "np.asarray(mask)",
        1,
        "NumPy 2 raises on copy=False where a copy is needed",
    ),
    Edit(
        "detectron2/data/transforms/transform.py",
        "Image.LINEAR",
        "Image.BILINEAR",
        1,
        "Pillow 10 removed the second name of the same filter",
    ),
    Edit("detectron2/layers/deform_conv.py", _IMPORT_C, _GUARDED_C, 1, _COMPILED),
    Edit("detectron2/layers/roi_align_rotated.py", _IMPORT_C, _GUARDED_C, 1, _COMPILED),
    Edit("detectron2/layers/rotated_boxes.py", _IMPORT_C, _GUARDED_C, 1, _COMPILED),
    Edit(
        "detectron2/evaluation/coco_evaluation.py",
        _IMPORT_FAST_EVAL,
        _GUARDED_FAST_EVAL,
        1,
        f"{_COMPILED}; pycocotools computes the same numbers",
    ),
    Edit("detectron2/model_zoo/model_zoo.py", "import pkg_resources\n", "", 1, _PKG_RESOURCES),
    Edit(
        "detectron2/model_zoo/model_zoo.py",
        _ZOO_LOOKUP,
        'os.path.join(os.path.dirname(os.path.abspath(__file__)), "configs", config_path)',
        1,
        _PKG_RESOURCES,
    ),
    Edit(
        "detectron2/engine/train_loop.py",
        "            from torch.cuda.amp import GradScaler\n\n            grad_scaler = GradScaler()",
        '            grad_scaler = torch.amp.GradScaler("cuda")',
        1,
        _AMP,
    ),
    Edit("detectron2/engine/train_loop.py", "        from torch.cuda.amp import autocast\n", "", 1, _AMP),
    Edit("detectron2/engine/train_loop.py", "with autocast():", 'with torch.amp.autocast("cuda"):', 1, _AMP),
    Edit(
        "detectron2/modeling/anchor_generator.py",
        "torch.meshgrid(shifts_y, shifts_x)",
        'torch.meshgrid(shifts_y, shifts_x, indexing="ij")',
        1,
        _MESHGRID,
    ),
    Edit(f"{_PANOPTIC}post_processing.py", _ARANGE_W, f'{_ARANGE_W}\n        indexing="ij",', 1, _MESHGRID),
    Edit(f"{_PANOPTIC}dataset_mapper.py", _IMPORT_RGB2ID, "", 1, _PANOPTICAPI),
    Edit(
        f"{_PANOPTIC}dataset_mapper.py",
        _USE_RGB2ID,
        f"        {_IMPORT_RGB2ID}\n{_USE_RGB2ID}",
        1,
        _PANOPTICAPI,
    ),
    Edit(
        "detectron2/export/__init__.py",
        _IMPORT_CAFFE2,
        _GUARDED_CAFFE2,
        1,
        "PyTorch dropped Caffe2; TracingAdapter and detectron2.utils.analysis work without it",
    ),
)
