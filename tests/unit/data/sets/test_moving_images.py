"""Movies of natural images are what their class says."""

import numpy as np
import pytest

from ranvier.core.checks import MissingPackage
from ranvier.data.sets.moving_images import MovingImages

pytest.importorskip("PIL")


def test_sizes_and_activity() -> None:
    train, test = (MovingImages().load(split) for split in ("train", "test"))
    assert (len(train), len(test)) == (1600, 320) and train.x[0].shape == (32, 2, 32, 32)
    rate = np.mean([train.x[i].mean() for i in range(0, 160, 5)])
    assert 0.005 < rate < 0.2
    assert all(np.bincount(part.y).std() == 0 for part in (train, test))


@pytest.mark.parametrize(("motion", "shift"), [("0 deg, 0.5 px", (0, 1)), ("90 deg, 0.5 px", (-1, 0))])
def test_the_picture_moves_as_said(motion: str, shift: tuple[int, int]) -> None:
    """At half a pixel a step, what is seen now was seen two steps earlier one pixel back."""
    train = MovingImages().load("train")
    chosen = np.flatnonzero(train.y == MovingImages.classes.index(motion))[:40]
    match = against = 0.0
    for i in chosen:
        x = train.x[i]
        match += (np.roll(x[:-2], shift, (2, 3)) * x[2:]).mean()
        against += (np.roll(x[:-2], (-shift[0], -shift[1]), (2, 3)) * x[2:]).mean()
    assert match > 1.5 * against


def test_without_pillow_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import builtins

    real = builtins.__import__

    def without(name: str, *args: object, **kwargs: object) -> object:
        if name == "PIL":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    from ranvier.data.sets import moving_images

    moving_images._intensity.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingPackage, match="pillow"):
        MovingImages().smoke("train")
