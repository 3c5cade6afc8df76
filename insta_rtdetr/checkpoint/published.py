"""published://NAME for Detectron2: the path handler behind MODEL.WEIGHTS."""

from pathlib import Path
from typing import IO, Any

import torch
from detectron2.utils.file_io import PathHandler, PathManager

from insta_rtdetr.atomic import new_file
from insta_rtdetr.zoo import PREFIX, fetch, find_published, published_files

from .formats import read_checkpoint


class PublishedHandler(PathHandler):
    """Gives Detectron2's PathManager, and with it DetectionCheckpointer, the published weights under our names.

    `insta_rtdetr.checkpoint.Checkpointer` does not need it: it reads the authors' file itself.
    """

    def _get_supported_prefixes(self) -> list[str]:
        return [PREFIX]

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        self._check_kwargs(kwargs)
        return str(_as_detectron2(fetch(find_published(path))))

    def _open(self, path: str, mode: str = "r", buffering: int = -1, **kwargs: Any) -> IO:
        self._check_kwargs(kwargs)
        return open(self._get_local_path(path), mode, buffering)

    def _isfile(self, path: str, **kwargs: Any) -> bool:
        self._check_kwargs(kwargs)
        return path.removeprefix(PREFIX) in published_files()

    _exists = _isfile


def _as_detectron2(file: Path) -> Path:
    """Write a checkpoint that Detectron2 reads next to the authors' file, and return its path.

    It is written each time, because the version of the package that wrote the last one may have had other names.
    """
    destination = file.with_name("detectron2.pth")
    with new_file(destination, several_writers=True) as unfinished:
        torch.save(read_checkpoint(str(file)), unfinished)
    return destination


PathManager.register_handler(PublishedHandler(), allow_override=True)
