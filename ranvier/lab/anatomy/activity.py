"""What every layer does on a few samples, step by step, and the file that keeps it for the report.

`activity.safetensors` holds, for sample i and layer L (its qualified name):

    i/input     float32 [T_i, k]   input features; a static input has one step
    i/spikes/L  uint8   [T_i, k]   whether a neuron fired
    i/v/L       float32 [T_i, k]   membranes after the step, so after a reset
    index/input, index/spikes/L, index/v/L   int64 [k]   which features or neurons, flattened, these are
    threshold/L float32 [k]        of the neurons in v/L, where the neuron has one

and one metadata entry, `activity`, in JSON: rate (samples per second or null), channels (names or []), shape (of the
input at one step), layers ({name, kind, neurons} in the order in which they run).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ranvier.core import files
from ranvier.core.checks import Refusal
from ranvier.data.samples import Samples
from ranvier.lab.anatomy.layers import bare, evaluating, kind, recorded
from ranvier.nn.neurons.neuron import Neuron

_RASTER, _TRACES, _READOUT, _IMAGE = 128, 3, 12, 2**14


@dataclass(frozen=True)
class Trace:
    """One variable of some of a layer's neurons over the steps of one sample."""

    what: str
    """ "input", "spikes" or "v" """
    layer: str
    kind: str
    neurons: int
    """How many the layer has."""
    index: list[int]
    """Which of them these are."""
    values: Tensor
    """[T, len(index)]"""
    threshold: Tensor | None = None


@dataclass(frozen=True)
class Activity:
    """The activity of one sample: its input, and layer by layer the spikes and some membranes."""

    rate: float | None
    channels: list[str]
    shape: list[int]
    """Of the input at one step."""
    input: Trace
    layers: list[Trace]


def record(model: nn.Module, samples: Samples, path: str | Path) -> list[dict[str, Any]]:
    """Run a few samples through `model` in eval mode and write what its layers do to `path`.

    Output: one entry a sample for `run.json`: true class, predicted class (None where the output is not one score per
    class) and steps. Of large layers, neurons evenly spaced are kept.

    >>> import tempfile, numpy, ranvier
    >>> model = nn.Sequential(nn.Linear(2, 3), ranvier.LIF(), ranvier.nn.coding.rate.RateDecoder())
    >>> sample = Samples([numpy.ones((5, 2), "float32")], numpy.array([1]), ("still", "walk", "run"))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     examples = record(model, sample, f"{folder}/activity.safetensors")
    ...     seen = read(f"{folder}/activity.safetensors")
    >>> examples[0]["true"], examples[0]["steps"], seen[0].layers[0].values.shape
    ('walk', 5, torch.Size([5, 3]))
    """
    model = bare(model)
    device = next(model.parameters(), torch.zeros(0)).device
    runs: list[dict[str, Tensor]] = []
    examples: list[dict[str, Any]] = []
    with evaluating(model):
        for i in range(len(samples)):
            x = samples.batch([i]).x
            y, variables = recorded(model, x.to(device), "spikes", "v")
            runs.append({"input": x, **variables})
            scores = tuple(y.shape) == (1, len(samples.classes))
            guess = samples.classes[int(y.argmax())] if scores else None
            examples.append({"true": samples.classes[samples.y[i]], "predicted": guess, "steps": len(x)})
    tensors: dict[str, Tensor] = {}
    layers: dict[str, dict[str, Any]] = {}
    for key in runs[0] if runs else ():
        values = [r[key][:, 0].flatten(1).float().cpu() for r in runs]
        name, _, what = key.rpartition(".")
        module, features = model.get_submodule(name), runs[0][key].shape[2:]
        if key == "input":
            entry, index = key, _shown(torch.cat(values), static=max(map(len, values)) == 1)
        else:
            entry = f"{what}/{name}"
            spikes = runs[0].get(key.removesuffix(what) + "spikes")
            index = _evenly(torch.arange(features.numel()), _RASTER) if what == "spikes" else _traced(values, spikes)
            layers[name] = {"name": name, "kind": kind(module), "neurons": features.numel()}
        if what == "v" and (threshold := _threshold(module)) is not None:
            tensors[f"threshold/{name}"] = threshold.expand(features).flatten()[index]
        tensors[f"index/{entry}"] = index
        for i, value in enumerate(values):
            tensors[f"{i}/{entry}"] = (value[:, index] != 0).to(torch.uint8) if what == "spikes" else value[:, index]
    measured = all(len(values) <= len(variables["input"]) for variables in runs for values in variables.values())
    about = {
        "rate": samples.rate if measured else None,  # an encoder makes steps that were never recorded
        "channels": list(samples.channels),
        "shape": list(runs[0]["input"].shape[2:]) if runs else [],
        "layers": list(layers.values()),
    }
    files.save(tensors, path, {"activity": json.dumps(about)})
    return examples


def read(path: str | Path) -> list[Activity]:
    """What `record` wrote, sample by sample.

    Raises: Refusal for a file that `record` did not write.
    """
    tensors = files.load(path)
    try:
        about = json.loads(files.metadata(path)["activity"])
        channels, rate = list(about["channels"]), about["rate"] and float(about["rate"])
        shape = [int(n) for n in about["shape"]]
        source = {"name": "input", "kind": "", "neurons": prod(shape)}
        samples = sorted({int(key.split("/")[0]) for key in tensors if key[0].isdigit()})
        entries = [(what, layer) for layer in about["layers"] for what in ("spikes", "v")]
        return [
            Activity(
                rate,
                channels,
                shape,
                _trace(tensors, i, "input", source),
                [
                    _trace(tensors, i, what, layer)
                    for what, layer in entries
                    if f"{i}/{what}/{layer['name']}" in tensors
                ],
            )
            for i in samples
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise Refusal(
            str(path),
            expected="the activity of a few samples, as ranvier.lab.anatomy.record writes it",
            got=f"a file without it ({type(error).__name__}: {error})",
            do="Record it again, or remove the file to have a report without it.",
        ) from None


def _trace(tensors: Mapping[str, Tensor], sample: int, what: str, layer: Mapping[str, Any]) -> Trace:
    entry = what if what == "input" else f"{what}/{layer['name']}"
    values, index = tensors[f"{sample}/{entry}"], tensors[f"index/{entry}"]
    if values.ndim != 2 or index.shape != values.shape[1:]:
        raise ValueError(f"{entry} has shape {tuple(values.shape)} with {len(index)} neurons")
    threshold = tensors.get(f"threshold/{layer['name']}") if what == "v" else None
    return Trace(what, layer["name"], layer["kind"], int(layer["neurons"]), index.tolist(), values, threshold)


def _evenly(index: Tensor, most: int) -> Tensor:
    if len(index) <= most:
        return index
    return index[torch.linspace(0, len(index) - 1, most).round().long()]


def _shown(x: Tensor, static: bool) -> Tensor:
    """Inputs worth a look: all of an image; of signals and events those that are ever anything but 0."""
    if static or x.shape[1] <= _RASTER:
        return _evenly(torch.arange(x.shape[1]), _IMAGE)
    return _evenly(x.abs().amax(0).nonzero().flatten(), _RASTER)


def _traced(values: Sequence[Tensor], spikes: Tensor | None) -> Tensor:
    """Neurons whose membranes are worth a look: all of a small readout; else busy and quiet ones that fire."""
    neurons = torch.arange(values[0].shape[1])
    if spikes is None:
        return _evenly(neurons, _READOUT)
    fired = spikes[:, 0].flatten(1).sum(0).cpu()
    busy = fired.argsort(descending=True, stable=True)[: max(int((fired > 0).sum()), _TRACES)]
    # from the middle of each third: the busiest of all may fire at every step, and then their membrane is flat
    return busy[(torch.arange(_TRACES) + 0.5).mul(len(busy) / _TRACES).long()] if len(busy) > _TRACES else busy


def _threshold(module: nn.Module) -> Tensor | None:
    neuron = next((m for m in module.modules() if isinstance(m, Neuron)), None)
    if neuron is None or "threshold" not in neuron.declared:
        return None
    _, low, high = neuron.declared["threshold"].scaled(neuron.dt)
    value: Tensor = getattr(neuron, "threshold")  # noqa: B009 (declared by the subclass, so unknown to Neuron)
    return value.detach().float().cpu().clamp(low, high)
