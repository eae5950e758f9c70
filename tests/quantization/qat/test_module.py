"""The fake-quantized network and the written one answer alike: what is trained is what is emitted."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from deploykit.base.errors import BadInput
from deploykit.exporting.names import module_of
from deploykit.quantization.qat.binding import bind
from deploykit.quantization.qat.module import FakeQuantized
from deploykit.quantization.qat.points import learned_ranges, points_of
from deploykit.quantization.qdq.prepare import prepare
from deploykit.quantization.ranges import choose_range
from deploykit.quantization.search import Choice, Quantizer, planned, snr_db
from tests.quantization.graphs_for_tests import HERE, ort_cpu
from tests.quantization.qat_nets import exported, observers, session_of, trained_net

NETS = ("resnet", "mobilenetv2", "mobilenetv3")


def fake(module, proto, seen, dialect, *, choice=None, ranges=None, limits=None, learned=True, freeze_after=0):
    """A fake-quantized copy of ``module``, and the ranges it starts from."""
    model, plan = planned(proto, choice or Choice(), dialect, padded=False)
    ranges = ranges or {name: choose_range(one, "mse", dialect.activations) for name, one in seen.items()}
    net = copy.deepcopy(module).eval()
    bound = bind(model.graph, net, torch.zeros(2, 3, 32, 32), module_of)
    made = FakeQuantized(
        model.graph,
        net,
        bound,
        points_of(plan, ranges, dialect.activations),
        bits=dialect.weight_bits,
        integer_bias=dialect.integer_bias,
        learned=learned,
        limits=limits,
        freeze_after=freeze_after,
    )
    return made.eval(), ranges


def written(proto, dialect, x, *, choice=None, **quantizer):
    made = Quantizer(proto, dialect=dialect, **{"seen": {}, **quantizer}).make(choice or Choice())
    return session_of(made, integer_kernels=dialect.costed).run(None, {"input": x})[0]


@pytest.fixture(scope="module", params=NETS)
def net(request):
    found = trained_net(request.param)
    return found, observers(found.proto, found.x[:128])


def answers(module, x):
    with torch.inference_mode():
        return module(torch.from_numpy(x)).numpy()


@pytest.mark.parametrize("target", ["ort-cpu", "tensorrt", "openvino"])
def test_fake_and_written_networks_agree(net, target):
    found, seen = net
    dialect, x = HERE[target], found.x[-500:]
    made, _ = fake(found.module, found.proto, seen, dialect)
    assert len(made.bound) == len([n for n in prepare(found.proto).graph if n.op_type in ("Conv", "Gemm", "MatMul")])
    mine, theirs = answers(made, x), written(found.proto, dialect, x, seen=seen)
    assert (mine.argmax(1) == theirs.argmax(1)).mean() >= 0.995
    assert snr_db(theirs, mine) > snr_db(answers(found.module, x), mine) + 5


@pytest.mark.parametrize("bits", [8, 4])
def test_they_agree_after_training_too(net, bits):
    found, seen = net
    dialect, x = ort_cpu(bits), found.x[-500:]
    choice = Choice(float_head=bits == 4)
    made, ranges = fake(found.module, found.proto, seen, dialect, choice=choice, freeze_after=3)
    before = made.steps().detach().clone()
    images, labels = torch.from_numpy(found.x[:1297]), torch.from_numpy(found.labels[:1297])
    optimizer = torch.optim.AdamW(made.parameters(), lr=2e-4)
    torch.manual_seed(0)
    for _ in range(8):
        made.train()
        picked = torch.randint(0, len(images), (32,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(made(images[picked]), labels[picked]).backward()
        optimizer.step()
    made.eval()
    steps = made.steps().detach()
    learned = [number for number, group in enumerate(made.points.groups) if group.learned]
    assert bool((steps[learned] != before[learned]).any())
    again = exported(made.net)
    after = learned_ranges(made.points, steps.tolist(), ranges)
    theirs = written(again, dialect, x, choice=choice, ranges=after, limits=made.limits())
    mine = answers(made, x)
    assert (mine.argmax(1) == theirs.argmax(1)).mean() >= 0.995
    assert snr_db(theirs, mine) > 20
    # The record alone makes the same network again.
    same, _ = fake(made.net, again, {}, dialect, choice=choice, ranges=after, limits=made.limits())
    assert snr_db(mine, answers(same, x)) > 40


def test_fixed_steps_stay_and_weights_learn():
    found = trained_net("resnet")
    seen = observers(found.proto, found.x[:64])
    made, _ = fake(found.module, found.proto, seen, HERE["tensorrt"], learned=False)
    made.train()
    made(torch.from_numpy(found.x[:8])).sum().backward()
    assert made.theta.grad is None
    assert not [name for name, _ in made.named_parameters() if name.startswith("layers.")]
    assert made.net.fc.weight.grad is not None


def test_batch_norm_learns_statistics_until_it_is_frozen():
    found = trained_net("resnet")
    seen = observers(found.proto, found.x[:64])
    made, _ = fake(found.module, found.proto, seen, HERE["ort-cpu"], freeze_after=1)
    norm = next(m for m in made.net.modules() if isinstance(m, nn.BatchNorm2d))
    x = torch.from_numpy(found.x[:16])
    before = norm.running_mean.clone()
    made.train()
    first = made(x).detach()
    moved = norm.running_mean.clone()
    assert not torch.equal(before, moved)
    second = made(x).detach()
    assert torch.equal(norm.running_mean, moved)
    made.eval()
    torch.testing.assert_close(made(x), second)
    assert not torch.allclose(first, second, atol=1e-3)


def test_learned_scale_never_opens_an_absorbed_clip():
    found = trained_net("mobilenetv2")
    seen = observers(found.proto, found.x[:64])
    made, ranges = fake(found.module, found.proto, seen, HERE["ort-cpu"])
    bounded = [number for number, group in enumerate(made.points.groups) if group.most is not None]
    assert bounded
    with torch.no_grad():
        made.theta += 1.0  # far beyond what training would do
    steps = made.steps().tolist()
    after = learned_ranges(made.points, steps, ranges)
    for number in bounded:
        for name in made.points.groups[number].values:
            assert after[name][1] <= 6.0001


def test_one_set_of_ranges_serves_every_dialect():
    found = trained_net("mobilenetv2")
    seen = observers(found.proto, found.x[:128])
    x = found.x[-300:]
    made, ranges = fake(found.module, found.proto, seen, HERE["tensorrt"])
    after = learned_ranges(made.points, made.steps().tolist(), ranges)
    floats = answers(found.module, x)
    for target in ("tensorrt", "ort-cpu", "openvino"):
        theirs = written(found.proto, HERE[target], x, ranges=after, limits=made.limits())
        assert (theirs.argmax(1) == floats.argmax(1)).mean() > 0.97, target
        assert snr_db(floats, theirs) > 15, target


def test_weights_that_are_no_modules_own_are_quantized_but_not_trained():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3, 2)
            self.gain = nn.Parameter(torch.rand(8, 1, 1, 1) + 0.5)
            self.fc = nn.Linear(8, 10)

        def forward(self, x):
            weight = self.conv.weight * self.gain
            return self.fc(torch.relu(nn.functional.conv2d(x, weight, self.conv.bias, 2)).mean((2, 3)))

    torch.manual_seed(0)
    module = Scaled().eval()
    proto, x = exported(module), np.random.default_rng(0).normal(size=(32, 3, 32, 32)).astype(np.float32)
    seen = observers(proto, x)
    made, _ = fake(module, proto, seen, HERE["ort-cpu"])
    assert {one.module for one in made.bound.values()} == {"fc"}
    assert len(made.points.layers) == 2
    assert snr_db(written(proto, HERE["ort-cpu"], x, seen=seen), answers(made, x)) > 40


def test_a_batch_norm_that_cannot_be_folded_is_trained_as_it_is_written():
    class PreActivation(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.norm = nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16)
            self.conv, self.pool, self.fc = nn.Conv2d(16, 16, 3, 1, 1), nn.AvgPool2d(2, 2), nn.Linear(16, 10)

        def forward(self, x):
            x = torch.relu(self.stem(x))
            x = torch.cat([x, self.conv(torch.relu(self.norm(x)))], 1)[:, 8:24]
            return self.fc(self.pool(torch.relu(x)).mean((2, 3)))

    torch.manual_seed(0)
    module, x = PreActivation(), trained_net("resnet").x[:128]
    module.norm.momentum = None
    with torch.no_grad():
        module.train()(torch.from_numpy(x))
        module.norm.weight.uniform_(0.5, 2)
    module.eval()
    proto = exported(module)
    seen = observers(proto, x)
    for target in ("ort-cpu", "tensorrt"):
        made, _ = fake(module, proto, seen, HERE[target])
        assert ("norm/BatchNormalization" in made.points.layers) is (target == "ort-cpu")
        assert snr_db(written(proto, HERE[target], x, seen=seen), answers(made, x)) > 40, target


def test_an_operator_that_is_not_known_is_named():
    class Odd(nn.Module):
        def forward(self, x):
            return torch.cumsum(x.mean((2, 3)), dim=1)

    with pytest.raises(BadInput, match=r"cannot be trained through; got CumSum"):
        fake(Odd().eval(), exported(Odd().eval()), {}, HERE["ort-cpu"], ranges={"input": (0.0, 1.0)})


def test_a_missing_range_is_named():
    found = trained_net("resnet")
    with pytest.raises(BadInput, match=r"there is no range for .*--method qat"):
        fake(found.module, found.proto, {}, HERE["ort-cpu"], ranges={"input": (0.0, 1.0)})
