"""Convolutions whose kernels have few elements, at places in space and time that are learnt, or all places of a window."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from ranvier.core.checks import Refusal, nearest
from ranvier.core.declarations import within
from ranvier.core.state import Stateful, current, state_dtype
from ranvier.nn.synapses.delays import Delayed
from ranvier.ops.delayed_linear.shapes import EPSILON, KINDS, Kind, gaussian, triangle
from ranvier.ops.delayed_linear.shapes import nearest as rounded

Sizes = int | Sequence[int]
_SPACE = ("L", "H, W", "D, H, W")


class _DelayedConv(Stateful, Delayed):
    axes: int
    mask: Tensor | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        window: Sizes,
        *,
        max_delay: int = 0,
        elements: int | None = None,
        kind: Kind = "gaussian",
        sigma: float | None = None,
        learn_sigma: bool = False,
        mask: Tensor | None = None,
        stride: Sizes = 1,
        padding: Sizes | Literal["same"] = 0,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.window = self._sizes("window", window, 1)
        self.stride = self._sizes("stride", stride, 1)
        if padding == "same":
            if any(s != 1 for s in self.stride):
                raise self._refusal(
                    "stride 1 for padding 'same'", f"stride={self.stride}", "Give the padding in cells."
                )
            self.padding = tuple([(n - 1) // 2 for n in self.window])
            if any(n % 2 == 0 for n in self.window):
                raise self._refusal("an odd window for padding 'same'", f"{self.window}", "Give the padding in cells.")
        else:
            self.padding = self._sizes("padding", padding, 0)
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise self._refusal(
                "groups that divide both numbers of channels",
                f"groups={groups} for {in_channels} and {out_channels} channels",
                "Choose a common divisor of them.",
            )
        if kind not in KINDS:
            raise self._refusal(f"one of {KINDS}", f"kind={kind!r}", nearest(kind, KINDS))
        longest_conv = 3 - self.axes if max_delay else 0
        if max_delay < 0 or (max_delay and longest_conv < 1):
            raise self._refusal(
                "a max_delay of 0 or more steps, and 0 where space has three axes",
                f"max_delay={max_delay}",
                "Count delays in time steps.",
            )
        if elements is not None and elements < 1:
            raise self._refusal("1 element or more", str(elements), "Leave elements out for a weight in every cell.")
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.max_delay, self.elements, self.kind = max_delay, elements, kind
        cells = (*((max_delay + 1,) if max_delay else ()), *self.window)
        shape = (out_channels, in_channels // groups)
        free = cells if elements is None else (elements,)
        self.weight = nn.Parameter(torch.empty(*shape, *free))
        fan_in = shape[1] * math.prod(free)
        bound = 1 / math.sqrt(fan_in)  # Kaiming's for a = sqrt 5
        nn.init.uniform_(self.weight, -bound, bound)
        self.bias = nn.Parameter(torch.empty(out_channels).uniform_(-bound, bound)) if bias else None
        narrow = {"gaussian": 0.23}.get(kind, 0.0)
        self.initial_sigma = narrow if sigma is None else float(sigma)
        self.delay: nn.Parameter | None = None
        self.position: nn.Parameter | None = None
        width = torch.tensor(self.initial_sigma)
        if elements is not None:
            where = torch.empty(self.axes, *shape, elements).normal_(0, 0.5)
            self.position = nn.Parameter(
                torch.stack([p.clamp(*self._range(n)) for p, n in zip(where, self.window, strict=True)])
            )
            if max_delay:
                self.delay = nn.Parameter(torch.empty(*shape, elements).uniform_(0, max_delay))
            if learn_sigma:
                width = width.expand(len(cells), *shape, elements).clone()
        if learn_sigma:
            self.sigma: Tensor = nn.Parameter(width)
        else:
            self.register_buffer("sigma", width)
        if mask is not None and mask.shape != cells:
            raise self._refusal(f"a mask {cells}", f"{tuple(mask.shape)}", "Give a number for each cell of the window.")
        self.register_buffer("mask", None if mask is None else mask.to(torch.float32))

    def places(self) -> list[nn.Parameter]:
        return [p for p in (self.delay, self.position) if p is not None]

    def kernel(self) -> Tensor:
        """The weight of every cell, [out_channels, in_channels / groups, max_delay + 1 (if any), *window]."""
        kernel: Tensor = self.weight
        if self.elements is not None:
            with torch.autocast(kernel.device.type, enabled=False):  # 16 bits lose the gradient of positions
                kernel = self._built()
        return kernel if self.mask is None else kernel * self.mask.to(kernel.dtype)

    def _built(self) -> Tensor:
        assert self.position is not None
        number = self.weight.dtype if self.weight.dtype == torch.float64 else torch.float32
        places, sizes = [], []
        if self.delay is not None:
            places.append(within(self.delay, 0.0, float(self.max_delay)))
            sizes.append(self.max_delay + 1)
        for p, n in zip(self.position, self.window, strict=True):
            places.append(within(p, *self._range(n)) + n // 2)
            sizes.append(n)
        sigma = self.sigma.to(number)
        bumps = []
        for k, (place, n) in enumerate(zip(places, sizes, strict=True)):
            width = sigma if sigma.ndim == 0 else sigma[k].unsqueeze(-1)
            bumps.append(_bump(place.to(number), n, width, self.kind))
        kernel = self.weight.to(number)
        if self.kind != "rounded":
            total = torch.ones_like(kernel)
            for bump in bumps:
                total = total * bump.sum(-1)
            # of the plain triangle the sum is 1, and dividing would cost it its exactness
            kernel = (
                kernel / (total + EPSILON) if self.kind == "gaussian" or sigma.ndim or self.initial_sigma else kernel
            )
        *before, last = bumps
        outer = kernel.unsqueeze(-1)  # [out, in, elements, cells so far]
        for bump in before:
            outer = (outer.unsqueeze(-1) * bump.unsqueeze(-2)).flatten(-2)
        return (outer.transpose(-1, -2) @ last).reshape(*kernel.shape[:2], *sizes)

    def rest(self, x: Tensor) -> dict[str, Tensor]:
        self._refuse_shape(x)
        if not self.max_delay:
            return {}
        past = (x.shape[1], self.max_delay, *x.shape[2:])
        return {"past": torch.zeros(past, dtype=state_dtype(x), device=x.device)}

    def begin(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        self._refuse_shape(x)
        line = torch.cat([x.new_zeros(self.max_delay, *x.shape[1:]), x]) if self.max_delay else x
        return self._seen(line, len(x)), self._after(line, len(x), state_dtype(x)) if current() else {}

    def advance(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        self._refuse_shape(x)
        line = torch.cat([state["past"].transpose(0, 1).to(x.dtype), x]) if self.max_delay else x
        return self._seen(line, len(x)), self._after(line, len(x), state_dtype(x))

    def _after(self, line: Tensor, steps: int, dtype: torch.dtype) -> dict[str, Tensor]:
        if not self.max_delay:
            return {}
        return {"past": line[steps:].transpose(0, 1).to(dtype, copy=True)}

    def _seen(self, line: Tensor, steps: int) -> Tensor:
        kernel = self.kernel()
        if not torch.is_autocast_enabled(line.device.type):
            kernel = kernel.to(line.dtype)
        bias = None if self.bias is None else self.bias.to(kernel.dtype)
        conv = (functional.conv1d, functional.conv2d, functional.conv3d)
        if not self.max_delay:
            y = conv[self.axes - 1](line.flatten(0, 1), kernel, bias, self.stride, self.padding, 1, self.groups)
            return y.reshape(*line.shape[:2], *y.shape[1:])
        if not steps:
            space = zip(line.shape[3:], self.window, self.padding, self.stride, strict=True)
            size = [(n + 2 * p - w) // s + 1 for n, w, p, s in space]
            return line.new_zeros(0, line.shape[1], self.out_channels, *size)
        # torch's convolutions correlate: the last lag comes first
        y = conv[self.axes](
            *(line.movedim(0, 2), kernel.flip(2), bias, (1, *self.stride), (0, *self.padding), 1, self.groups)
        )
        return y.movedim(2, 0)

    def _sizes(self, what: str, sizes: Sizes, low: int) -> tuple[int, ...]:
        found = (sizes,) * self.axes if isinstance(sizes, int) else tuple(sizes)
        if len(found) != self.axes or min(found) < low:
            raise self._refusal(
                f"a {what} of one number or {self.axes}, {low} or more", f"{sizes}", "Count it in cells."
            )
        return found

    @staticmethod
    def _range(size: int) -> tuple[float, float]:
        """Where the middle of an element may lie, from the centre size // 2 on: at a cell of the window."""
        return float(-(size // 2)), float(size - 1 - size // 2)

    def _refuse_shape(self, x: Tensor) -> None:
        if x.ndim != 3 + self.axes or x.shape[2] != self.in_channels or not x.is_floating_point():
            raise self._refusal(
                f"floating-point [T, B, {self.in_channels}, {_SPACE[self.axes - 1]}], time first",
                f"shape {tuple(x.shape)} {x.dtype}",
                "Add the missing axis with unsqueeze, convert with x.float(), or make in_channels fit.",
            )

    def _refusal(self, expected: str, got: str, do: str) -> Refusal:
        return Refusal(type(self).__name__, expected=expected, got=got, do=do)

    def extra_repr(self) -> str:
        shown = f"{self.in_channels}, {self.out_channels}, {self.window}, max_delay={self.max_delay}"
        return shown if self.elements is None else f"{shown}, elements={self.elements}, kind={self.kind!r}"


def _bump(place: Tensor, cells: int, sigma: Tensor, kind: Kind) -> Tensor:
    if kind == "rounded":
        return rounded(place, cells)
    distance = torch.arange(cells, device=place.device, dtype=place.dtype) - place.unsqueeze(-1)
    return gaussian(distance, sigma) if kind == "gaussian" else triangle(distance, sigma)


class DelayedConv1d(_DelayedConv):
    """As DelayedConv2d, over one axis of space.

    y[t, o, l] = b[o] + sum over i, lag k, offset a of K[o, i, k, a] x[t - k, i, l + a].

    Input: [T, B, in_channels, L]. Output: [T, B, out_channels, L'].
    Raises: Refusal for other shapes, and for groups that don't divide the channels.
    Source: as DelayedConv2d.

    >>> import torch
    >>> DelayedConv1d(2, 4, 17, elements=3, padding="same")(torch.zeros(5, 1, 2, 20)).shape
    torch.Size([5, 1, 4, 20])
    """

    axes = 1


class DelayedConv2d(_DelayedConv):
    """Synapses over a window of space and of the last steps: a few with learnt places, or one in every cell.

    y[t, o, p] = b[o] + sum over i, lag k, offset a of K[o, i, k, a] x[t - k, i, p + a], k = 0 ... max_delay.

    Without `elements` K is learnt as it is, held where a `mask` has zeros. With them K = sum over m of
    w_m g(k - d_m) prod over axes of g(a - p_m), whose delay d in [0, max_delay] and place p in the window, counted from its
    cell size // 2, are learnt. "gaussian": g(u) = exp(-(u / (|sigma| + 0.27))^2 / 2); "triangle": g(u) = max(0, 1 + |sigma| -
    |u|); both divided by their sum over the window + 1e-7 (the triangle only with a sigma). "rounded": the nearest cell, with
    the gradient of the plain triangle. Sigma is fixed, or with learn_sigma one for each element and axis. Places start near
    the centre (normal, 0.5), delays anywhere. K is built in float32 or wider, whatever the autocast. Layers share places by
    sharing the parameter: b.position = a.position.

    Input: [T, B, in_channels, H, W]. Output: [T, B, out_channels, H', W'].
    Raises: Refusal for other shapes, and for groups that don't divide the channels.
    Source: Khalfaoui-Hassani, 2024 (learnt places); Grimaldi and Perrinet, Biological Cybernetics 2023 (a weight in every
    cell of space and delay).

    >>> import torch
    >>> layer = DelayedConv2d(1, 1, 3, max_delay=2, elements=1, kind="rounded", padding="same", bias=False)
    >>> with torch.no_grad():
    ...     _ = layer.weight.fill_(2.0), layer.delay.fill_(1.0), layer.position.zero_()
    >>> layer(torch.tensor([1.0, 0.0, 0.0]).reshape(3, 1, 1, 1, 1)).flatten().tolist()
    [0.0, 2.0, 0.0]
    """

    axes = 2


class DelayedConv3d(_DelayedConv):
    """As DelayedConv2d, over three axes of space and without delays.

    y[t, o, p] = b[o] + sum over i, offset a of K[o, i, a] x[t, i, p + a].

    Input: [T, B, in_channels, D, H, W]. Output: [T, B, out_channels, D', H', W'].
    Raises: Refusal for other shapes, for delays, and for groups that don't divide the channels.
    Source: as DelayedConv2d.

    >>> import torch
    >>> DelayedConv3d(2, 2, 5, elements=4, groups=2)(torch.zeros(2, 1, 2, 6, 6, 6)).shape
    torch.Size([2, 1, 2, 2, 2, 2])
    """

    axes = 3


def cone(window: tuple[int, int], max_delay: int, *, least: float = 1.0) -> Tensor:
    """A mask [max_delay + 1, *window] for DelayedConv2d: discs that widen with the delay, from `least` to the window's.

    What is long past may have come from farther away.

    Source: Grimaldi and Perrinet, Biological Cybernetics 2023; that the radius grows evenly is our choice.

    >>> cone((3, 3), 1)[0]
    tensor([[0., 1., 0.],
            [1., 1., 1.],
            [0., 1., 0.]])
    """
    middle = [torch.arange(n) - (n - 1) / 2 for n in window]
    away = (middle[0][:, None].square() + middle[1].square()).sqrt()
    most = max(max(window) / 2, least)
    radius = least + (most - least) * torch.arange(max_delay + 1) / max(max_delay, 1)
    return (away <= radius[:, None, None] + 1e-6).float()
