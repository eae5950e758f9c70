import pytest

from deploykit.quantization.max_drop import Move, applied, costed, moves, revert, rounding_nodes, worth_costing
from deploykit.quantization.qdq.dialects import DIALECTS
from deploykit.quantization.search import Choice, Quantizer
from deploykit.quantization.sensitivity import LayerScore
from tests.quantization.graphs_for_tests import mobile_net, residual_net
from tests.quantization.test_sensitivity import quantizer_of

BASE = Choice()


def drops(table):
    """A drop for each set of float nodes, 9 where it is not named."""
    asked = []

    def drop_of(choice):
        asked.append("".join(sorted(choice.keep_float)))
        return {"drop_pt": table.get(asked[-1], 9.0)}

    return drop_of, asked


def ranked(names):
    return [Move(name, frozenset(name), 1.0) for name in names]


def test_a_worse_first_step_ends_nothing():
    drop_of, asked = drops({"a": 12.0, "ab": 11.0, "abc": 0.2, "ac": 5.0, "bc": 5.0})
    found = revert(BASE, {"drop_pt": 6.0}, ranked("abcd"), drop_of, 0.5)
    assert found.held
    assert found.choice.keep_float == set("abc")
    assert found.tried == ((0, 6.0), (1, 12.0), (2, 11.0), (3, 0.2))
    assert asked[:3] == ["a", "ab", "abc"]


def test_what_the_bound_does_not_need_is_int8_again():
    drop_of, _ = drops({"abc": 0.2, "ac": 0.4, "c": 0.6})
    found = revert(BASE, {"drop_pt": 6.0}, ranked("abcd"), drop_of, 0.5)
    assert [move.layer for move in found.moves] == ["a", "c"]
    assert found.drop["drop_pt"] == 0.4


def test_the_best_is_told_where_nothing_holds():
    drop_of, _ = drops({"a": 4.0, "ab": 3.0, "abc": 8.0})
    found = revert(BASE, {"drop_pt": 6.0}, ranked("abcd"), drop_of, 0.5)
    assert not found.held
    assert (found.drop["drop_pt"], [move.layer for move in found.moves]) == (3.0, ["a", "b"])


def test_many_layers_are_taken_in_growing_steps():
    names = "".join(chr(97 + i) for i in range(26)) + "ABCDEFGHIJ"
    drop_of, asked = drops({})
    revert(BASE, {"drop_pt": 10.0}, ranked(names), drop_of, 0.5)
    assert [len(one) for one in asked] == [*range(1, 17), 24, 35]


@pytest.fixture(scope="module")
def residual():
    return quantizer_of(residual_net())


def test_a_cheap_layer_goes_before_a_dear_one_that_hurts_as_much(residual):
    costs = {"": 1000.0, "n_conv_3": 1200.0, "n_conv_5": 1010.0, "n_gemm_9": 999.0}
    wanted = [
        Move(name, frozenset({name}), kl) for name, kl in [("n_conv_3", 1.0), ("n_conv_5", 0.9), ("n_gemm_9", 0.01)]
    ]
    found = costed(residual, BASE, wanted, lambda graphs: {name: costs[name] for name in graphs})
    assert [one.layer for one in found] == ["n_conv_5", "n_conv_3", "n_gemm_9"]
    assert [one.cost_us for one in found] == pytest.approx([10, 200, -1])


def test_a_layer_whose_input_hurts_takes_along_what_rounds_it(residual):
    alone = [LayerScore("n_conv_5", "alone", 1.0, 5.0, 1.0), LayerScore("n_conv_3", "alone", 0.5, 9.0, 1.0)]
    weights = [LayerScore("n_conv_5", "weights", 0.2, 9.0, 1.0), LayerScore("n_conv_3", "weights", 0.49, 9.0, 1.0)]
    found = moves(residual, BASE, alone, weights)
    assert [one.nodes for one in found] == [{"n_conv_5", "n_conv_3"}, {"n_conv_3"}]


def test_engines_that_round_inputs_need_nothing_else(residual):
    inputs_only = Quantizer(residual.proto, residual.seen, dialect=DIALECTS["tensorrt"])
    assert rounding_nodes(inputs_only, BASE, "n_conv_5") == frozenset()
    assert rounding_nodes(residual, BASE, "n_conv_5") == {"n_conv_3"}
    assert rounding_nodes(residual, BASE, "n_conv_3") == {"n_maxpool_2", "n_conv_0"}


def test_a_reverted_input_is_read_unrounded():
    quantizer = quantizer_of(mobile_net())
    for layer in ("n_conv_2", "n_conv_4", "n_conv_12"):
        nodes = rounding_nodes(quantizer, BASE, layer) | {layer}
        made = quantizer.make(applied(BASE, [Move(layer, nodes, 1.0)]))
        node = next(one for one in made.graph.node if one.name == layer)
        writers = {out: one.op_type for one in made.graph.node for out in one.output}
        assert writers[node.input[0]] != "DequantizeLinear", layer


def test_negligible_layers_are_not_costed():
    scores = [LayerScore(str(i), "alone", kl, 1.0, 1.0) for i, kl in enumerate([1.0, 0.5, 1e-4, 0.0])]
    assert [one.layer for one in worth_costing(scores)] == ["0", "1"]
    assert worth_costing([]) == []
