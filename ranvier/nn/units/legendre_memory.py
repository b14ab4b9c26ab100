from functools import lru_cache

import torch
from torch import Tensor

from ranvier.compile.scan import wants_reference
from ranvier.core.checks import Refusal
from ranvier.core.state import Stateful, state_dtype
from ranvier.nn.units.courses import stacked, unrounded

_FEW = 4
"""Steps up to which one after the other is quicker than a Fourier transform."""


class LegendreMemory(Stateful):
    """Linear memory of the last `window` steps of each input, as the coefficients of Legendre polynomials.

    m[t] = A m[t-1] + B x[t]; A and B are those of `legendre_matrices`, fixed. P_0(2r - 1) m_0 + P_1(2r - 1) m_1 + ...
    is about x[t - r window], for 0 <= r <= 1 and inputs of up to order / 6 cycles a window.

    A sequence is computed at once, as a convolution by fast Fourier transform; a few steps one after the other.

    Input: [T, B, ...features]. Output: m [T, B, ...features, order].
    Raises: Refusal for input without time and batch axes, an order below 1 and a window that is not above 0.
    Source: Voelker, Kajic and Eliasmith, NeurIPS 2019, eq. 1-3; in parallel Chilkuri and Eliasmith, ICML 2021.

    >>> memory = LegendreMemory(6, window=20)
    >>> m = memory(torch.ones(60, 1, 1)); m.shape
    torch.Size([60, 1, 1, 6])
    >>> round(float(m[-1, 0, 0, 0]), 3)
    1.0
    """

    records = ("m",)
    transition: Tensor
    entry: Tensor

    def __init__(self, order: int, window: float) -> None:
        super().__init__()
        self.order, self.window = order, window
        transition, entry = legendre_matrices(order, window)
        self.register_buffer("transition", transition.to(torch.get_default_dtype()))
        self.register_buffer("entry", entry.to(torch.get_default_dtype()))

    def rest(self, x: Tensor) -> dict[str, Tensor]:
        if x.ndim < 3 or not x.is_floating_point():
            raise Refusal(
                "LegendreMemory",
                expected="floating-point [T, B, ...features], time first",
                got=f"shape {tuple(x.shape)} {x.dtype}",
                do="Add the missing axis with unsqueeze, or convert with x.float().",
            )
        return {"m": torch.zeros(*x.shape[1:], self.order, dtype=state_dtype(x), device=x.device)}

    def begin(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return self._from(x, self.rest(x)["m"], rested=True)

    def advance(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        return self._from(x, state["m"], rested=False)

    def _from(self, x: Tensor, m: Tensor, rested: bool) -> tuple[Tensor, dict[str, Tensor]]:
        with unrounded(x):
            u, steps = x.to(m.dtype), len(x)
            if steps <= _FEW or wants_reference():
                course = self._one_by_one(u, m)
            else:
                course = _convolved(u, self._response(steps, u))
                if not rested:
                    transition = legendre_matrices(self.order, self.window)[0].to(u.device)
                    course = course + powers(m @ transition.to(u.dtype).T, transition, steps)
        self.note("m", course)
        return course.to(x.dtype), {"m": course[-1].clone() if steps else m}

    def _one_by_one(self, u: Tensor, m: Tensor) -> Tensor:
        first, courses = m, []
        transition, entry = self.transition.to(m.dtype).T, self.entry.to(m.dtype)
        for u_t in u.unbind(0):
            m = m @ transition + u_t[..., None] * entry
            courses.append(m)
        return stacked(first, courses)

    def _response(self, steps: int, like: Tensor) -> Tensor:
        return impulse_response(self.order, self.window, steps).to(like)

    def extra_repr(self) -> str:
        return f"{self.order}, window={self.window:g}"


@lru_cache(maxsize=32)
def legendre_matrices(order: int, window: float, dt: float = 1.0) -> tuple[Tensor, Tensor]:
    """A [order, order] and B [order] of the Legendre memory, held constant over steps of dt (zero-order hold), float64.

    Of m' = A m + B u with A[i, j] = (2i + 1) / window (-1 if i < j else (-1)^(i - j + 1)), B[i] = (2i + 1) (-1)^i / window.

    >>> transition, entry = legendre_matrices(2, 10.0)
    >>> transition
    tensor([[ 0.8922, -0.0816],
            [ 0.2448,  0.7290]], dtype=torch.float64)
    """
    if order < 1 or not window > 0 or not dt > 0:
        raise Refusal(
            "legendre_matrices",
            expected="an order of 1 or more, and a window and a time step above 0",
            got=f"order {order}, window {window}, dt {dt}",
            do="The window is how far back the memory reaches, in the unit of dt.",
        )
    i = torch.arange(order, dtype=torch.float64)
    sign = torch.where(i[:, None] < i, -1.0, (-1.0) ** (i[:, None] - i + 1)).to(torch.float64)
    scale = (2 * i + 1) / window
    both = torch.zeros(order + 1, order + 1, dtype=torch.float64)
    both[:order, :order], both[:order, order] = scale[:, None] * sign, scale * (-1) ** i
    held = torch.linalg.matrix_exp(both * dt)
    return held[:order, :order].contiguous(), held[:order, order].contiguous()


@lru_cache(maxsize=32)
def impulse_response(order: int, window: float, steps: int) -> Tensor:
    """What one input of 1 leaves in the memory: A^k B for k = 0 ... steps - 1, [steps, order], float64.

    >>> impulse_response(2, 10.0, 3).shape
    torch.Size([3, 2])
    """
    transition, entry = legendre_matrices(order, window)
    return powers(entry, transition, steps)


def powers(m: Tensor, transition: Tensor, steps: int) -> Tensor:
    """m, A m, A^2 m ... [steps, ..., order], in the dtype of m; the powers of A are worked out in A's."""
    course, power = m[None], transition.T
    while len(course) < steps:
        course = torch.cat([course, course[: steps - len(course)] @ power.to(m.dtype)])
        power = power @ power
    return course[:steps]


def _convolved(u: Tensor, response: Tensor) -> Tensor:
    """The response to u [T, ...] of what answers an impulse by response [T, order]: [T, ..., order]."""
    size = 1 << (2 * len(u) - 1).bit_length()
    spectrum = torch.fft.rfft(response, n=size, dim=0)
    spectrum = spectrum.reshape(len(spectrum), *[1] * (u.ndim - 1), -1)
    product = torch.fft.rfft(u, n=size, dim=0)[..., None] * spectrum
    course: Tensor = torch.fft.irfft(product, n=size, dim=0)
    return course[: len(u)]
