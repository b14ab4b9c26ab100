"""Products on a pattern are those of the matrix with zeros."""

import pytest
import torch

import ranvier
from ranvier.ops.sparse_linear import gpu, pattern, reference, sparse_linear

SIZES = [(1, 1, 1), (7, 5, 9), (64, 33, 70), (33, 70, 20), (100, 3, 200)]


@pytest.fixture(autouse=True)
def poisoned(monkeypatch):
    from ranvier.ops.sparse_linear import cpu

    monkeypatch.setattr(cpu, "empty", lambda shape, dtype: torch.full(tuple(shape), torch.nan, dtype=dtype))


def made(inputs, outputs, density=0.2, dtype=torch.float32):
    place = torch.rand(outputs, inputs) < density
    pointer = torch.zeros(outputs + 1, dtype=torch.int64)
    pointer[1:] = place.sum(1).cumsum(0)
    index = place.nonzero()[:, 1].to(torch.int32)
    return pattern(pointer, index, inputs), torch.randn(len(index), dtype=dtype)


def everything(function, x, values, bias, grad):
    leaves = [t.detach().clone().requires_grad_() for t in (x, values, bias) if t is not None]
    y = function(*leaves, *([None] if bias is None else []))
    return y, *torch.autograd.grad(y, leaves, grad.to(y.dtype), allow_unused=True, materialize_grads=True)


def plain(synapses, outputs):
    return lambda x, values, bias: reference.sparse_linear(x, synapses.row, synapses.index, values, outputs, bias)


@pytest.mark.parametrize(("rows", "inputs", "outputs"), SIZES)
@pytest.mark.parametrize("density", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_outputs_and_gradients_are_those_of_the_matrix(rows, inputs, outputs, density, dtype):
    synapses, values = made(inputs, outputs, density, dtype)
    x, bias, grad = (torch.randn(*s, dtype=dtype) for s in ((rows, inputs), (outputs,), (rows, outputs)))
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    for b in (bias, None):
        found = everything(lambda x, v, b: sparse_linear(x, synapses, v, b), x, values, b, grad)
        for a, e in zip(found, everything(plain(synapses, outputs), x, values, b, grad), strict=True):
            assert a.dtype == e.dtype
            torch.testing.assert_close(a, e, rtol=tolerance, atol=10 * tolerance)


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
def test_torchs_sparse_products_give_the_same():
    synapses, values = made(50, 30)
    x, grad = torch.randn(20, 50), torch.randn(20, 30)
    y, gx, gv = everything(plain(synapses, 30), x, values, None, grad)
    torch.testing.assert_close(gpu.product(synapses.pointer, synapses.index, values, x), y, rtol=1e-5, atol=1e-5)
    back = gpu.product(synapses.back_pointer, synapses.back_index, values[synapses.order], grad)
    torch.testing.assert_close(back, gx, rtol=1e-5, atol=1e-5)
    found = gpu.values_gradient(synapses.pointer, synapses.index, x, grad)
    torch.testing.assert_close(found, gv, rtol=1e-5, atol=1e-5)


def test_the_reference_is_right_by_finite_differences_and_twice():
    synapses, values = made(6, 4, 0.5, torch.float64)
    given = [torch.randn(3, 6, dtype=torch.float64), values, torch.randn(4, dtype=torch.float64)]
    given = [t.requires_grad_() for t in given]
    with ranvier.backend("reference"):
        for check in (torch.autograd.gradcheck, torch.autograd.gradgradcheck):
            assert check(lambda x, v, b: sparse_linear(x, synapses, v, b), given)


def test_sixteen_bits_and_autocast():
    synapses, values = made(50, 30)
    x = torch.randn(20, 50).bfloat16()
    y = sparse_linear(x, synapses, values)
    assert torch.equal(y, sparse_linear(x.float(), synapses, values).bfloat16())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(sparse_linear(x.float(), synapses, values), y)
