"""Every notebook of examples/notebooks/ runs from top to bottom and prints what is claimed of it; none holds outputs."""

import os
import re
from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed: it comes with the extra test")

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))
CLAIMS = {
    "own_data_or_recordings": [r"140 files such as ABD_person10_\d+\.csv", r"accuracy on two new people 0\.[6-9]\d"],
    "own_neuron": [r"steps between spikes: \[\d, .* \d\d\]", r"(99\.9\d|100\.00) % of spikes equal", r"spikes: \["],
    "tour": [r"accuracy on new digits (0\.9\d|1\.00)", r"chunks equal the whole: True"],
}
LIMIT = 120  # seconds a cell, on a machine that does other things, too


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def test_every_notebook_has_a_claim_that_is_checked_and_every_claim_a_notebook() -> None:
    assert {path.stem for path in NOTEBOOKS} == CLAIMS.keys()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_prints_its_claim(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed: it comes with the extra test")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed: it comes with the extra test")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("PLOTLY_RENDERER", "json")  # not the 5 MB that a browser needs
    notebook = read(path)
    nbclient.NotebookClient(
        notebook, timeout=LIMIT, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    printed = "".join(out.text for out in outputs if out.output_type == "stream" and out.name == "stdout")
    for claim in CLAIMS[path.stem]:
        assert re.search(claim, printed), printed
    assert sum("application/json" in out.get("data", {}) for out in outputs) >= 2, "figures"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_holds_no_outputs_and_nothing_of_a_machine(path: Path) -> None:
    notebook = read(path)
    assert notebook.metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None and not cell.metadata
