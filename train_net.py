#!/usr/bin/env python
"""Train and evaluate.

    python train_net.py --config-file configs/... [--num-gpus N] [--resume] [KEY VALUE ...]
    python train_net.py --config-file configs/... --eval-only MODEL.WEIGHTS output/model_final.pth
    python train_net.py --config-file configs/... --dataset path/to/your/data [KEY VALUE ...]

Bad input ends in one line on stderr and exit code 1.
"""

import argparse
import sys
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.engine import default_argument_parser, launch
from detectron2.utils import comm
from torch.multiprocessing import ProcessExitedException

import insta_rtdetr  # noqa: F401  (registers the models and the datasets)
from insta_rtdetr.data import find_dataset, needs_masks, register_found
from insta_rtdetr.engine import Trainer, check, setup_cfg, start_logging
from insta_rtdetr.engine.dataset_flag import DATASET_HELP
from insta_rtdetr.errors import UserError, report, wrong_option


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit code."""
    try:
        args = parse(arguments)
        cfg = setup_cfg(args.config_file, args.opts, args.dataset)
        check(cfg, args)
        launch(run, args.num_gpus, args.num_machines, args.machine_rank, args.dist_url, args=(cfg, args))
    except UserError as error:
        return report(error)
    except ProcessExitedException as error:
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Detectron2's options; a wrong one is a UserError."""
    parser = default_argument_parser()
    parser.add_argument("--dataset", default="", metavar="DIR", help=DATASET_HELP)
    parser.error = wrong_option("train_net.py")
    return parser.parse_args(arguments)


def run(cfg: CfgNode, args: argparse.Namespace) -> None:
    """What each process does."""
    try:
        if args.dataset and comm.get_world_size() > 1:
            # A process of its own knows nothing of what the first has registered.
            register_found(find_dataset(Path(args.dataset)), needs_masks(cfg))
        start_logging(cfg, args)
        if args.eval_only:
            Trainer.evaluate_weights(cfg)
            return
        trainer = Trainer(cfg)
        trainer.resume_or_load(resume=args.resume)
        trainer.train()
    except UserError as error:
        # With several processes an error would reach main as a traceback.
        if comm.get_world_size() == 1:
            raise
        sys.exit(report(error))


if __name__ == "__main__":
    sys.exit(main())
