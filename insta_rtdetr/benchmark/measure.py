"""Measuring parameters, GFLOPs and input of a config for the table of models."""

from insta_rtdetr.zoo import backbone_name

from .flops import count_subject, network_input
from .options import Options
from .subject import build_subject


def measure_config(name: str) -> dict:
    """Build a config's model with random weights, and count its parameters and GFLOPs.

    Args:
        name: name of the config.

    Returns:
        "backbone": its name; "parameters": their number; "gflops": of the network for one image of 480 x 640; "input":
        (height, width) of the network's input in pixels.
    """
    subject = build_subject(Options(name, device="cpu"))
    counted = count_subject(subject)
    return {
        "backbone": backbone_name(subject.cfg),
        "parameters": subject.num_parameters,
        "gflops": round(counted.get("network", counted.get("model")), 2),
        "input": network_input(subject),
    }
