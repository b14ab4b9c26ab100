import numpy as np
import pytest

from ranvier.core.checks import NonFinite, Refusal
from ranvier.data.samples import Samples
from ranvier.data.sets.dataset import Labelled


class Waves(Labelled):
    classes = ("slow", "fast")
    splits = ("train", "test", "broken")

    def read(self, split: str) -> Samples:
        x = [np.full((3, 1), i, dtype=np.float32) for i in range(7)]
        if split == "broken":
            x[4][2] = np.nan
        return Samples(x=x, y=np.array([0, 0, 0, 1, 0, 1, 1]), classes=self.classes)


def test_an_unknown_split_is_refused_with_the_nearest_names() -> None:
    with pytest.raises(Refusal, match=r"Waves split.*'tests'.*Did you mean 'test'.*There are: broken, test, train"):
        Waves().load("tests")
    with pytest.raises(Refusal, match="Did you mean 'train'"):
        Waves().smoke("trian")


def test_what_is_loaded_is_finite() -> None:
    with pytest.raises(NonFinite, match=r"sample 4 \(class 'slow'\).*step 2"):
        Waves().load("broken")


def test_smoke_is_the_first_two_of_each_class() -> None:
    assert Waves().smoke("test").group.tolist() == [0, 1, 3, 5]


def test_the_base_stands_for_no_data() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Labelled()  # type: ignore[abstract]
