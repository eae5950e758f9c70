import numpy as np
import pytest
import torch
from torch import nn

from deploykit.base.errors import BadInput
from deploykit.models.batch_norm import reestimate_batch_norm


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.9), nn.Conv2d(4, 2, 1)).eval()


def batches(n=4, size=8):
    random = np.random.default_rng(0)
    return [random.normal(1.0, 2.0, (size, 3, 6, 6)).astype(np.float32) for _ in range(n)]


def test_statistics_are_those_of_the_pictures():
    module = network()
    with torch.no_grad():
        made = module[0](torch.from_numpy(np.concatenate(batches())))
    assert reestimate_batch_norm(module, batches()) == 1
    torch.testing.assert_close(module[1].running_mean, made.mean(dim=(0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(module[1].running_var, made.var(dim=(0, 2, 3)), rtol=5e-2, atol=1e-3)


def test_nothing_else_changes():
    module, fresh = network(), network()
    reestimate_batch_norm(module, batches())
    assert not any(layer.training for layer in module.modules())
    assert module[1].momentum == 0.1
    for name, value in fresh.state_dict().items():
        same = torch.equal(module.state_dict()[name], value)
        assert same != (name in ("1.running_mean", "1.running_var", "1.num_batches_tracked"))


def test_a_network_without_batch_norm_is_named():
    with pytest.raises(BadInput, match="the network has none"):
        reestimate_batch_norm(nn.Sequential(nn.Conv2d(3, 4, 3)), batches())


def test_single_pictures_estimate_nothing_and_leave_the_statistics():
    module = network()
    module[1].running_mean.fill_(7.0)
    with pytest.raises(BadInput, match="got no batch; expected two pictures"):
        reestimate_batch_norm(module, batches(size=1))
    assert module[1].running_mean.eq(7.0).all()
