"""A delayed linear layer on the CPU: by its spikes where they are few, by tiles or frequencies where they are many."""

from dataclasses import dataclass
from math import log, sqrt
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ranvier.compile.buffers import empty
from ranvier.ops.delayed_linear import dense, kernels, spectrum
from ranvier.ops.delayed_linear.shapes import LEAST
from ranvier.ops.delayed_linear.vectors import GROUP, LANES, STEPS
from ranvier.ops.spike_pack.cpu import pack

if TYPE_CHECKING:
    from ranvier.ops.delayed_linear import Window

REACH = sqrt(2 * 24 * log(2))
"""Widths from its centre at which a Gaussian falls to 2^-24, beyond which a float32 sum doesn't see it."""
# ns on one core of a Zen 4, for which `benchmarks/delays.py --crossover` shows how far each choice is from the better: for a
# vector of taps of each length that a spike meets, and for an input's step whatever it is
SCATTER, GATHER = {2: 0.63, 4: 0.65, 8: 0.8, 16: 1.2}, {2: 0.45, 4: 0.45, 8: 0.6, 16: 0.8}
TILES_OF_TWO, TILES, SPECTRUM = 0.07, 0.03, 0.22
LINE = 6144
"""Numbers of a chunk's line: three quarters of a first-level cache."""


@dataclass(frozen=True)
class Taps:
    """Which taps the synapses have, and how they lie."""

    number: int
    """taps of a synapse"""
    lanes: int
    """taps that go as one vector"""
    width: int
    """places of a synapse's taps: a multiple of lanes"""
    reach: float = 0.0
    scale: float = 0.0
    """a Gaussian's width"""


def taps_of(window: "Window", sigma: Tensor) -> Taps:
    if window.kind != "gaussian":
        return Taps(2, 2, 2)
    scale = abs(float(sigma)) + LEAST
    reach = REACH * scale
    number = min(window.longest + 1, int(2 * reach) + 1)
    lanes = next((n for n in (2, 4, 8) if number <= n), 16)
    return Taps(number, lanes, -(-number // lanes) * lanes, reach, scale)


@dataclass(frozen=True)
class Spikes:
    """All spikes of x, sorted for the kernels."""

    pointer: Tensor
    codes: Tensor
    values: Tensor
    """empty where all are 1"""


@dataclass(frozen=True)
class Blocks:
    """How the kernels on spikes divide the work."""

    steps: int
    """of a line: those of x, and what the taps of the last reach beyond"""
    units: int
    """outputs of a block"""
    chunk: int
    """samples of a block"""


def blocks_of(steps: int, samples: int, window: "Window", taps: Taps) -> Blocks:
    steps += window.longest + 1 + taps.width
    units = 4 if taps.width > 8 else 8
    return Blocks(steps, units, max(1, min(samples, LINE // (units * steps))))


def forward(
    window: "Window", x: Tensor, weight: Tensor, delay: Tensor, sigma: Tensor, needed: bool
) -> tuple[Tensor, list[Tensor]]:
    """The output, and what backward needs of x: its spikes sorted, or x itself."""
    x, weight, delay = x.detach().contiguous(), weight.detach().contiguous(), delay.detach().contiguous()
    (steps, samples, inputs), outputs = x.shape, len(weight)
    y = empty((steps + window.tail - window.lead, samples, outputs), torch.float32)
    if not (x.numel() and y.numel()):
        return y.zero_(), []
    taps = taps_of(window, sigma)
    first, made = _taps(window, taps, weight, delay)
    words, counts, ones = pack(x.view(-1), inputs)
    density = int(counts.sum()) / x.numel()
    by_spikes = spikes_pay(density, taps, samples)
    spikes = None
    if by_spikes or (needed and gathering_pays(density, taps)):
        spikes = _sorted(x, words, ones, blocks_of(steps, samples, window, taps))
    if by_spikes:
        assert spikes is not None
        _scatter(window, taps, first, made, spikes, y, steps)
    else:
        _tiles_forward(window, taps, first, made, x, y)
    if spikes is None or not gathering_pays(density, taps):
        return y, [first, made, x]
    return y, [first, made, spikes.pointer, spikes.codes, spikes.values]


def spikes_pay(density: float, taps: Taps, samples: int) -> bool:
    """Whether output is faster by spikes than by tiles, which take samples 16 at a time."""
    tiles = (TILES_OF_TWO if taps.number == 2 else TILES * taps.number) * -(-samples // LANES) * LANES / samples
    vectors = taps.width / taps.lanes
    return density * SCATTER[taps.lanes] * vectors * (1.6 if vectors > 1 else 1.0) < tiles


def gathering_pays(density: float, taps: Taps) -> bool:
    """Whether gradients of taps are faster by spikes than by frequencies."""
    return density * GATHER[taps.lanes] * taps.width / taps.lanes < SPECTRUM


def backward(
    window: "Window",
    steps: int,
    weight: Tensor,
    delay: Tensor,
    sigma: Tensor,
    kept: list[Tensor],
    gy: Tensor,
    needs_x: bool,
    needs_weight: bool,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of x, weight and delay."""
    gy, weight, delay = gy.contiguous(), weight.detach().contiguous(), delay.detach().contiguous()
    outputs, inputs = weight.shape
    if not (gy.numel() and steps and inputs):
        gx = gy.new_zeros(steps, gy.shape[1], inputs) if needs_x else None
        return gx, *((torch.zeros_like(weight), torch.zeros_like(delay)) if needs_weight else (None, None))
    taps = taps_of(window, sigma)
    first, made, *kept = kept
    gx = gweight = gdelay = gtaps = None
    if needs_weight and len(kept) > 1:
        gtaps = empty(made.shape, torch.float32)
        _gather(window, taps, first, gtaps, Spikes(*kept), gy, steps)
    by_tiles = needs_x and taps.number <= 4
    if by_tiles:
        gx = _tiles_backward(window, taps, first, made, gy, steps)
    x = kept[0] if needs_weight and gtaps is None else None
    if (needs_x and not by_tiles) or x is not None:
        lags = window.longest + 1
        kernel = None
        if needs_x and not by_tiles:
            kernel = empty((lags, outputs, inputs), torch.float32)
            dense.spread_taps(outputs, made.numel(), first, made, kernel, taps.number)
        found, gkernel = spectrum.backward(gy, kernel, x, lags, window.lead, steps)
        gx = gx if by_tiles else found
        if gkernel is not None:
            gtaps = empty(made.shape, torch.float32)
            dense.collect_taps(outputs, made.numel(), first, gtaps, gkernel, taps.number)
    if gtaps is not None:
        gweight, gdelay = torch.empty_like(weight), torch.empty_like(delay)
        if window.kind == "gaussian":
            kernels.gaussian_gradients(
                *(outputs, 8 * made.numel(), weight, delay, first, gtaps, gweight, gdelay, taps.number, taps.scale)
            )
        else:
            kernels.linear_gradients(
                *(outputs, made.numel(), weight, delay, first, gtaps, gweight, gdelay, window.kind == "rounded")
            )
    return gx, gweight, gdelay


def _taps(window: "Window", taps: Taps, weight: Tensor, delay: Tensor) -> tuple[Tensor, Tensor]:
    """Each synapse's first lag, and its taps from there on; the outputs are made up to whole groups."""
    outputs, inputs = weight.shape
    rows = -(-outputs // GROUP) * GROUP
    first = torch.empty(rows, inputs, dtype=torch.int32)
    made = empty((rows, inputs, taps.width), torch.float32)
    first[outputs:], made[outputs:] = 0, 0
    if window.kind == "gaussian":
        kernels.gaussian_taps(
            *(
                outputs,
                8 * made.numel(),
                weight,
                delay,
                first,
                made,
                window.longest,
                taps.number,
                taps.reach,
                taps.scale,
            )
        )
    else:
        rounded = window.kind == "rounded"
        kernels.linear_taps(outputs, made.numel(), weight, delay, first, made, window.longest, rounded)
    return first, made


def _sorted(x: Tensor, words: Tensor, ones: bool, blocks: Blocks) -> Spikes:
    _, samples, inputs = x.shape
    chunks = -(-samples // blocks.chunk)
    pointer = torch.zeros(chunks * inputs + 1, dtype=torch.int64)
    kernels.count(chunks, x.numel(), words, pointer, inputs, samples, blocks.chunk)
    torch.cumsum(pointer, 0, out=pointer)
    number = int(pointer[-1])
    codes = torch.empty(number, dtype=torch.int32)
    values = torch.empty(0 if ones else number)
    line = blocks.units * blocks.steps
    kernels.sort(
        *(chunks, x.numel(), words, pointer, codes, x.view(-1, inputs), values, inputs, samples, blocks.chunk, line)
    )
    return Spikes(pointer, codes, values)


def _scatter(window: "Window", taps: Taps, first: Tensor, made: Tensor, spikes: Spikes, y: Tensor, steps: int) -> None:
    blocks = blocks_of(steps, y.shape[1], window, taps)
    number = -(-y.shape[2] // blocks.units) * -(-y.shape[1] // blocks.chunk)
    work = len(spikes.codes) * y.shape[2] * taps.width
    kernels.scatter(
        *(number, work, first.view(-1), made.view(-1), spikes.pointer, spikes.codes, spikes.values, y, blocks.steps),
        *(window.lead, taps.width, taps.lanes, blocks.chunk, blocks.units, first.shape[1]),
    )


def _gather(window: "Window", taps: Taps, first: Tensor, gtaps: Tensor, spikes: Spikes, gy: Tensor, steps: int) -> None:
    blocks = blocks_of(steps, gy.shape[1], window, taps)
    of_outputs = -(-gy.shape[2] // blocks.units)
    parts = 1 if of_outputs >= 16 else min(4, first.shape[1])
    kernels.gather(
        *(of_outputs * parts, len(spikes.codes) * gy.shape[2] * taps.width, first.view(-1), gtaps.view(-1)),
        *(spikes.pointer, spikes.codes, spikes.values, gy, blocks.steps, window.lead, taps.width, taps.lanes),
        *(blocks.chunk, blocks.units, first.shape[1], parts),
    )


def _groups(x: Tensor, front: int, steps: int) -> Tensor:
    groups = empty((-(-x.shape[1] // LANES), x.shape[2], steps, LANES), torch.float32)
    dense.to_groups(groups.shape[0] * -(-x.shape[2] // LANES), x.numel(), x, groups, front)
    return groups


def _whole(steps: int) -> int:
    return -(-steps // STEPS) * STEPS


def _tiles_forward(window: "Window", taps: Taps, first: Tensor, made: Tensor, x: Tensor, y: Tensor) -> None:
    outputs, inputs = y.shape[2], first.shape[1]
    back, steps = window.longest + taps.width, _whole(len(y))
    line = _groups(x, back, back + max(len(x), window.lead + steps))
    out = empty((line.shape[0], outputs, steps, LANES), torch.float32)
    _tiles(taps, first, made, line, out, 1, inputs, back + window.lead, -1)
    dense.from_groups(out.shape[0] * -(-outputs // LANES), y.numel(), out, y)


def _tiles_backward(window: "Window", taps: Taps, first: Tensor, made: Tensor, gy: Tensor, steps: int) -> Tensor:
    inputs, whole = first.shape[1], _whole(steps)
    ahead = window.longest + taps.width + whole
    line = _groups(gy, window.lead, max(window.lead + len(gy), ahead))
    out = empty((line.shape[0], inputs, whole, LANES), torch.float32)
    _tiles(taps, first, made, line, out, inputs, 1, 0, 1)
    gx = empty((steps, gy.shape[1], inputs), torch.float32)
    dense.from_groups(out.shape[0] * -(-inputs // LANES), gx.numel(), out, gx)
    return gx


def _tiles(
    taps: Taps, first: Tensor, made: Tensor, line: Tensor, out: Tensor, c: int, j: int, front: int, sign: int
) -> None:
    blocks = out.shape[0] * out.shape[2] // STEPS
    dense.tiles(
        *(blocks, out.numel() * line.shape[1], out, line, out.view(-1), line.view(-1), first.view(-1), made.view(-1)),
        *(c, j, front, sign, taps.width, taps.lanes, taps.number),
    )
