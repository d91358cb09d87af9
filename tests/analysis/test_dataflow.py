from __future__ import annotations

import pytest
from torch import Tensor, fx, nn

from sapool.analysis.dataflow import Dataflow, is_inside, module_path
from sapool.analysis.trace import trace
from tests.passes.tiny import net, nodes


@pytest.fixture
def module() -> fx.GraphModule:
    return net()


@pytest.fixture
def flow(module: fx.GraphModule) -> Dataflow:
    return Dataflow(module.graph)


def names(found: list[fx.Node] | None) -> list[str] | None:
    return None if found is None else [node.name for node in found]


@pytest.mark.parametrize(
    ("path", "prefix", "inside"),
    [
        ("layer1", "layer1", True),
        ("layer1.0.conv1", "layer1", True),
        ("layer1.0.conv1", "layer1.0", True),
        ("layer10", "layer1", False),
        ("layer1", "layer1.0", False),
        ("", "layer1", False),
    ],
)
def test_is_inside(path: str, prefix: str, inside: bool) -> None:
    assert is_inside(path, prefix) is inside


def test_module_path(module: fx.GraphModule) -> None:
    paths = {name: module_path(node) for name, node in nodes(module).items()}
    assert paths["conv"] == "conv"
    assert paths["stage2_downsample_0"] == "stage2.downsample.0"
    assert paths["stage1_add"] == "stage1"
    assert paths["stage1_relu"] == paths["stage1_relu_1"] == "stage1.relu"
    # The root's own calls, its input and its output.
    assert paths["cat"] == paths["x"] == paths["output"] == ""


def test_inside(flow: Dataflow) -> None:
    stage1 = ["stage1_conv1", "stage1_relu", "stage1_conv2", "stage1_add", "stage1_relu_1"]
    assert names(flow.inside(["stage1"])) == stage1
    assert names(flow.inside(["fc", "stage1"])) == [*stage1, "fc"]
    assert names(flow.inside(["stage2.downsample", "side"])) == ["stage2_downsample_0", "side"]
    assert flow.inside(["stage"]) == []
    assert flow.inside([]) == []


def test_entry_and_exit(flow: Dataflow) -> None:
    assert names(flow.entry(flow.inside(["stage1"]))) == ["maxpool"]
    assert names(flow.exit(flow.inside(["stage1"]))) == ["stage1_relu_1"]
    # Three nodes read what the second stage and the side branch both read; each branch has its own end.
    both = flow.inside(["stage2", "side"])
    assert names(flow.entry(both)) == ["stage1_relu_1"]
    assert names(flow.exit(both)) == ["stage2_relu_1", "side"]
    tail = flow.inside(["fc"])
    assert names(flow.entry(tail)) == ["cat"]
    assert names(flow.exit(tail)) == ["fc"]
    assert flow.entry([]) == flow.exit([]) == []


def test_entry_in_order_of_execution(module: fx.GraphModule, flow: Dataflow) -> None:
    byname = nodes(module)
    assert names(flow.entry([byname["cat"]])) == ["mean", "mean_1"]
    assert names(flow.entry([byname["stage1_add"], byname["fc"]])) == ["maxpool", "stage1_conv2", "cat"]


def test_a_parameter_is_no_entry() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(2, 2)
            self.scale = nn.Parameter(nn.Linear(2, 2).weight.detach())

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x) * self.scale

    graph = trace(Scaled()).graph
    (mul,) = (node for node in graph.nodes if node.op == "call_function")
    assert {node.op for node in mul.all_input_nodes} == {"call_module", "get_attr"}
    assert names(Dataflow(graph).entry([mul])) == ["fc"]


def test_between(module: fx.GraphModule, flow: Dataflow) -> None:
    node = nodes(module)
    entry, end = node["maxpool"], node["stage1_relu_1"]
    assert names(flow.between(entry, end)) == ["stage1_conv1", "stage1_relu", "stage1_conv2", "stage1_add"]
    # Beside its convolutions the first block has an identity shortcut.
    convs = [node["stage1_conv1"], node["stage1_conv2"]]
    assert names(flow.between(entry, end, avoiding=convs)) == ["stage1_add"]
    assert names(flow.between(entry, node["stage1_add"], avoiding=convs)) == []
    # The second has a projection shortcut instead.
    entry, end, convs = end, node["stage2_relu_1"], [node["stage2_conv1"]]
    assert names(flow.between(entry, end, avoiding=convs)) == ["stage2_downsample_0", "stage2_add"]
    assert flow.between(entry, end, avoiding=[*convs, node["stage2_downsample_0"]]) is None
    # No way leads back, or from one branch into the other.
    assert flow.between(end, entry) is None
    assert flow.between(node["stage2_conv1"], node["side"]) is None


def test_a_view_is_a_snapshot(module: fx.GraphModule, flow: Dataflow) -> None:
    node = nodes(module)
    node["stage1_add"].replace_input_with(node["maxpool"], node["stage1_relu"])
    convs = [node["stage1_conv1"], node["stage1_conv2"]]
    assert flow.between(node["maxpool"], node["stage1_add"], avoiding=convs) == []
    assert Dataflow(module.graph).between(node["maxpool"], node["stage1_add"], avoiding=convs) is None
