"""Triton kernels without a GPU: compiled for one. What they compute, the interpreter shows (test_operations.py)."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import torch

import ranvier
from ranvier.compile import gpu
from ranvier.compile import triton as printer
from ranvier.compile.build import build_triton
from ranvier.compile.kernel import Variant, arguments, is_size, segment

triton = pytest.importorskip("triton")
pytestmark = pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="nothing is compiled there")
TYPES = {"float32": "fp32", "float64": "fp64", "bfloat16": "bf16", "float16": "fp16"}


def variant(neuron, io, backward, **options):
    steps = segment(neuron._program(()), torch.empty(100, device="meta"))
    rest = tuple(state.rest for state in neuron.states.values())
    usual = {"steps": steps, "columns": frozenset(), "checkpoints": not backward}
    return Variant(io, rest=rest, **usual | options)


def compiled(neuron, io, backward, whole=True, **options):
    program, made_for = neuron._program(("tau", "threshold")), variant(neuron, io, backward, **options)
    kernel = build_triton(printer.source(program, made_for, backward))
    types = {}
    for name in arguments(program, made_for, backward):
        stored = io if name in ("x", "y", "gx", "gy") else made_for.number
        types[printer.name(name)] = "i32" if is_size(name) else f"*{TYPES[stored]}"
    fixed = {"WHOLE": whole, "BLOCK": gpu.BLOCK}  # as a launch has them
    source = triton.compiler.ASTSource(kernel, {**types, **dict.fromkeys(fixed, "constexpr")}, fixed)
    hopper = triton.backends.compiler.GPUTarget("cuda", 90, 32)
    return triton.compile(source, target=hopper, options={"num_warps": gpu.WARPS, "enable_fp_fusion": True})


@pytest.mark.parametrize("io", ["float32", "bfloat16"])
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
def test_kernels_compile_for_hopper_and_keep_to_its_registers(io, backward, tmp_path):
    made = compiled(ranvier.LIF(), io, backward)
    (tmp_path / "kernel").write_bytes(made.asm["cubin"])
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    usage = subprocess.run([tool, "--dump-resource-usage", tmp_path / "kernel"], capture_output=True, text=True).stdout
    spilled = int(re.search(r"STACK:(\d+) ", usage)[1])  # bytes a thread
    # backward, a block of 512 neurons needs a few registers more than there are; 256 fit, and are slower on an H200
    assert spilled <= (128 if backward else 0) and "LOCAL:0 " in usage


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
def test_every_operation_compiles_also_for_numbers_alone_and_float64(backward):
    class Everything(ranvier.Neuron):
        """All operations, and outputs that are numbers: what the interpreter takes, the compiler may not."""

        random = True
        tau = ranvier.Parameter(2.0)
        threshold = ranvier.Parameter(1.0)
        v = ranvier.State()
        w = ranvier.State()
        k = ranvier.State()

        def step(self, x, v, w, k):
            v = torch.where((self.tau > 1) & ~(v > self.threshold) | (w == 0), v.tanh() + x.atan(), -w.erf())
            w = torch.maximum(x, w).clamp(0.1, 0.9).abs().sqrt() + torch.minimum(x, v).sign() * self.round(w)
            w = (
                w.log() * x.exp().sigmoid()
                + self.normal() * v.sin() / x.cos()
                + self.floor(w)
                + self.bernoulli(0.3 * x)
            )
            return self.spike(v - self.threshold), self.reset(v, w), torch.where(x < float("inf"), w, 0.0), self.tau

    options = {"record": ("v", "k"), "initial": True, "columns": frozenset({"threshold"}), "steps": 1}
    if backward:
        options |= {"final": True, "grad_initial": True}
    compiled(Everything(temporal_grad="none"), "float16", backward, whole=False, **options)
    compiled(Everything(), "float64", backward, whole=False, **options)


def test_the_text_does_not_depend_on_values_of_parameters_or_sizes():
    neuron, other = ranvier.LIF(), ranvier.LIF(tau=7.0)
    for backward in (False, True):
        texts = {
            printer.source(n._program(("tau",)), variant(n, "float32", backward), backward) for n in (neuron, other)
        }
        assert len(texts) == 1


@pytest.mark.parametrize("capability", [(6, 1), (5, 0)])
def test_a_gpu_too_old_for_triton_is_named_with_what_to_choose(capability, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "GeForce GTX 1080")
    neuron = ranvier.LIF()
    with pytest.raises(ranvier.Refusal, match=r"7\.0 or newer.*got GeForce GTX 1080 of \d\.\d.*backend\('reference'\)"):
        gpu.launcher(neuron._program(()), variant(neuron, "float32", False), False)


def test_without_triton_the_line_that_installs_it_is_said(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "triton", None)
    neuron = ranvier.LIF()
    with pytest.raises(ImportError, match=r"triton is not installed. Install it with: pip install 'triton"):
        gpu.launcher(neuron._program(()), variant(neuron, "float32", False), False)


def test_a_device_that_has_no_kernels_is_refused_with_what_to_choose():
    with pytest.raises(ranvier.Refusal, match=r"a CPU or a CUDA GPU; got one on meta.*backend\('reference'\)"):
        ranvier.LIF().to("meta")(torch.zeros(2, 1, 1, device="meta"))
