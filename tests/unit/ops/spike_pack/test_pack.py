"""Packing on every backend is what plain torch does."""

import os
import subprocess
import sys

import pytest
import torch

from ranvier.ops import spike_pack
from ranvier.ops.spike_pack import reference

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
SIZES = [(1, 1), (5, 7), (3, 64), (33, 65), (17, 130), (2, 700), (40, 63)]
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)
sizes = pytest.mark.parametrize(("rows", "width"), SIZES)
cpu_only = pytest.mark.skipif(INTERPRETED, reason="a GPU packs flat tensors without counts")


def spikes(rows, width, dtype, density=0.2):
    x = (torch.rand(rows, width) < density).to(dtype)
    return torch.where(torch.rand(rows, width) < 0.5, x, -0.0 * (1 - x) + x)  # zeros of both signs


@pytest.fixture
def poisoned(monkeypatch):
    """Memory that kernels write to holds what no result may contain."""
    if INTERPRETED:
        return
    from ranvier.ops.spike_pack import cpu

    def empty(shape, dtype):
        return torch.full(tuple(shape), torch.nan if dtype.is_floating_point else -1, dtype=dtype)

    monkeypatch.setattr(cpu, "empty", empty)


@sizes
@dtypes
@pytest.mark.parametrize("density", [0.0, 0.03, 0.5, 1.0])
def test_bits_there_and_back(rows, width, dtype, density, poisoned):
    x = spikes(rows, width, dtype, density)
    packed, binary = spike_pack.pack(x, width if not INTERPRETED else 64)
    assert binary and torch.equal(spike_pack.unpack(packed, dtype).view_as(x), x)
    assert torch.equal(spike_pack.unpack(packed, torch.float32).view_as(x), x.float())


@cpu_only
@sizes
@dtypes
def test_words_counts_and_indices_are_those_of_the_reference(rows, width, dtype, poisoned):
    x = spikes(rows, width, dtype)
    packed, binary = spike_pack.pack(x, width)
    words, counts, same = reference.pack(x.view(-1), width)
    assert torch.equal(packed.words, words) and torch.equal(packed.counts, counts) and binary == same
    pointer, index = spike_pack.indices(packed)
    assert all(map(torch.equal, (pointer, index), reference.indices(words, counts)))
    assert torch.equal(index.long(), x.nonzero()[:, 1]) and torch.equal(pointer.diff(), counts.long())


@cpu_only
@pytest.mark.parametrize("number", [1, 63, 64, 4096, 4097, 9000])
def test_a_flat_tensor_whose_last_row_is_short(number, poisoned):
    x = spikes(1, number, torch.float32)[0]
    packed, binary = spike_pack.pack(x)
    assert binary and torch.equal(spike_pack.unpack(packed, torch.float32), x)
    assert torch.equal(packed.words, reference.pack(x, spike_pack.FLAT)[0])
    assert torch.equal(reference.unpack(*packed[:1], *packed[2:], torch.float32), x)


@pytest.mark.parametrize("value", [2.0, -1.0, 0.5, 1e-30, float("nan"), float("inf")])
@dtypes
@pytest.mark.parametrize("place", [0, 63, 70, 129])
def test_a_single_other_number_is_seen(value, dtype, place):
    if torch.tensor(value, dtype=dtype) == 0:
        pytest.skip("it is zero in this dtype")
    x = torch.zeros(3, 130, dtype=dtype)
    x[1, 5], x[2, place] = 1.0, value
    assert not spike_pack.pack(x, 64 if INTERPRETED else 130)[1]
    assert INTERPRETED or not reference.pack(x.view(-1), 130)[2]


def test_an_empty_tensor_packs_to_nothing():
    packed, binary = spike_pack.pack(torch.zeros(0, 5), 64 if INTERPRETED else 5)
    assert binary and not packed.words.numel() and not spike_pack.unpack(packed, torch.float32).numel()


def test_events_are_grouped_by_row():
    row, column = torch.randint(7, (100,)), torch.randint(50, (100,), dtype=torch.int32)
    for rows in (7, 9):
        found, expected = spike_pack.grouped(row, column, rows), reference.grouped(row, column, rows)
        assert all(map(torch.equal, found, expected))
    none = spike_pack.grouped(row[:0], column[:0], 3)
    assert none[0].tolist() == [0, 0, 0, 0] and not len(none[1])


@pytest.mark.skipif(INTERPRETED, reason="this is the interpreter")
def test_triton_packs_the_same_in_the_interpreter():
    pytest.importorskip("triton")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    found = subprocess.run(command, env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout[-5000:] + found.stderr[-2000:]
