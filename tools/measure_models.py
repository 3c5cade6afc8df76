#!/usr/bin/env python3
"""Count parameters and GFLOPs of configs for the table of `python -m insta_rtdetr.zoo`.

    python tools/measure_models.py                        # all configs, minutes
    python tools/measure_models.py rfdetr_seg_nano_312    # a new one

Writes insta_rtdetr/zoo/measured.json; configs that are not named keep what is there, those that are gone are left out.
"""

import argparse
import json
import sys

from insta_rtdetr.atomic import write_text
from insta_rtdetr.benchmark.measure import measure_config
from insta_rtdetr.errors import UserError, report, wrong_option
from insta_rtdetr.zoo import config_files
from insta_rtdetr.zoo.table import MEASURED_FILE, measurements, select


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="names, or patterns with * and ? (default: all)")
    parser.error = wrong_option("tools/measure_models.py")
    try:
        names = select(config_files(), parser.parse_args(arguments).names)
        measured = {name: found for name, found in measurements().items() if name in config_files()}
        for name in names:
            measured[name] = measure_config(name)
            sys.stdout.write(f"{name}: {measured[name]}\n")
    except UserError as error:
        return report(error)
    lines = ",\n".join(f' "{name}": {json.dumps(measured[name])}' for name in sorted(measured))
    write_text(MEASURED_FILE, f"{{\n{lines}\n}}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
