"""Models that tests name as `small_models:function`."""

import torch


class Small(torch.nn.Module):
    """Two equal convolutions, one with groups, one dilated, and a product."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = torch.nn.BatchNorm2d(8)
        self.twice = torch.nn.ModuleList(torch.nn.Conv2d(8, 8, 3, padding=1) for _ in range(2))
        self.grouped = torch.nn.Conv2d(8, 8, 3, groups=8)
        self.dilated = torch.nn.Conv2d(8, 8, 3, dilation=2)
        self.last = torch.nn.Linear(8, 5)

    def forward(self, x):
        """From an image to five numbers."""
        x = torch.relu(self.norm(self.first(x)))
        for layer in self.twice:
            x = torch.relu(layer(x)) + x
        x = self.dilated(torch.relu(self.grouped(x)))
        return self.last(x.mean((2, 3)))


class Residual(torch.nn.Module):
    """A block as ResNet has it, its shortcut a convolution, and one with other activations."""

    def __init__(self):
        super().__init__()
        self.main = torch.nn.Conv2d(8, 20, 3, stride=2, padding=1, bias=False)
        self.norm = torch.nn.BatchNorm2d(20)
        self.again = torch.nn.Conv2d(20, 20, 3, padding=1)
        self.shortcut = torch.nn.Conv2d(8, 20, 1, stride=2)
        self.clipped = torch.nn.Conv2d(20, 24, 1)
        self.smooth = torch.nn.Conv2d(24, 24, 3, padding=1)

    def forward(self, x):
        """From an image to a smaller one."""
        y = self.again(torch.relu(self.norm(self.main(x))))
        y = torch.relu(y + self.shortcut(x))
        y = torch.nn.functional.relu6(self.clipped(y))
        return torch.nn.functional.silu(self.smooth(y))


class Mobile(torch.nn.Module):
    """Depthwise and 1x1 convolutions with numbers of channels that blocks divide."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Conv2d(32, 64, 1)
        self.norm = torch.nn.BatchNorm2d(64)
        self.depthwise = torch.nn.Conv2d(64, 64, 3, stride=2, padding=1, groups=64, bias=False)
        self.last = torch.nn.Conv2d(64, 32, 1)

    def forward(self, x):
        """From an image to a smaller one."""
        x = torch.nn.functional.relu6(self.first(x))
        x = torch.nn.functional.relu6(self.norm(self.depthwise(x)))
        return torch.nn.functional.max_pool2d(self.last(x), 3, stride=2, padding=1)


class Shared(torch.nn.Module):
    """Outputs of convolutions that are used beside their activation."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Conv2d(8, 8, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(8)
        self.second = torch.nn.Conv2d(16, 8, 1)

    def forward(self, x):
        """Two outputs."""
        y = self.first(x)
        y = self.second(torch.cat([y, torch.relu(y)], dim=1))
        return y, torch.relu(y)


class Attending(torch.nn.Module):
    """Patches, attention among them, and a long dense layer, as a transformer of images has."""

    def __init__(self):
        super().__init__()
        self.patches = torch.nn.Conv2d(16, 32, 4, stride=4)
        self.norm = torch.nn.BatchNorm2d(32)
        self.attention = torch.nn.MultiheadAttention(32, 4, batch_first=True)
        self.dense = torch.nn.Linear(32, 300)

    def forward(self, x):
        """From an image to numbers of each patch."""
        x = self.norm(self.patches(x)).flatten(2).permute(0, 2, 1)
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return torch.nn.functional.gelu(self.dense(x))


class Uneven(torch.nn.Module):
    """Whole blocks of channels, and convolutions that are no tasks: TVM computes them."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Conv2d(32, 32, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(32)
        self.wide = torch.nn.Conv2d(32, 32, (1, 7), padding=(0, 3))
        self.dilated = torch.nn.Conv2d(32, 32, 3, padding=2, dilation=2, groups=32)
        self.strided = torch.nn.Conv2d(32, 32, 3, stride=(2, 1), padding=1)
        self.groups = torch.nn.Conv2d(32, 64, 3, groups=2)

    def forward(self, x):
        """From an image to a smaller one."""
        x = torch.relu(self.wide(torch.relu(self.norm(self.first(x)))))
        return self.groups(torch.relu(self.strided(self.dilated(x))))


class Square(torch.nn.Module):
    """Filters of 3x3 with stride 1, of which Winograd's forms are chosen."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Conv2d(64, 64, 3, padding=1, bias=False)
        self.norm = torch.nn.BatchNorm2d(64)
        self.twice = torch.nn.ModuleList(torch.nn.Conv2d(64, 64, 3, padding=1) for _ in range(2))
        self.last = torch.nn.Conv2d(64, 128, 3)

    def forward(self, x):
        """From an image to one that is a little smaller."""
        x = torch.relu(self.norm(self.first(x)))
        for layer in self.twice:
            x = torch.relu(layer(x)) + x
        return self.last(x)


class Odd(torch.nn.Module):
    """Dense layers of many axes and of none but one, views of views, axes counted from the end."""

    def __init__(self):
        super().__init__()
        self.dense = torch.nn.Linear(8, 8)
        self.norm = torch.nn.BatchNorm2d(3)
        self.again = torch.nn.Linear(8, 5, bias=False)
        self.register_buffer("vector", torch.randn(5))

    def forward(self, x):
        """From `(2, 3, 4, 8)` to a vector of four."""
        x = self.norm(x)
        y = torch.nn.functional.gelu(self.dense(x)) + x
        y = torch.tanh(self.dense(y).unsqueeze(1).permute(0, -1, 2, 3, 1).squeeze(-1))
        y = self.again(y.permute(0, 2, 3, 1).reshape(6, 4, 1, 8).transpose(-2, -3))
        y = torch.relu(y.squeeze(1) + self.vector) @ self.vector
        return y.flatten()[:5] @ y.reshape(4, 6).expand(4, 6)[:, :5].T.reshape(5, 4)


class Crooked(torch.nn.Module):
    """What looks like a bias before a norm, and like weights, and is neither."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Conv2d(4, 4, 1)
        self.norm = torch.nn.BatchNorm2d(4)
        self.register_buffer("row", torch.randn(4))
        self.register_buffer("thrice", torch.randn(1, 4, 6).repeat(3, 1, 1))

    def forward(self, x):
        """From `(1, 4, 3, 4)` to numbers of both."""
        y = self.norm(self.first(x) + self.row)
        return torch.cat([y.flatten(), (x[0, 0] @ self.thrice).flatten()])


class Counting(torch.nn.Module):
    """It changes a buffer of its own."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(8, 8, 1)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        """Another result each time."""
        self.calls.add_(1)
        return self.conv(x) + self.calls


class Waving(torch.nn.Module):
    """Waves of whole places that are added, as positions are encoded."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(8, 8, 1)

    def forward(self, x):
        """As large as what it takes."""
        places = torch.arange(x.shape[-1], dtype=torch.float32)
        halves = torch.div(places, 2, rounding_mode="floor")
        return self.conv(x) + torch.sin(places / 10 ** (2 * halves / 8))


class Branching(torch.nn.Module):
    """What torch.export does not take."""

    def forward(self, x):
        """Depends on the values."""
        return x + 1 if x.sum() > 0 else x


def small():
    """The first, with a norm that changes something."""
    return _made(Small)


def headless():
    """The first, whose last layer is zeros."""
    model = _made(Small)
    torch.nn.init.zeros_(model.last.weight)
    return model


def residual():
    """The second, likewise."""
    return _made(Residual)


def mobile():
    """The third, likewise."""
    return _made(Mobile)


def shared():
    """One with outputs that are shared."""
    return _made(Shared)


def attending():
    """One with attention."""
    return _made(Attending)


def uneven():
    """One with convolutions that are no tasks."""
    return _made(Uneven)


def square():
    """One with Winograd's forms."""
    return _made(Square)


def odd():
    """One with axes of all kinds."""
    return _made(Odd)


def crooked():
    """One that looks like others."""
    return _made(Crooked)


def counting():
    """One with a state."""
    torch.manual_seed(0)
    return Counting().eval()


def _made(kind):
    torch.manual_seed(0)
    module = kind()
    module.norm.running_mean.uniform_(-1, 1)
    module.norm.running_var.uniform_(0.5, 2)
    return module.eval()


def waving():
    """One with positions."""
    torch.manual_seed(0)
    return Waving().eval()


def branching():
    """The fourth."""
    return Branching()


def product():
    """A model without a convolution."""
    return torch.nn.Linear(4, 2)


def not_a_module():
    """Something else."""
    return 3
