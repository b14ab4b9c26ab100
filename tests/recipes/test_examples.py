"""Every file of examples/ does what it says, in a process of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
CLAIMS = {
    "continue_a_sequence.py": [
        r"32 chunks, largest difference to the whole (0e\+00|\de-0[6-9]), state: 0\.past, 2\.v, 4\.v",
        r"continued from disk: True",
        r"truncated backpropagation, loss [01]\.\d+",
    ],
    "plain_loop.py": [r"epoch 15: accuracy on new digits 0\.9[5-9]\d"],
    "my_neuron.py": [
        r"accuracy on new digits 0\.9\d+",
        r"ran fused \(_ScanBackward\), (100\.00|99\.9\d) % of spikes as in the loop",
    ],
}
LIMIT = 180  # seconds


def test_every_example_has_a_claim_that_is_checked_and_every_claim_an_example():
    assert {path.name for path in EXAMPLES} == CLAIMS.keys()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_prints_its_claim(path: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, path],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        timeout=LIMIT,
    )
    assert done.returncode == 0, done.stderr
    for claim in CLAIMS[path.name]:
        assert re.search(claim, done.stdout), done.stdout


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_one_idea_under_60_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < 60
