"""Command line `insta-rtdetr`, which combines all commands, for users who installed the wheel and have no tools/.

    insta-rtdetr train --config-file insta_rtdetr_R18vd_D3_640 --dataset path/to/data
    insta-rtdetr evaluate --config-file insta_rtdetr_R18vd_D3_640 --dataset path/to/data --weights output/model_best.pth
    insta-rtdetr predict --model quickstart_MNV2_D3_256 --input photos/ --output found/

`insta-rtdetr COMMAND --help` tells the options of a command.  The scripts of the repository call the same functions.
"""

import importlib
import sys
from dataclasses import dataclass

from insta_rtdetr.errors import UserError, report


@dataclass(frozen=True)
class Command:
    """Command of `insta-rtdetr`.

    Attributes:
        summary: what the command does, for the list of commands.
        module: module of this package whose `main` runs the command.
        arguments: arguments that `main` gets in front of the user's.
    """

    summary: str
    module: str
    arguments: tuple[str, ...] = ()


COMMANDS = {
    "models": Command("list all models, download their published weights", "zoo.__main__"),
    "train": Command("train a model, on your own data or a registered dataset", "engine.command_line"),
    "evaluate": Command("evaluate weights", "engine.command_line", ("--eval-only",)),
    "ablate": Command("train a list of variants and put them side by side", "engine.ablation.command_line"),
    "predict": Command("find objects in images, folders and videos", "predict.command_line"),
    "export": Command("write a model for ONNX Runtime, OpenVINO, TensorRT or torch.export", "export.command_line"),
    "benchmark": Command("time a model from image to result", "benchmark.command_line"),
    "dataset": Command("check, convert or split a dataset", "dataset_tools.command_line"),
    "checkpoint": Command("say what a checkpoint is, or convert it", "checkpoint.command_line"),
    "web": Command("serve a page on which images are dropped", "web.__main__"),
    "doctor": Command("say what of this installation works, and how to mend the rest", "doctor"),
}


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        sys.stdout.write(usage())
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        return report(UserError(f"There is no command {name}, wanted one of {', '.join(COMMANDS)}."))
    command = COMMANDS[name]
    module = importlib.import_module(f"insta_rtdetr.{command.module}")
    return module.main([*command.arguments, *rest], prog=f"insta-rtdetr {name}")


def usage() -> str:
    """Return the list of all commands."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(["usage: insta-rtdetr COMMAND ...", "", *lines, "", __doc__.partition("\n\n")[2]])


if __name__ == "__main__":
    sys.exit(main())
