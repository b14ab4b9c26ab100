from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest

from ranvier.core.checks import Refusal
from ranvier.data.sets.digits import Digits


def test_the_images_are_those_of_scikit_learn() -> None:
    from sklearn.datasets import load_digits

    known = load_digits()
    for split in Digits.splits:
        samples = Digits().load(split)
        x = np.stack(samples.x)
        assert x.min() == 0 and x.max() == 1
        assert np.array_equal(x.reshape(-1, 8, 8) * 16, known.images[samples.group])
        assert np.array_equal(samples.y, known.target[samples.group])


def test_the_split_is_whole_stratified_and_always_the_same() -> None:
    train, test = Digits().load("train"), Digits().load("test")
    assert sorted([*train.group, *test.group]) == list(range(1797))
    share = np.bincount(test.y) / (np.bincount(test.y) + np.bincount(train.y))
    assert np.abs(share - 0.2).max() < 0.005
    # a scikit-learn that splits otherwise would change every published number
    assert sha256(test.group.astype("<i8").tobytes()).hexdigest()[:12] == "2fbaae31b8c6"


def test_a_changed_file_is_refused_before_it_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Digits, "files", (replace(Digits.files[0], checksum="0" * 64),))
    monkeypatch.setattr(np, "loadtxt", lambda *_, **__: pytest.fail("opened"))
    with pytest.raises(Refusal, match=r"digits\.csv\.gz: expected a file with sha256 0000"):
        Digits().load("train")
