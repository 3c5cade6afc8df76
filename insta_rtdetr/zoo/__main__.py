"""List the models, and download and check their published weights.

    insta-rtdetr models
    insta-rtdetr models rfdetr "fastinst_R50_*" --max-parameters 35 --max-gflops 60
    insta-rtdetr models --download insta_rtdetr_R50vd_D6_640 "rfdetr_seg_*"
    insta-rtdetr models --verify

AP are those of the authors on COCO val2017.  GFLOPs count each multiply-add of the network once.  Bad input ends in one
line on stderr and exit code 1.
"""

import argparse
import sys
from collections.abc import Sequence

from insta_rtdetr.command_line import CommandParser, run_command

from .cache import CACHE_VARIABLE, cache_folder, cached_path, fetch, verify
from .download import MIRROR_VARIABLE
from .published import published_files
from .table import below, models, select, to_table


def main(arguments: Sequence[str] | None = None, prog: str = "python -m insta_rtdetr.zoo") -> int:
    """Run the command line and return the exit code."""
    return run_command(lambda: _run(_parse(arguments, prog)))


def _parse(arguments: Sequence[str] | None, prog: str) -> argparse.Namespace:
    variables = f"{CACHE_VARIABLE} is the folder of downloaded files, {MIRROR_VARIABLE} an address to download from."
    parser = CommandParser(prog, __doc__, epilog=variables)
    option = parser.add_argument
    option("names", nargs="*", metavar="NAME", help="parts of names, or patterns with * and ? (default: all)")
    option("--max-parameters", type=float, metavar="M", help="list no larger models, millions of parameters")
    option("--max-gflops", type=float, metavar="G", help="list no slower models")
    option("--all", action="store_true", help="list published files too that belong to no config, such as backbones")
    option("--download", nargs="+", metavar="NAME", help="download the weights of these names or patterns")
    option("--verify", nargs="*", metavar="NAME", help="check downloaded files by their checksums (default: all)")
    return parser.parse_args(arguments)


def _run(options: argparse.Namespace) -> int:
    if options.download is not None:
        return _download(options.download)
    if options.verify is not None:
        return _verify(options.verify)
    return _list(options)


def _list(options: argparse.Namespace) -> int:
    rows = models(with_others=options.all)
    names = select([row.name for row in rows], options.names, by_parts=True)
    rows = [
        row for row in rows
        if row.name in names
        and below(row.parameters and row.parameters / 1e6, options.max_parameters)
        and below(row.gflops, options.max_gflops)
    ]  # fmt: skip
    sys.stdout.write(f"{to_table(rows)}\nweights are cached in {cache_folder()}\n")
    return 0


def _download(patterns: list[str]) -> int:
    for name in select(published_files(), patterns):
        sys.stdout.write(f"{name}: {fetch(published_files()[name])}\n")
    return 0


def _verify(patterns: list[str]) -> int:
    cached = [name for name in select(published_files(), patterns) if cached_path(published_files()[name]).is_file()]
    num_wrong = 0
    for name in cached:
        published = published_files()[name]
        fault = verify(published)
        num_wrong += bool(fault)
        basis = "the authors' checksum" if published.checksum else "the checksum of its download"
        sys.stdout.write(f"{name}: {fault or f'as {basis} says'} ({cached_path(published)})\n")
    sys.stdout.write(f"{len(cached)} files in {cache_folder()}, {num_wrong} wrong\n")
    return 1 if num_wrong else 0


if __name__ == "__main__":
    sys.exit(main())
