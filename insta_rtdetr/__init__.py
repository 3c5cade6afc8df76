"""Real-time instance-segmentation transformers for Detectron2.

Importing the package registers its meta-architectures, backbones, encoders and matchers with Detectron2.
"""

__version__ = "0.1.0"

try:
    from . import modeling
    from .config import add_insta_rtdetr_config
    from .predict import create_model

    __all__ = ["add_insta_rtdetr_config", "create_model", "modeling"]
except Exception as error:
    # `python -m insta_rtdetr.doctor` must start on a machine where this fails, because it says what to install.  Any
    # exception is caught: a Detectron2 that does not fit today's numpy or Pillow fails with an AttributeError.
    _cause = error

    def __getattr__(name: str):
        raise ImportError(
            f"insta_rtdetr.{name} needs a package that cannot be imported ({_cause}). "
            "Run `python -m insta_rtdetr.doctor` to see what to install."
        ) from _cause
