"""A norm and a neuron in one kernel: what the two in a row give, for every neuron, and no normalised tensor anywhere.

Spikes may differ where a membrane lies on its threshold to within rounding; gradients are compared where none does.
"""

import copy
import gc
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

import ranvier
from ranvier.compile import plan
from ranvier.core.discovery import discover
from ranvier.nn.norms._equation import compares_once
from ranvier.nn.norms.batch_norm import BatchNorm
from ranvier.nn.norms.membrane_batch_norm import MembraneBatchNorm
from ranvier.nn.norms.normalised import Normalised
from ranvier.nn.norms.temporal_batch_norm import TemporalBatchNorm
from ranvier.nn.norms.threshold_batch_norm import ThresholdBatchNorm

NEURONS = {name: found.load() for name, found in discover("ranvier.nn.neurons", base="neuron").items()}
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
if INTERPRETED:
    gc.set_threshold(100_000)
DRIVE = {"izhikevich": 20.0, "resonate-and-fire": 10.0}
FEW = ["lif", "adaptive-lif", "stochastic-lif", "leaky-integrator"]
STEPS, BATCH, CHANNELS = 19, 3, 5
every = pytest.mark.parametrize("name", FEW if INTERPRETED else NEURONS)


@pytest.fixture(autouse=True)
def poisoned(monkeypatch):
    """Kernels' outputs lie in memory full of NaN, whose margins stay untouched."""
    device_of, margins, size = plan._device, [], 640

    def poisoning(x):
        def empty(shape, dtype):
            number = torch.Size(shape).numel()
            block = torch.full((number + 2 * size,), torch.nan, dtype=dtype, device=x.device)
            margins.extend([block[:size], block[size + number :]])
            return block[size : size + number].view(tuple(shape))

        return device_of(x)[0], empty

    monkeypatch.setattr(plan, "_device", poisoning)
    yield
    assert all(margin.isnan().all() for margin in margins), "written past an end"


def sequence(*features, steps=STEPS, batch=BATCH, dtype=torch.float32):
    x = torch.randn(steps, batch, *features, dtype=torch.float64)
    each = torch.arange(1, features[0] + 1).reshape(-1, *[1] * (len(features) - 1))
    return (x * each + 2 * each).to(dtype)


def moved(norm, drive=1.0):
    """The norm with weights and running statistics that are not those it begins with."""
    for module in norm.modules():
        if isinstance(module, BatchNorm | ThresholdBatchNorm | MembraneBatchNorm):
            with torch.no_grad():
                if module.weight is not None:
                    module.weight.copy_(drive * (0.5 + torch.rand_like(module.weight)))
                    module.bias.copy_(drive * 0.5 * torch.rand_like(module.bias))
                module.running_mean.uniform_(-0.2, 0.5)
                module.running_var.uniform_(0.5, 2.0)
    return norm


def both(layer, x, state=None, record=(), lengths=None):
    """Outputs, states, records and all gradients, fused and by the reference, from the same seed."""
    found = []
    weights = None
    for backend, net in (("fused", layer), ("reference", copy.deepcopy(layer))):
        leaf = x.detach().requires_grad_()
        start = state and {k: v.clone().requires_grad_(v.is_floating_point()) for k, v in state.items()}
        torch.manual_seed(3)
        with ranvier.backend(backend):
            y, after, course = ranvier.run(net, leaf, start, record=record or net.records, lengths=lengths)
        values = {"y": y, **after, **course}
        found.append((values, net, leaf, start))
    same = (found[0][0]["y"] - found[1][0]["y"]).abs().amax(0) <= 1e-3 * (1 + found[1][0]["y"].abs().amax(0))
    assert same.double().mean() > 0.9
    results = []
    for values, net, leaf, start in found:
        torch.manual_seed(4)
        floats = {k: v for k, v in values.items() if v.is_floating_point() and v.requires_grad}
        weights = {k: torch.randn_like(v) * same.to(v.dtype) for k, v in floats.items()}
        wanted = {"x": leaf, **dict(net.named_parameters())}
        wanted |= {f"initial {k}": v for k, v in (start or {}).items() if v.is_floating_point()}
        loss = sum((weights[k] * v).sum() for k, v in floats.items())
        grads = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True)
        results.append(
            {
                **{k: v.detach() * same if v.shape[-same.ndim :] == same.shape else v for k, v in values.items()},
                **{f"grad {k}": g for k, g in zip(wanted, grads, strict=True)},
                **{f"buffer {k}": b for k, b in net.named_buffers()},
            }
        )
    return results


def agree(results, tolerance):
    fused, plain = results
    assert fused.keys() == plain.keys()
    for key, want in plain.items():
        got = fused[key]
        assert (got is None) == (want is None), key
        if got is None:
            continue
        assert got.shape == want.shape and got.dtype == want.dtype, key
        if got.numel():
            error = (got.double() - want.double()).abs().max()
            assert error <= tolerance * (want.double().abs().max() + 1e-6), (key, error)


@every
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("dtype", [torch.float32] if INTERPRETED else [torch.float32, torch.float64], ids=str)
def test_every_neuron_works_inside_whose_numbers_are_those_of_the_two_in_a_row(name, training, dtype):
    layer = Normalised(moved(BatchNorm(CHANNELS), DRIVE.get(name, 2.0)), NEURONS[name]()).train(training).to(dtype)
    stiff = name == "izhikevich" and dtype == torch.float32  # rounding grows along the upswing
    agree(both(layer, sequence(CHANNELS, dtype=dtype)), 1e-9 if dtype == torch.float64 else 2e-2 if stiff else 2e-4)


@pytest.mark.parametrize("make", [BatchNorm, ThresholdBatchNorm], ids=lambda m: m.__name__)
@pytest.mark.parametrize("features", [(1,), (5,), (33,), (3, 1), (3, 4), (2, 5, 7), (4, 16, 17)], ids=str)
@pytest.mark.parametrize("affine", [True, False], ids=["affine", "plain"])
def test_sizes_in_float64(make, features, affine):
    if INTERPRETED and features[0] > 3:
        pytest.skip("the interpreter takes its time")
    layer = Normalised(moved(make(features[0], affine=affine)), ranvier.LIF(tau=nn.Parameter(torch.tensor(3.0))))
    agree(both(layer.double(), sequence(*features, dtype=torch.float64)), 1e-9)


@pytest.mark.parametrize(("steps", "batch"), [(1, 3), (3, 1), (1, 2), (16, 2), (17, 2), (33, 1)])
def test_numbers_of_steps_and_samples(steps, batch):
    agree(both(Normalised(moved(BatchNorm(4)), ranvier.LIF()).double(), sequence(4, 3, steps=steps, batch=batch, dtype=torch.float64)), 1e-9)  # fmt: skip


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_a_state_that_goes_on_with_its_gradient(training):
    layer = Normalised(moved(BatchNorm(4)), ranvier.AdaptiveLIF()).double().train(training)
    x = sequence(4, 3, dtype=torch.float64)
    with torch.no_grad():
        _, state = ranvier.run(copy.deepcopy(layer), x)
    agree(both(layer, x, state), 1e-9)


@pytest.mark.parametrize("make", [BatchNorm, lambda c: TemporalBatchNorm(c, steps=STEPS)], ids=["bn", "tebn"])
def test_chunks_give_the_bits_of_the_whole_in_evaluation(make):
    layer = nn.Sequential(Normalised(moved(make(4)), ranvier.LIF(), membrane=moved(MembraneBatchNorm(4)))).eval()
    x = sequence(4, 3)
    whole, end = ranvier.run(layer, x)
    assert 0.02 < whole.mean() < 0.9
    for cuts in ((1, 9, 9), (8, 11)):
        parts, state = [], None
        for chunk in x.split(cuts):
            y, state = ranvier.run(layer, chunk, state)
            parts.append(y)
        assert torch.equal(torch.cat(parts), whole) and all(torch.equal(state[k], end[k]) for k in end)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_sixteen_bits_are_computed_in_thirty_two(dtype, training):
    layer = Normalised(moved(BatchNorm(4)), ranvier.LIF()).train(training)
    x = sequence(4, 3, dtype=dtype)
    results = both(layer, x)
    assert results[0]["y"].dtype == dtype
    agree(results, 2**-6 if INTERPRETED else 2**-7)  # whose store of a bfloat16 does not round
    wide = both(layer, x.float())[0]  # their running statistics are one batch further
    assert torch.equal(results[0]["y"].float(), wide["y"]) or not training or INTERPRETED


@pytest.mark.parametrize("learnt", [(), ("x",), ("weight",), ("tau",)], ids=str)
def test_gradients_of_what_needs_one_alone(learnt):
    net = Normalised(moved(BatchNorm(4)), ranvier.ParametricLIF())
    for name, p in net.named_parameters():
        p.requires_grad_(name.split(".")[-1] in learnt or ("tau" in learnt and "neuron" in name))
    x, results = sequence(4), []
    for backend in ("fused", "reference"):
        leaf = x.clone().requires_grad_("x" in learnt)
        with ranvier.backend(backend):
            y = net(leaf)
        assert y.requires_grad == bool(learnt)
        wanted = [t for t in (leaf, *net.parameters()) if t.requires_grad]
        torch.manual_seed(1)
        results.append(torch.autograd.grad((y * torch.randn_like(y)).sum(), wanted) if wanted else ())
    for got, want in zip(*results, strict=True):
        assert torch.allclose(got, want, rtol=1e-4, atol=1e-5 * float(want.abs().max()))


def test_steps_past_the_end_do_not_count_and_get_no_gradient():
    lengths = torch.tensor([19, 7, 12])
    layer, x = Normalised(moved(BatchNorm(4)), ranvier.LIF()).double(), sequence(4, 3, dtype=torch.float64)
    real = torch.arange(STEPS)[:, None] < lengths
    results = both(layer, x, lengths=lengths)
    agree(results, 1e-9)
    together = x.transpose(1, 2).transpose(0, 1)[:, real].flatten(1)  # [C, values]
    once = copy.deepcopy(layer)
    once.norm.momentum = 1.0
    x[~real] = torch.nan
    y, _ = ranvier.run(once, x, lengths=lengths)
    assert torch.allclose(once.norm.running_mean, together.mean(1)) and y[real].isfinite().all()
    assert torch.allclose(once.norm.running_var, together.var(1))


def test_one_step_repeated_over_time():
    layer = Normalised(moved(BatchNorm(4)), ranvier.LIF())
    x = sequence(4, 3, steps=1, dtype=torch.float64).expand(STEPS, -1, -1, -1)
    agree(both(layer.double(), x), 1e-9)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("lengths", [None, torch.tensor([19, 7, 12])], ids=["all", "ragged"])
def test_channels_that_lie_last_stay_there(training, lengths):
    layer = Normalised(moved(BatchNorm(5)), ranvier.AdaptiveLIF()).double().train(training)
    x = sequence(5, 3, 4, dtype=torch.float64)
    last = x.movedim(2, -1).contiguous().movedim(-1, 2)
    for result in (results := both(layer, last, lengths=lengths)):
        assert result["y"].shape == x.shape
    agree(results, 1e-9)
    leaf = last.clone().requires_grad_()
    y = layer(leaf)
    assert y.stride() == last.stride()
    [g] = torch.autograd.grad(y.sum(), leaf)
    assert g.stride() == last.stride()


# memory


def saved_numbers(module, x):
    """How many numbers are kept for backward beside x itself."""
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes() // tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        y = module(x)
    kept.pop(x.untyped_storage().data_ptr(), None)
    return sum(kept.values()), y


@pytest.mark.skipif(INTERPRETED, reason="what is kept does not depend on the device")
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_the_normalised_tensor_is_neither_written_nor_kept(training, monkeypatch):
    monkeypatch.undo()  # whose poisoned memory has margins
    x = sequence(16, 8, 8, steps=4, batch=8).requires_grad_()
    written = []
    device_of = plan._device

    def counting(x):
        build, empty = device_of(x)

        def counted(shape, dtype):
            written.append(torch.Size(shape))
            return empty(shape, dtype)

        return build, counted

    monkeypatch.setattr(plan, "_device", counting)

    class Written(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor) and out.numel() >= x.numel() and not func._schema.returns[0].alias_info:
                made.append(func)
            return out

    made = []
    layer = Normalised(BatchNorm(16), ranvier.LIF()).train(training)
    with Written():
        kept, y = saved_numbers(layer, x)
    assert written.count(x.shape) == 1, "the spikes alone"
    assert all(f is torch.ops.aten.empty.memory_format for f in made), made
    assert kept < 0.1 * x.numel(), "a few numbers for each channel"
    unfused, _ = saved_numbers(nn.Sequential(BatchNorm(16), ranvier.LIF()).train(training), x)
    assert unfused >= x.numel()
    y.sum().backward()


# ways to run


@pytest.mark.skipif(INTERPRETED, reason="a compiled graph calls the kernels of the device")
@pytest.mark.parametrize("membrane", [False, True], ids=["input", "membrane"])
def test_a_compiled_model_gives_the_same(membrane):
    layer = Normalised(moved(BatchNorm(4)), ranvier.LIF(), membrane=moved(MembraneBatchNorm(4)) if membrane else None)
    x = sequence(4, 3, steps=4)
    for training in (True, False):
        ours, theirs = copy.deepcopy(layer).train(training), copy.deepcopy(layer).train(training)
        compiled = torch.compile(theirs, backend="aot_eager", fullgraph=True)
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        y, z = ours(a), compiled(b)
        assert torch.equal(y, z)
        y.sum().backward(), z.sum().backward()
        assert torch.allclose(a.grad, b.grad, rtol=1e-4, atol=1e-5)
        assert torch.allclose(ours.norm.running_var, theirs.norm.running_var)


@pytest.mark.skipif(INTERPRETED, reason="an exported graph holds the plain loop")
def test_an_exported_model_gives_the_same():
    layer = Normalised(moved(BatchNorm(4)), ranvier.LIF(), membrane=moved(MembraneBatchNorm(4))).eval()
    x = sequence(4, 3, steps=4)
    exported = torch.export.export(layer, (x,), strict=False).module()
    assert (exported(x) - layer(x)).abs().mean() < 0.01


def test_checkpointing_counts_a_batch_once_and_gives_the_same_gradients():
    layer = Normalised(BatchNorm(4), ranvier.LIF())
    other = copy.deepcopy(layer)
    a, b = (sequence(4).requires_grad_() for _ in range(2))
    b.data.copy_(a.data)
    layer(a).sum().backward()
    ranvier.checkpoint(other, b).sum().backward()
    assert torch.equal(a.grad, b.grad)
    for name, value in layer.norm.named_buffers():
        assert torch.equal(value, other.norm.get_buffer(name)), name


def test_second_derivatives_are_the_references():
    layer, x = Normalised(BatchNorm(4), ranvier.LIF()), sequence(4).requires_grad_()
    with pytest.raises(ranvier.Refusal, match="expected a first derivative"):
        torch.autograd.grad(layer(x).sum(), x, create_graph=True)
    with ranvier.backend("reference"):
        [g] = torch.autograd.grad((layer(x) * torch.randn_like(x)).sum(), x, create_graph=True)
    assert g.requires_grad


def test_a_deep_copy_and_a_saved_state_give_the_same():
    layer = Normalised(moved(BatchNorm(4)), ranvier.LIF()).eval()
    other = Normalised(BatchNorm(4), ranvier.LIF()).eval()
    other.load_state_dict(layer.state_dict())
    x = sequence(4)
    assert torch.equal(layer(x), other(x)) and torch.equal(layer(x), copy.deepcopy(layer)(x))


# the membrane's norm


@pytest.mark.parametrize(
    "name", [n for n, c in NEURONS.items() if compares_once(c()) and n != "izhikevich"][:: 5 if INTERPRETED else 1]
)  # which runs away without its reset
def test_a_membrane_norm_in_evaluation_is_part_of_the_kernel(name):
    neuron = NEURONS[name]()
    membrane = moved(MembraneBatchNorm(CHANNELS))
    with torch.no_grad():
        membrane.running_mean.copy_(0.5 * neuron.threshold)
        membrane.weight[1] *= -1
        membrane.bias.copy_(neuron.threshold - 0.2)
    layer = Normalised(moved(BatchNorm(CHANNELS), DRIVE.get(name, 2.0)), neuron, membrane=membrane).eval()
    agree(both(layer, sequence(CHANNELS)), 2e-4)


@pytest.mark.parametrize("name", [n for n, c in NEURONS.items() if not compares_once(c())])
def test_neurons_that_do_not_test_one_membrane_against_one_threshold_are_refused(name):
    with pytest.raises(ranvier.Refusal, match=r"Normalised.membrane: expected a neuron whose step is self.spike"):
        Normalised(None, NEURONS[name](), membrane=MembraneBatchNorm(4))


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ((nn.BatchNorm1d(4), ranvier.LIF()), "Normalised.norm: expected BatchNorm, .*; got BatchNorm1d"),
        ((MembraneBatchNorm(4), ranvier.LIF()), "Normalised.norm: expected BatchNorm, .*; got MembraneBatchNorm"),
        ((BatchNorm(4), nn.ReLU()), "Normalised.neuron: expected a Neuron; got ReLU"),
    ],
)
def test_what_is_no_norm_or_neuron_is_refused(given, text):
    with pytest.raises(ranvier.Refusal, match=text):
        Normalised(*given)


def test_what_the_norm_and_the_neuron_refuse_is_refused():
    layer = Normalised(BatchNorm(4), ranvier.LIF(tau=torch.full((3,), 2.0)))
    with pytest.raises(ranvier.Refusal, match=r"BatchNorm: expected \[T, B, 4, \.\.\.\], time first; got shape"):
        layer(torch.zeros(5, 2, 3))
    with pytest.raises(ranvier.Refusal, match=r"LIF\.tau: expected a shape that broadcasts"):
        layer(torch.zeros(5, 2, 4))
    with pytest.raises(ranvier.Refusal, match=r"LIF: expected \[T, B, \.\.\.features\]"):
        layer(torch.zeros(5, 4))
    with pytest.raises(ranvier.Refusal, match="BatchNorm: expected at least two values of each channel in training"):
        Normalised(BatchNorm(4), ranvier.LIF())(torch.zeros(1, 1, 4))


@pytest.mark.skipif(INTERPRETED, reason="this is the interpreter")
def test_triton_kernels_keep_to_all_of_this_in_the_interpreter():
    pytest.importorskip("triton")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    found = subprocess.run(command, env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout[-5000:] + found.stderr[-2000:]
