from ranvier.data.samples import Samples
from ranvier.data.sets.dataset import Dataset, Labelled


class Integers(Labelled):
    """The base of sets that are kept as integers and given out as floats.

    No integer is NaN, so `load` does not turn every sample into floats to look for one: that takes longer than
    reading the file.
    """

    def load(self, split: str) -> Samples:
        """All samples of a split: sequences [T_i, ...features], float32, in the same order every time."""
        return Dataset.load(self, split)
