"""Run the command `insta-rtdetr` as `python -m insta_rtdetr`."""

import sys

from insta_rtdetr.cli import main

if __name__ == "__main__":
    sys.exit(main())
