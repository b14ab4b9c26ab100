import os
from pathlib import Path

import numpy as np
import pytest

from ranvier.data.sets.c_elegans import CElegans

DATA = os.environ.get("RANVIER_DATA")
pytestmark = pytest.mark.skipif(
    not DATA or not all((Path(DATA) / file.path).is_file() for file in CElegans.files),
    reason="needs RANVIER_DATA with connectome_c_elegans/ in it",
)


@pytest.mark.parametrize(
    ("split", "cells", "chemical", "electrical", "weights"),
    [("cook2019", 448, 4_681, 2_698, (27_019, 12_683)), ("white1986", 309, 2_386, 575, (7_943, 971))],
)
def test_the_maps_have_the_published_sizes(
    split: str, cells: int, chemical: int, electrical: int, weights: tuple[int, int]
) -> None:
    worm = CElegans().load(split)
    assert worm.electrical is not None
    assert len(worm) == len(set(worm.neurons)) == cells and list(worm.neurons) == sorted(worm.neurons)
    matrices = worm.take(~worm.electrical).matrix(), worm.take(worm.electrical).matrix()
    assert [m.nnz for m in matrices] == [chemical, electrical] and tuple(int(m.sum()) for m in matrices) == weights


def test_cook_states_gap_junctions_both_ways_and_white_once() -> None:
    shares = []
    for split in CElegans.splits:
        worm = CElegans().load(split)
        assert worm.electrical is not None
        stated = worm.take(worm.electrical).matrix() > 0
        shares.append(int((stated.astype(int).multiply(stated.T.astype(int))).sum()))
    assert shares == [2_692, 6]  # 6: of a cell with itself


def test_a_known_connection_is_there() -> None:
    worm = CElegans().load("white1986")
    at = {name: i for i, name in enumerate(worm.neurons)}
    assert worm.matrix()[at["ADAL"], at["AVBR"]] == 7


def test_the_arrays_are_the_callers() -> None:
    first = CElegans().load("white1986")
    first.synapses[:] = 0
    assert CElegans().load("white1986").synapses.min() == 1
    assert np.count_nonzero(CElegans().smoke("white1986").synapses) > 0
