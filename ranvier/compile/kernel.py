"""What a kernel is made for, and what it is called with: the same on every backend."""

from dataclasses import dataclass
from functools import cache

from torch import Tensor

from ranvier.compile.program import Program
from ranvier.compile.symbol import topological

_SLOW = frozenset(
    {"where", "maximum", "minimum", "exp", "log", "tanh", "sigmoid", "sin", "cos", "atan", "erf"}
    | {"floor", "round", "uniform", "normal"}
)


@cache
def heavy(program: Program) -> bool:
    """Whether a step asks for functions and choices, which take more of a GPU's registers than sums and products."""
    looped = topological([program.output, *program.after, program.grad_x, *program.grad_states])
    return any(s.op in _SLOW and not s.fixed for s in looped)


def segment(program: Program, x: Tensor) -> int:
    """Steps between two checkpoints of the states, from which backward computes the states again.

    As many as a first-level cache holds on a CPU and the registers on a GPU, where they are unrolled and no more than
    there are.
    """
    if x.device.type == "cpu":
        return 16 if len(program.states) < 2 else 8
    return min(4 if heavy(program) else 8, 1 << max(x.shape[0] - 1, 0).bit_length())


@dataclass(frozen=True)
class Variant:
    """What a kernel is made for, beyond the program: only what is asked for is loaded, computed and stored."""

    io: str
    """dtype of input and output"""
    steps: int
    """steps between two checkpoints"""
    columns: frozenset[str]
    """the parameters that differ from neuron to neuron"""
    rest: tuple[float, ...]
    """where the states start when they are not given"""
    initial: bool = False
    """initial states are given"""
    record: tuple[str, ...] = ()
    """the states whose course is written (forward) or has a gradient (backward)"""
    checkpoints: bool = False
    """forward: write the states every `steps` steps"""
    spikes: bool = True
    """backward: the output has a gradient"""
    final: bool = False
    """backward: the final states have gradients"""
    grad_x: bool = True
    grad_initial: bool = False

    @property
    def number(self) -> str:
        """The dtype of states and parameters."""
        return "float64" if self.io == "float64" else "float32"


def arguments(program: Program, variant: Variant, backward: bool) -> list[str]:
    """The names of a kernel's arguments, in order: sizes, then addresses."""
    sized = [f"{what}:{k}" for k in program.parameters if k in variant.columns for what in ("inner", "count")]
    states, parameters = program.states, [f"p:{k}" for k in program.parameters]
    initial = [f"initial:{k}" for k in states if variant.initial]
    checkpoints = [f"checkpoint:{k}" for k in states]
    if not backward:
        return [
            *("T", "M", "stride:x", *sized, "x", "y"),
            *(parameters + initial + [f"final:{k}" for k in states]),
            *(f"record:{k}" for k in variant.record),
            *(checkpoints if variant.checkpoints else []),
        ]
    return [
        *("T", "M", "stride:x", *(["stride:gy"] if variant.spikes else []), *sized, "x"),
        *(parameters + initial + checkpoints),
        *(["gy"] if variant.spikes else []),
        *(f"gs:{k}" for k in states if variant.final),
        *(f"grecord:{k}" for k in variant.record),
        *(["gx"] if variant.grad_x else []),
        *(f"ginitial:{k}" for k in states if variant.grad_initial),
        *(f"gp:{k}" for k in program.learnt),
    ]


def is_size(name: str) -> bool:
    """Whether an argument is a number rather than an address."""
    return name in ("T", "M") or name.split(":")[0] in ("inner", "count", "stride")
