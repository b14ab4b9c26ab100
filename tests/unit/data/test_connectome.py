import numpy as np
import pytest

from ranvier.core.checks import Refusal
from ranvier.data.connectome import Connectome


def made() -> Connectome:
    return Connectome(
        pre=np.array([0, 0, 1, 2, 0]),
        post=np.array([1, 2, 2, 0, 1]),
        synapses=np.array([4, 1, 2, 3, 5]),
        neurons=("A", "B", "B"),
        groups=("in", "out", "out"),
        electrical=np.array([False, False, True, False, True]),
        columns={"side": np.array(["L", "R", "L"])},
    )


def test_the_matrix_adds_what_is_stated_twice() -> None:
    matrix = made().matrix()
    assert matrix.toarray().tolist() == [[0, 9, 1], [0, 0, 2], [3, 0, 0]] and matrix.nnz == 4


def test_kinds_of_connection_are_told_apart() -> None:
    whole = made()
    assert whole.electrical is not None
    chemical, electrical = whole.take(~whole.electrical), whole.take(whole.electrical)
    assert chemical.matrix().toarray().tolist() == [[0, 4, 1], [0, 0, 0], [3, 0, 0]]
    assert (chemical.matrix() + electrical.matrix() != whole.matrix()).nnz == 0
    assert chemical.neurons == whole.neurons and len(chemical) == 3
    assert whole.take([]).matrix().nnz == 0


def test_a_part_has_the_connections_among_its_neurons() -> None:
    part = made().part([2, 0])
    assert (part.pre.tolist(), part.post.tolist(), part.synapses.tolist()) == ([1, 0], [0, 1], [1, 3])
    assert part.neurons == ("B", "A") and part.groups == ("out", "in") and part.columns["side"].tolist() == ["L", "L"]
    assert part.electrical is not None and part.electrical.tolist() == [False, False]


def test_a_part_is_a_copy() -> None:
    whole = made()
    part = whole.part(range(3))
    assert part.electrical is not None
    for array in (part.pre, part.post, part.synapses, part.electrical, part.columns["side"]):
        array[:] = 0
    assert (whole.matrix() != made().matrix()).nnz == 0 and whole.columns["side"][0] == "L"


@pytest.mark.parametrize("neurons", [[0, 0], [3], [-1]])
def test_a_part_of_no_neurons_of_it_is_refused(neurons: list[int]) -> None:
    with pytest.raises(Refusal, match="different neurons from 0 to 2"):
        made().part(neurons)


def test_values_that_are_not_one_for_each_are_refused() -> None:
    ends, one = np.array([0]), np.array([1])
    with pytest.raises(Refusal, match="Connectome synapses: expected 1 values, one for each connection; got 2"):
        Connectome(pre=ends, post=one, synapses=np.ones(2), neurons=("A", "B"))
    with pytest.raises(Refusal, match="Connectome groups: expected 2 values, one for each neuron; got 1"):
        Connectome(pre=ends, post=one, synapses=one, neurons=("A", "B"), groups=("in",))
    with pytest.raises(Refusal, match="Connectome side: expected 2 values"):
        Connectome(pre=ends, post=one, synapses=one, neurons=("A", "B"), columns={"side": np.ones(3)})
    with pytest.raises(Refusal, match="neurons from 0 to 0; got 0 to 1"):
        Connectome(pre=ends, post=one, synapses=one, neurons=("A",))
