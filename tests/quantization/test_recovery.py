"""Recovery on a network trained on real digits: what each way wins is measured against the plain int8 network."""

import numpy as np
import onnx_ir as ir
import pytest

from deploykit.quantization.bias_correction import shift_biases
from deploykit.quantization.calibrate import observe
from deploykit.quantization.qdq.graph import activation_inputs, constant
from deploykit.quantization.qdq.prepare import prepare
from deploykit.quantization.recovery import adapted, corrected, equalized
from deploykit.quantization.search import Choice, Quantizer, snr_db
from tests.quantization.graphs_for_tests import mobile_net, opener, ort_cpu, run
from tests.quantization.trained import trained

CALIBRATION = 128


@pytest.fixture(scope="module")
def digits_net(tmp_path_factory):
    path = tmp_path_factory.mktemp("digits") / "net.onnx"
    return trained(path, "resnet", steps=60, depth=8, widths=[16, 32, 64], stem_stride=2)


def batches_of(x):
    return lambda: np.array_split(x[:CALIBRATION], 4)


def quantizer_of(proto, x, bits=8):
    model = prepare(proto)
    values = {
        value: None
        for node in model.graph
        for value in (*node.outputs, *(v for _, v in activation_inputs(node)))
        if value.dtype in (None, ir.DataType.FLOAT)
    }
    seen = observe(ir.to_proto(model), list(values), batches_of(x)(), opener)
    return Quantizer(proto, seen, dialect=ort_cpu(bits))


class Judged:
    """Logits and accuracy on pictures that neither training nor calibration saw."""

    def __init__(self, net):
        self.proto, x, labels = net
        self.x, self.labels = x[1297:], labels[1297:]
        self.logits = run(self.proto, self.x)

    def snr(self, proto):
        return snr_db(self.logits, run(proto, self.x))

    def top1_pt(self, proto):
        return 100 * float((run(proto, self.x).argmax(1) == self.labels).mean())


def test_adaptive_rounding_wins_clearly_at_four_bits(digits_net):
    judged, x = Judged(digits_net), digits_net[1]
    plain = quantizer_of(digits_net[0], x, bits=4)
    better = adapted(plain, Choice(), batches_of(x), opener)
    nearest, adaptive = plain.make(Choice()), better.make(Choice())
    assert judged.snr(adaptive) > judged.snr(nearest) + 4
    assert judged.top1_pt(adaptive) >= judged.top1_pt(nearest)
    for name, integers in better.rounded.items():
        assert integers.dtype == np.int8
        assert np.abs(integers).max() <= 7, name


def test_bias_correction_takes_the_mean_shift_out(digits_net):
    judged, x = Judged(digits_net), digits_net[1]
    plain = quantizer_of(digits_net[0], x, bits=4)
    better = corrected(plain, Choice(), batches_of(x), opener)
    one, other = run(plain.make(Choice()), x[:CALIBRATION]), run(better.make(Choice()), x[:CALIBRATION])
    reference = run(digits_net[0], x[:CALIBRATION])
    assert np.abs((other - reference).mean(0)).max() < 0.2 * np.abs((one - reference).mean(0)).max()
    assert judged.snr(better.make(Choice())) > judged.snr(plain.make(Choice()))


def test_biases_that_hold_a_shift_by_design_are_left_alone():
    x = np.random.default_rng(0).normal(size=(CALIBRATION, 3, 16, 16)).astype(np.float32)
    proto = mobile_net()
    better = corrected(quantizer_of(proto, x), Choice(), batches_of(x), opener)
    before_gate = next(n.input[0] for n in proto.graph.node if n.op_type == "HardSigmoid")
    conv = next(n.name for n in proto.graph.node if before_gate in n.output)
    assert conv not in better.shifts
    assert len(better.shifts) == 6
    assert snr_db(run(proto, x[:16]), run(better.make(Choice()), x[:16])) > 18


def test_a_shift_for_padded_channels_fits():
    model = prepare(mobile_net())
    conv = model.graph.node(0)
    before = constant(conv.inputs[2]).copy()
    shift_biases(model.graph, {conv.name: np.ones(len(before) + 3, np.float32)})
    np.testing.assert_allclose(constant(model.graph.node(0).inputs[2]), before + 1)


def test_a_healthy_network_has_nothing_to_split_or_gain_much(digits_net):
    judged, x = Judged(digits_net), digits_net[1]
    plain = judged.snr(quantizer_of(digits_net[0], x).make(Choice()))
    for proto in equalized(digits_net[0]).values():
        assert judged.snr(proto) > 90
        assert judged.snr(quantizer_of(proto, x).make(Choice())) > plain - 3
