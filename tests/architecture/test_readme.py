"""The README does what it says: its code runs, and its scoreboard is the evidence."""

import re
from pathlib import Path

import pytest
import torch

from ranvier.lab.evidence import BEGIN, END, scoreboard

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_code_runs_and_the_network_learns(capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names: dict[str, object] = {"__name__": "readme"}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    found = re.search(r"accuracy (\d\.\d+)", capsys.readouterr().out)
    assert found is not None and float(found[1]) > 0.85
    assert len(blocks[0].splitlines()) <= 12


def test_the_scoreboard_is_made_from_the_evidence() -> None:
    board = README.split(BEGIN)[1].split(END)[0].strip()
    assert board == scoreboard(ROOT / "evidence").strip(), "Run: ranvier verify NAME --save"
