"""Plain nn.Module all the way: what torch offers for modules works on ranvier's without wrappers."""

import os
import runpy
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters
from torch.func import functional_call, grad, vmap

import ranvier
from ranvier.core.discovery import discover

NEURONS = {name: found.load() for name, found in discover("ranvier.nn.neurons", base="neuron").items()}
X = 3 * torch.randn(3, 2, 3, generator=torch.Generator().manual_seed(0))


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        ranvier.Linear(3, 4),
        ranvier.LIF(tau=nn.Parameter(torch.full((4,), 2.0)), threshold=0.5),
        ranvier.DelayLine([0, 2]),
        ranvier.Recurrent(ranvier.CuBaLIF(tau=1.5, threshold=0.2), nn.Linear(8, 8)),
        ranvier.RateDecoder(),
    )


class Step(nn.Module):
    """A network whose state goes in and out as arguments."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x, state):
        return ranvier.run(self.inner, x, state)


def learnt(cls):
    """Its first parameter, learnt and different for each feature."""
    name, declared = next(iter(cls.declared.items()))
    away = (abs(declared.default) or 1.0) * torch.tensor([0.1, 0.2, 0.3])
    return {name: nn.Parameter(declared.default + (-away if declared.default == declared.high else away))}


def close(a, b):
    """To rounding: kernels and torch's operations contract products and sums differently."""
    return a.keys() == b.keys() and all(torch.allclose(a[k], b[k], rtol=1e-4, atol=1e-5) for k in a)


def gradients(call, net, x, *state):
    """The outputs of `call` and all gradients that a backward pass through them leaves."""
    net.zero_grad()
    x = x.clone().requires_grad_()
    out = call(x, *state)
    y, after = out if isinstance(out, tuple) else (out, {})
    (y.sin().sum() + sum(v.sin().sum() for v in after.values())).backward()
    return {
        "y": y.detach(),
        "x": x.grad,
        **{k: v.detach() for k, v in after.items()},
        **{k: p.grad for k, p in net.named_parameters()},
    }


# torch.compile: twice as far as machine code, which takes long, and elsewhere as far as the graph that it would get


@pytest.fixture(autouse=True)
def forgotten():
    torch._dynamo.reset()
    with torch._inductor.config.patch(compile_threads=1):  # a pool of compilers takes longer to start than it saves
        yield


def test_a_compiled_network_called_plainly_equals_the_eager_one():
    net, x = network(), X[:2]
    eager = gradients(net, net, x)
    assert close(gradients(torch.compile(net, fullgraph=True), net, x), eager)
    assert all(v.any() for v in eager.values())


@pytest.mark.parametrize(("layers", "backend"), [(2, "inductor"), (5, "aot_eager")])
def test_run_inside_a_compiled_function_equals_the_eager_one(layers, backend):
    net, x = network()[:layers], X[:2]
    state = {k: v.detach() for k, v in ranvier.run(net, x)[1].items()}
    step = torch.compile(Step(net), fullgraph=True, backend=backend)
    eager = gradients(Step(net), net, x, state)
    assert close(gradients(step, net, x, state), eager)
    assert all(v.any() for v in eager.values())


def test_a_compiled_network_streams_with_two_compilations():
    """One from rest and one with a state; the chunks after that find them."""
    net = network()
    plain = torch.compile(net, fullgraph=True, backend="aot_eager")
    counters.clear()
    state = eager_state = None
    for chunk in range(6):
        x = X.roll(chunk, 0)
        y, state = ranvier.run(plain, x, state)
        expected, eager_state = ranvier.run(net, x, eager_state)
        assert close({"y": y, **state}, {"y": expected, **eager_state})
        assert counters["stats"]["unique_graphs"] <= min(chunk + 1, 2)
        state, eager_state = ({k: v.detach() for k, v in s.items()} for s in (state, eager_state))


def test_a_compiled_network_records_and_takes_lengths():
    net, lengths = network(), torch.tensor([3, 2])
    step = torch.compile(
        lambda x: ranvier.run(net, x, record=("spikes", "v"), lengths=lengths), fullgraph=True, backend="aot_eager"
    )
    for expected, actual in zip(
        ranvier.run(net, X, record=("spikes", "v"), lengths=lengths)[1:], step(X)[1:], strict=True
    ):
        assert close(expected, actual)


@pytest.mark.parametrize("cls", NEURONS.values(), ids=NEURONS)
def test_every_neuron_is_traced_whole_with_its_gradient(cls, reference):
    net, x = cls(**learnt(cls)), X[:2]
    state = {k: v.detach() for k, v in ranvier.run(net, x)[1].items()}
    step = torch.compile(Step(net), fullgraph=True, backend="eager")
    assert close(gradients(step, net, x, state), gradients(Step(net), net, x, state))


@pytest.mark.parametrize(
    "coder",
    [
        ranvier.RateEncoder(3, seed=1),
        ranvier.LatencyEncoder(3),
        ranvier.Direct(3),
        ranvier.DeltaEncoder(0.5),
        ranvier.DeltaDecoder(0.5),
        nn.Sequential(ranvier.LIF(), ranvier.FirstSpikeDecoder()),
        nn.Sequential(ranvier.LeakyIntegrator(), ranvier.LastDecoder()),
        nn.Sequential(ranvier.LeakyIntegrator(), ranvier.MaxDecoder()),
    ],
    ids=lambda coder: type(coder[-1] if isinstance(coder, nn.Sequential) else coder).__name__,
)
def test_every_coder_is_traced_whole(coder):
    x = X.sigmoid()[: 1 if hasattr(coder, "steps") else None]
    step = torch.compile(lambda x: ranvier.run(coder, x), fullgraph=True, backend="aot_eager")
    (y, state), (expected, expected_state) = step(x), ranvier.run(coder, x)
    assert close({"y": y, **state}, {"y": expected, **expected_state})


@pytest.mark.parametrize("strict", [True, False])
def test_export_of_a_step_with_its_state_keeps_the_numbers_at_every_batch_size(strict):
    net = network().eval()
    _, state = ranvier.run(net, X)
    batch = torch.export.Dim("batch", max=64)
    exported = torch.export.export(
        Step(net), (X, state), dynamic_shapes={"x": {1: batch}, "state": {k: {0: batch} for k in state}}, strict=strict
    ).module()
    for x in (X, X.repeat(1, 3, 1)):
        _, state = ranvier.run(net, x)
        (y, after), (expected, expected_after) = exported(x, state), ranvier.run(net, x, state)
        assert close({"y": y, **after}, {"y": expected, **expected_after})


# autocast, dtypes


def test_under_autocast_the_output_is_bfloat16_and_the_state_float32():
    net = network()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, state = ranvier.run(net, X)
        y, state = ranvier.run(net, X, state)
        hidden, _ = ranvier.run(net[:2], X)
    assert y.dtype == hidden.dtype == torch.bfloat16
    assert {v.dtype for v in state.values()} == {torch.float32}
    y.sum().backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.any() for p in net.parameters())
    spikes = network()[:2](X)
    assert (spikes == hidden).float().mean() > 0.9


@pytest.mark.parametrize(("dtype", "state_dtype"), [(torch.float64, torch.float64), (torch.bfloat16, torch.float32)])
def test_a_network_of_another_dtype_runs_in_it_from_end_to_end(dtype, state_dtype):
    net = network().to(dtype)
    y, state = ranvier.run(net, X.to(dtype))
    y, state = ranvier.run(net, X.to(dtype), state)
    assert y.dtype == dtype and {v.dtype for v in state.values()} == {state_dtype}
    y.sum().backward()
    assert all(p.grad.dtype == dtype for p in net.parameters())


def test_float64_is_not_rounded_to_float32_on_the_way():
    net, x = ranvier.LIF(threshold=100.0), torch.rand(50, 1, 3, dtype=torch.float64)
    v = torch.zeros(1, 3, dtype=torch.float64)
    for x_t in x:
        v = v / 2 + x_t / 2
    assert torch.allclose(ranvier.run(net, x)[1]["v"], v, rtol=1e-14)


# several at once


def test_two_gloo_ranks_find_the_gradients_of_the_joined_batch(tmp_path):
    program = Path(__file__).with_name("two_ranks.py")
    here = {**os.environ, "PYTHONPATH": str(Path(ranvier.__file__).parents[1])}
    ranks = [subprocess.Popen([sys.executable, program, str(rank), tmp_path], env=here) for rank in range(2)]
    assert [rank.wait(timeout=120) for rank in ranks] == [0, 0]
    found, two_ranks = ranvier.load(tmp_path / "found"), runpy.run_path(str(program))
    net, x = two_ranks["network"](), two_ranks["batch"]()
    _, state = ranvier.run(net, x[:3])
    y, state = ranvier.run(net, x[3:], {k: v.detach() for k, v in state.items()})
    y.square().mean().backward()
    expected = {f"gradient {k}": p.grad for k, p in net.named_parameters()}
    expected |= {f"state {k}": v[:2] for k, v in state.items()} | {"y": y.detach()}
    assert found.keys() == expected.keys()
    assert all(torch.allclose(found[k], v, rtol=1e-10, atol=1e-12) for k, v in expected.items())
    assert all(v.any() for k, v in expected.items() if k.startswith("gradient"))


def test_threads_run_one_model_at_once_each_with_its_own_state():
    net = network()
    inputs = [torch.randn(3, 8, 2, 3, generator=torch.Generator().manual_seed(i)) for i in range(8)]

    def stream(chunks):
        outputs, state = [], None
        for x in chunks:
            y, state, notes = ranvier.run(net, x, state, record=("spikes",))
            outputs += [y, *notes.values()]
        return [*outputs, *state.values()]

    serial = [stream(chunks) for chunks in inputs]
    with ThreadPoolExecutor(4) as pool:
        parallel = list(pool.map(stream, inputs * 3))
    for expected, actual in zip(serial * 3, parallel, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(expected, actual, strict=True))


@pytest.mark.usefixtures("reference")  # which tracers of torch's operations see
@pytest.mark.parametrize("cls", [c for c in NEURONS.values() if not c.random])
class TestFunc:
    def test_vmap_over_features_equals_the_call(self, cls):
        net, x = cls(), 3 * torch.randn(4, 2, 5, 3)
        assert torch.equal(vmap(net, in_dims=2, out_dims=2)(x), net(x))
        states = vmap(lambda x: ranvier.run(net, x)[1], in_dims=2, out_dims=1)(x)
        assert close(states, ranvier.run(net, x)[1])

    def test_gradients_per_sample_equal_those_of_a_loop(self, cls):
        net = cls(**learnt(cls))
        ((name, value),) = learnt(cls).items()
        loss = grad(lambda p, x: functional_call(net, p, (x.unsqueeze(1),)).sin().sum())
        together = vmap(loss, in_dims=(None, 1))({name: value}, X)[name]
        p = getattr(net, name)
        alone = [torch.autograd.grad(net(X[:, i : i + 1]).sin().sum(), p)[0] for i in range(2)]
        assert torch.allclose(together, torch.stack(alone), rtol=1e-4, atol=1e-6)

    def test_an_ensemble_over_parameters_equals_its_members(self, cls):
        ((name, value),) = learnt(cls).items()
        net = cls(**{name: nn.Parameter(value[0].detach())})
        together = vmap(lambda v: functional_call(net, {name: v}, (X,)))(value.detach())
        alone = torch.stack([cls(**{name: v.detach()})(X) for v in value])
        assert torch.allclose(together, alone, rtol=1e-5, atol=1e-6)
