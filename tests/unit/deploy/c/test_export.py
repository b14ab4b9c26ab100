"""An exported file compiles without a warning and answers as the engine, or as the reference to the bit."""

import ctypes
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ranvier
from ranvier.core.checks import Refusal
from ranvier.core.discovery import discover
from ranvier.deploy.c.cortex_m import absent, measured
from ranvier.deploy.c.export import export
from ranvier.deploy.c.kinds import Printed
from ranvier.deploy.engine.program import compile
from ranvier.deploy.fixed_point.reference import Reference
from ranvier.deploy.operations import KINDS, operations
from ranvier.nn.neurons.neuron import Neuron

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
Network = tuple[nn.Module, tuple[int, ...]]
Answers = Callable[..., str]
NEURONS = {
    name: thing.load() for name, thing in discover("ranvier.nn.neurons", "neuron").items() if not thing.load().random
}
LOUD = {"izhikevich": 60.0, "adex": 30.0, "exponential-if": 30.0}


@pytest.mark.parametrize("numbers", ["float32", "int16", "int8"])
def test_it_answers_as_in_python(
    network: Network, steps: Callable[..., Tensor], numbers: str, tmp_path: Path, answers: Answers
) -> None:
    model, shape = network
    x = steps(12, 2, *shape)
    done = export(compile(model, shape, skip=False), tmp_path / "network.c", numbers, test=x)
    assert "0 differ" in answers(done.path)


def test_every_operation_is_among_these(networks: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]]) -> None:
    programs = [compile(make(), shape, skip=False) for make, shape in networks.values()]
    assert {op.kind for program in programs for op in operations(program.lowered)} == KINDS


@pytest.mark.parametrize("kind", NEURONS.values(), ids=NEURONS)
def test_every_neuron_is_written(kind: type[Neuron], tmp_path: Path, answers: Answers) -> None:
    """In floats with and without libm; in whole numbers, or refused by what stands in the way."""
    scale = LOUD.get(next(n for n, k in NEURONS.items() if k is kind), 3.0)
    exact = {"reset_mode": "subtract", "discretisation": "exact"}
    for numbers, libm, options in (("float32", True, {}), ("float32", False, exact), ("int16", True, exact)):
        layers = [ranvier.Linear(5, 8), ranvier.Scale(scale), kind(**options), ranvier.Linear(8, 3), ranvier.LIF()]
        program, x = compile(nn.Sequential(*layers), [5], skip=False), torch.rand(16, 2, 5)
        try:
            done = export(program, tmp_path / "neuron.c", numbers, test=x, libm=libm)
        except Refusal as why:
            assert numbers == "int16" and re.search("(of|by) what changes", str(why))
        else:
            assert libm or "math.h" not in done.path.read_text()
            assert "0 differ" in answers(done.path)


def test_every_membrane_of_every_step_is_that_of_the_reference(tmp_path: Path) -> None:
    """Beside the digest that each file carries: array by array, in numbers."""
    model = nn.Sequential(ranvier.Linear(6, 9), ranvier.AdaptiveLIF(threshold=0.3), ranvier.Linear(9, 4), ranvier.LIF())
    program, x = compile(model, [6], skip=False), torch.randn(40, 1, 6)
    done = export(program, tmp_path / "net.c", "int8", calibration=x)
    library = tmp_path / "net.so"
    subprocess.run(["gcc", "-std=c99", "-shared", "-fPIC", "-DNET_OWN=", str(done.path), "-o", library], check=True)
    net, printed, reference = ctypes.CDLL(str(library)), Printed(program, done.fixed), Reference(done.fixed, 1)
    kinds = {"int32_t": ctypes.c_int32, "int16_t": ctypes.c_int16, "uint8_t": ctypes.c_uint8}
    net.net_reset()
    y, compared = (ctypes.c_int32 * 4)(), 0
    for frame in reference.quantised(x.numpy().reshape(40, 1, 6)):
        expected = reference.step(frame)
        assert net.net_step(frame[0].astype(np.int16).ctypes.data_as(ctypes.c_void_p), y) == 1
        assert list(y) == expected[0].tolist()
        for number in done.fixed.memory.values():
            own = (kinds[printed.type(number)] * printed.arrays[number].size).in_dll(net, printed.name(number))
            assert list(own) == reference.values[number][0].tolist()
            compared += len(own)
    assert compared >= 40 * (2 * 9 + 4)


def test_a_second_sequence_starts_at_rest(tmp_path: Path, answers: Answers) -> None:
    model = nn.Sequential(ranvier.Izhikevich(), ranvier.Linear(4, 2), ranvier.LeakyIntegrator())
    x = (30 * torch.rand(30, 1, 4)).expand(30, 3, 4).contiguous()
    for numbers in ("float32", "int16"):
        assert "0 differ" in answers(export(compile(model, [4], skip=False), tmp_path / "a.c", numbers, test=x).path)


def test_a_wrong_answer_is_noticed(tmp_path: Path) -> None:
    model = nn.Sequential(ranvier.Linear(3, 4), ranvier.LIF(threshold=0.1))
    for numbers in ("float32", "int8"):
        path = export(compile(model, [3], skip=False), tmp_path / "a.c", numbers, test=torch.randn(20, 1, 3)).path
        path.write_text(path.read_text().replace("+= w[j]", "+= 2 * w[j]").replace("+= v * w[j]", "-= v * w[j]"))
        subprocess.run(["gcc", "-DA_TEST", str(path), "-o", str(tmp_path / "a")], check=True)
        assert subprocess.run([str(tmp_path / "a")], stdout=subprocess.DEVNULL).returncode == 1


def test_numbers_beyond_the_calibration_are_clipped_and_not_wrapped(tmp_path: Path, answers: Answers) -> None:
    model = nn.Sequential(ranvier.Linear(6, 9), ranvier.LeakyIntegrator(), ranvier.Linear(9, 4), ranvier.IF())
    x = torch.cat([torch.randn(20, 2, 6), 1e6 * torch.randn(20, 2, 6)])
    program = compile(model, [6], skip=False)
    for numbers in ("int16", "int8"):
        done = export(program, tmp_path / "a.c", numbers, test=x, calibration=x[:20])
        assert "0 differ" in answers(done.path)


def test_the_engines_own_rest_is_refused_by_what_to_do() -> None:
    model = nn.Sequential(ranvier.Conv2d(1, 2, 3), ranvier.LIF(), nn.Flatten(2), ranvier.Linear(32, 2))
    with pytest.raises(Refusal, match="skip=False"):
        export(compile(model, [1, 6, 6]), "a.c")


def test_refusals(tmp_path: Path) -> None:
    program = compile(
        nn.Sequential(ranvier.Linear(3, 2), ranvier.LIF(), ranvier.RateDecoder(), nn.ReLU()), [3], skip=False
    )
    x = torch.rand(4, 1, 3)
    with pytest.raises(Refusal, match="ReLU: expected Scale with one number alone behind the decoder"):
        export(program, tmp_path / "a.c", test=x)
    plain = compile(nn.Sequential(ranvier.Linear(3, 2), ranvier.LIF()), [3], skip=False)
    with pytest.raises(Refusal, match="stem is a name in C"):
        export(plain, tmp_path / "my-network.c")
    with pytest.raises(Refusal, match="float32 or int16 or int8; got 'int4'"):
        export(plain, tmp_path / "a.c", "int4", test=x)
    with pytest.raises(Refusal, match="calibration=x"):
        export(plain, tmp_path / "a.c", "int8")
    with pytest.raises(Refusal, match="finite data; got NaN"):
        export(plain, tmp_path / "a.c", "int8", calibration=x * float("nan"))
    adex = compile(nn.Sequential(ranvier.Linear(3, 2), ranvier.AdEx()), [3], skip=False)
    with pytest.raises(Refusal, match=r"got exp of what changes\. Export with numbers='float32', or use .* LIF"):
        export(adex, tmp_path / "a.c", "int8", test=x)


@pytest.mark.skipif(bool(absent()), reason=f"not installed: {', '.join(absent())}")
@pytest.mark.parametrize(("numbers", "cpu"), [("float32", "cortex-m4"), ("int8", "cortex-m4"), ("int8", "cortex-m0")])
def test_it_runs_on_an_emulated_microcontroller(numbers: str, cpu: str, tmp_path: Path) -> None:
    first = [ranvier.Linear(40, 64), ranvier.LIF(threshold=0.2), ranvier.Linear(64, 4), ranvier.LeakyIntegrator()]
    model = nn.Sequential(*first, ranvier.RateDecoder())
    x = torch.bernoulli(torch.full((20, 2, 40), 0.2))
    done = export(compile(model, [40], skip=False), tmp_path / "small.c", numbers, test=x)
    found = measured(done.path, cpu)
    assert found.passed, found.printed
    weights = 40 * 64 + 64 * 4
    size = 1 if numbers == "int8" else 4
    assert weights * size < found.flash < weights * size + 4000 and 64 * 4 < found.ram < 4000
    assert 64 < found.instructions <= found.most < 40_000
    assert f"flash {found.flash} bytes" in str(found)


def test_what_is_missing_or_unknown_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = compile(nn.Sequential(ranvier.Linear(3, 2), ranvier.LIF()), [3], skip=False)
    path = export(plain, tmp_path / "a.c").path
    with pytest.raises(Refusal, match="cortex-m0 or cortex-m3"):
        measured(path, "z80")
    if not absent():
        with pytest.raises(Refusal, match="Export it with test=x"):
            measured(path)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(Refusal, match="apt-get install gcc-arm-none-eabi"):
        measured(path)
