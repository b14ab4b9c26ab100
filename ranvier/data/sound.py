"""Sound as the log-mel spectrogram that speech networks eat."""

import numpy as np
from scipy.signal.windows import hann

from ranvier.core.checks import Refusal

FLOOR = 1e-6
"""Added before the logarithm: silence then is -13.8, and noise far below speech does not matter."""


def mel(hertz: np.ndarray | float) -> np.ndarray:
    """The HTK mel scale, 2595 log10(1 + f / 700).

    >>> mel(1000.0).round(1).item()
    1000.0
    """
    return np.asarray(2595.0 * np.log10(1.0 + np.asarray(hertz) / 700.0))


def mel_filters(bands: int, points: int, rate: float) -> np.ndarray:
    """Triangles of height 1 [bands, points / 2 + 1] over the bins of a Fourier transform, evenly spaced in mel from 0 to rate / 2.

    >>> mel_filters(2, 8, 8000.0).round(2).tolist()
    [[0.0, 0.68, 0.0, 0.0, 0.0], [0.0, 0.32, 0.91, 0.45, 0.0]]
    """
    edges = 700.0 * (10.0 ** (np.linspace(0.0, mel(rate / 2), bands + 2) / 2595.0) - 1.0)
    low, peak, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    f = np.fft.rfftfreq(points, 1.0 / rate)
    return np.asarray(np.maximum(0.0, np.minimum((f - low) / (peak - low), (high - f) / (high - peak))))


def log_mel(
    samples: np.ndarray, rate: float, bands: int = 40, window: float = 0.025, step: float = 0.010
) -> np.ndarray:
    """The power of a sound in `bands` mel bands, in windows of `window` seconds every `step` seconds: [T, bands], float32.

    y[t, m] = log(1e-6 + sum over k of F[m, k] |X[t, k]|^2 / W), X the Fourier transform of the samples under a Hann
    window whose squares sum to W, F HTK's triangles. T = 1 + (N - window) // step; a sound shorter than a window is
    filled up with silence.

    Input: samples [N] from -1 to 1. Raises: Refusal for other shapes, none at all, or more bands than the window resolves.
    Source: S. Young et al., The HTK Book, 2006, section 5.6, with a Hann window and no pre-emphasis.

    >>> tone = np.sin(2 * np.pi * 1000 * np.arange(8000) / 8000)
    >>> y = log_mel(tone, 8000)
    >>> y.shape, y[50].argmax().item()
    ((98, 40), 18)
    """
    if samples.ndim != 1 or len(samples) == 0:
        got = f"shape {samples.shape}"
        raise Refusal("log_mel", expected="samples [N], one or more", got=got, do="Average the channels of stereo.")
    length, hop = round(window * rate), round(step * rate)
    if length < 2 or hop < 1:
        got = f"{rate:g} samples a second"
        raise Refusal("log_mel", expected="several samples in a window", got=got, do="Take a longer window and step.")
    points = 1 << (length - 1).bit_length()
    filters = mel_filters(bands, points, rate)
    if not filters.any(1).all():
        got = f"{bands} bands from {length} samples"
        raise Refusal("log_mel", expected="fewer mel bands, or a longer window", got=got, do="Halve the bands.")
    shape = hann(length, sym=False)
    x = np.pad(samples.astype(np.float64), (0, max(0, length - len(samples))))
    x = np.lib.stride_tricks.sliding_window_view(x, length)[::hop] * shape
    power = np.abs(np.fft.rfft(x, points)) ** 2 / (shape**2).sum()
    y: np.ndarray = np.log(FLOOR + power @ filters.T).astype(np.float32)
    return y
