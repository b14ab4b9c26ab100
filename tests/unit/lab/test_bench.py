"""The benchmark of neurons: that peers compute what ours does, that times are taken in turn, that all of it is written down."""

import json
import time
from importlib.util import find_spec

import pytest
import torch

import ranvier
from ranvier.core.checks import Refusal
from ranvier.lab.bench import contender
from ranvier.lab.bench.alone import alone
from ranvier.lab.bench.contender import OURS, contenders
from ranvier.lab.bench.memory import kept, peak
from ranvier.lab.bench.neuron import bench_neuron, filename
from ranvier.lab.bench.parity import BAND, compare, ties
from ranvier.lab.bench.peers import INSTALL, PEERS, Spelling
from ranvier.lab.bench.timing import Load, Times, interleaved, ratio
from ranvier.lab.bench.workload import Work, driven, strength

CPU = torch.device("cpu")
SAID = {
    "spikingjelly": ("lif", "integrate-and-fire", "parametric-lif", "cuba-lif", "complementary-lif"),
    "snntorch": ("lif", "integrate-and-fire", "parametric-lif", "cuba-lif"),
    "norse": ("lif", "integrate-and-fire", "parametric-lif", "cuba-lif", "adaptive-lif"),
}


def neuron(name):
    return contender.find("neuron", name, "ranvier.nn.neurons", base="neuron").load()


@pytest.mark.parametrize(("peer", "name"), [(p, n) for p, names in SAID.items() for n in names])
@pytest.mark.filterwarnings("ignore")
def test_a_peer_gives_our_spikes_and_gradient_at_the_settings_it_is_given(peer, name):
    if find_spec(peer) is None:
        pytest.skip(f"{peer} is not installed: {INSTALL[peer]}")
    kind = neuron(name)
    spelling = PEERS[peer](name, kind(), CPU)
    assert isinstance(spelling, Spelling)
    gain, rate = strength(kind, 30)
    work = driven((30, 8, 64), torch.float32, CPU, gain)
    ours = Spelling("", kind(**spelling.options))
    results = [work.compared(one, spelling.delay) for one in (ours, spelling)]
    found = compare(*results, ties(ours.function, work.x))
    assert found.holds and found.ties < 0.05 * found.neurons, found
    assert rate >= 0.1 and results[0][0].mean() > 0.05


@pytest.mark.parametrize("peer", PEERS)
def test_a_peer_says_what_it_has_no_word_for(peer):
    if find_spec(peer) is None:
        pytest.skip(f"{peer} is not installed: {INSTALL[peer]}")
    assert isinstance(PEERS[peer]("sigma-delta", neuron("sigma-delta")(), CPU), str)
    entrants, left_out = contenders("sigma-delta", 9, CPU, [peer])
    assert [one.who for one in entrants] == [OURS] and left_out[0].who == peer


def test_a_peer_that_is_not_installed_is_named_with_the_line_that_installs_it(monkeypatch):
    monkeypatch.setattr(contender, "find_spec", lambda name: None)
    entrants, left_out = contenders("lif", 9, CPU, list(PEERS))
    assert [one.name for one in entrants] == ["ranvier, eager"]
    assert {one.who: one.reason for one in left_out} == {p: f"not installed: {INSTALL[p]}" for p in PEERS}


def test_a_loop_of_many_steps_is_not_compiled():
    names = [one.name for one in contenders("lif", 10, CPU, ["compile"])[0]]
    assert names == ["ranvier, eager", "ranvier, torch.compile", "compile, torch.compile"]
    entrants, left_out = contenders("lif", 1000, CPU, ["compile"])
    assert [one.who for one in entrants] == [OURS] and "unrolled" in left_out[0].reason


def test_parity_finds_another_reset_and_another_surrogate_and_leaves_ties_out():
    work = driven((20, 4, 32), torch.float32, CPU, 1.0)
    ours = Spelling("", ranvier.LIF())

    def against(**options):
        tied = ties(ours.function, work.x)
        other = Spelling("", ranvier.LIF(**options))
        return compare(work.compared(ours, 0), work.compared(other, 0), tied)

    assert str(against()) == "same"
    assert not against(reset_mode="subtract").holds and "output differs" in str(against(reset_mode="subtract"))
    assert not against(detach_reset=True).holds and "gradient differs" in str(against(detach_reset=True))
    tie = Work(torch.full((1, 1, 1), 2.0), torch.ones(1, 1, 1))  # it reaches the threshold exactly
    above = Spelling("", ranvier.LIF(threshold=1.0 + BAND / 10))
    assert ties(ours.function, tie.x).all()
    found = compare(tie.compared(ours, 0), tie.compared(above, 0), ties(ours.function, tie.x))
    assert found.differ == 0 and not found.holds and "undecided" in str(found)


def test_cases_are_taken_in_turn_and_called_often_enough_to_be_measured():
    seconds = {"quick": 1e-3, "slow": 2e-2}
    seen = []

    def clock(case, calls):
        seen.append((case.name, calls))
        return seconds[case.name] * calls

    def named(name):
        def case():
            raise AssertionError("the clock calls it")

        case.name = name
        return case

    found = interleaved({k: named(k) for k in seconds}, rounds=3, clock=clock, sample=5e-3)
    assert seen[6:] == [("quick", 5), ("slow", 1), ("slow", 1), ("quick", 5), ("quick", 5), ("slow", 1)]
    assert found["quick"].median == pytest.approx(1.0) and found["slow"].least == pytest.approx(20.0)
    assert ratio(found["slow"], found["quick"]) == pytest.approx(20.0)


def test_a_ratio_compares_within_rounds():
    assert ratio(Times([2.0, 40.0, 2.0]), Times([1.0, 20.0, 1.0])) == 2.0


def test_a_case_that_fails_is_reported_and_the_others_are_measured():
    def fails():
        raise RuntimeError("no such kernel\nand more")

    found = interleaved({"fails": fails, "runs": lambda: None}, rounds=2)
    assert found["fails"].error == "RuntimeError: no such kernel" and len(found["runs"].rounds) == 2


def test_memory_is_that_of_the_tensors():
    x = torch.ones(1000, requires_grad=True)
    assert kept(lambda: (x * 2).exp()) == 4000
    grown = peak(lambda: torch.ones(1 << 24), CPU)
    assert grown is None or 60 << 20 <= grown < 100 << 20


def test_load_says_whether_the_machine_was_busy():
    load = Load(before=0.0)
    time.sleep(0.3)  # the system counts in ticks of a hundredth of a second
    facts = load.facts()
    assert facts["load after"] >= 0 and 0 <= facts["cores used by others"] <= facts["cores"] + 1
    assert Load(before=1e9).facts()["busy"]


def test_everything_measured_is_written_down():
    facts = bench_neuron("cuba-lif", (8, 2, 16), "bfloat16", "cpu", 2, ["loop"], memory=False)
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert facts.keys() >= {"commit", "versions", "hardware", "seed", "load", "copy", "left out", "rounds", "started"}
    assert [row["who"] for row in facts["rows"]] == [OURS, "loop"]
    for row in facts["rows"]:
        assert row["parity"]["holds"] and row["kept"] >= 0
        for what in ("forward", "both"):
            assert 0 < row[what]["min"] <= row[what]["median"] and row[what]["ratio"] > 0
    assert facts["fastest"]["loop"]["as"] == "eager"
    assert filename(facts) == "neuron_cuba-lif_cpu_8x2x16_bfloat16.json"


def test_a_process_of_its_own_measures_memory(tmp_path):
    size = 8 * 64 * 4096 * 4
    task = {"what": "peak", "contender": "ranvier, eager", "peers": []}
    facts = {"neuron": "lif", "shape": [8, 64, 4096], "dtype": "float32", "device": "cpu", "gain": 1.0}
    found = alone(task, facts, str(tmp_path))
    assert 1.5 * size < found["bytes"] < 4 * size  # the spikes and the input's gradient, and some state
    assert alone({**task, "contender": "nobody"}, facts) == {}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "liff"}, "Did you mean 'lif'"),
        ({"name": "lif", "peers": ["nors"]}, "Did you mean 'norse'"),
        ({"name": "lif", "dtype": "float23"}, "Did you mean 'float32'"),
        ({"name": "lif", "shape": (10, 10)}, "T,B,F"),
        ({"name": "lif", "device": "cuba"}, "Did you mean 'cuda'"),
    ],
)
def test_bad_words_are_refused_with_the_nearest_names(given, message):
    with pytest.raises(Refusal, match=message):
        bench_neuron(**given)
