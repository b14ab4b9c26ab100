"""A network layer by layer: shapes, parameters, firing rates and synaptic operations on real samples."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from ranvier.core.checks import Refusal
from ranvier.core.layout import wrapped
from ranvier.core.running import run
from ranvier.core.state import Stateful
from ranvier.data.samples import Batch
from ranvier.lab.anatomy.operations import Counting, Operations, Synapses
from ranvier.lab.anatomy.shapes import Shapes
from ranvier.nn.neurons.neuron import Neuron

_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.LocalResponseNorm)
_MOVES = (nn.Flatten, nn.Unflatten, nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


@dataclass(frozen=True)
class Layer:
    """One module of a network, as it was when real samples ran through it."""

    name: str
    kind: str
    shape: tuple[int, ...] | None
    """Of its output for one sample, at one step unless `per` says otherwise; None if it never ran."""
    per: str
    """ "step" or "sample" (behind a decoder)"""
    parameters: int
    rate: float | None = None
    """Spikes per neuron and step."""
    silent: float | None = None
    """Share of its neurons that never fired."""
    operations: Operations | None = None


@dataclass(frozen=True)
class NotCounted:
    """A part of the network whose arithmetic is not among the synaptic operations."""

    name: str
    kind: str
    why: str


@dataclass(frozen=True)
class Anatomy:
    """A network's layers in the order in which they run, and what the operations leave out."""

    layers: tuple[Layer, ...]
    not_counted: tuple[NotCounted, ...]
    samples: int

    def entries(self) -> dict[str, Any]:
        """What `run.json` holds of it."""
        rows = [asdict(layer) for layer in self.layers]
        for row, layer in zip(rows, self.layers, strict=True):
            if layer.operations:
                row["operations"]["kind"] = layer.operations.kind
        return {
            "layers": rows,
            "not counted": [asdict(part) for part in self.not_counted],
            "counted samples": self.samples,
        }


def anatomy(model: nn.Module, batch: Batch) -> Anatomy:
    """The layers of `model` and what they do on a batch of real samples, in eval mode.

    Operations are counted in nn.Linear and nn.Conv1d, 2d and 3d (and their subclasses) from the inputs they really get;
    whatever else computes is listed in `not_counted`. Steps past a sequence's end neither run nor count.

    Raises: Refusal for an empty batch or lengths that don't fit it.

    >>> import ranvier
    >>> model = nn.Sequential(nn.Linear(3, 4), ranvier.LIF())
    >>> found = anatomy(model, Batch(torch.ones(10, 2, 3), torch.zeros(2), torch.tensor([10, 6])))
    >>> [(layer.kind, layer.shape, layer.parameters) for layer in found.layers]
    [('Linear', (4,), 16), ('LIF', (4,), 0)]
    >>> found.layers[0].operations.dense, [part.why for part in found.not_counted]
    (96.0, ['neuron updates'])
    """
    model, x, lengths = bare(model), batch.x, batch.lengths.cpu()
    _refuse_lengths(x, lengths)
    weight = next(model.parameters(), x)
    firing: dict[str, tuple[Tensor, int]] = {}
    with evaluating(model), Shapes(model) as shapes, Counting(model) as counting:
        # One run for each length instead of masks: what is not there cannot be counted.
        for steps in sorted(set(lengths.tolist())):
            same = x[:steps, lengths == steps].to(weight.device)
            for key, z in recorded(model, same, "spikes")[1].items():
                name = key.rpartition(".")[0]
                before, seen = firing.get(name, (0, 0))
                firing[name] = before + z.abs().sum((0, 1)).cpu().double(), seen + z.shape[0] * z.shape[1]
    modules = {**{name: model.get_submodule(name) for name in shapes.outputs}, **dict(model.named_modules())}
    rows = [name for name, module in modules.items() if _is_row(name, module, modules, shapes)]
    parameters = _parameters(model, rows)
    layers = []
    for name in rows:
        shape, per = shapes.outputs.get(name, (None, "step"))
        spikes, steps = firing.get(name, (None, 0))
        layers.append(
            Layer(
                name,
                kind(modules[name]),
                shape,
                per,
                parameters[name],
                None if spikes is None else float(spikes.mean() / steps),
                None if spikes is None else float((spikes == 0).double().mean()),
                counting.operations(name, len(lengths)),
            )
        )
    parts = [NotCounted(r.name, r.kind, why) for r in layers if (why := _why_not(r, modules[r.name]))]
    for name, products in counting.others.items():
        calls = ", ".join(f"{n} x {product}" for product, n in products.items())
        parts.append(NotCounted(name, kind(modules[name]), f"matrix products that it calls itself ({calls})"))
    return Anatomy(tuple(layers), tuple(parts), len(lengths))


def bare(model: nn.Module) -> nn.Module:
    """`model` without the wrappers of DDP or torch.compile, under whose names and behind which nothing is seen."""
    while (inner := wrapped(model)) is not None:
        model = model.get_submodule(inner)
    return model


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """`model` in eval mode and without gradients; afterwards every module is as it was."""
    modes = {module: module.training for module in model.modules()}
    try:
        with torch.no_grad():
            model.eval()
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def recorded(model: nn.Module, x: Tensor, *wanted: str) -> tuple[Tensor, dict[str, Tensor]]:
    """The output for `x`, and what `run` records of the wanted variables as far as some module has them."""
    known = {what for module in model.modules() if isinstance(module, Stateful) for what in module.records}
    record = [what for what in wanted if what in known]
    if not record:
        return run(model, x)[0], {}
    y, _, variables = run(model, x, record=record)
    return y, variables


def _is_row(name: str, module: nn.Module, modules: dict[str, nn.Module], shapes: Shapes) -> bool:
    outer = [modules[name[:i]] for i, letter in enumerate(name) if letter == "."] + ([modules[""]] if name else [])
    own = any(True for _ in module.parameters(recurse=False))
    if any(isinstance(m, Synapses) for m in outer):  # a parametrised weight belongs to its layer
        return False
    if name not in shapes.outputs:
        return own and not (isinstance(module, Stateful) and any(isinstance(m, Stateful) for m in outer))
    return own or isinstance(module, Synapses | Stateful) or not any(True for _ in module.children())


def _parameters(model: nn.Module, rows: list[str]) -> dict[str, int]:
    """Each parameter counted once, in the innermost row that holds it."""
    counts = dict.fromkeys(rows, 0)
    for name, parameter in model.named_parameters():
        owner = name.rpartition(".")[0]
        while owner not in counts:
            owner = owner.rpartition(".")[0]
        counts[owner] += parameter.numel()
    return counts


def kind(module: nn.Module) -> str:
    """The class of a module, and of the neurons that it steps itself.

    >>> import ranvier
    >>> kind(ranvier.nn.synapses.recurrent.Recurrent(ranvier.LIF(), nn.Linear(2, 2)))
    'Recurrent(LIF)'
    """
    neuron = [type(m).__name__ for m in module.children() if isinstance(m, Neuron)]
    inside = f"({', '.join(neuron)})" if isinstance(module, Stateful) and neuron else ""
    return type(module).__name__ + inside


def _why_not(layer: Layer, module: nn.Module) -> str | None:
    if isinstance(module, Synapses):
        return None if layer.operations else "weights used without calling the layer"
    if isinstance(module, Stateful) and any(isinstance(m, Neuron) for m in module.modules()):
        return "neuron updates"
    if isinstance(module, _NORMS):
        return "normalisation"
    if layer.parameters:
        return "weights in a module that is neither Linear nor Conv"
    return None if isinstance(module, _MOVES) else "no weights"


def _refuse_lengths(x: Tensor, lengths: Tensor) -> None:
    if x.ndim < 2 or lengths.shape != x.shape[1:2] or not len(lengths):
        got = f"x of shape {tuple(x.shape)} and lengths of shape {tuple(lengths.shape)}"
        raise Refusal("batch", expected="x [T, B, ...] and lengths [B]", got=got, do="Make it with Samples.batch().")
    if int(lengths.min()) < 1 or int(lengths.max()) > len(x):
        raise Refusal(
            "batch.lengths",
            expected=f"1 to {len(x)} steps each",
            got=str(sorted(set(lengths.tolist()))),
            do="Drop empty sequences, and give x with all its steps.",
        )
