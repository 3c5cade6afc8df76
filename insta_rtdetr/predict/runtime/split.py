"""Splitting an OpenVINO model into the front, backbone and encoder, and the rest, which finds objects in the features.

On processors that multiply matrices of bfloat16, the front takes a quarter of the time in bfloat16.  The rest, which
selects queries and positions, needs float32, and OpenVINO uses one precision for a whole model.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from insta_rtdetr.extras import import_extra

if TYPE_CHECKING:
    import openvino

# Prefixes of the names of the front's weights, see `TopObjects`.
FRONT_WEIGHTS = ("model.backbone.", "model.encoder.")


@dataclass(frozen=True)
class GraphNode:
    """An operation, constant or input of a model of any format.

    Attributes:
        name: unique name of the node.
        sources: names of the nodes that it reads.
        is_input: whether it is an input of the model.
        is_front_weight: whether it is a constant that holds weights of backbone or encoder.
    """

    name: str
    sources: list[str]
    is_input: bool = False
    is_front_weight: bool = False


def front_and_constants(nodes: Iterable[GraphNode]) -> tuple[set[str], set[str]]:
    """Find the nodes of backbone and encoder.

    Args:
        nodes: all nodes of a model, each after those that it reads.

    Returns:
        the names of the nodes that the front needs, and of all nodes that do not depend on the images.
    """
    nodes = list(nodes)
    constants: set[str] = set()
    weights: set[str] = set()  # of the front, and what is computed of them alone
    front: set[str] = set()
    for node in nodes:
        reads_weights = not weights.isdisjoint(node.sources)
        if not node.is_input and constants.issuperset(node.sources):
            constants.add(node.name)
            if node.is_front_weight or reads_weights:
                weights.add(node.name)
        elif reads_weights:
            front.add(node.name)
    for node in reversed(nodes):
        if node.name in front:
            front.update(node.sources)
    return front, constants


def split(model: "openvino.Model") -> tuple["openvino.Model", "openvino.Model"]:
    """Split a model after the last operations with weights of backbone or encoder.

    Args:
        model: an exported model, which cannot be used afterwards.

    Returns:
        the front, and the rest, whose inputs are the outputs of the front in their order, and then the images.
    """
    openvino = import_extra("openvino")
    make = openvino.opset13
    front, constants = _front_and_constants(model)
    (images,) = model.get_parameters()
    cut = [
        output
        for node in model.get_ordered_ops() if node.get_name() in front and node.get_name() not in constants
        for output in node.outputs() if _readers_outside(output, front) and node.get_name() != images.get_name()
    ]  # fmt: skip
    inputs = []
    for output in cut:
        parameter = make.parameter(output.get_partial_shape(), output.get_element_type())
        for reader in _readers_outside(output, front):
            reader.replace_source_output(parameter.output(0))
        inputs.append(parameter)
    rest_images = make.parameter(images.output(0).get_partial_shape(), images.output(0).get_element_type())
    for reader in _readers_outside(images.output(0), front):
        reader.replace_source_output(rest_images.output(0))
    rest = openvino.Model(model.get_results(), [*inputs, rest_images], "rest")
    return openvino.Model([make.result(output) for output in cut], [images], "front"), rest


def _front_and_constants(model: "openvino.Model") -> tuple[set[str], set[str]]:
    return front_and_constants(
        GraphNode(
            node.get_name(),
            [port.get_source_output().get_node().get_name() for port in node.inputs()],
            is_input=node.get_type_name() == "Parameter",
            is_front_weight=_is_front_weight(node),
        )
        for node in model.get_ordered_ops()
    )


def _is_front_weight(node: "openvino.Node") -> bool:
    # Vectors do not count: the exporter keeps one of several equal ones, such as zeros, under the name of the first.
    is_matrix = node.get_type_name() == "Constant" and len(node.shape) > 1
    return is_matrix and node.get_friendly_name().startswith(FRONT_WEIGHTS)


def _readers_outside(output: "openvino.Output", front: set[str]) -> list["openvino.Input"]:
    return [reader for reader in output.get_target_inputs() if reader.get_node().get_name() not in front]
