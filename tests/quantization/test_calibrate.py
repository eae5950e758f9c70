import numpy as np
import onnx_ir as ir
import pytest

from deploykit.quantization.calibrate import extremes, grouped, observe, observed_values
from deploykit.quantization.qdq.prepare import prepare
from tests.quantization.graphs_for_tests import opener, pictures, residual_net


def observing(budget=1 << 30, **options):
    wide = prepare(residual_net())
    batches = options.pop("batches", np.array_split(pictures(16), 2))
    return observe(ir.to_proto(wide), observed_values(wide), batches, opener, budget_bytes=budget, **options)


def test_extremes_do_not_depend_on_the_budget_of_memory():
    roomy, tight = observing(), observing(budget=40_000)
    assert tight.keys() == roomy.keys()
    for name, one in roomy.items():
        assert (tight[name].low, tight[name].high) == pytest.approx((one.low, one.high), rel=1e-5)
        assert tight[name].counts.sum() == one.counts.sum()
    assert tight["input"].batches > roomy["input"].batches


def test_a_budget_below_one_picture_opens_several_graphs():
    opened = []

    def counting(proto):
        opened.append(len(proto.graph.output))
        return opener(proto)

    wide = prepare(residual_net())
    values = observed_values(wide)
    observe(ir.to_proto(wide), values, [pictures(2)], counting, budget_bytes=20_000)
    assert len(opened) > 2
    assert max(opened[1:]) < len(values)


def test_groups_keep_within_the_budget():
    assert grouped({"a": 3, "b": 3, "c": 9, "d": 1}, 6) == [["a", "b"], ["c"], ["d"]]
    assert grouped({"a": 1}, 100) == [["a"]]


def test_an_interrupted_pass_goes_on_where_it_was():
    batches = np.array_split(pictures(32), 4)
    whole = observing(batches=batches)
    kept = {}

    def keep(seen, done):
        kept.update(seen={name: type(one).from_dict(one.to_dict()) for name, one in seen.items()}, done=done)

    observing(batches=batches[:2], keep=keep)
    assert kept["done"] == 16
    resumed = observing(batches=batches[2:], seen=kept["seen"], done=16)
    assert {name: one.to_dict() for name, one in resumed.items()} == {n: o.to_dict() for n, o in whole.items()}


def test_extremes_tell_networks_apart():
    x, protos = pictures(2), [ir.to_proto(prepare(residual_net(seed))) for seed in (0, 1)]
    first, second = (extremes(proto, ["input", "relu_1"], x, opener) for proto in protos)
    assert first["input"] == second["input"] == (x.min(), x.max())
    assert first["relu_1"][0] == 0
    assert first["relu_1"][1] != pytest.approx(second["relu_1"][1], rel=1e-2)


def test_a_fixed_batch_is_run_whole_and_as_often_as_it_takes():
    proto, sizes = residual_net(), []
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4

    def fixed(graph):
        run = opener(graph)

        def counted(x):
            sizes.append(len(x))
            return run(x)

        return counted

    wide, batches = prepare(proto), np.array_split(pictures(16), 2)
    seen = observe(ir.to_proto(wide), observed_values(wide), batches, fixed)
    assert set(sizes) == {4}
    whole = observing(batches=batches)
    for name, one in whole.items():
        assert (seen[name].low, seen[name].high) == pytest.approx((one.low, one.high), rel=1e-5)
