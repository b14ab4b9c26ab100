"""A network split over two processes: every spike and state is that of one process."""

import tempfile
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from ranvier.deploy.populations import ranks
from ranvier.deploy.populations.connections import FixedInDegree, FixedProbability, Pairs
from ranvier.deploy.populations.network import Network, Poisson, Population, Projection
from ranvier.nn.neurons.ei_current_lif import EICurrentLIF
from ranvier.nn.neurons.stochastic_lif import StochasticLIF


def network():
    """Two populations of odd sizes, one of random neurons, delays of each synapse, and one population too small to share."""
    generator = torch.Generator().manual_seed(0)
    source, target = torch.randint(211, (2, 3000), generator=generator)
    delay = torch.randint(3, 9, (3000,), generator=generator)
    vogels = EICurrentLIF(tau=20.0, tau_e=5.0, tau_i=10.0, refractory=5.0, v_rest=-40.0, dt=0.5, discretisation="exact")
    populations = {
        "a": Population(vogels, 211),
        "b": Population(StochasticLIF(), 100, current=0.5),
        "c": Population(vogels, 5),
    }
    projections = [
        Projection("a", "a", Pairs(source, target), "g_e", 0.8, delay),
        Projection("b", "a", FixedInDegree(9), "g_i", -0.1, delay=4),
        Projection("a", "b", FixedProbability(0.1), "v", 0.1, delay=3),
        Projection("a", "c", FixedProbability(0.5), "g_e", 0.5, delay=5),
    ]
    return Network(populations, projections, [Poisson("a", "g_e", 0.5, 0.1)], seed=3)


def one(number: int, folder: str, room: int) -> None:
    torch.set_num_threads(1)
    ranks.ROOM = room
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=number, world_size=2)
    try:
        net = network()
        first, state = net.run(70, processes=True)
        second, state = net.run(130, state, processes=True)
        torch.save(
            [[(s[k].t, s[k].index) for k in s] for s in (first, second)] + [state], Path(folder) / f"{number}.pt"
        )
    finally:
        dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_available() or not dist.is_gloo_available(), reason="torch has no Gloo here")
@pytest.mark.parametrize("room", [4096, 8], ids=["fits", "once more"])
def test_two_processes_give_the_spikes_and_states_of_one(room):
    net = network()
    first, state = net.run(70)
    second, last = net.run(130, state)
    assert all(len(second[k]) for k in second)
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(one, (folder, room), nprocs=2)
        for number in range(2):
            *parts, theirs = torch.load(Path(folder) / f"{number}.pt")
            for own, part in zip((first, second), parts, strict=True):
                for spikes, (t, index) in zip(own.values(), part, strict=True):
                    assert torch.equal(spikes.t, t) and torch.equal(spikes.index, index)
            assert list(theirs) == list(last) and all(torch.equal(theirs[k], last[k]) for k in last)
