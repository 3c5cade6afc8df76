#!/usr/bin/env python3
"""Count parameters and GFLOPs of configs for the table of `python -m insta_rtdetr.zoo`.

    python tools/measure_models.py                        # all configs, minutes
    python tools/measure_models.py rfdetr_seg_nano_312    # a new one

Writes insta_rtdetr/zoo/measured.json; configs that are not named keep what is there, those that are gone are left out.
"""

import json
import sys
from pathlib import Path

# A checkout works without `pip install`, as it does for train_net.py.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from insta_rtdetr.atomic import write_text
from insta_rtdetr.benchmark.measure import measure_config
from insta_rtdetr.command_line import CommandParser, run_command
from insta_rtdetr.zoo import config_files
from insta_rtdetr.zoo.table import MEASURED_FILE, measurements, select


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit code."""
    return run_command(lambda: measure(arguments))


def measure(arguments: list[str] | None) -> None:
    """Measure the configs that the arguments name."""
    parser = CommandParser("python tools/measure_models.py", __doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="names, or patterns with * and ? (default: all)")
    names = select(config_files(), parser.parse_args(arguments).names)
    measured = {name: found for name, found in measurements().items() if name in config_files()}
    for name in names:
        measured[name] = measure_config(name)
        sys.stdout.write(f"{name}: {measured[name]}\n")
    lines = ",\n".join(f' "{name}": {json.dumps(measured[name])}' for name in sorted(measured))
    write_text(MEASURED_FILE, f"{{\n{lines}\n}}\n")


if __name__ == "__main__":
    sys.exit(main())
