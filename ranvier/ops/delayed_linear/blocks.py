"""Triton kernels of a delayed linear layer: its matrices from weights and delays, the product over lags, and the way back."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
# ruff: noqa: N803

import triton
import triton.language as tl


@triton.jit
def _rounded(d):
    """To the nearest whole number, halves to the even one."""
    low = tl.floor(d)
    part = d - low
    odd = low - 2.0 * tl.floor(low * 0.5)
    return tl.where((part > 0.5) | ((part == 0.5) & (odd == 1.0)), low + 1.0, low)


@triton.jit
def _first(d, lags):
    """The lower one of the two steps around a delay."""
    return tl.minimum(tl.floor(d), tl.maximum(lags - 2.0, 0.0))


@triton.jit
def spread(
    weight,
    delay,
    sigma,
    kernel,
    size,
    inputs,
    lags,
    lag_step,
    output_step,
    KIND: tl.constexpr,
    LEAST: tl.constexpr,
    EPSILON: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """kernel[k, o, i] = weight g(k; delay); KIND is 0 for a Gaussian, 1 for a triangle, 2 for rounded delays."""
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there = place < size
    to = kernel + (place // inputs) * output_step + place % inputs
    w = tl.load(weight + place, mask=there, other=0.0)
    d = tl.load(delay + place, mask=there, other=0.0)
    if KIND == 0:
        inverse = 1.0 / (tl.abs(tl.load(sigma)) + LEAST)
        total = tl.full([BLOCK], EPSILON, tl.float32)
        for k in range(lags):
            u = (k - d) * inverse
            total += tl.exp(-0.5 * u * u)
        for k in range(lags):
            u = (k - d) * inverse
            value = w * (tl.exp(-0.5 * u * u) / total)
            tl.store(to + k * lag_step, value.to(kernel.dtype.element_ty), mask=there)
    else:
        first = _first(d, lags)
        part = d - first
        if KIND == 2:
            part = _rounded(d) - first
        for k in range(lags):
            value = w * tl.where(first == k, 1.0 - part, tl.where(first + 1.0 == k, part, 0.0))
            tl.store(to + k * lag_step, value.to(kernel.dtype.element_ty), mask=there)


@triton.jit
def gradients(
    weight,
    delay,
    sigma,
    gkernel,
    gweight,
    gdelay,
    size,
    inputs,
    lags,
    lag_step,
    output_step,
    KIND: tl.constexpr,
    LEAST: tl.constexpr,
    EPSILON: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Gradients of weight and delay from those of the kernel."""
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there = place < size
    of = gkernel + (place // inputs) * output_step + place % inputs
    w = tl.load(weight + place, mask=there, other=0.0)
    d = tl.load(delay + place, mask=there, other=0.0)
    gw = tl.zeros([BLOCK], tl.float32)
    gd = tl.zeros([BLOCK], tl.float32)
    if KIND == 0:
        inverse = 1.0 / (tl.abs(tl.load(sigma)) + LEAST)
        total = tl.full([BLOCK], EPSILON, tl.float32)
        slope = tl.zeros([BLOCK], tl.float32)
        for k in range(lags):
            g = tl.load(of + k * lag_step, mask=there, other=0.0)
            u = (k - d) * inverse
            e = tl.exp(-0.5 * u * u)
            away = u * inverse * e
            total += e
            slope += away
            gw += e * g
            gd += away * g
        gw = gw / total
        gd = w * (gd - gw * slope) / total
    else:
        first = _first(d, lags)
        part = d - first
        if KIND == 2:
            part = _rounded(d) - first
        for k in range(lags):
            g = tl.load(of + k * lag_step, mask=there, other=0.0)
            low = first == k
            high = first + 1.0 == k
            gw += g * tl.where(low, 1.0 - part, tl.where(high, part, 0.0))
            gd += g * tl.where(low, -1.0, tl.where(high, 1.0, 0.0))
        gd = w * gd
    tl.store(gweight + place, gw, mask=there)
    tl.store(gdelay + place, gd, mask=there)


@triton.jit
def product(
    x,
    kernel,
    out,
    rows,
    rows_x,
    columns,
    channels,
    lags,
    lead,
    samples,
    lag_step,
    column_step,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    CHANNELS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """out[r] for r = (step, sample) = sum over lags k of x[r + lead - k samples] kernel[k]^T: a tile of out in registers until all lags are done."""
    across = tl.cdiv(columns, COLUMNS)
    tile = tl.program_id(0)
    r = (tile // across) * ROWS + tl.arange(0, ROWS)
    j = (tile % across) * COLUMNS + tl.arange(0, COLUMNS)
    c = tl.arange(0, CHANNELS)
    total = tl.zeros([ROWS, COLUMNS], tl.float32)
    parts = tl.cdiv(channels, CHANNELS)
    for turn in range(lags * parts):
        k = turn // parts
        c0 = (turn % parts) * CHANNELS
        row = r + lead - k * samples
        inside = (row >= 0) & (row < rows_x)
        left = c0 + c < channels
        a = tl.load(
            x + row.to(tl.int64)[:, None] * channels + (c0 + c)[None, :],
            mask=inside[:, None] & left[None, :],
            other=0.0,
        )
        b = tl.load(
            kernel + k.to(tl.int64) * lag_step + (c0 + c)[:, None] + j[None, :] * column_step,
            mask=left[:, None] & (j < columns)[None, :],
            other=0.0,
        )
        total = tl.dot(a, b, total, input_precision=PRECISION)
    place = out + r.to(tl.int64)[:, None] * columns + j[None, :]
    tl.store(place, total.to(out.dtype.element_ty), mask=(r < rows)[:, None] & (j < columns)[None, :])
