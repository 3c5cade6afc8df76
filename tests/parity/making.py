"""What the scripts that make reference outputs have in common."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def save_keys(model: Any, file: Path) -> None:
    """Write the name and the shape of every tensor of a model's state dict, PyTorch's or PaddlePaddle's."""
    file.write_text(json.dumps({name: list(value.shape) for name, value in model.state_dict().items()}, indent=0))


def run(main: Callable[[Path, Path], None], description: str, original: str) -> None:
    """Call `main` with the folders of the command line: a checkout of the original, and where the files go.

    Args:
        main: what writes the files.
        description: docstring of the script.
        original: name of the original.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help=f"checkout of {original}")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).parent, help="where the files go")
    arguments = parser.parse_args()
    main(arguments.source.resolve(), arguments.folder)
