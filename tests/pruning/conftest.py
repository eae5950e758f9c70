"""One residual network, its graph of channels and its costs."""

import pytest

from deploykit.models import build, count
from deploykit.pruning.check_graph import prunable_graph
from deploykit.pruning.prune_channels import costs_of


@pytest.fixture(scope="module")
def resnet():
    net = build("deploykit:resnet", 10, kwargs={"depth": 14, "widths": [32, 64, 128], "stem_stride": 2}).eval()
    graph = prunable_graph(net, (32, 32))
    return net, graph, costs_of(net, graph, count(net, (32, 32)).macs)
