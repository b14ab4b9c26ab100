"""A neuron takes channels last, or any other dense order of a step's axes, as it is, and gives out the same."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import ranvier
from ranvier.compile.plan import step_order

SHAPE = (9, 2, 3, 4, 5)


def last(x):
    """With the channels of [T, B, C, H, W] last in memory."""
    return x.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)


class Copies(TorchDispatchMode):
    """Counts copies of tensors as large as a sequence."""

    def __init__(self):
        super().__init__()
        self.number = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        copies = func.overloadpacket.__name__ in ("clone", "copy_", "_to_copy")
        self.number += copies and found.numel() >= torch.Size(SHAPE).numel()
        return found


def test_the_order_is_that_in_memory_where_there_are_no_gaps():
    x = torch.zeros(SHAPE)
    assert step_order(x) is None and step_order(x[::2]) is None
    assert step_order(last(x)) == (0, 2, 3, 1) == step_order(last(x)[3:]) == step_order(last(x)[:1].expand(SHAPE))
    assert step_order(last(x)[..., :4]) is None and step_order(last(x)[:, :1]) == (0, 2, 3, 1)
    assert step_order(x.transpose(0, 1).contiguous().transpose(0, 1)) is None
    one = last(torch.zeros(9, 2, 1, 4, 5))  # one channel lies the same either way
    assert step_order(one) is None
    assert step_order(torch.zeros(4, 3, 2).transpose(1, 2)) == (1, 0)


def everything(layer, x, state=None):
    """Output, final states, courses, and all gradients."""
    leaf = x.detach().requires_grad_()
    start = state and {k: s.detach().requires_grad_() for k, s in state.items()}
    y, after, course = ranvier.run(layer, leaf, start, record=layer.records)
    found = [y, *after.values(), *course.values()]
    torch.manual_seed(2)
    loss = sum((torch.randn(f.shape).to(f) * f).sum() for f in found)
    wanted = [leaf, *(start or {}).values(), *layer.parameters()]
    return found, torch.autograd.grad(loss, wanted)


def made(cls, *shape):
    values = {k: nn.Parameter((d.default or 0.5) * (1 + 0.2 * torch.rand(shape))) for k, d in cls.declared.items()}
    return cls(**values)


@pytest.mark.parametrize("cls", [ranvier.LIF, ranvier.AdaptiveLIF])
@pytest.mark.parametrize("shape", [(), (3, 1, 1), (3, 4, 5), (3, 1, 5), (5,), (4, 1), (2, 1, 1, 1), (2, 3, 4, 5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_all_is_as_with_channels_first(cls, shape, dtype):
    layer, x = made(cls, *shape), (4 * torch.randn(SHAPE)).to(dtype)
    state = ranvier.run(layer, x)[1]
    for start in (None, state):
        found, grads = everything(layer, last(x), start and {k: s + 0.1 for k, s in start.items()})
        expected, wanted = everything(layer, x, start and {k: s + 0.1 for k, s in start.items()})
        assert found[0].any() and all(map(torch.equal, found, expected))
        for a, b in zip(grads, wanted, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
        assert torch.equal(grads[0], wanted[0])
        assert found[0].stride() == grads[0].stride() == last(x).stride()


def test_nothing_is_copied_forward_or_backward():
    layer, x = ranvier.LIF(), last(4 * torch.randn(SHAPE)).requires_grad_()
    grad = last(torch.randn(SHAPE))
    with Copies() as copies:
        y, _ = ranvier.run(layer, x)
        torch.autograd.grad(y, x, grad)
    assert not copies.number


def test_chunks_give_the_bits_of_the_whole_and_states_change_between_layouts():
    layer, x = ranvier.LIF(), 4 * torch.randn(SHAPE)
    whole, _ = ranvier.run(layer, last(x))
    for first, second in ((last(x[:4]), last(x[4:])), (x[:4], last(x[4:])), (last(x[:4]), x[4:])):
        a, state = ranvier.run(layer, first)
        b, _ = ranvier.run(layer, second, state)
        assert torch.equal(torch.cat([a, b]), whole)


def test_random_neurons_draw_for_a_place_and_not_for_an_address():
    layer, x = ranvier.StochasticLIF(), torch.randn(SHAPE)
    torch.manual_seed(1)
    y, _ = ranvier.run(layer, x)
    torch.manual_seed(1)
    other, _ = ranvier.run(layer, last(x))
    assert torch.equal(y, other) and 0 < y.mean() < 1


def test_compiled_with_channels_last():
    net = nn.Sequential(ranvier.Conv2d(3, 4, 3), ranvier.LIF(tau=nn.Parameter(torch.full((4, 1, 1), 2.0))))
    net, x = net.to(memory_format=torch.channels_last), last(4 * torch.randn(SHAPE)).requires_grad_()
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    results = [torch.autograd.grad(f(x).square().sum(), [x, *net.parameters()]) for f in (net, compiled)]
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_layout_and_dtype_last_through_a_spiking_network():
    net = nn.Sequential(
        *(ranvier.Fold(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16)), ranvier.LIF(), ranvier.SumPool2d(2)),
        *(ranvier.Conv2d(16, 16, 3, padding=1), ranvier.Fold(nn.BatchNorm2d(16)), ranvier.LIF(), ranvier.MaxPool2d(2)),
    ).to(memory_format=torch.channels_last)
    x, seen = last(torch.rand(4, 2, 3, 16, 16)).requires_grad_(), []
    for module in net:
        module.register_forward_hook(lambda m, given, y: seen.append(y))
        module.register_full_backward_hook(lambda m, grad_in, grad_out: seen.append(grad_in[0]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        net(x).float().square().sum().backward()
    assert len(seen) == 14
    for t in seen:
        assert t.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
    assert all(t.dtype == torch.bfloat16 for t in seen[:-1])
