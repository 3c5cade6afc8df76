"""What the commands that predict with a model share."""

import argparse
from typing import NoReturn

from insta_rtdetr.errors import UserError


class ModelParser(argparse.ArgumentParser):
    """A parser with the arguments of `create_model`; a wrong option is a UserError."""

    def __init__(self, prog: str, description: str, **arguments: object) -> None:
        super().__init__(
            prog=prog, description=description, formatter_class=argparse.RawDescriptionHelpFormatter, **arguments
        )
        option = self.add_argument
        option("--model", required=True, help="config (name or file), or checkpoint that says which config it is of")
        option("--weights", default="", metavar="FILE", help="checkpoint (default: the published one, if it is known)")
        option("--device", default="", help="cpu or cuda (default: the config's, cpu where there is no GPU)")
        option("--opts", nargs="*", default=[], metavar="KEY VALUE", help="change the config")

    def error(self, message: str) -> NoReturn:
        """Of a wrong option."""
        raise UserError(f"{message}.  See {self.prog} --help.")
