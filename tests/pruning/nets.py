"""Small networks, one for each way in which channels hang together."""

import torch
from torch import nn
from torch.nn import functional


class Plain(nn.Module):
    """Convolutions, BatchNorm, a flattened map of 2×2 pixels, two linear layers."""

    def __init__(self):
        super().__init__()
        self.a, self.bn = nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16)
        self.b = nn.Conv2d(16, 24, 3, stride=2, padding=1)
        self.c, self.fc = nn.Linear(24 * 4, 32), nn.Linear(32, 5)

    def forward(self, x):
        x = functional.relu(self.b(functional.relu(self.bn(self.a(x)))))
        return self.fc(functional.relu(self.c(functional.adaptive_avg_pool2d(x, 2).flatten(1))))


class Residual(nn.Module):
    """A skip, a concatenation, a gate of one value per channel."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.a, self.b = nn.Conv2d(16, 32, 3, padding=1), nn.Conv2d(32, 16, 3, padding=1)
        self.side = nn.Conv2d(16, 8, 1)
        self.squeeze, self.excite = nn.Conv2d(24, 8, 1), nn.Conv2d(8, 24, 1)
        self.fc = nn.Linear(24, 5)

    def forward(self, x):
        x = self.stem(x)
        x = x + self.b(functional.silu(self.a(x)))
        x = torch.cat([x, self.side(x)], dim=1)
        gate = torch.sigmoid(self.excite(functional.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))
        return self.fc((x * gate).mean((2, 3)))


class Depthwise(nn.Module):
    """Depthwise, also with two outputs an input, and grouped convolutions."""

    def __init__(self):
        super().__init__()
        self.a, self.dw = nn.Conv2d(3, 16, 1), nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.twice = nn.Conv2d(16, 32, 3, padding=1, groups=16)
        self.b, self.grouped = nn.Conv2d(32, 32, 1), nn.Conv2d(32, 16, 3, padding=1, groups=4)
        self.fc = nn.Linear(16, 5)

    def forward(self, x):
        x = self.twice(functional.relu6(self.dw(self.a(x))))
        return self.fc(functional.relu(self.grouped(functional.hardswish(self.b(x)))).mean((2, 3)))


class Scaled(nn.Module):
    """A learned scale per channel, channels last in between, an attention over pixels, a shortcut padded with zeros."""

    def __init__(self):
        super().__init__()
        self.a, self.gamma = nn.Conv2d(3, 12, 3, padding=1), nn.Parameter(torch.randn(12, 1, 1))
        self.up, self.down = nn.Linear(12, 40), nn.Linear(40, 12)
        self.look, self.wide = nn.Conv2d(12, 1, 1), nn.Conv2d(12, 20, 3, padding=1)
        self.fc = nn.Linear(20, 5)

    def forward(self, x):
        x = self.a(x) * self.gamma
        x = x + self.down(functional.gelu(self.up(x.permute(0, 2, 3, 1)))).permute(0, 3, 1, 2)
        x = x * torch.sigmoid(self.look(x))
        x = functional.relu(self.wide(x)) + functional.pad(x, (0, 0, 0, 0, 0, 8))
        return self.fc(x.mean((2, 3)))


class Shared(nn.Module):
    """One convolution used twice, and two that share a weight."""

    def __init__(self):
        super().__init__()
        self.a, self.twice = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.left, self.right = nn.Conv2d(16, 8, 1), nn.Conv2d(16, 8, 1)
        self.right.weight = self.left.weight
        self.fc = nn.Linear(16, 5)

    def forward(self, x):
        x = functional.relu(self.twice(functional.relu(self.twice(self.a(x)))))
        return self.fc(torch.cat([self.left(x), self.right(x)], 1).mean((2, 3)))


class Shuffled(nn.Module):
    """Channels split, shuffled and joined as ShuffleNetV2 does."""

    def __init__(self):
        super().__init__()
        self.a, self.inner = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(8, 24, 1)
        self.outer, self.fc = nn.Conv2d(24, 8, 1), nn.Linear(16, 5)

    def forward(self, x):
        left, right = self.a(x).chunk(2, dim=1)
        x = torch.cat([left, self.outer(functional.relu(self.inner(right)))], dim=1)
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.fc(x.mean((2, 3)))


class Rigid(nn.Module):
    """A view and a split that state a width; the convolution between is free."""

    def __init__(self):
        super().__init__()
        self.a, self.free = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(8, 32, 3, padding=1)
        self.last, self.fc = nn.Conv2d(32, 12, 1), nn.Linear(12, 5)

    def forward(self, x):
        x, _ = torch.split(self.a(x), 8, dim=1)
        x = self.last(functional.relu(self.free(x))).mean((2, 3))
        return self.fc(x.view(-1, 12))


class Normed(nn.Module):
    """LayerNorm and GroupNorm over the channels, and a free layer behind them."""

    def __init__(self):
        super().__init__()
        self.a, self.norm = nn.Conv2d(3, 16, 3, padding=1), nn.GroupNorm(4, 16)
        self.layer = nn.LayerNorm(16)
        self.up, self.fc = nn.Linear(16, 32), nn.Linear(32, 5)

    def forward(self, x):
        x = self.layer(self.norm(self.a(x)).mean((2, 3)))
        return self.fc(functional.relu(self.up(x)))


class Looking(nn.Module):
    """Looks at a value, so that it does not run without arithmetic."""

    def __init__(self):
        super().__init__()
        self.a, self.fc = nn.Conv2d(3, 16, 3, padding=1), nn.Linear(16, 5)

    def forward(self, x):
        if float(x.sum()) > 1e9:
            raise ValueError("too bright")
        return self.fc(functional.relu(self.a(x)).mean((2, 3)))


class Followed(nn.Module):
    """What acts on each channel alone: PReLU, resizing, extremes and spreads over pixels, a softmax over them."""

    def __init__(self):
        super().__init__()
        self.a, self.slope = nn.Conv2d(3, 16, 3, padding=1), nn.PReLU(16)
        self.one, self.b = nn.PReLU(), nn.Conv2d(16, 24, 3, padding=1)
        self.fc = nn.Linear(24 * 7, 5)
        nn.init.uniform_(self.slope.weight, -1, 1)

    def forward(self, x):
        x = self.b(self.one(torch.roll(self.slope(self.a(x)), 3, dims=2)))
        x = functional.interpolate(x, scale_factor=0.5, mode="bilinear", antialias=True)
        x = functional.interpolate(x, size=(6, 6), mode="nearest-exact").flatten(2)
        spread, mean = torch.std_mean(x, dim=-1)
        found = [x.amax(-1), x.amin(-1), spread, mean, x.var(-1), (x * x.softmax(-1)).sum(-1), x.norm(dim=-1)]
        return self.fc(torch.cat(found, 1))


class Transposed(nn.Module):
    """Transposed convolutions: plain, grouped, depthwise with two outputs an input; a skip over them."""

    def __init__(self):
        super().__init__()
        self.a, self.up = nn.Conv2d(3, 16, 2, stride=2), nn.ConvTranspose2d(16, 24, 2, stride=2)
        self.bn = nn.BatchNorm2d(24)
        self.grouped = nn.ConvTranspose2d(24, 16, 3, stride=2, padding=1, output_padding=1, groups=4)
        self.deep = nn.ConvTranspose2d(16, 32, 3, padding=1, groups=16)
        self.skip, self.fc = nn.Conv2d(3, 32, 1), nn.Linear(32, 5)

    def forward(self, x):
        y = self.deep(functional.relu(self.grouped(functional.relu(self.bn(self.up(self.a(x)))))))
        return self.fc((functional.avg_pool2d(y, 2) + self.skip(x)).relu().mean((2, 3)))


class Grouped(nn.Module):
    """GroupNorms over four and eight channels on a residual stream, one of a group a channel."""

    def __init__(self):
        super().__init__()
        self.a, self.first = nn.Conv2d(3, 32, 3, padding=1), nn.GroupNorm(8, 32)
        self.b, self.inner = nn.Conv2d(32, 24, 3, padding=1), nn.GroupNorm(24, 24)
        self.c, self.last = nn.Conv2d(24, 32, 3, padding=1), nn.GroupNorm(4, 32)
        self.fc = nn.Linear(32, 5)
        for norm in (self.first, self.inner, self.last):
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)

    def forward(self, x):
        x = functional.relu(self.first(self.a(x)))
        x = x + self.last(self.c(functional.relu(self.inner(self.b(x)))))
        return self.fc(functional.relu(x).mean((2, 3)))


class Gated(nn.Module):
    """A gated linear unit, two outputs in a dictionary, a weight that is used transposed by another function."""

    def __init__(self):
        super().__init__()
        self.a, self.both = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 48, 3, padding=1)
        self.b, self.fc, self.look = nn.Conv2d(24, 32, 3, padding=1), nn.Linear(16, 5), nn.Conv2d(16, 1, 1)
        self.code, self.rest = nn.Conv2d(32, 16, 3, padding=1), nn.Linear(32, 3)

    def forward(self, x):
        x = functional.relu(self.a(x))
        wide = functional.relu(self.b(functional.glu(self.both(x), 1)))
        code = functional.relu(self.code(wide))
        again = functional.conv_transpose2d(code, self.code.weight, padding=1)
        return {
            "scores": self.fc(code.mean((2, 3))),
            "more": (self.look(x), self.rest((wide - again).abs().mean((2, 3)))),
        }


class Repeated(nn.Module):
    """A recurrent block that starts from zeros, a module with two names, a vector of one parameter for all channels."""

    def __init__(self):
        super().__init__()
        self.a, self.again = nn.Conv2d(3, 16, 3, padding=1), nn.Sequential(nn.Conv2d(32, 16, 3, padding=1), nn.PReLU())
        self.other, self.norm = self.again, nn.BatchNorm2d(16)
        self.free, self.fc = nn.Conv2d(16, 24, 1), nn.Linear(24, 5)

    def forward(self, x):
        x = self.norm(self.a(x))
        state = torch.zeros_like(x)
        for block in (self.again, self.other):
            state = self.norm(block(torch.cat([x, state], 1)))
        return self.fc(functional.relu(self.free(x + state)).mean((2, 3)))


NETS = {
    one.__name__: one
    for one in (
        Plain,
        Residual,
        Depthwise,
        Scaled,
        Shared,
        Shuffled,
        Rigid,
        Normed,
        Looking,
        Followed,
        Transposed,
        Grouped,
        Gated,
        Repeated,
    )
}


def made(name: str) -> nn.Module:
    """A seeded network in eval mode with BatchNorm statistics that are not those of a new one."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = NETS[name]().eval()
        for layer in net.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.normal_()
                layer.running_var.uniform_(0.5, 2.0)
                nn.init.uniform_(layer.weight, 0.5, 1.5)
    return net


def check_used(widths, how, cost, budget):
    """The budget holds, and no group could be one step wider."""
    assert cost(widths) <= budget
    for index, one in enumerate(how.ladders):
        assert widths[index] in one.widths
        wider = widths.copy()
        if (more := one.above(int(widths[index]))) is not None:
            wider[index] = more
            assert cost(wider) > budget
