import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploykit.base import environment
from deploykit.base.errors import BadInput
from deploykit.quantization.calibrate import observe
from deploykit.quantization.lint.lint import lint_graph
from deploykit.quantization.qdq.dialects import DIALECTS, dialect_for
from deploykit.quantization.qdq.emit import emit_qdq
from deploykit.quantization.qdq.prepare import prepare
from deploykit.quantization.ranges import parameters
from deploykit.quantization.schemes import S8, S8_ASYMMETRIC, U8, affine, widest
from tests.quantization.graphs_for_tests import (
    HERE,
    concat_net,
    mobile_net,
    opener,
    optimized_ops,
    pictures,
    residual_net,
    run,
    silu_net,
    snr_db,
    widening_net,
)
from tests.quantization.tensorrt_for_tests import engine_bytes

NETS = [residual_net, mobile_net, concat_net, widening_net, silu_net]
AT_INPUTS = ["tensorrt", "openvino"]
TENSORRT = ["ort-trt", "tensorrt", "tensorrt-rtx"]


def quantized(proto, target, dialect=None, method="minmax", **options):
    dialect = dialect or HERE[target]
    model = prepare(proto)
    plan = dialect.plan(model.graph, **options)
    seen = observe(ir.to_proto(model), list(plan.points), np.array_split(pictures(32), 4), opener)
    chosen = parameters(seen, dialect.activations, method)
    made = emit_qdq(
        model, plan, chosen, weight_bits=dialect.weight_bits, paired=dialect.paired, integer_bias=dialect.integer_bias
    )
    made = ir.to_proto(made)
    onnx.checker.check_model(made, full_check=True)
    return made


class Read:
    """A Q/DQ file by producer and reader."""

    def __init__(self, proto):
        self.proto = proto
        self.made = {out: node for node in proto.graph.node for out in node.output}
        self.arrays = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}

    def nodes(self, op):
        return [node for node in self.proto.graph.node if node.op_type == op]

    def maker(self, name):
        return self.made[name].op_type if name in self.made else None

    def source(self, name):
        """What the DQ that makes ``name`` reads, before its Q; None where no pair makes it."""
        dq = self.made.get(name)
        q = self.made.get(dq.input[0]) if dq is not None and dq.op_type == "DequantizeLinear" else None
        return q.input[0] if q is not None else None

    def scale(self, name):
        return float(self.arrays[self.made[name].input[1]])


@pytest.mark.parametrize("make", NETS)
@pytest.mark.parametrize("target", sorted(DIALECTS))
def test_every_dialect_of_every_network_is_close_to_float_and_lints_clean(make, target):
    x = pictures(16, seed=7)
    made = quantized(make(), target)
    assert snr_db(run(make(), x), run(made, x, integer_kernels=target == "ort-cpu")) > 16
    assert [finding for finding in lint_graph(made, target) if finding.code != "channels"] == []


@pytest.mark.parametrize("make", NETS)
def test_tensorrt_reads_only_int8_around_zero_and_float_biases(make):
    read = Read(quantized(make(), "tensorrt"))
    for node in read.nodes("QuantizeLinear") + read.nodes("DequantizeLinear"):
        zero = read.arrays[node.input[2]]
        assert zero.dtype == np.int8
        assert not zero.any()
    for conv in read.nodes("Conv"):
        scales = read.arrays[read.made[conv.input[1]].input[1]]
        weight = read.arrays[read.made[conv.input[1]].input[0]]
        assert weight.dtype == np.int8
        assert scales.shape == weight.shape[:1]
        assert read.arrays[conv.input[2]].dtype == np.float32


@pytest.mark.parametrize("target", AT_INPUTS)
@pytest.mark.parametrize("make", NETS)
def test_every_convolution_and_product_reads_integers_and_nothing_stands_behind_them(make, target):
    read = Read(quantized(make(), target))
    for node in read.nodes("Conv") + read.nodes("Gemm"):
        assert read.source(node.input[0]) is not None
        assert read.maker(node.input[1]) == "DequantizeLinear"
    for activation in ("Relu", "Clip", "HardSwish", "HardSigmoid", "Sigmoid"):
        for node in read.nodes(activation):
            assert read.maker(node.input[0]) in ("Conv", "Add")


@pytest.mark.parametrize(("make", "skip"), [(residual_net, "MaxPool"), (mobile_net, "HardSwish"), (silu_net, "Mul")])
@pytest.mark.parametrize("target", AT_INPUTS)
def test_a_residual_sum_reads_its_skip_rounded_and_its_branch_as_it_is(make, skip, target):
    read = Read(quantized(make(), target))
    (add,) = read.nodes("Add")
    assert read.maker(add.input[0]) == "Conv"
    assert read.maker(read.source(add.input[1])) == skip


def test_of_two_convolutions_the_shorter_branch_is_the_skip():
    read = Read(quantized(widening_net(), "tensorrt"))
    (add,) = read.nodes("Add")
    shorter = read.made[read.source(add.input[0])]
    assert shorter.op_type == "Conv"
    assert read.arrays[read.made[shorter.input[1]].input[0]].shape[2:] == (1, 1)
    assert read.maker(add.input[1]) == "Conv"


@pytest.mark.parametrize("target", AT_INPUTS)
def test_concat_and_max_pooling_share_one_scale_with_what_they_read(target):
    read = Read(quantized(concat_net(), target))
    (concat,) = read.nodes("Concat")
    scales = {read.scale(name) for name in concat.input}
    pool = next(node for node in read.nodes("MaxPool") if read.source(node.input[0]) == concat.output[0])
    conv = next(node for node in read.nodes("Conv") if read.source(node.input[0]) == pool.output[0])
    assert scales == {read.scale(pool.input[0])} == {read.scale(conv.input[0])}


def test_a_pool_beside_an_unrounded_reader_stays_float():
    read = Read(quantized(silu_net(), "tensorrt"))
    inside, last = read.nodes("GlobalAveragePool")
    assert read.source(inside.input[0]) is None  # the product of squeeze-and-excite reads the same value
    assert read.maker(read.source(last.input[0])) == "Add"


def test_options_keep_sums_and_classifier_float():
    read = Read(quantized(residual_net(), "tensorrt", float_adds=True, float_head=True))
    assert read.source(read.nodes("Add")[0].input[1]) is None
    assert read.source(read.nodes("Gemm")[0].input[0]) is None
    stem = prepare(residual_net()).graph.node(0).name
    kept = Read(quantized(residual_net(), "tensorrt", keep_float=frozenset({stem})))
    assert [kept.source(node.input[0]) is None for node in kept.nodes("Conv")] == [True, False, False]


def test_other_engines_files_hold_no_rewrite_for_onnx_runtime():
    for make in NETS:
        read = Read(quantized(make(), "tensorrt"))
        assert not read.nodes("Min")
        assert not read.nodes("Pad")
        assert [len(read.nodes(op)) for op in ("HardSwish", "HardSigmoid", "Relu", "Clip")] == [
            sum(node.op_type == op for node in prepare(make()).graph)
            for op in ("HardSwish", "HardSigmoid", "Relu", "Clip")
        ]


@pytest.mark.parametrize("make", NETS)
def test_tensorrt_rtx_builds_the_file(make):
    assert engine_bytes(quantized(make(), "tensorrt-rtx")) > 10_000


@pytest.mark.parametrize(
    ("isa", "paired", "activations"),
    [("vnni", False, U8), ("avx512", True, U8), ("avx2", True, U8), ("arm64", False, S8_ASYMMETRIC)],
)
def test_the_cpu_decides_types_and_width(isa, paired, activations):
    for target in ("ort-cpu", "openvino"):
        made = dialect_for(target, isa)
        assert (made.weight_bits, made.paired, made.activations, made.isa) == (8, paired, activations, isa)
        assert made.of_width(8).weight_bits == (7 if paired else 8)
    assert dialect_for("tensorrt", isa) == DIALECTS["tensorrt"]


@pytest.mark.parametrize(
    ("flags", "machine", "name"),
    [
        (["avx2", "avx512f", "avx512_vnni"], "x86_64", "vnni"),
        (["avx2", "avx_vnni"], "AMD64", "vnni"),
        (["avx2", "avx512f"], "x86_64", "avx512"),
        ([], "x86_64", "avx2"),
        (["asimddp"], "aarch64", "arm64"),
    ],
)
def test_a_cpu_has_one_isa(flags, machine, name, monkeypatch):
    monkeypatch.setattr(environment, "cpu", lambda: {"model": "", "cores": 1, "isa": flags})
    monkeypatch.setattr(environment.platform, "machine", lambda: machine)
    assert environment.isa.__wrapped__() == name


def test_weights_stay_within_what_cannot_overflow():
    read = Read(quantized(residual_net(), "ort-cpu", dialect_for("ort-cpu", "avx2")))
    weights = [read.arrays[read.made[conv.input[1]].input[0]].astype(int) for conv in read.nodes("Conv")]
    assert max(np.abs(weight).max() for weight in weights) > 63  # more than the seven bits that are always safe
    for weight in weights:
        for flat in (weight.reshape(len(weight), -1), weight.transpose(0, 2, 3, 1).reshape(len(weight), -1)):
            assert 255 * np.abs(flat).max() < 2**15
            same_sign = flat[:, :-1] * flat[:, 1:] > 0
            assert (255 * np.abs(flat[:, :-1] + flat[:, 1:]) * same_sign).max() < 2**15
    assert 255 * 63 * 2 < 2**15 < 255 * 127 * 2


@pytest.mark.parametrize("make", NETS)
def test_the_dialect_of_arm_runs_every_convolution_on_integers(make, tmp_path):
    dialect = dialect_for("ort-cpu", "arm64")
    made = quantized(make(), "ort-cpu", dialect)
    x = pictures(16, seed=7)
    assert snr_db(run(make(), x), run(made, x, integer_kernels=False)) > 16  # x86's kernels add otherwise than Arm's
    ops = optimized_ops(made, tmp_path, as_on_arm=True)
    assert ops.count("QLinearConv") == sum(node.op_type == "Conv" for node in prepare(make()).graph)
    assert not {"Conv", "FusedConv", "HardSwish", "HardSigmoid", "Relu", "Clip"} & set(ops)
    kinds = {onnx.numpy_helper.to_array(t).dtype for t in made.graph.initializer if t.name.endswith(".zero")}
    assert kinds <= {np.dtype(np.int8), np.dtype(np.int32)}


def test_a_target_without_int8_is_named():
    with pytest.raises(BadInput, match=r"unknown int8 target 'ort-gpu'; expected one of ort-cpu"):
        dialect_for("ort-gpu")


ranges = st.tuples(st.floats(-100, 0), st.floats(0.01, 100))


@settings(max_examples=50)
@given(st.lists(ranges, min_size=1, max_size=5), st.sampled_from([U8, S8, S8_ASYMMETRIC]))
def test_the_widest_scale_holds_every_range(several, scheme):
    joined = widest(affine(low, high, scheme) for low, high in several)
    for low, high in several:
        back = joined.dequantize(joined.quantize(np.asarray([low, high], np.float32)))
        assert np.abs(back - [low, high]).max() <= joined.scale * 1.51


@settings(max_examples=8)
@given(st.integers(0, 1000), st.sampled_from(AT_INPUTS), st.sampled_from(NETS))
def test_random_networks_stay_close(seed, target, make):
    x = pictures(8, seed=3)
    made = quantized(make(seed), target)
    assert snr_db(run(make(seed), x), run(made, x, integer_kernels=False)) > 13


def test_tensorrt_in_its_three_forms_reads_one_file():
    files = {quantized(residual_net(), target).SerializeToString(deterministic=True) for target in TENSORRT}
    assert len(files) == 1
