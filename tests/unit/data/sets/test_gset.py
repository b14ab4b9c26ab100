import csv
import os
from pathlib import Path

import pytest

from ranvier.data.sets.gset import GSet

DATA = os.environ.get("RANVIER_DATA")
pytestmark = pytest.mark.skipif(
    not DATA or not all((Path(DATA) / file.path).is_file() for file in GSet.files),
    reason="needs RANVIER_DATA with maxcut/ in it",
)


def test_every_cut_weighs_what_is_known_of_it() -> None:
    assert DATA
    with (Path(DATA) / "maxcut/best_known.csv").open() as file:
        known = {row["instance"]: row for row in csv.DictReader(file)}
    assert set(known) == set(GSet.splits)
    for split, row in known.items():
        graph = GSet().load(split)
        assert graph.nodes == int(row["nodes"]) and len(graph.edges) == int(row["edges"]), split
        assert (graph.weights.min(), graph.weights.max()) == (int(row["w_min"]), int(row["w_max"])), split
        assert graph.assignment is not None and graph.best_cut is not None
        cut = graph.cut(graph.assignment)
        assert cut == float(row["cut_recomputed"]) == abs(float(row["source_best"])), split
        assert 0.99 * graph.best_cut < cut <= graph.best_cut, split
        if row["literature_best"]:
            assert graph.best_cut == int(row["literature_best"]), split


def test_the_small_part_has_edges_and_no_known_cut() -> None:
    for split in ("G1", "G70", "be100.1"):
        few = GSet().smoke(split)
        assert few.nodes <= 200 and len(few.edges) >= 100 and few.best_cut is None and few.assignment is None


def test_the_arrays_are_the_callers() -> None:
    first = GSet().load("G11")
    assert first.assignment is not None
    first.weights[:] = first.assignment[:] = 0
    again = GSet().load("G11")
    assert again.assignment is not None and again.cut(again.assignment) == 562 and again.best_cut == 564
