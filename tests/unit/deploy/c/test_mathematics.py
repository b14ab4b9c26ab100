"""Functions of math.h that exported files bring along."""

import math
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from ranvier.deploy.c.mathematics import FUNCTIONS


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
def test_functions_written_out_agree_with_those_of_the_library(tmp_path: Path) -> None:
    """To two units in the last place; for log near 1 and sqrt of the smallest numbers also absolutely."""
    edges = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        1.5,
        2.5,
        -2.5,
        88.5,
        89.0,
        -87.0,
        -104.0,
        1e-39,
        1e38,
        9e6,
        math.inf,
        -math.inf,
        math.nan,
    ]
    rng = np.random.default_rng(0)
    x = np.float32([*edges, *rng.normal(size=500) * 20, *rng.uniform(-2, 2, 500), *np.exp(rng.uniform(-80, 80, 500))])
    body = "\n".join(f.text for f in FUNCTIONS.values())
    calls = "\n".join(f'    if (!strcmp(argv[1], "{n}")) y = M_{n}(x);' for n in FUNCTIONS)
    main = f"""int main(int argc, char **argv)
{{
    float x, y = 0.0f;
    (void)argc;
    while (fread(&x, 4, 1, stdin)) {{
{calls}
        fwrite(&y, 4, 1, stdout);
    }}
    return 0;
}}"""
    order = ["floorf", "rintf", "sqrtf", "expf", "logf", "tanhf"]
    assert list(FUNCTIONS) == order, "each stands behind what it calls"
    path = tmp_path / "functions.c"
    path.write_text(f"#include <stdint.h>\n#include <stdio.h>\n#include <string.h>\n{body}\n{main}\n")
    words = ["gcc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O1", "-fsanitize=undefined"]
    subprocess.run([*words, "-fno-sanitize-recover", str(path), "-o", str(tmp_path / "functions")], check=True)
    true = {"floorf": np.floor, "rintf": np.rint, "sqrtf": np.sqrt, "expf": np.exp, "logf": np.log, "tanhf": np.tanh}
    for name, function in true.items():
        done = subprocess.run([str(tmp_path / "functions"), name], input=x.tobytes(), capture_output=True, check=True)
        y = np.frombuffer(done.stdout, np.float32)
        with np.errstate(all="ignore"):
            expected = function(x.astype(np.float64)).astype(np.float32)
        finite = np.isfinite(expected)
        assert np.array_equal(np.isnan(y), np.isnan(expected)) and np.array_equal(
            y[~finite], expected[~finite], True
        ), name
        error = np.abs(y[finite].astype(np.float64) - expected[finite])
        assert (error <= 2.5e-7 * np.abs(expected[finite]) + 1e-44).all(), (name, x[finite][error.argmax()])
