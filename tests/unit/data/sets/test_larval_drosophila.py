import os
from pathlib import Path

import numpy as np
import pytest

from ranvier.data.sets.larval_drosophila import LarvalDrosophila

DATA = os.environ.get("RANVIER_DATA")
pytestmark = pytest.mark.skipif(
    not DATA or not all((Path(DATA) / file.path).is_file() for file in LarvalDrosophila.files),
    reason="needs RANVIER_DATA with connectome_larval_drosophila/ in it",
)


def test_the_brain_has_the_published_size() -> None:
    brain = LarvalDrosophila().load("all")
    assert len(brain) == 3_591 and len(brain.pre) == 119_010 and brain.synapses.sum() == 376_091
    matrix = brain.matrix()
    assert matrix.shape == (3_591, 3_591) and matrix.nnz == 119_010 and matrix.sum() == 376_091
    assert brain.electrical is None


def test_the_neurons_have_groups_and_sides() -> None:
    brain = LarvalDrosophila().load("all")
    groups, counts = np.unique(brain.groups, return_counts=True)
    assert len(groups) == 18 and dict(zip(groups, counts, strict=True))["KCs"] == 222
    assert {side: int((brain.columns["hemisphere"] == side).sum()) for side in "LRC"} == {"L": 1787, "R": 1802, "C": 2}
    assert {io: int((brain.columns["io"] == io).sum()) for io in ("input", "inter", "output")} == {
        "input": 468,
        "inter": 2703,
        "output": 420,
    }
    assert brain.columns["selected_lcc"].sum() == 2_952


def test_sensory_neurons_have_more_outputs_than_inputs() -> None:
    brain = LarvalDrosophila().load("all")
    matrix, sensory = brain.matrix(), np.array(brain.groups) == "sensories"
    assert matrix[sensory].sum() > 5 * matrix[:, sensory].sum()
    walk = brain.columns["sum_walk_sort"]
    assert np.nanmedian(walk[brain.columns["io"] == "input"]) < np.nanmedian(walk[brain.columns["io"] == "output"])


def test_the_small_part_is_a_hundred_neurons() -> None:
    few = LarvalDrosophila().smoke("all")
    assert len(few) == len(few.groups) == len(few.columns["io"]) == 100 and few.matrix().sum() > 0
