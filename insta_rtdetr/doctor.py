"""Say in one line each what of this installation works, and which command mends what does not.

    python -m insta_rtdetr.doctor
    python -m insta_rtdetr.doctor --dataset path/to/coco --config-file configs/coco/.../some.yaml

Everything is imported inside the check that needs it, so that a missing or broken package costs one line, not the run.
Exit code 1 if any line starts with FAIL.
"""

import importlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from insta_rtdetr.command_line import CommandParser, run_command
from insta_rtdetr.dataset_tools.findings import Finding, fail, note, ok, one_line
from insta_rtdetr.errors import DatasetError

MINIMUM_PYTHON = (3, 11)
REPOSITORY = Path(__file__).resolve().parent.parent
PIP = f"Run: {sys.executable} -m pip install"
INSTALL_ALL = f"{PIP} -r requirements.txt"
# A wheel has this tool within the package.
TOOL = "tools/install_detectron2.py"
INSTALL_DETECTRON2 = f"Run: {sys.executable} {TOOL if (REPOSITORY / TOOL).is_file() else Path(__file__).parent / TOOL}"
MEND_FIRST = "Mend the lines above first, then run this again"
PREPARE_DATASET = "Prepare it as datasets/README.md says"

# Name of a distribution -> name of its module, where the two differ by more than dashes.
MODULES = {
    "hydra-core": "hydra",
    "opencv-python-headless": "cv2",
    "pillow": "PIL",
    "pyyaml": "yaml",
}
IMAGES_OPENED = 20  # Number of images opened in each split; tools/dataset.py check opens all.
SMALL_DISK_GB = 5.0  # A training run keeps a few checkpoints of up to 1 GB each.


def check_python() -> Iterator[Finding]:
    """Check the version of the interpreter against requires-python."""
    version = sys.version.split()[0]
    if sys.version_info[:2] < MINIMUM_PYTHON:
        yield fail(f"Python {version}, wanted 3.11 or later", "Run: make clean test PYTHON=python3.11")
    else:
        yield ok(f"Python {version} at {sys.executable}")


def required_packages() -> list[str]:
    """Return the required packages as requirement strings such as "numpy>=1.26".

    They are read from pyproject.toml in a checkout, else from the metadata of the installed distribution.
    """
    import tomllib  # New in Python 3.11, so not imported above: an older Python must reach the check that reports it.

    pyproject = REPOSITORY / "pyproject.toml"
    if pyproject.is_file():
        return tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]["dependencies"]
    requirements = importlib.metadata.requires("insta_rtdetr") or []
    return [requirement for requirement in requirements if "extra ==" not in requirement]


def split_requirement(requirement: str) -> tuple[str, str]:
    """Split a requirement: "numpy>=1.26" -> ("numpy", ">=1.26")."""
    name = re.match(r"[A-Za-z0-9._-]+", requirement).group()
    return name, requirement[len(name) :].strip()


def check_dependencies() -> Iterator[Finding]:
    """Check that every required package is installed, can be imported and has a version in range."""
    for requirement in required_packages():
        yield check_package(*split_requirement(requirement))


def check_package(name: str, wanted: str) -> Finding:
    """Check one package.

    Args:
        name: name of the distribution.
        wanted: version range such as ">=1.26", or empty for any version.
    """
    module_name = MODULES.get(name.lower(), name.replace("-", "_"))
    remedy = f"{PIP} '{name}{wanted}'"
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # A broken package may raise anything.
        if isinstance(error, ModuleNotFoundError) and error.name == module_name:
            return fail(f"{name} is not installed, wanted {wanted or 'any version'}", remedy)
        remedy = f"{PIP} --force-reinstall '{name}{wanted}'"
        return fail(f"{name} does not import: {one_line(error)}", remedy)
    version = installed_version(name, module)
    if not in_range(version, wanted):
        return fail(f"{name} {version}, wanted {wanted}", remedy)
    return ok(f"{name} {version}" + (f" ({wanted})" if wanted else ""))


def installed_version(name: str, module: object) -> str:
    """Return the version of a distribution, or of its module if the distribution has another name.

    OpenCV, for example, is published under several names.
    """
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return str(getattr(module, "__version__", "of unknown version"))


def in_range(version: str, wanted: str) -> bool:
    """Return whether a version lies in a range such as ">=0.1.5,<0.1.6"; True if that cannot be decided."""
    try:
        from packaging.specifiers import SpecifierSet
        from packaging.version import InvalidVersion
    except ImportError:
        return True  # The missing package is reported in a line of its own.
    try:
        return SpecifierSet(wanted).contains(version, prereleases=True)
    except InvalidVersion:
        return True


def check_cuda() -> Iterator[Finding]:
    """List the GPUs that PyTorch finds; a machine without a GPU is fine."""
    import torch

    if not torch.cuda.is_available():
        built_for = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
        yield note(f"CPU only: PyTorch is built {built_for}, and finds no GPU")
        return
    for index in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(index)
        yield ok(f"cuda:{index} {gpu.name}, {gpu.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}")


def check_torchvision_ops() -> Iterator[Finding]:
    """Check that torchvision's compiled operators run on every device.

    A torchvision that does not match PyTorch fails here first.
    """
    import torch

    devices = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
    for device in devices:
        broken = [f"{name} ({one_line(error)})" for name, error in failing_ops(device)]
        if broken:
            remedy = f"{PIP} --force-reinstall torch==2.11.0 torchvision==0.26.0"
            yield fail(f"torchvision operators on {device}: {'; '.join(broken)}", remedy)
        else:
            yield ok(f"torchvision operators on {device}: nms, roi_align, deform_conv2d run")


def failing_ops(device: str) -> Iterator[tuple[str, Exception]]:
    """Yield the operators that raise on a device: their names and the exceptions."""
    import torch
    import torchvision

    boxes_xyxy = torch.tensor([[0.0, 0.0, 4.0, 4.0]], device=device)
    image = torch.ones(1, 1, 8, 8, device=device)
    offset = torch.zeros(1, 18, 6, 6, device=device)
    weight = torch.ones(1, 1, 3, 3, device=device)
    calls: dict[str, Callable] = {
        "nms": lambda: torchvision.ops.nms(boxes_xyxy, torch.ones(1, device=device), 0.5),
        "roi_align": lambda: torchvision.ops.roi_align(image, [boxes_xyxy], output_size=2),
        "deform_conv2d": lambda: torchvision.ops.deform_conv2d(image, offset, weight),
    }
    for name, call in calls.items():
        try:
            call()
        except Exception as error:
            yield name, error


def check_detectron2() -> Iterator[Finding]:
    """Check that Detectron2 can be imported, and say which one it is, where it lies and whether it is compiled."""
    try:
        detectron2 = importlib.import_module("detectron2")
        for part in ("engine", "evaluation", "data"):
            importlib.import_module(f"detectron2.{part}")
    except Exception as error:  # Old sources raise AttributeError, a stale build raises OSError.
        if isinstance(error, ModuleNotFoundError) and error.name == "detectron2":
            yield fail("Detectron2 is not installed", INSTALL_DETECTRON2)
        elif isinstance(error, ModuleNotFoundError) and not str(error.name).startswith("detectron2"):
            in_checkout = (REPOSITORY / "requirements.txt").is_file()
            remedy = INSTALL_ALL if in_checkout else f"{PIP} {str(error.name).partition('.')[0]}"
            yield fail(f"Detectron2 does not import: {one_line(error)}", remedy)
        else:
            yield fail(f"Detectron2 does not import: {one_line(error)}", INSTALL_DETECTRON2)
        return
    folder = Path(detectron2.__file__).parent
    version = getattr(detectron2, "__version__", "of unknown version")
    compiled = "compiled" if importlib.util.find_spec("detectron2._C") else "not compiled, which is enough"
    yield ok(f"Detectron2 {version} ({detectron2_origin(folder)}; {compiled}) at {folder}")


def detectron2_origin(folder: Path) -> str:
    """Return which of the known builds of Detectron2 lies in a folder.

    The version does not tell them apart: the main branch and the release both call themselves 0.6.
    """
    if (folder / "_uncompiled.py").is_file():
        return "the pure-Python build of tools/install_detectron2.py"
    if (folder / "modeling" / "backbone" / "vit.py").is_file():  # This file was added after the release.
        return "main branch"
    return "release 0.6 or older"


def check_insta_rtdetr() -> Iterator[Finding]:
    """Check that this package registers its models."""
    try:
        importlib.import_module("insta_rtdetr.modeling")
    except Exception as error:
        yield fail(f"insta_rtdetr does not import: {one_line(error)}", MEND_FIRST)
    else:
        yield ok(f"insta_rtdetr at {Path(__file__).parent}")


def check_optional() -> Iterator[Finding]:
    """List the optional packages that are missing, and what needs them."""
    users = {
        "wandb": "WANDB.ENABLED", "ray": "tools/predict.py --workers", "supervision": "Result.to_supervision",
        "fastapi": "insta_rtdetr.web", "uvicorn": "insta_rtdetr.web", "rasterio": "reading large images by crops",
        "trackers": "Model.track",
    }  # fmt: skip
    for name, user in users.items():
        if importlib.util.find_spec(name) is None:
            yield note(f"{name} is not installed; only {user} needs it")


def check_output_folder(folder: Path) -> Iterator[Finding]:
    """Check that a run could write to a folder: make a test file in the nearest folder that exists, and remove it."""
    existing = next(path for path in [folder.absolute(), *folder.absolute().parents] if path.exists())
    try:
        with tempfile.NamedTemporaryFile(dir=existing):
            pass
    except OSError as error:
        yield fail(f"Output folder {folder} is not writable: {one_line(error)}", "Set OUTPUT_DIR to another folder")
        return
    free_gb = shutil.disk_usage(existing).free / 1e9
    text = f"Output folder {folder} is writable, {free_gb:.0f} GB free"
    yield ok(text) if free_gb >= SMALL_DISK_GB else note(f"{text}, which a long run may fill")


def check_memory() -> Iterator[Finding]:
    """Report the number of CPU cores and the memory of this machine."""
    text = f"{os.cpu_count()} CPU cores"
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        text += f", {os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB memory"
    yield note(text)


def check_dataset(dataset: str) -> Iterator[Finding]:
    """Check a dataset, given as a folder or as the name of a registered dataset."""
    if Path(dataset).is_dir():
        yield from check_dataset_folder(Path(dataset))
        return
    try:
        importlib.import_module("insta_rtdetr")
        from detectron2.data import DatasetCatalog, MetadataCatalog

        known = DatasetCatalog.list()
    except Exception as error:
        yield fail(f"Dataset {dataset} is no folder, and no name can be looked up: {one_line(error)}", "Give a folder")
        return
    if dataset not in known:
        yield fail(f"Dataset {dataset} is no folder and no registered name", "Give --dataset an existing folder")
        return
    metadata = MetadataCatalog.get(dataset)
    json_file, image_root = metadata.get("json_file"), metadata.get("image_root")
    if json_file and image_root:
        yield from check_annotation_file(dataset, Path(json_file), Path(image_root))
    else:
        yield from check_records(dataset, DatasetCatalog.get)


def check_dataset_folder(folder: Path) -> Iterator[Finding]:
    """Check a dataset folder as tools/dataset.py does, but open only some of its images."""
    from insta_rtdetr.dataset_tools.check import check_folder

    yield from check_folder(folder, num_opened=IMAGES_OPENED, num_workers=1, show_progress=False).findings()


def check_annotation_file(name: str, json_file: Path, image_root: Path) -> Iterator[Finding]:
    """Check a registered dataset that consists of one COCO file and an image folder."""
    from insta_rtdetr.data.datasets import read_coco
    from insta_rtdetr.data.layouts import Split
    from insta_rtdetr.dataset_tools.check import DatasetCheck, check_splits

    try:
        splits = {name: Split(read_coco(json_file), image_root, json_file)}
    except (DatasetError, OSError) as error:
        yield fail(f"Dataset {name}: {one_line(error)}", PREPARE_DATASET)
        return
    checks = check_splits(splits, IMAGES_OPENED, num_workers=1, show_progress=False)
    yield from DatasetCheck(image_root, checks).findings()


def check_records(dataset: str, load: Callable[[str], list[dict]]) -> Iterator[Finding]:
    """Check that a registered dataset without a COCO file loads, and that its images exist."""
    try:
        records = load(dataset)
    except Exception as error:
        yield fail(f"Dataset {dataset} does not load: {one_line(error)}", PREPARE_DATASET)
        return
    missing = [record["file_name"] for record in records if not Path(record["file_name"]).is_file()]
    if missing or not records:
        text = f"Dataset {dataset}: {len(missing)} of {len(records)} images are missing"
        yield fail(text + (f", first {missing[0]}" if missing else ""), PREPARE_DATASET)
    else:
        yield ok(f"Dataset {dataset}: {len(records)} images")


def check_config(config_file: str) -> Iterator[Finding]:
    """Check a config file: its keys, the weights and datasets that it names, and its output folder."""
    try:
        from insta_rtdetr.engine import setup_cfg

        cfg = setup_cfg(config_file, [])
    except Exception as error:  # Whatever is raised, its message says what to change.
        yield fail(f"Config: {one_line(error)}", "Correct the file, or the path")
        return
    yield ok(f"Config {config_file}: {cfg.MODEL.META_ARCHITECTURE}")
    weights = cfg.MODEL.WEIGHTS
    if weights and "://" not in weights and not Path(weights).is_file():
        yield fail(f"MODEL.WEIGHTS {weights} is no file", "Set MODEL.WEIGHTS to an existing file, or to ''")
    for name in dict.fromkeys([*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]):
        yield from check_dataset(name)
    yield from check_output_folder(Path(cfg.OUTPUT_DIR))


def findings(dataset: str | None, config_file: str | None) -> Iterator[Finding]:
    """Yield all lines of the report, in the order in which problems should be corrected."""
    checks: list[Callable[[], Iterator[Finding]]] = [
        check_python,
        check_dependencies,
        check_cuda,
        check_torchvision_ops,
        check_detectron2,
        check_insta_rtdetr,
        check_optional,
        check_memory,
    ]
    checks.append((lambda: check_config(config_file)) if config_file else (lambda: check_output_folder(Path("output"))))
    if dataset:
        checks.append(lambda: check_dataset(dataset))
    for check in checks:
        try:
            yield from check()
        except Exception as error:  # For example, CUDA cannot be checked without PyTorch, which has a line of its own.
            name = getattr(check, "__name__", "check").removeprefix("check_")
            yield fail(f"Could not check {name}: {one_line(error)}", MEND_FIRST)


def main(arguments: Sequence[str] | None = None, prog: str = "python -m insta_rtdetr.doctor") -> int:
    """Run the command line and return the exit code."""
    return run_command(lambda: _run(arguments, prog))


def _run(arguments: Sequence[str] | None, prog: str) -> int:
    parser = CommandParser(prog, __doc__)
    parser.add_argument("--dataset", metavar="DIR_OR_NAME", help="also check a COCO folder or a registered dataset")
    parser.add_argument("--config-file", metavar="FILE", help="also check a config, its weights and its datasets")
    options = parser.parse_args(arguments)
    counts = {"ok": 0, "note": 0, "FAIL": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Deprecations in other packages are not findings.
        for finding in findings(options.dataset, options.config_file):
            counts[finding.status] += 1
            print(finding, flush=True)
    print(f"doctor: {counts['ok']} ok, {counts['note']} notes, {counts['FAIL']} failed")
    return 1 if counts["FAIL"] else 0


if __name__ == "__main__":
    sys.exit(main())
