"""Imports point only downwards, and nothing goes in circles."""

import json
import statistics
import subprocess
import sys

import pytest

FLOORS = {
    "core": 0,
    "compile": 1,
    "ops": 1,
    "nn": 2,
    "data": 2,
    "": 2.5,  # the public names of core and nn, for the floors above them
    "learn": 3,
    "models": 3,
    "deploy": 4,
    "measure": 4,
    "lab": 5,
    "recipes": 6,
    "cli": 7,
}
ORDERED = {("ops", "compile")}  # on one floor: the first may import the second
HEAVY = ("lightning", "numba", "plotly", "sklearn", "pandas", "triton", "seglearn", "scipy", "jinja2", "typer", "rich")


def room(name):
    return name.partition(".")[0]


def test_every_room_has_a_floor(source):
    assert {room(name) for name in source.paths} <= FLOORS.keys(), "give the new room its floor, here and in the design"


def test_every_import_names_a_file_that_is_there(source):
    assert not [(a, b) for a, found in source.imports.items() for b in found if b not in source.paths]


def test_imports_point_only_downwards(source):
    upward = [
        f"{a} imports {b}"
        for a, found in source.imports.items()
        for b in found
        if room(a) != room(b) and FLOORS[room(a)] <= FLOORS[room(b)] and (room(a), room(b)) not in ORDERED
    ]
    assert not upward, upward


def test_no_files_import_each_other_in_a_circle(source):
    done, path = set(), []

    def visit(name):
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in done:
            path.append(name)
            for other in sorted(source.imports[name]):
                visit(other)
            path.pop()
            done.add(name)

    for name in source.paths:
        visit(name)


@pytest.fixture(scope="module")
def fresh():
    """What `import ranvier` adds to `import torch` in a process of its own: seconds and modules, three times."""
    program = """
import json, sys, time
import torch
before, start = set(sys.modules), time.perf_counter()
import ranvier
seconds = time.perf_counter() - start
print(json.dumps([seconds, sorted({name.partition(".")[0] for name in set(sys.modules) - before})]))
"""
    return [
        json.loads(subprocess.run([sys.executable, "-c", program], check=True, capture_output=True).stdout)
        for _ in range(3)
    ]


def test_import_is_quick(fresh):
    assert statistics.median(seconds for seconds, _ in fresh) < 0.5


def test_import_brings_nothing_heavy(fresh):
    assert not set(HEAVY) & set(fresh[0][1])
