"""Train and evaluate, as `train_net.py` and `insta-rtdetr train` do."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.engine import default_argument_parser, launch
from detectron2.utils import comm
from torch.multiprocessing import ProcessExitedException

from insta_rtdetr.command_line import CommandParser, use_threads
from insta_rtdetr.data import find_dataset, needs_masks, register_found
from insta_rtdetr.errors import UserError, report

from .checks import RunOptions, check
from .plan import make_plan, starting_weights
from .run import TrainingResult, evaluate, train
from .setup import setup_cfg

# Options that set a config key.
KEY_OF_OPTION = {"weights": "MODEL.WEIGHTS", "device": "MODEL.DEVICE", "output": "OUTPUT_DIR"}


def main(arguments: list[str] | None = None, prog: str | None = None, description: str | None = None) -> int:
    """Run the command line and return the exit code."""
    try:
        args = parse(arguments, prog, description)
        use_threads(args.threads)
        cfg = setup_cfg(args.config_file, args.opts, args.dataset, announce=False)
        options = RunOptions(
            args.dataset, args.eval_only, args.resume, args.verbose, args.num_gpus, args.num_machines
        )
        name = Path(args.config_file).stem
        if args.eval_only:
            work = (evaluate, cfg, name, check(cfg, options), args.verbose)
        else:
            file_cfg, weights = setup_cfg(args.config_file, []), starting_weights(cfg, args.config_file)
            work = (train, make_plan(cfg, file_cfg, args.opts[::2], options, name, weights))
        launch(run, args.num_gpus, args.num_machines, args.machine_rank, args.dist_url, args=(args, cfg, *work))
    except UserError as error:
        return report(error)
    except ProcessExitedException as error:
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


def parse(arguments: list[str] | None, prog: str | None, description: str | None) -> argparse.Namespace:
    """Parse the options; those of `KEY_OF_OPTION` become KEY VALUE pairs in `opts`.

    Raises:
        UserError: an option is wrong.
    """
    parser = CommandParser(prog, description or __doc__)
    parser.add_shared("--config-file", default="")
    parser.add_shared("--dataset", "--threads")
    parser.add_shared("--weights", default=None, help="checkpoint to start from (MODEL.WEIGHTS)")
    parser.add_shared("--device", default=None)
    parser.add_argument("--output", metavar="FOLDER", help="folder of the run (OUTPUT_DIR)")
    parser.add_argument("--resume", action="store_true", help="go on with the run in the output folder")
    parser.add_argument("--eval-only", action="store_true", help="evaluate the weights and do not train")
    parser.add_argument("--verbose", action="store_true", help="tell the AP of each class too")
    parser.add_argument("--num-gpus", type=int, default=1, metavar="N", help="GPUs of each machine (default: 1)")
    parser.add_argument("--num-machines", type=int, default=1, metavar="N", help="machines (default: 1)")
    parser.add_argument("--machine-rank", type=int, default=0, metavar="I", help="number of this machine, from 0")
    parser.add_argument(
        "--dist-url", default=default_argument_parser().get_default("dist_url"), metavar="URL",
        help="where the processes meet, see PyTorch's init_process_group (default: a port of this machine)",
    )  # fmt: skip
    parser.add_shared("--opts", dest="more_opts")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="the same as --opts, at the end")
    args = parser.parse_args(arguments)
    given = {key: getattr(args, option) for option, key in KEY_OF_OPTION.items() if getattr(args, option) is not None}
    args.opts = [word for pair in given.items() for word in pair] + args.more_opts + args.opts
    return args


def run(args: argparse.Namespace, cfg: CfgNode, work: Callable, *arguments: Any) -> None:
    """Run `work(*arguments)` in this process, which is one of those that `launch` starts."""
    try:
        if comm.get_world_size() > 1:
            # A spawned process has neither the settings nor the registered datasets of the first one.
            use_threads(args.threads)
            if args.dataset:
                register_found(find_dataset(Path(args.dataset)), needs_masks(cfg))
        result = work(*arguments)
        if isinstance(result, TrainingResult) and result.signal:
            sys.exit(128 + result.signal)
    except UserError as error:
        # With several processes, the error would arrive in main as a traceback.
        if comm.get_world_size() == 1:
            raise
        sys.exit(report(error))
