"""Figures for notebooks: what is drawn where, and what is refused."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

import ranvier
from ranvier.core.checks import Refusal
from ranvier.lab import plot


@pytest.fixture(scope="module")
def inside() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), ranvier.LIF(), nn.Linear(5, 2), ranvier.LeakyIntegrator())
    return ranvier.run(model, 3 * torch.randn(20, 4, 3), record=("spikes", "v"))[2]


def ticks(trace: object) -> set[tuple[float, int]]:
    """Time and neuron of each tick of a raster."""
    x, y = np.asarray(trace.x).reshape(-1, 3), np.asarray(trace.y).reshape(-1, 3)
    assert np.isnan(x[:, 2]).all() and (x[:, 0] == x[:, 1]).all()
    return {(round(float(t), 6), round(float(n))) for t, n in zip(x[:, 0], y[:, :2].mean(1), strict=True)}


def test_a_raster_has_a_tick_for_every_spike_of_the_sample(inside: dict[str, torch.Tensor]) -> None:
    spikes = inside["1.spikes"]
    made = plot.raster(spikes, sample=2, dt=0.5, unit="ms")
    expected = {(0.5 * t, n) for t, n in spikes[:, 2].nonzero().tolist()}
    assert expected and ticks(made.data[0]) == expected and len(made.data) == 1
    assert made.layout.xaxis.title.text == "time (ms)"
    assert made.layout.xaxis.range == (-0.25, 9.75)


def test_negative_spikes_have_a_colour_of_their_own() -> None:
    made = plot.raster(torch.tensor([[1.0, -1.0, 0.0], [0.0, -2.0, 3.0]]))
    assert [trace.name for trace in made.data] == ["2 spikes", "2 negative spikes"]
    assert ticks(made.data[1]) == {(0, 1), (1, 1)}
    assert made.data[0].line.color != made.data[1].line.color


@pytest.mark.parametrize("shape", [(0, 3), (5, 0), (5, 2, 1, 4, 4)])
def test_a_raster_of_any_size(shape: tuple[int, ...]) -> None:
    assert plot.raster(torch.zeros(shape)).data[0].name == "0 spikes"


def test_booleans_and_other_dtypes_are_spikes_too() -> None:
    for dtype in (torch.bool, torch.uint8, torch.bfloat16, torch.float64):
        assert plot.raster(torch.eye(3).to(dtype)).data[0].name == "3 spikes"


def test_membranes_are_drawn_as_they_are_with_marks_above(inside: dict[str, torch.Tensor]) -> None:
    v, spikes = inside["1.v"], inside["1.spikes"]
    made = plot.membrane(v, spikes, threshold=torch.linspace(1, 1.4, 5), sample=1, most=3, dt=2.0)
    lines = [trace for trace in made.data if trace.name.startswith("neuron")]
    marks = [trace for trace in made.data if trace.name.startswith("spikes")]
    levels = [trace for trace in made.data if trace.name == "threshold"]
    assert len(lines) == len(marks) == len(levels) == 3
    for i, (drawn, mark) in enumerate(zip(lines, marks, strict=True)):
        assert np.allclose(drawn.y, v[:, 1, i].detach()) and np.allclose(drawn.x, 2.0 * np.arange(20))
        assert list(mark.x) == [2.0 * t for t in spikes[:, 1, i].nonzero().flatten().tolist()]
        assert all(y > v[:, 1, :3].max() for y in mark.y)
        assert drawn.line.color == mark.marker.color
    assert [level.y[0] for level in levels] == pytest.approx([1.0, 1.1, 1.2])
    assert [level.showlegend for level in levels] == [True, False, False]


def test_one_membrane_alone() -> None:
    made = plot.membrane(torch.linspace(0, 1, 5), threshold=1.0)
    assert [trace.name for trace in made.data] == ["neuron 0", "threshold"]


def test_rates_have_a_box_a_layer_and_count_the_silent(inside: dict[str, torch.Tensor]) -> None:
    made = plot.rates(inside)  # v is left out
    (box,) = made.data
    assert np.allclose(box.x, inside["1.spikes"].mean((0, 1)).detach())
    assert box.name.startswith("1: 5 neurons, ")
    signed = torch.zeros(4, 1, 2)
    signed[:, :, 1] = -1
    made = plot.rates([signed, torch.zeros(4, 1, 3)])
    assert [box.name for box in made.data] == ["layer 0: 2 neurons, 1 silent", "layer 1: 3 neurons, 3 silent"]
    assert list(made.data[0].x) == [0.0, 1.0]


def test_a_single_neuron_layer_is_called_the_model() -> None:
    assert plot.rates({"spikes": torch.ones(2, 1, 1)}).data[0].name.startswith("model: ")


def test_surrogates_are_their_slopes_and_all_of_them_by_default() -> None:
    every = plot.surrogates()
    assert len(every.data) == 6 and len({(t.line.color, t.line.dash) for t in every.data}) == 6
    (drawn,) = plot.surrogates(ranvier.Gaussian(width=0.2, scale=3.0)).data
    assert drawn.name == "Gaussian(width=0.2, scale=3)"
    assert max(drawn.x) == pytest.approx(0.4)
    expected = ranvier.Gaussian(width=0.2, scale=3.0).derivative(torch.as_tensor(np.array(drawn.x)))
    assert np.allclose(drawn.y, expected)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: plot.raster(torch.zeros(3)), r"raster: expected \[T, N\] or \[T, B, \.\.\.features\], time first; got shape \(3,\)"),
        (lambda: plot.raster(torch.zeros(3, 2, 4), sample=2), "a sample of the batch, 0 to 1; got 2"),
        (lambda: plot.raster(torch.full((3, 2), math.nan)), "finite numbers; got NaN or Inf"),
        (lambda: plot.membrane(torch.zeros(3, 2), torch.zeros(3, 1)), r"spikes of v's shape \(3, 2\); got \(3, 1\)"),
        (lambda: plot.membrane(torch.zeros(3, 2), threshold=torch.ones(3)), "one for each of 2 neurons; got 3"),
        (lambda: plot.membrane(torch.zeros(())), "membrane: expected"),
        (lambda: plot.membrane(torch.zeros(3), most=0), "a neuron or more; got most=0"),
        (lambda: plot.rates({}), "spikes of a layer or more; got none"),
        (lambda: plot.rates([torch.zeros(3, 2)]), r"rates: expected \[T, B, \.\.\.features\]"),
        (lambda: plot.surrogates(ranvier.Arctan), r"Write Arctan\(\) for its default"),
    ],
)  # fmt: skip
def test_what_is_refused(call: object, text: str) -> None:
    with pytest.raises(Refusal, match=text):
        call()


def test_plotly_is_imported_only_with_plot() -> None:
    program = "import sys, ranvier; assert 'plotly' not in sys.modules; import ranvier.lab.plot; print('plotly' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"
