"""The time loop as an operation of autograd: what it keeps, copies, refuses and shares."""

import copy
import math
import os
import pickle
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import ranvier
from ranvier.compile.scan import wants_reference
from ranvier.core.checks import Refusal

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def learnt(features=(), **options):
    tau, threshold = (nn.Parameter(torch.full(features, v)) for v in (3.0, 0.8))
    return ranvier.LIF(tau=tau, threshold=threshold, **options)


def drive(*shape):
    return 2 * torch.rand(shape) + 0.1


# which backend runs


def test_backends_nest_and_are_put_back_after_errors():
    assert not wants_reference()
    with ranvier.backend("reference"):
        assert wants_reference()
        with ranvier.backend("fused"):
            assert not wants_reference()
        assert wants_reference()
        with pytest.raises(ZeroDivisionError), ranvier.backend("fused"):
            _ = 1 / 0
        assert wants_reference()
    assert not wants_reference()


def test_an_unknown_backend_is_refused_with_the_nearest():
    with (
        pytest.raises(Refusal, match=r"backend: expected 'fused' or 'reference'; got 'refrence'. Did you mean 'ref"),
        ranvier.backend("refrence"),
    ):
        pass


def test_a_backend_is_that_of_its_thread():
    inside, outside = threading.Event(), threading.Event()
    seen = []

    def other():
        inside.wait(30)
        seen.append(wants_reference())
        with ranvier.backend("fused"):
            outside.set()

    thread = threading.Thread(target=other)
    thread.start()
    with ranvier.backend("reference"):
        inside.set()
        outside.wait(30)
        assert wants_reference() and seen == [False]
    thread.join()


def test_transforms_of_torch_see_the_step_itself():
    """A kernel would drop a tangent without a word."""
    x = drive(5, 1, 2)
    layer = ranvier.LeakyIntegrator()
    fd = torch.autograd.forward_ad
    with fd.dual_level():
        y = fd.unpack_dual(layer(fd.make_dual(x, torch.ones_like(x))))
    assert torch.allclose(y.tangent, layer(torch.ones_like(x)))
    _, tangent = torch.func.jvp(layer, (x,), (torch.ones_like(x),))
    assert torch.allclose(tangent, y.tangent)


# what is kept and copied


class Copies(TorchDispatchMode):
    """How many elements were copied, by operations that do nothing else."""

    number = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket.__name__ in ("clone", "copy_", "contiguous", "_to_copy"):
            self.number += out.numel()
        return out


def saved(layer, x):
    """Bytes that the forward pass keeps for backward besides x itself."""
    kept = {}

    def pack(t):
        storage = t.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        y = layer(x)
    kept.pop(x.untyped_storage().data_ptr(), None)
    assert y.requires_grad
    return sum(kept.values())


@pytest.mark.parametrize(
    ("dtype", "most"), [(torch.float32, 0.07), (torch.float64, 0.07), (torch.bfloat16, 0.13)], ids=str
)
def test_backward_needs_the_input_and_the_states_now_and_then(dtype, most):
    x = drive(100, 4, 50).to(dtype).requires_grad_()
    share = saved(learnt(), x) / (x.numel() * x.element_size())
    assert share <= most, "6 checkpoints in 100 steps, in float32 at least"


def test_without_gradients_nothing_is_kept_at_all():
    x = drive(100, 4, 50)

    def no_pack(t):
        raise AssertionError("something was saved")

    with torch.autograd.graph.saved_tensors_hooks(no_pack, no_pack):
        assert not ranvier.LIF()(x).requires_grad  # nothing here is learnt
        with torch.no_grad():
            assert not learnt()(x.requires_grad_()).requires_grad
        with torch.inference_mode():
            learnt()(x)


def test_one_step_that_is_repeated_is_not_copied():
    x = drive(4, 50).requires_grad_()
    with Copies() as copies:
        y = learnt()(ranvier.Direct(100)(x[None]))
        y.mean(0).square().sum().backward()  # its gradient is one step repeated too
    assert copies.number < x.numel() * 20
    assert torch.allclose(x.grad, gradient_of_a_copy(x), rtol=1e-5, atol=1e-7)


def gradient_of_a_copy(x):
    whole = x.detach().expand(100, 4, 50).contiguous().requires_grad_()
    learnt()(whole).mean(0).square().sum().backward()
    return whole.grad.sum(0)


def test_contiguous_input_states_and_parameters_are_not_copied():
    layer, x = learnt((50,)), drive(30, 4, 50)
    _, state = ranvier.run(layer, x)
    state = {k: v.detach() for k, v in state.items()}
    with Copies() as copies:
        y, _ = ranvier.run(layer, x, state)
    assert copies.number == 0
    weights = torch.randn_like(y)
    with Copies() as copies:
        torch.autograd.grad(y, list(layer.parameters()), weights)
    assert copies.number == 0


# gradients


def test_a_second_derivative_is_refused_with_what_to_do():
    x = drive(5, 2, 3).requires_grad_()
    with pytest.raises(Refusal, match=r"a first derivative; got create_graph=True\. .*backend\('reference'\)"):
        torch.autograd.grad(learnt()(x).sum(), x, create_graph=True)
    with ranvier.backend("reference"):
        y = ranvier.LeakyIntegrator()(x)
    (first,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    assert torch.autograd.grad(first.sum(), x)[0].any()


def test_backward_twice_needs_retain_graph_as_in_torch():
    x = drive(20, 2, 3).requires_grad_()
    y = learnt()(x)
    first = torch.autograd.grad(y.sum(), x, retain_graph=True)[0]
    assert torch.equal(torch.autograd.grad(y.sum(), x)[0], first)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(y.sum(), x)


def test_an_input_changed_in_place_is_noticed():
    x = drive(20, 2, 3)
    y = learnt()(x)
    x.mul_(2.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.parametrize("wanted", ["x", "v", "tau", "threshold"])
def test_gradients_come_for_what_needs_them_alone(wanted):
    def leaves():
        torch.manual_seed(0)
        return {"x": drive(20, 2, 3), "v": torch.rand(2, 3), "tau": torch.tensor(3.0), "threshold": torch.tensor(0.8)}

    def gradient(names):
        given = {k: v.requires_grad_(k in names) for k, v in leaves().items()}
        parameters = {k: nn.Parameter(given[k]) if k in names else given[k] for k in ("tau", "threshold")}
        layer = ranvier.LIF(**parameters)
        y, state = ranvier.run(layer, given["x"], {"v": given["v"]})
        (y.sum() + state["v"].square().sum()).backward()
        found = {"x": given["x"].grad, "v": given["v"].grad, "tau": layer.tau.grad, "threshold": layer.threshold.grad}
        assert {k for k, g in found.items() if g is not None} == set(names)
        return found[wanted]

    # not to the bit: with fewer results the compiler joins other products and sums
    assert torch.allclose(gradient([wanted]), gradient(["x", "v", "tau", "threshold"]), rtol=1e-5)


def test_a_parameter_may_be_shared_by_neurons_and_have_another_dtype():
    tau = nn.Parameter(torch.full((3,), 3.0, dtype=torch.float64))
    net = nn.Sequential(ranvier.LIF(tau=tau), ranvier.LIF(tau=tau))
    net(drive(20, 2, 3)).sum().backward()
    assert tau.grad.dtype == torch.float64 and tau.grad.any()
    half = ranvier.LIF(tau=nn.Parameter(torch.full((3,), 3.0, dtype=torch.bfloat16)))
    half(drive(20, 2, 3)).sum().backward()
    assert half.tau.grad.dtype == torch.bfloat16


def test_hooks_and_retained_gradients_of_states_and_records():
    x = drive(20, 2, 3)
    layer = learnt()
    y, state, seen = ranvier.run(layer, x, record=("v",))
    state["v"].retain_grad()
    seen["v"].retain_grad()
    (state["v"].sum() + seen["v"].square().sum()).backward()  # the output has no gradient
    assert (state["v"].grad == 1).all() and torch.equal(seen["v"].grad, 2 * seen["v"]) and layer.tau.grad.any()
    assert torch.equal(seen["v"][-1], state["v"]) and y.requires_grad


def test_anomaly_mode_and_autocast_change_nothing():
    x = drive(20, 2, 3).requires_grad_()
    plain = torch.autograd.grad(learnt()(x).sum(), x)[0]
    with torch.autograd.detect_anomaly(check_nan=True), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(torch.autograd.grad(learnt()(x).sum(), x)[0], plain)


# what is refused


def test_integers_and_other_dtypes_are_refused_by_name():
    with pytest.raises(Refusal, match=r"floating-point input; got torch\.int64"):
        ranvier.LIF()(torch.ones(3, 1, 1, dtype=torch.int64))
    with pytest.raises(Refusal, match=r"expected one of .*float32.*; got torch\.float8_e5m2\. Convert"):
        ranvier.LIF()(torch.ones(3, 1, 1).to(torch.float8_e5m2))


def test_parameters_on_another_device_are_refused_by_name():
    layer = ranvier.LIF()
    layer.threshold = layer.threshold.to("meta")
    with pytest.raises(Refusal, match=r"parameter 'threshold': expected cpu, where the input is; got meta.*model\.to"):
        layer(drive(3, 1, 2))


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (torch.zeros(1, 2), r"expected \(2, 2\) torch\.float32 on cpu; got \(1, 2\) torch\.float32"),
        (torch.zeros(2, 2, dtype=torch.float64), r"got \(2, 2\) torch\.float64"),
        (torch.zeros(2, 2, device="meta"), r"got \(2, 2\) torch\.float32 on meta"),
    ],
)
def test_a_state_of_another_shape_dtype_or_device_is_refused(state, text):
    """A kernel would read past its end."""
    with pytest.raises(Refusal, match=text):
        ranvier.LIF().advance(drive(3, 2, 2), {"v": state})
    if state.device.type != "meta":
        with pytest.raises(Refusal, match="state 'v'"):
            ranvier.run(ranvier.LIF(), drive(3, 2, 2), {"v": state})


def test_a_learnt_value_that_left_its_bounds_counts_as_the_bound():
    layer = ranvier.LIF(tau=nn.Parameter(torch.tensor(2.0)))
    layer.tau.data.fill_(0.2)  # an optimiser's step too far; below 1 the membrane would swing
    x = drive(20, 2, 3)
    y = layer(x)
    assert torch.equal(y, ranvier.LIF(tau=1.0)(x))
    y.sum().backward()
    assert layer.tau.grad.isfinite()


# several at once


@pytest.fixture
def four_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.skipif(INTERPRETED, reason="the interpreter takes one at a time")
def test_threads_that_train_at_once_find_what_each_finds_alone(four_threads):
    lock = threading.Lock()

    def trained(seed):
        with lock:  # torch's seed is global
            torch.manual_seed(seed)
            net = nn.Sequential(nn.Linear(6, 300), learnt((300,)), nn.Linear(300, 2), ranvier.LeakyIntegrator())
        optimiser = torch.optim.SGD(net.parameters(), 0.01)
        generator = torch.Generator().manual_seed(seed)
        for _ in range(6):
            optimiser.zero_grad()
            net(torch.rand(20, 32, 6, generator=generator)).square().mean().backward()
            optimiser.step()
        return [p.detach() for p in net.parameters()]

    alone = [trained(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(trained, [0, 1, 2, 3] * 2))
    for expected, actual in zip(alone * 2, together, strict=True):
        assert all(torch.allclose(e, a, rtol=1e-5, atol=1e-7) for e, a in zip(expected, actual, strict=True))


def test_the_number_of_threads_changes_no_bit(four_threads):
    x = drive(40, 8, 1041).requires_grad_()

    def results():
        layer = learnt((1041,))
        y, state = ranvier.run(layer, x)
        return [y, state["v"], *torch.autograd.grad(y.sum() + state["v"].sum(), [x, *layer.parameters()])]

    four = results()
    torch.set_num_threads(1)
    assert all(torch.equal(a, b) for a, b in zip(four, results(), strict=True))


def test_threads_that_make_neurons_of_different_kinds_at_once_get_their_own(monkeypatch):
    """The name of an equation is never given twice."""
    kinds = [{"dt": 0.5 + i / 64, "reset_mode": m} for i in range(24) for m in ("zero", "subtract")]
    start = threading.Barrier(8)
    x = torch.full((6, 1, 1), 1.7)

    def make(worker):
        start.wait()
        return [ranvier.LIF(tau=2.0, **kind)(x) for kind in kinds[worker::8]]

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(make, range(8)))
    with ranvier.backend("reference"):
        for worker, found in enumerate(made):
            for kind, y in zip(kinds[worker::8], found, strict=True):
                assert torch.equal(y, ranvier.LIF(tau=2.0, **kind)(x))


def copied(layer, how):
    return copy.deepcopy(layer) if how == "deepcopy" else pickle.loads(pickle.dumps(layer))


@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
def test_copies_compute_the_same_and_learn_on_their_own(how):
    layer, x = learnt((3,), reset_mode="subtract"), drive(20, 2, 3)
    layer(x).sum().backward()
    other = copied(layer, how)
    assert torch.equal(other(x), layer(x))
    with torch.no_grad():
        other.threshold.fill_(0.1)
    assert not torch.equal(other(x), layer(x))


@pytest.mark.skipif(INTERPRETED, reason="the interpreter has no threads to lose")
def test_a_forked_child_runs_kernels_on_threads_of_its_own(four_threads):
    x, weights = drive(40, 8, 1041), torch.ones(40, 8, 1041)
    expected = ranvier.LIF()(x).numpy()  # the parent's threads are there now
    child = os.fork()
    if child == 0:
        # OpenMP's threads do not outlive a fork: what torch itself shares out among threads would wait for ever
        signal.alarm(60)
        layer = learnt()
        layer(x).backward(weights)
        os._exit(0 if (ranvier.LIF()(x).numpy() == expected).all() and layer.tau.grad.isfinite() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


class Spikes(torch.utils.data.Dataset):
    def __len__(self):
        return 6

    def __getitem__(self, i):
        return ranvier.LIF()(torch.full((40, 8, 1041), 1 + i / 6))


@pytest.mark.skipif(INTERPRETED, reason="the interpreter has no threads to lose")
def test_workers_of_a_data_loader_run_kernels(four_threads):
    expected = torch.stack([Spikes()[i] for i in range(6)])
    loader = torch.utils.data.DataLoader(Spikes(), batch_size=3, num_workers=2, multiprocessing_context="fork")
    batches = list(loader)  # all at once: none may be in memory that a later one has taken
    assert torch.equal(torch.cat(batches), expected)


# sizes


def test_each_size_has_its_plan_and_all_share_one_program():
    layer = learnt()
    traced = []
    program = type(layer)._program

    def counted(self, names):
        traced.append(names)
        return program(self, names)

    class Own(ranvier.LIF):
        _program = counted

    own = Own(tau=nn.Parameter(torch.tensor(3.0)))
    for batch in (1, 2, 3):
        for features in ((4,), (2, 3)):
            own(drive(5, batch, *features)).sum().backward()
            with torch.no_grad():
                own(drive(5, batch, *features))
    assert sorted(traced) == [(), ("tau",)]


def test_long_sequences_of_large_numbers_and_nan_stay_where_they_are():
    x = drive(50, 2, 20)
    x[10, 0, 3] = math.nan
    x[20, 1, 5] = math.inf
    y = ranvier.LIF()(x)
    clean = x.clone()
    clean[10, 0, 3] = clean[20, 1, 5] = 0.0
    touched = torch.zeros(2, 20, dtype=torch.bool)
    touched[0, 3] = touched[1, 5] = True
    assert torch.equal(y[:, ~touched], ranvier.LIF()(clean)[:, ~touched])
