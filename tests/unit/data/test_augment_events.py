import numpy as np
import pytest
import torch

from ranvier.core.checks import Refusal
from ranvier.data import augment_events as augment
from ranvier.data.events import Sensor, events, require

CAMERA = Sensor(12, 9)
LINE = Sensor(30, polarities=1)


def drawn(seed: int, count: int = 400, sensor: Sensor = CAMERA) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y = None if sensor.height is None else rng.integers(0, sensor.height, count)
    return events(
        np.sort(rng.integers(0, 5000, count)), rng.integers(0, sensor.width, count), y, rng.integers(0, 2, count)
    )


VARIATIONS = {
    "drop_events": lambda e, s, g: augment.drop_events(e, 0.3, g),
    "drop_time": lambda e, s, g: augment.drop_time(e, 0.3, g),
    "drop_area": lambda e, s, g: augment.drop_area(e, s, 0.3, g),
    "jitter_time": lambda e, s, g: augment.jitter_time(e, 500.0, g),
    "shift": lambda e, s, g: augment.shift(e, s, 4, g),
    "flip": lambda e, s, g: augment.flip(e, s, g),
    "flip_polarity": lambda e, s, g: augment.flip_polarity(e, g),
    "reverse_time": lambda e, s, g: augment.reverse_time(e, g),
    "denoise": lambda e, s, g: augment.denoise(e, s, 100),
}


@pytest.mark.parametrize("name", VARIATIONS)
@pytest.mark.parametrize("sensor", [CAMERA, LINE], ids=["camera", "line"])
def test_a_variation_gives_good_events_and_leaves_its_input(name: str, sensor: Sensor) -> None:
    for seed in range(5):
        e = drawn(seed, sensor=sensor)
        before = e.copy()
        varied = VARIATIONS[name](e, sensor, np.random.default_rng(seed))
        require(varied, sensor)
        assert varied.dtype == e.dtype and np.array_equal(e, before)
        assert np.array_equal(varied, VARIATIONS[name](e, sensor, np.random.default_rng(seed)))
    assert len(VARIATIONS[name](e[:0], sensor, np.random.default_rng(0))) == 0


def test_what_is_dropped_is_the_share_asked_for() -> None:
    e = drawn(0, 20_000)
    rng = np.random.default_rng(1)
    assert len(augment.drop_events(e, 0.25, rng)) == pytest.approx(15_000, rel=0.02)
    assert np.diff(augment.drop_time(e, 0.2, rng)["t"]).max() == pytest.approx(1000, rel=0.01)
    left = np.zeros((9, 12))
    kept = augment.drop_area(e, CAMERA, 0.5, rng)
    np.add.at(left, (kept["y"], kept["x"]), 1)
    assert (left == 0).sum() == 6 * 4  # of 12 columns and 9 rows
    for share in (-0.1, 1.1, float("nan")):
        with pytest.raises(Refusal, match="a share from 0 to 1"):
            augment.drop_events(e, share, rng)


def test_shift_loses_only_what_leaves() -> None:
    e = events(t=range(108), x=[i % 12 for i in range(108)], y=[i // 12 for i in range(108)], p=[1] * 108)
    moved = augment.shift(e, CAMERA, 3, np.random.default_rng(5))
    by = {(int(m["x"]) - int(e[m["t"]]["x"]), int(m["y"]) - int(e[m["t"]]["y"])) for m in moved}
    ((dx, dy),) = by
    assert len(moved) == (12 - abs(dx)) * (9 - abs(dy))


def test_flips_undo_themselves() -> None:
    e, rng = drawn(2), np.random.default_rng(0)
    for twice in (
        augment.flip(augment.flip(e, CAMERA, rng, 1.0), CAMERA, rng, 1.0),
        augment.flip_polarity(augment.flip_polarity(e, rng, 1.0), rng, 1.0),
        augment.reverse_time(augment.reverse_time(e, rng, 1.0), rng, 1.0),
    ):
        assert np.array_equal(twice, e)


@pytest.mark.parametrize("sensor", [CAMERA, LINE], ids=["camera", "line"])
def test_denoise_is_the_loop_over_events(sensor: Sensor) -> None:
    e, window = drawn(3, 150, sensor), 200
    kept = []
    for i, event in enumerate(e):
        for other in e[:i]:
            dx = abs(int(event["x"]) - int(other["x"]))
            dy = abs(int(event["y"]) - int(other["y"])) if sensor.height else 0
            if max(dx, dy) == 1 and event["t"] - other["t"] <= window:
                kept.append(i)
                break
    assert 0 < len(kept) < 150 and np.array_equal(augment.denoise(e, sensor, window), e[kept])


def test_frames_are_shifted_each_by_its_own() -> None:
    x = torch.rand(3, 6, 2, 8, 7)
    moved = augment.shift_frames(x, 3, torch.Generator().manual_seed(0))
    seen = set()
    for b in range(6):
        fits = [
            (dy, dx)
            for dy in range(-3, 4)
            for dx in range(-3, 4)
            if torch.equal(torch.nn.functional.pad(x[:, b], (dx, -dx, dy, -dy)), moved[:, b])
        ]
        assert len(fits) == 1
        seen.update(fits)
    assert len(seen) > 2
    assert augment.shift_frames(torch.ones(1, 4, 1, 2, 2), 5, torch.Generator().manual_seed(0)).sum() < 16


def test_some_frames_are_mirrored() -> None:
    x = torch.rand(2, 40, 1, 3, 5)
    turned = augment.flip_frames(x, torch.Generator().manual_seed(0))
    same = [torch.equal(turned[:, b], x[:, b]) for b in range(40)]
    assert 8 < sum(same) < 32
    assert all(torch.equal(turned[:, b].flip(-1), x[:, b]) for b in range(40) if not same[b])


def test_mixed_frames_say_whose_events_they_hold() -> None:
    x = torch.poisson(torch.full((6, 8, 2, 10, 10), 0.2), torch.Generator().manual_seed(1))
    x[:, 3] = 0
    y = torch.arange(8) % 4
    mixed, shares = augment.mix_frames(x, y, 4, torch.Generator().manual_seed(2))
    for b in range(8):
        own, other = x[:, b], x[:, (b - 1) % 8]
        of_other = (mixed[:, b] == other) & (mixed[:, b] != own)
        assert ((mixed[:, b] == own) | (mixed[:, b] == other)).all()
        assert shares[b].sum() == pytest.approx(1) and (shares[b] >= 0).all()
        assert of_other.any() or shares[b, y[b]] > 0.9
    assert ((shares > 0.05) & (shares < 0.95)).any()
    nothing, kept = augment.mix_frames(torch.zeros(2, 2, 1, 4, 4), y[:2], 4, torch.Generator().manual_seed(0))
    assert not nothing.any() and kept.argmax(1).tolist() == [0, 1]


def test_other_shapes_are_refused() -> None:
    with pytest.raises(Refusal, match=r"shift_frames: expected frames \[T, B, P, H, W\]; got shape \(2, 3\)"):
        augment.shift_frames(torch.zeros(2, 3), 1, torch.Generator())
