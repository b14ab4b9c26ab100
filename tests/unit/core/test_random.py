import pytest
import torch

from ranvier.core.random import Draws, fresh_seeds, normal, philox, uniform

ONES = 0xFFFFFFFF


def words(*values):
    return tuple(torch.tensor([v]) for v in values)


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [  # known answers of Random123's philox4x32_7
        ((0, 0, 0, 0), (0, 0), (0x5F6FB709, 0x0D893F64, 0x4F121F81, 0x4F730A48)),
        ((ONES,) * 4, (ONES,) * 2, (0x5207DDC2, 0x45165E59, 0x4D8EE751, 0x8C52F662)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0x4DFCCABA, 0x190A87F0, 0xC47362BA, 0xB6B5242A),
        ),
    ],
)
def test_philox_gives_the_known_answers_of_random123(counter, key, expected):
    assert tuple(int(w) for w in philox(words(*counter), words(*key))) == expected


def test_a_number_depends_on_seed_step_and_element_alone():
    seed, step, element = torch.tensor(7), torch.arange(50)[:, None], torch.arange(40)
    whole = uniform(seed, step, element)
    assert torch.equal(uniform(seed, step[20:], element[5:9]), whole[20:, 5:9])
    assert torch.equal(uniform(seed, step.flip(0), element.flip(0)).flip(0, 1), whole)
    assert whole.unique().numel() > 1990  # of 2000, with 2^24 possible values
    for other in (
        uniform(seed, step, element, stream=1),
        uniform(seed + 1, step, element),
        uniform(seed, step + 50, element),
        uniform(seed, step, element + 40),
    ):
        assert (other == whole).float().mean() < 0.01


@pytest.mark.parametrize("bit", [0, 16, 31, 32, 40, 61])
def test_all_bits_of_seed_step_element_and_stream_count(bit):
    one = torch.ones(1, dtype=torch.int64)
    first = uniform(one, one, one)
    assert uniform(one + (1 << bit), one, one) != first
    if bit < 32:
        assert uniform(one, one + (1 << bit), one) != first
        assert uniform(one, one, one + (1 << bit)) != first
        assert uniform(one, one, one, stream=1 << bit) != first


def test_numbers_are_uniform_and_uncorrelated():
    n = 500
    u = uniform(torch.tensor(3), torch.arange(n)[:, None], torch.arange(n)).double()
    sigma = (n * n) ** -0.5  # of a correlation or of sqrt(12) times a mean, when independent
    assert u.min() >= 0 and u.max() < 1
    assert abs(u.mean() - 0.5) < 4 * sigma / 12**0.5
    assert abs(u.var() - 1 / 12) < 4 * sigma / 180**0.5
    counts = torch.histc(u, 64, 0, 1)
    assert ((counts - n * n / 64) ** 2 / (n * n / 64)).sum() < 63 + 4 * (2 * 63) ** 0.5  # chi-squared
    z = (u - 0.5) * 12**0.5
    for lag in (1, 2, 7, 64):
        assert abs((z[lag:] * z[:-lag]).mean()) < 5 * sigma  # over steps
        assert abs((z[:, lag:] * z[:, :-lag]).mean()) < 5 * sigma  # over elements
    neighbour = (uniform(torch.tensor(4), torch.arange(n)[:, None], torch.arange(n)).double() - 0.5) * 12**0.5
    assert abs((z * neighbour).mean()) < 5 * sigma  # over seeds


def test_normal_numbers_have_the_moments_and_tails_of_a_normal():
    n = 500
    z = normal(torch.tensor(3), torch.arange(n)[:, None], torch.arange(n)).double()
    sigma = 1 / n
    assert z.isfinite().all()
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs(z.pow(power).mean() - moment) < 4 * sigma * variance**0.5
    for bound in (0.5, 1.0, 2.0, 3.0):
        p = torch.erf(torch.tensor(bound / 2**0.5)).item()
        assert abs((z.abs() < bound).double().mean() - p) < 4 * sigma * (p * (1 - p)) ** 0.5
    assert abs((z[1:] * z[:-1]).mean()) < 5 * sigma and abs((z[:, 1:] * z[:, :-1]).mean()) < 5 * sigma


def test_draws_of_a_sequence_go_on_where_an_earlier_one_stopped():
    def drawn(step, steps):
        draws = Draws(torch.tensor([7, 9]), torch.tensor([step, step]), (3, 4))
        numbers = []
        for _ in range(steps):
            numbers.append(torch.stack([draws.uniform(), draws.normal(), draws.uniform()]))
            draws.next_step()
        return torch.stack(numbers)

    whole = drawn(0, 5)
    assert whole.shape == (5, 3, 2, 3, 4) and torch.equal(whole, torch.cat([drawn(0, 2), drawn(2, 3)]))
    uniforms = whole[:, [0, 2]]
    assert uniforms.unique().numel() == uniforms.numel()  # no two draws, steps, samples or places share a number


def test_fresh_seeds_are_counted_up_or_come_from_torchs_generator():
    counted = [fresh_seeds(3, torch.device("cpu"), seed) for seed in (0, 1, 5, 2**40)]
    assert all(seeds.diff().tolist() == [1, 1] and seeds.min() >= 0 for seeds in counted)
    assert torch.cat(counted).unique().numel() == 12  # neighbouring numbers lead to streams of their own
    torch.manual_seed(1)
    first, second = fresh_seeds(3, torch.device("cpu")), fresh_seeds(3, torch.device("cpu"))
    torch.manual_seed(1)
    assert torch.equal(fresh_seeds(3, torch.device("cpu")), first) and not (first == second).any()
