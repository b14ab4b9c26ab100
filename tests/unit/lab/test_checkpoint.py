import errno
import math
import os
import resource
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ranvier.core.checks import Refusal
from ranvier.lab.checkpoint import before, exists, random_states, read, remove, restore_random, seed_all, write


def same(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(v, b[k]) for k, v in a.items())
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b or (isinstance(a, float) and math.isnan(a) and math.isnan(b)))


@pytest.mark.parametrize(
    "value",
    [
        {"a": [1, 2.5, "x", None, True], "b": (1, (2, [])), 3: {}, -1: {None: False}},
        {"tensor": "a", "dict": {"dict": [["float", 1]]}, "float": 0.1 + 0.2, "": 1e-320},
        [math.nan, math.inf, -math.inf, 2**70, -0.0],
        {
            "state": {
                0: {"step": torch.tensor(3.0), "moment": torch.randn(2, 3, dtype=torch.float64)},
                1: (torch.zeros(0), torch.ones(3, dtype=torch.bfloat16)),
            },
            "bits": torch.tensor([True, False]),
            "transposed": torch.arange(6).reshape(2, 3).T,
        },
        OrderedDict([("b", 1), ("a", torch.ones(1))]),
        [],
    ],
)
def test_it_comes_back_as_it_was(value: object, tmp_path: Path) -> None:
    write(value, tmp_path / "a.safetensors")
    assert same(read(tmp_path / "a.safetensors"), value)
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_state_dict_keeps_the_versions_of_its_layers_and_tied_weights(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 2))
    model[2].weight = model[0].weight
    state = model.state_dict()
    write(state, tmp_path / "a.safetensors")
    back = read(tmp_path / "a.safetensors")
    assert same(back, state) and back._metadata == state._metadata


@pytest.mark.parametrize(
    "made", [torch.optim.AdamW, torch.optim.SGD, torch.optim.Adagrad, lambda p: torch.optim.RMSprop(p, momentum=0.9)]
)
def test_optimisers_and_schedulers_come_back(made: Any, tmp_path: Path) -> None:
    model = nn.Linear(3, 2)
    optimiser = made(model.parameters())
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 0.5),
        torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 5),
        torch.optim.lr_scheduler.StepLR(optimiser, 2),
    ]
    model(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    value = [optimiser.state_dict(), [s.state_dict() for s in schedules]]
    write(value, tmp_path / "a.safetensors")
    assert same(read(tmp_path / "a.safetensors"), value)


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"a": [1, {"b": object()}]}, r"checkpoint\['a'\]\[1\]\['b'\]: .* got builtins.object"),
        ({"a": np.float64(1)}, r"checkpoint\['a'\]: .* got numpy.float64"),
        ({"a": {1, 2}}, "got builtins.set"),
        ({"a": test_it_comes_back_as_it_was}, "got builtins.function"),
        ({"a": torch.ones(2, 2).to_sparse()}, "got torch.Tensor"),
    ],
)
def test_anything_else_is_refused_by_name(value: object, place: str, tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=place):
        write(value, tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


def two(folder: Path) -> Path:
    path = folder / "a.safetensors"
    for step in (1, 2):
        write({"step": step, "x": torch.full((1000,), float(step))}, path, keep=True)
    return path


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def pickled(path: Path) -> None:
    torch.save({"x": torch.ones(1)}, path)


@pytest.mark.parametrize("damage", [cut, flip, empty, pickled, Path.unlink])
def test_a_damaged_one_is_not_used_but_the_one_before_which_is_said(
    damage: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = two(tmp_path)
    assert read(path)["step"] == 2 and not caplog.text
    damage(path)
    assert exists(path) and read(path)["step"] == 1
    assert f"using the checkpoint before it, {before(path)}" in caplog.text
    damage(before(path))
    with pytest.raises(Refusal, match="expected a whole checkpoint, or one before it"):
        read(path)
    remove(path)
    assert not exists(path) and not list(tmp_path.iterdir())


@pytest.mark.parametrize("when", [1, 2])
def test_what_lay_there_survives_a_full_disk(when: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, calls, true = two(tmp_path), [], os.replace

    def full(source: Any, target: Any) -> None:
        calls.append(source)
        if len(calls) == when:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        true(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(Refusal, match=r"room for a checkpoint; got .*No space left on device.*--resume"):
        write({"step": 3}, path, keep=True)
    assert read(path)["step"] == 2
    assert not list(tmp_path.glob(".*.part"))


def test_what_lay_there_survives_a_limit_on_the_size_of_files(tmp_path: Path) -> None:
    path = two(tmp_path)
    code = f"""
from pathlib import Path
import torch
from ranvier.lab.checkpoint import write
write({{"step": 3, "x": torch.ones(100_000)}}, Path({str(path)!r}), keep=True)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[3],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "Refusal" in done.stderr and "File too large" in done.stderr, done.stderr
    assert read(path)["step"] == 2 and read(before(path))["step"] == 1
    assert len(list(tmp_path.iterdir())) == 2


def test_every_random_generator_goes_on_where_it_was(tmp_path: Path) -> None:
    import random

    def draw() -> list[float]:
        return [random.gauss(0, 1), random.random(), float(np.random.normal()), float(torch.randn(()))]

    seed_all(5)
    draw()  # so that the half of a pair of normal numbers is kept too
    write(random_states(), tmp_path / "a.safetensors")
    expected = [draw() for _ in range(3)]
    seed_all(6)
    restore_random(read(tmp_path / "a.safetensors"))
    assert [draw() for _ in range(3)] == expected
