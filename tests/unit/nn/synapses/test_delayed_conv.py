"""DelayedConv: few elements at learnt places are a dilated convolution; every cell of space and delay."""

import pytest
import torch
from torch import nn
from torch.nn import functional

import ranvier
from ranvier.core.checks import Refusal
from ranvier.nn.synapses.delayed_conv import DelayedConv1d, DelayedConv2d, DelayedConv3d, cone

CLASSES = [DelayedConv1d, DelayedConv2d, DelayedConv3d]


def sequence(*features, steps=6, batch=2, seed=0):
    return torch.randn(steps, batch, *features, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", ["triangle", "rounded"])
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_whole_places_give_a_dilated_convolution(kind, axes):
    """Elements on the grid of a convolution with dilation 2 and stride 2, in groups."""
    torch.manual_seed(0)
    dilated = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[axes - 1](4, 6, 3, dilation=2, stride=2, padding=1, groups=2)
    layer = CLASSES[axes - 1](4, 6, 5, elements=3**axes, kind=kind, stride=2, padding=1, groups=2)
    grid = torch.stack(torch.meshgrid(*[torch.tensor([-2.0, 0.0, 2.0])] * axes, indexing="ij")).flatten(1)
    with torch.no_grad():
        layer.position.copy_(grid[:, None, None])
        layer.weight.copy_(dilated.weight.flatten(2))
        layer.bias.copy_(dilated.bias)
    x = sequence(4, *[9] * axes)
    expected = torch.stack([dilated(x_t) for x_t in x])
    assert (layer(x) - expected).abs().max() < 1e-5


@pytest.mark.parametrize(("kind", "sigma"), [("gaussian", 0.6), ("triangle", 0.7)])
def test_the_gradients_of_weights_places_and_widths_are_those_of_finite_differences(kind, sigma):
    torch.manual_seed(0)
    layer = DelayedConv1d(2, 2, 5, max_delay=2, elements=2, kind=kind, sigma=sigma, learn_sigma=True).double()
    names = ["weight", "position", "delay", "sigma"]
    with torch.no_grad():
        layer.position.uniform_(-1.3, 1.3), layer.delay.uniform_(0.2, 1.8)

    def kernel(*values):
        return torch.func.functional_call(
            _Kernel(layer), {f"layer.{n}": v for n, v in zip(names, values, strict=True)}, ()
        )

    leaves = [getattr(layer, n).detach().clone().requires_grad_() for n in names]
    assert torch.autograd.gradcheck(kernel, leaves, atol=1e-4)


class _Kernel(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self):
        return self.layer.kernel()


@pytest.mark.parametrize("cls", CLASSES[:2])
@pytest.mark.parametrize("elements", [None, 3])
def test_the_past_is_weighed_by_delay_and_place(cls, elements):
    torch.manual_seed(0)
    layer = cls(2, 3, 3, max_delay=4, elements=elements, padding="same", groups=1)
    x = sequence(2, *[6] * cls.axes)
    kernel, conv = layer.kernel(), (functional.conv1d, functional.conv2d)[cls.axes - 1]
    expected = torch.zeros_like(layer(x)) + layer.bias.reshape(-1, *[1] * cls.axes)
    for t in range(len(x)):
        for lag in range(min(t, 4) + 1):
            expected[t] = expected[t] + conv(x[t - lag], kernel[:, :, lag], padding=1)
    assert torch.allclose(layer(x), expected, atol=1e-5)
    whole, end = ranvier.run(layer, x)
    state, outputs = None, []
    for chunk in x.split([1, 3, 2]):
        y, state = ranvier.run(layer, chunk, state)
        outputs.append(y)
    assert torch.allclose(torch.cat(outputs), whole, atol=1e-6) and torch.equal(state["past"], end["past"])
    assert layer(x[:0]).shape == (0, *whole.shape[1:])


def test_events_added_one_by_one_give_the_same():
    """Each event adds its weights where and when they arrive."""
    torch.manual_seed(0)
    layer = DelayedConv2d(2, 3, 3, max_delay=4, padding="same", mask=cone((3, 3), 4))
    x = (torch.rand(12, 1, 2, 7, 7) < 0.05).float()
    kernel, y = layer.kernel().detach(), torch.zeros(16, 3, 9, 9)
    for t, _, c, i, j in x.nonzero().tolist():
        # the output at p sees the event at offset (i, j) - p
        y[t : t + 5, :, i : i + 3, j : j + 3] += kernel[:, c].flip(-1, -2).transpose(0, 1)
    expected = y[:12, :, 1:-1, 1:-1] + layer.bias.detach().reshape(-1, 1, 1)
    assert (layer(x)[:, 0] - expected).abs().max() < 1e-5


def test_a_masked_cell_stays_out():
    layer = DelayedConv2d(1, 1, 5, max_delay=2, mask=cone((5, 5), 2))
    assert layer.mask[0].sum() == 5 and layer.mask[2].sum() == 21 and (layer.mask[1:] >= layer.mask[:-1]).all()
    assert not layer.kernel()[0, 0][layer.mask == 0].any()


def test_kernels_are_made_in_float32_under_autocast():
    layer, x = DelayedConv2d(2, 2, 5, elements=3), sequence(2, 6, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer.kernel().dtype == torch.float32
        assert torch.equal(layer.kernel(), layer.kernel()) and layer(x).dtype == torch.bfloat16
    assert torch.allclose(layer(x.bfloat16()).float(), layer(x), atol=0.05)
    assert torch.allclose(layer.double()(x.double()).float(), layer.float()(x), atol=1e-5)


def test_places_may_be_shared():
    a, b = (DelayedConv2d(2, 2, 5, elements=3, groups=2, padding="same") for _ in range(2))
    b.position = a.position
    model = nn.Sequential(a, b)
    model(sequence(2, 6, 6)).square().sum().backward()
    assert a.position.grad is b.position.grad and len(list(model.parameters())) == 5


def test_places_of_a_sparse_kernel_are_found():
    """Five elements in a window of 11 x 11: of 64 starts, side by side as groups, the one that fits best."""
    torch.manual_seed(0)
    starts = 64
    teacher = DelayedConv2d(1, 1, 11, elements=5, padding="same", bias=False)
    student = DelayedConv2d(starts, starts, 11, elements=5, sigma=3.0, groups=starts, padding="same", bias=False)
    place = torch.rand(2, 5) * 10 - 5
    while torch.pdist(place.T).min() < 2:
        place = torch.rand(2, 5) * 10 - 5
    with torch.no_grad():
        teacher.position.copy_(place[:, None, None]), teacher.weight.uniform_(1, 2)
    target = teacher.kernel().detach()
    optimiser = torch.optim.Adam([{"params": [student.position], "lr": 0.1}, {"params": [student.weight], "lr": 0.05}])
    for step in range(500):
        student.sigma.fill_(3 * (0.23 / 3) ** min(step / 400, 1))
        loss = (student.kernel() - target).square().sum((1, 2, 3))  # what white noise as input comes to
        optimiser.zero_grad()
        loss.sum().backward()
        optimiser.step()
    best = int(loss.argmin())
    found = student.position.detach()[:, best, 0]
    assert (torch.cdist(place.T, found.T).min(1).values < 0.5).sum() >= 4
    x = sequence(1, 20, 20)
    y, expected = teacher(x), student(x.expand(-1, -1, starts, -1, -1))[:, :, best : best + 1]
    assert 1 - (y - expected).square().mean() / y.var() > 0.98


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"groups": 3}, "DelayedConv2d: expected groups that divide both numbers of channels; got groups=3"),
        ({"elements": 0}, "expected 1 element or more"),
        ({"kind": "gauss"}, "Did you mean 'gaussian'"),
        ({"max_delay": -1}, "expected a max_delay of 0 or more steps"),
        ({"window": (3, 3, 3)}, "expected a window of one number or 2"),
        ({"window": 4, "padding": "same"}, "an odd window"),
        ({"stride": 2, "padding": "same"}, "stride 1 for padding 'same'"),
        ({"mask": torch.ones(3, 3), "max_delay": 2}, r"expected a mask \(3, 3, 3\)"),
    ],
)
def test_bad_options_are_refused(options, text):
    with pytest.raises(Refusal, match=text):
        DelayedConv2d(2, 4, **{"window": 3, **options})
    with pytest.raises(Refusal, match="0 where space has three axes"):
        DelayedConv3d(2, 4, 3, max_delay=1)


@pytest.mark.parametrize(
    "bad", [torch.zeros(5, 2, 6, 6), torch.zeros(5, 2, 3, 6, 6), torch.zeros(5, 2, 2, 6, 6).long()]
)
def test_other_shapes_are_refused(bad):
    with pytest.raises(Refusal, match=r"expected floating-point \[T, B, 2, H, W\], time first; got shape"):
        DelayedConv2d(2, 4, 3)(bad)
