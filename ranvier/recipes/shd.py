from ranvier.data.sets.shd import SHD
from ranvier.lab.learn_delays import LearnDelays, of_a_cochlea
from ranvier.lab.recipe import Claim, Recipe


def shd(epochs: int = 150, batch: int = 256, width: int = 256, smoke: bool = False) -> Recipe:
    """Spiking Heidelberg Digits with delays that are learnt: two hidden layers of 256, up to 240 ms, beside fixed ones and none.

    10 ms slices, five neighbouring channels added up, and the training of the source: 150 epochs, batch 256. It needs
    the download of the set (`ranvier data get shd`); without it the accuracies read "not run". The smoke size listens
    to a few recordings of spoken-digits instead.
    """
    fit = LearnDelays(
        (140, width, 20), epochs=epochs, batch=batch, options={"max_delay": 24, "tau": 1.005, "dropout": 0.4}
    )
    claim = Claim("rounded: accuracy", ">=", 0.948, "the paper's 0.951 +- 0.002, quoted from memory")
    return of_a_cochlea(SHD, fit, claim, smoke)
