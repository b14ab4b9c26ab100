"""Writing a program as C, with what to test it by."""

import re
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ranvier.core.checks import Refusal
from ranvier.core.running import run
from ranvier.deploy.c.kinds import Printed
from ranvier.deploy.c.text import Vector, text
from ranvier.deploy.engine.program import Program
from ranvier.deploy.fixed_point.program import FixedPoint, fixed_point
from ranvier.deploy.fixed_point.reference import Reference

_NUMBERS = ("float32", "int16", "int8")


@dataclass(frozen=True)
class Exported:
    """A written file; `fixed` is the program in whole numbers, where it is in such."""

    path: Path
    name: str
    fixed: FixedPoint | None


def export(
    program: Program,
    path: str | Path,
    numbers: str = "float32",
    *,
    test: Tensor | None = None,
    calibration: Tensor | None = None,
    libm: bool = True,
) -> Exported:
    """Write a compiled program as one C99 file, whose functions are named after it: NAME_reset, NAME_step, NAME_decide.

    - numbers: "float32"; or "int8" or "int16" weights with 32-bit states, for machines without floating point
    - test: sequences [T, B, ...] that the file carries with what comes of them: compiled with -DNAME_TEST it has a main
      that compares, and exits with 1 where anything differs. Whole numbers agree to the bit, in outputs and membranes
    - calibration: training data [T, B, ...] that the scales of whole numbers fit; without it `test` is taken
    - libm: False writes the few functions of math.h that a step may need into the file

    The file has no malloc and no global but its functions; a network is one set of static arrays. What gives a static
    picture its time stays outside: for Direct call the step with the same x again.

    Raises: Refusal for steps that can't be in whole numbers, or not without libm; for a path whose stem is no name in C.

    >>> import torch, ranvier, tempfile
    >>> from ranvier.deploy.engine.program import compile
    >>> model = torch.nn.Sequential(ranvier.Linear(3, 8), ranvier.LIF())
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = export(compile(model, [3]), f"{folder}/tiny.c", "int8", test=torch.ones(5, 1, 3))
    ...     print("int tiny_step(const int16_t x[3], int32_t y[8]);" in file.path.read_text())
    True
    """
    path = Path(path)
    if not re.fullmatch(r"[A-Za-z_]\w*", path.stem, re.ASCII):
        do = "Functions are named after the file: call it for instance network.c."
        raise Refusal(str(path), expected="a file whose stem is a name in C", got=repr(path.stem), do=do)
    if numbers not in _NUMBERS:
        raise Refusal("numbers", expected=" or ".join(_NUMBERS), got=repr(numbers), do="Choose one of them.")
    fixed = None
    if numbers != "float32":
        data = test if calibration is None else calibration
        if data is None:
            do = "Give calibration=x, training data [T, B, ...]."
            raise Refusal("export", expected="data that the scales fit", got="none", do=do)
        fixed = fixed_point(program, numbers, data)
    if test is not None and not test.numel():
        raise Refusal("export", expected="a sequence to test with", got="none", do="Give test=x [T, B, ...], or None.")
    vector = None if test is None else _vector(program, fixed, test)
    path.write_text(text(Printed(program, fixed), path.stem, libm, vector), encoding="utf-8")
    return Exported(path, path.stem, fixed)


@torch.no_grad()
def _vector(program: Program, fixed: FixedPoint | None, x: Tensor) -> Vector:
    x = x if program.head is None else program.head(x)
    frames = x.float().reshape(*x.shape[:2], -1).numpy()
    digests = None
    if fixed is None:
        y = np.stack([program.live().frames(torch.from_numpy(frames[:, b])).numpy() for b in range(x.shape[1])], 1)
    else:
        reference, rows, found = Reference(fixed, x.shape[1]), [], []
        frames, digest = reference.quantised(frames), np.zeros(x.shape[1], np.uint32)
        for frame in frames:
            row = reference.step(frame)
            if row is not None:
                rows.append(row)
            digest = reference.digest(digest)
            found.append(digest)
        y, digests = np.stack(rows), np.stack(found, 1)
    decisions = None
    if program.tail is not None:
        tail, real = program.tail, torch.from_numpy(y)
        if fixed is not None:  # as sums of whole numbers are: exact
            tail, real = deepcopy(tail).double(), real.double() * 2.0**-fixed.output.bits
        scores = run(tail, real.reshape(len(y), x.shape[1], *program.out_shape))[0]
        decisions = scores.reshape(x.shape[1], -1).argmax(1).numpy()
    return Vector(frames.swapaxes(0, 1), y.swapaxes(0, 1), decisions, digests)
