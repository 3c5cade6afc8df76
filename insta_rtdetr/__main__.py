"""`python -m insta_rtdetr` is the command `insta-rtdetr`."""

import sys

from insta_rtdetr.cli import main

if __name__ == "__main__":
    sys.exit(main())
