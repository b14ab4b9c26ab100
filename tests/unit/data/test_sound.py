"""The log-mel spectrogram against its plain formula, sum by sum."""

import math

import numpy as np
import pytest

from ranvier.core.checks import Refusal
from ranvier.data.sound import log_mel, mel_filters


def plain(x: np.ndarray, rate: int, bands: int) -> list[list[float]]:
    length, hop, points = round(0.025 * rate), round(0.010 * rate), 256
    window = [0.5 - 0.5 * math.cos(2 * math.pi * n / length) for n in range(length)]  # periodic Hann
    top = 2595 * math.log10(1 + rate / 2 / 700)
    edges = [700 * (10 ** (top * m / (bands + 1) / 2595) - 1) for m in range(bands + 2)]
    rows = []
    for start in range(0, len(x) - length + 1, hop):
        row = []
        power = []
        for k in range(points // 2 + 1):
            turn = [2 * math.pi * k * n / points for n in range(length)]
            re = sum(x[start + n] * window[n] * math.cos(turn[n]) for n in range(length))
            im = sum(x[start + n] * window[n] * math.sin(turn[n]) for n in range(length))
            power.append((re * re + im * im) / sum(w * w for w in window))
        for low, peak, high in zip(edges, edges[1:], edges[2:], strict=False):
            energy = 0.0
            for k, p in enumerate(power):
                f = k * rate / points
                energy += p * max(0.0, min((f - low) / (peak - low), (high - f) / (high - peak)))
            row.append(math.log(1e-6 + energy))
        rows.append(row)
    return rows


def test_it_is_the_plain_formula() -> None:
    x = np.random.default_rng(0).uniform(-1, 1, 350)
    assert log_mel(x, 8000, bands=12) == pytest.approx(np.array(plain(x, 8000, 12)), abs=1e-4)


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
def test_every_band_hears_something_at_usual_rates(rate: int) -> None:
    y = log_mel(np.random.default_rng(0).uniform(-1, 1, rate), rate)
    assert y.shape == (98, 40) and y.min() > -8


def test_triangles_add_up_to_one_between_the_first_and_the_last_peak() -> None:
    total = mel_filters(20, 1024, 8000).sum(0)
    assert total[20:400] == pytest.approx(np.ones(380))


def test_a_sound_shorter_than_a_window_gives_one_step_and_silence_the_floor() -> None:
    assert log_mel(np.zeros(50), 8000) == pytest.approx(np.full((1, 40), math.log(1e-6)))


@pytest.mark.parametrize(
    ("x", "rate", "bands", "message"),
    [
        (np.zeros((5, 2)), 8000, 40, "Average the channels"),
        (np.zeros(0), 8000, 40, "one or more"),
        (np.zeros(99), 20, 40, "longer window"),
        (np.zeros(999), 8000, 200, "Halve the bands"),
    ],
)
def test_what_makes_no_sense_is_refused(x: np.ndarray, rate: float, bands: int, message: str) -> None:
    with pytest.raises(Refusal, match=message):
        log_mel(x, rate, bands)
