from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from deploykit.quantization.calibrate import observe, observed_values
from deploykit.quantization.qdq.dialects import DIALECTS
from deploykit.quantization.qdq.prepare import prepare
from deploykit.quantization.search import Choice, Quantizer
from deploykit.quantization.sensitivity import divergence, logits_of, segment, starts, sweep
from tests.quantization.graphs_for_tests import (
    mobile_net,
    opener,
    ort_cpu,
    pictures,
    plant_bad_layer,
    residual_net,
    run,
)

BAD = "n_conv_5"


def quantizer_of(proto):
    wide = prepare(proto)
    seen = observe(ir.to_proto(wide), observed_values(wide), np.array_split(pictures(32), 4), opener)
    return Quantizer(proto, seen, dialect=ort_cpu())


@pytest.fixture(scope="module")
def planted():
    return quantizer_of(plant_bad_layer(residual_net(), "n_conv_3", BAD))


def test_planting_keeps_the_function():
    x = pictures(4)
    np.testing.assert_allclose(
        run(plant_bad_layer(residual_net(), "n_conv_3", BAD), x), run(residual_net(), x), atol=1e-4
    )


def test_the_planted_layer_is_found_and_only_it(planted):
    scores = sweep(planted, Choice(), pictures(32, 9), opener)
    assert scores[0].layer == BAD
    assert scores[0].kl > 20 * scores[1].kl
    assert {one.layer for one in scores} == {"n_conv_0", "n_conv_3", BAD, "n_gemm_9"}


def test_leaving_it_out_is_the_best_single_repair(planted):
    dialect = replace(DIALECTS["tensorrt"], weight_bits=planted.dialect.weight_bits)
    inputs_only = replace(planted, dialect=dialect)  # leaves the input of a float layer unrounded
    scores = sweep(inputs_only, Choice(), pictures(32, 9), opener, ("left-out",))
    assert scores[0].layer == BAD
    assert scores[0].snr_db > scores[1].snr_db + 6


def test_weights_and_activations_apart(planted):
    scores = {
        (one.layer, one.mode): one
        for one in sweep(planted, Choice(), pictures(32, 9), opener, ("alone", "weights", "activations"))
    }
    for layer in ("n_conv_0", "n_conv_3", BAD):
        parts = min(scores[layer, "weights"].snr_db, scores[layer, "activations"].snr_db)
        assert scores[layer, "alone"].snr_db <= parts + 3
    assert scores["n_conv_0", "weights"].snr_db != scores["n_conv_0", "activations"].snr_db


def test_layers_kept_float_are_not_scored(planted):
    scores = sweep(planted, Choice(keep_float=frozenset({BAD})), pictures(8), opener)
    assert BAD not in {one.layer for one in scores}


def test_a_fixed_batch_is_respected():
    proto = residual_net()
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    wide = prepare(proto)
    seen = observe(ir.to_proto(wide), observed_values(wide), np.array_split(pictures(16), 4), opener)
    assert len(sweep(Quantizer(proto, seen, dialect=ort_cpu()), Choice(), pictures(10), opener)) == 4


@pytest.mark.parametrize("make", [residual_net, mobile_net])
def test_segments_put_together_are_the_network(make):
    proto, x = ir.to_proto(prepare(make())), pictures(5)
    names = [node.name for node in proto.graph.node if node.op_type in ("Conv", "Gemm")]
    found = starts(proto, names, len(x))
    assert [name for _, group in found for name in group] == names
    assert len(found) > 1
    here, held = "", x
    for start, _ in found:
        if start != here:
            held = logits_of(segment(proto, here, start), held, opener)
            here = start
        np.testing.assert_allclose(
            logits_of(segment(proto, here, ""), held, opener), run(proto, x), rtol=1e-4, atol=1e-5
        )


def test_without_room_everything_starts_at_the_picture():
    proto = ir.to_proto(prepare(residual_net()))
    assert [start for start, _ in starts(proto, ["n_conv_5", "n_gemm_9"], 8, held_bytes=1)] == [""]


def test_divergence_is_that_of_scipy():
    from scipy.special import softmax
    from scipy.stats import entropy

    a, b = np.random.default_rng(0).normal(size=(2, 6, 5))
    expected = np.mean([entropy(softmax(p), softmax(q)) for p, q in zip(a, b, strict=True)])
    assert divergence(a, b) == pytest.approx(expected)
    assert divergence(a, a) == 0
    assert divergence(a, a + 3) == pytest.approx(0, abs=1e-12)


def test_what_is_no_classifier_is_scored_by_its_worst_group() -> None:
    random = np.random.default_rng(0)
    maps = random.normal(size=(4, 1, 8, 8))
    assert divergence(maps, maps) == 0
    assert divergence(maps, maps * 1.1) == pytest.approx(0.01)
    boxes = np.concatenate([random.uniform(0, 640, (4, 4, 50)), random.uniform(0, 1, (4, 2, 50))], axis=1)
    lost = boxes * np.array([1, 1, 1, 1, 0, 0])[:, None]
    assert divergence(boxes, lost) == pytest.approx(1)
