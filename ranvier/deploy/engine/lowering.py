"""A model as a flat list of the engine's operations: each layer says what it becomes."""

from collections.abc import Sequence
from functools import singledispatch
from math import prod
from typing import Any

import numpy as np
from torch import nn

from ranvier.compile.advance import address, prepared, resting
from ranvier.compile.llvm_operations import LANES
from ranvier.compile.program import Program as Step
from ranvier.core.checks import Refusal
from ranvier.deploy.engine import kernels as k
from ranvier.deploy.engine.lowered import At, Lowered, Signal, Stepping, Word, channels_last, numbers
from ranvier.deploy.engine.runs import Runs, convolution_runs, pool_runs
from ranvier.models.recordings import Standardise
from ranvier.nn.coding.direct import Direct
from ranvier.nn.fold import Fold
from ranvier.nn.neurons.neuron import Neuron
from ranvier.nn.synapses.delay_line import DelayLine
from ranvier.nn.synapses.delayed_linear import DelayedLinear
from ranvier.nn.synapses.pool import AvgPool2d, MaxPool2d, SumPool2d, TimePool
from ranvier.nn.synapses.recurrent import Recurrent
from ranvier.nn.synapses.scale import Scale
from ranvier.nn.synapses.sparse import SparseLinear


@singledispatch
def lower(module: nn.Module, program: Lowered, x: Signal, name: str) -> Signal:
    """Append what the module computes of a step x; its output."""
    inner = "its layers in one nn.Sequential" if list(module.children()) else "layers that the engine knows"
    raise Refusal(
        f"{name or 'model'} ({type(module).__name__})",
        expected=inner,
        got="a module with a forward of its own",
        do="Linear, Conv, pooling, DelayLine, DelayedLinear, SparseLinear, Recurrent, Scale, norms that fold, and any neuron are supported.",
    )


@lower.register(nn.Identity)
@lower.register(nn.Dropout)
@lower.register(nn.Dropout2d)
@lower.register(Direct)
def _(module: nn.Module, program: Lowered, x: Signal, name: str) -> Signal:
    return x


@lower.register
def _(module: nn.Sequential, program: Lowered, x: Signal, name: str) -> Signal:
    for child, layer in module.named_children():
        x = lower(layer, program, x, f"{name}.{child}" if name else child)
    return x


@lower.register
def _(module: Fold, program: Lowered, x: Signal, name: str) -> Signal:
    return lower(module.inner, program, x, f"{name}.inner" if name else "inner")


@lower.register
def _(module: nn.Flatten, program: Lowered, x: Signal, name: str) -> Signal:
    if module.start_dim not in (1, 2) or module.end_dim != -1:
        raise Refusal(name, expected="a Flatten of all features", got=str(module), do="Write nn.Flatten(2).")
    return _shaped(x, (x.size,))


@lower.register
def _(module: nn.Unflatten, program: Lowered, x: Signal, name: str) -> Signal:
    axis = int(module.dim) - 2
    sizes: tuple[int, ...] = tuple(module.unflattened_size)
    shape = list(x.shape)
    shape[axis : axis + 1] = sizes
    return _shaped(x, shape)


def _shaped(x: Signal, shape: Sequence[int]) -> Signal:
    return Signal(tuple(shape), x.order, x.value, x.index, x.mark, x.listed)


def _bias(module: Any, outputs: int) -> np.ndarray:
    return np.zeros(outputs, np.float32) if module.bias is None else numbers(module.bias)


@lower.register
def _(module: nn.Linear, program: Lowered, x: Signal, name: str) -> Signal:
    y = program.signal((module.out_features,), listed=False)
    _linear(program, module, x, y, name, program.fixed(_bias(module, module.out_features)))
    return y


def _linear(program: Lowered, module: nn.Linear, x: Signal, y: Signal, name: str, bias: Word) -> None:
    if x.shape != (module.in_features,):
        raise _refuse_shape(module, name, f"[{module.in_features}]", x)
    rows = np.empty((x.size, y.size), np.float32)
    rows[x.order] = numbers(module.weight).T
    program.active(x)
    program.op(k.DENSE, *x.words, program.fixed(rows), y.size, y.value, bias)


def _refuse_shape(module: nn.Module, name: str, expected: str, x: Signal) -> Refusal:
    return Refusal(
        f"{name or 'model'} ({type(module).__name__})",
        expected=f"a step of shape {expected}",
        got=str(list(x.shape)),
        do="Give compile the shape of one step's features, without time and batch.",
    )


@lower.register(nn.Conv1d)
@lower.register(nn.Conv2d)
def _(module: nn.Conv1d | nn.Conv2d, program: Lowered, x: Signal, name: str) -> Signal:
    axes = len(module.kernel_size)
    if len(x.shape) != 1 + axes or x.shape[0] != module.in_channels:
        raise _refuse_shape(module, name, f"[{module.in_channels}, {'L' if axes == 1 else 'H, W'}]", x)
    if module.padding_mode != "zeros":
        raise Refusal(
            f"{name} ({type(module).__name__})",
            expected="padding with zeros",
            got=module.padding_mode,
            do="Pad the data.",
        )
    around = (0,) * axes if module.padding == "valid" else module.padding
    if isinstance(around, str):
        sides = module._reversed_padding_repeated_twice
        around = tuple(sides[2 * (axes - 1 - a)] for a in range(axes))
        ends = tuple(sides[2 * (axes - 1 - a) + 1] for a in range(axes))
    else:
        ends = tuple(around)
    runs, weights, out = convolution_runs(
        x.shape[1:], numbers(module.weight), module.stride, tuple(around), ends, module.dilation, module.groups
    )
    shape = (module.out_channels, *out)
    y = program.signal(shape, channels_last(shape), listed=False)
    bias = np.tile(_bias(module, module.out_channels), prod(out))
    x = program.active(program.by_place(x))
    program.op(k.FILL, y.value, program.fixed(bias), y.size)
    _scatter(program, x, runs, weights, y)
    return y


def _scatter(
    program: Lowered, x: Signal, runs: Runs, weights: np.ndarray, y: Signal, ring: int = 0, head: Word = 0
) -> None:
    program.active(x)
    where = runs.channels, program.fixed(runs.starts), program.fixed(runs.rows)
    program.op(
        k.SCATTER, *x.words, *where, program.fixed(weights), runs.weight_step, runs.out_step, y.value, ring, head
    )


@lower.register(AvgPool2d)
@lower.register(SumPool2d)
def _(module: AvgPool2d | SumPool2d, program: Lowered, x: Signal, name: str) -> Signal:
    runs, out = _pooled(module, x, name)
    share = 1.0 if isinstance(module, SumPool2d) else module.size**-2
    y = program.signal(out, channels_last(out), listed=False)
    x = program.active(program.by_place(x))
    program.op(k.FILL, y.value, program.fixed(np.zeros(y.size, np.float32)), y.size)
    _scatter(program, x, runs, np.array([share], np.float32), y)
    return y


@lower.register
def _(module: MaxPool2d, program: Lowered, x: Signal, name: str) -> Signal:
    runs, out = _pooled(module, x, name)
    x = program.active(program.by_place(x))
    y = program.signal(out, channels_last(out))
    where = runs.channels, program.fixed(runs.starts), program.fixed(runs.rows)
    program.op(k.MAXIMUM, *x.words, *where, y.value, y.index, y.mark, y.size)
    return y


def _pooled(module: Any, x: Signal, name: str) -> tuple[Runs, tuple[int, ...]]:
    if len(x.shape) != 3:
        raise _refuse_shape(module, name, "[C, H, W]", x)
    return pool_runs(x.shape, module.size, module.stride)


@lower.register
def _(module: Neuron, program: Lowered, x: Signal, name: str) -> Signal:
    return _neuron(program, module, x, name, program.signal(x.shape, x.order))


def _neuron(program: Lowered, module: Neuron, x: Signal, name: str, y: Signal) -> Signal:
    if module.random:
        raise Refusal(
            f"{name} ({type(module).__name__})",
            expected="a neuron without chance",
            got="one that draws random numbers",
            do="Use the neuron that it becomes in the mean, as LIF.",
        )
    step = module._program(())
    values = {}
    for key, value in zip(module.declared, module._values(), strict=True):
        own = numbers(value)
        if own.size > 1:
            spread = np.broadcast_to(own, x.shape).reshape(-1)
            own = np.empty(x.size, np.float32)
            own[x.order] = spread
        values[key] = own
    call, fixed = prepared(step, values, x.size)
    program.kept.append(call)
    states = [
        program.memory(np.full(x.size, s.rest, np.float32), f"{name}.{key}" if name else key)
        for key, s in module.states.items()
    ]
    given = [program.fixed(f) for f in fixed]
    table: list[Word] = [x.size, 0, y.index, y.mark, x.value, *states, *given, y.value, *states]
    program.neurons.append(Stepping(step, x.value, tuple(states), tuple(given), y))
    ones, vectors = int(module.spiking and step.output.op == "spike"), -(-x.size // LANES)
    common: tuple[Word, ...] = (address(call), program.memory(table), vectors, y.mark, ones)
    if not _rests(program, step, values, x, common, states, name):
        program.op(k.NEURON, *common)
    return y


def _rests(
    program: Lowered,
    step: Step,
    values: dict[str, np.ndarray],
    x: Signal,
    common: tuple[Word, ...],
    states: list[At],
    name: str,
) -> bool:
    """Let neurons behind a synapse that reaches few of them rest in silence, where their step allows it."""
    codes = [op[0] for op in program.ops[-2:]]
    if not program.skip or codes != [k.FILL, k.SCATTER] or program.ops[-2][1] != x.value:
        return False
    bias = program.ops[-2][2]
    assert isinstance(bias, At)
    still = program.arrays[bias.number]
    assert isinstance(still, np.ndarray)
    rest = resting(step, values, still)
    if rest is None:
        return False
    vectors, prefix = int(common[2]), f"{name}." if name else ""  # type: ignore[arg-type]
    program.arrays[x.value.number] = still.copy()
    program.states[f"{prefix}current"] = x.value.number
    touched = program.memory(np.zeros(1 + 2 * vectors, np.int32), f"{prefix}awake")
    stamps = program.memory(np.zeros(vectors + 1, np.int64), f"{prefix}reached")
    del program.ops[-2]
    program.ops[-1][14:16] = [touched, vectors]
    course = (program.fixed(part) for part in (rest.decay, rest.point, rest.slope))
    program.op(k.RESTING, *common, touched, stamps, x.size, x.value, bias, *course, states[0])
    return True


@lower.register
def _(module: Recurrent, program: Lowered, x: Signal, name: str) -> Signal:
    if not isinstance(module.synapse, nn.Linear):
        raise Refusal(
            f"{name} (Recurrent)",
            expected="a Linear synapse",
            got=type(module.synapse).__name__,
            do="Write the connections as a Linear with zeros.",
        )
    if x.listed:  # what comes in is not ours to add to
        own_x = program.signal(x.shape, x.order, listed=False)
        program.op(k.FILL, own_x.value, x.value, x.size)
        x = own_x
    z = program.signal(x.shape, x.order, state=f"{name}.z" if name else "z")
    if module.synapse.bias is not None:
        own = np.empty(x.size, np.float32)
        own[x.order] = numbers(module.synapse.bias)
        one = program.signal((1,), listed=True)
        program.arrays[one.value.number] = np.ones(1, np.float32)
        program.arrays[one.mark.number] = np.array([1, 1], np.int64)
        program.op(k.DENSE, *one.words, program.fixed(own[None]), x.size, x.value, 0)
    _linear(program, module.synapse, z, x, name, 0)
    return _neuron(program, module.neuron, x, name, z)


@lower.register
def _(module: DelayLine, program: Lowered, x: Signal, name: str) -> Signal:
    slots, count = max(module.delays) + 1, len(module.delays)
    prefix = f"{name}." if name else ""
    past = program.memory(np.zeros((slots, x.size), np.float32), f"{prefix}past")
    head = program.memory(np.zeros(1, np.int64), f"{prefix}head")
    order = np.concatenate([x.order + d * x.size for d in range(count)]).astype(np.int32)
    y = program.signal((x.shape[0] * count, *x.shape[1:]), order)
    delays = program.fixed(np.array(module.delays, np.int32))
    program.op(k.ECHO, *x.words, past, delays, count, slots, head, y.value, y.index, y.mark)
    return y


@lower.register
def _(module: Scale, program: Lowered, x: Signal, name: str) -> Signal:
    return program.moved(x, x.order, np.broadcast_to(numbers(module.scale), x.shape).reshape(-1))


@lower.register
def _(module: Standardise, program: Lowered, x: Signal, name: str) -> Signal:
    if x.shape != module.shape:
        raise _refuse_shape(module, name, str(list(module.shape)), x)
    mean, scale = (np.broadcast_to(numbers(part), x.shape).reshape(-1) for part in (module.mean, module.scale))
    if not mean.any():  # what is silent stays silent
        return program.moved(x, x.order, scale)
    program.active(x)
    y = program.signal(x.shape, x.order, listed=False)
    rest = np.empty(x.size, np.float32)
    rest[x.order] = -mean * scale
    program.op(k.FILL, y.value, program.fixed(rest), y.size)
    runs, weights = Runs.of_pairs(x.order, x.order, scale, x.size)
    _scatter(program, x, runs, weights, y)
    return y


@lower.register
def _(module: TimePool, program: Lowered, x: Signal, name: str) -> Signal:
    program.active(x)
    prefix = f"{name}." if name else ""
    total = program.memory(np.zeros(x.size, np.float32), f"{prefix}sum")
    phase = program.memory(np.zeros(1, np.int64), f"{prefix}phase")
    y = program.signal(x.shape, x.order)
    program.op(k.TIME_POOL, *x.words, total, phase, module.size, y.value, y.index, y.mark)
    program.every *= module.size
    return y


@lower.register
def _(module: SparseLinear, program: Lowered, x: Signal, name: str) -> Signal:
    if x.shape != (module.in_features,):
        raise _refuse_shape(module, name, f"[{module.in_features}]", x)
    source = x.order[module.index.numpy()]
    target = np.repeat(np.arange(module.out_features), np.diff(module.pointer.numpy()))
    runs, weights = Runs.of_pairs(source, target, numbers(module.weight), x.size)
    y = program.signal((module.out_features,), listed=False)
    program.active(x)
    program.op(k.FILL, y.value, program.fixed(_bias(module, module.out_features)), y.size)
    _scatter(program, x, runs, weights, y)
    return y


@lower.register
def _(module: DelayedLinear, program: Lowered, x: Signal, name: str) -> Signal:
    if x.shape != (module.in_features,):
        raise _refuse_shape(module, name, f"[{module.in_features}]", x)
    if module.kind != "rounded" or module.pad:
        raise Refusal(
            f"{name} (DelayedLinear)",
            expected="delays of whole steps, and pad=0",
            got=f"kind={module.kind!r}, pad={module.pad}",
            do="Replace it by layer.rounded().",
        )
    outputs, slots = module.out_features, module.max_delay + 1
    delays = module.delays().numpy()
    source = np.tile(x.order, outputs)
    target = (delays * outputs + np.arange(outputs)[:, None]).reshape(-1)
    runs, weights = Runs.of_pairs(source, target, numbers(module.weight).reshape(-1), x.size, outputs)
    prefix = f"{name}." if name else ""
    ring = program.memory(np.zeros(slots * outputs, np.float32), f"{prefix}coming")
    head = program.memory(np.zeros(1, np.int64), f"{prefix}head")
    y = program.signal((outputs,), listed=False)
    future = Signal((slots * outputs,), y.order, ring, y.index, y.mark, False)
    _scatter(program, x, runs, weights, future, slots * outputs, head)
    program.op(k.ARRIVE, ring, head, outputs, slots * outputs, y.value, program.fixed(_bias(module, outputs)))
    return y
