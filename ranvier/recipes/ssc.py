from ranvier.data.sets.ssc import SSC
from ranvier.lab.learn_delays import LearnDelays, of_a_cochlea
from ranvier.lab.recipe import Claim, Recipe


def ssc(epochs: int = 60, batch: int = 128, width: int = 512, smoke: bool = False) -> Recipe:
    """Spiking Speech Commands with delays that are learnt: three hidden layers of 512, up to 300 ms, beside fixed ones and none.

    10 ms slices, five neighbouring channels added up, and the training of the source: 60 epochs, batch 128. It needs
    the download of the set (`ranvier data get ssc`); without it the accuracies read "not run". The smoke size listens
    to a few recordings of spoken-digits instead.
    """
    fit = LearnDelays(
        (140, width, 35),
        epochs=epochs,
        batch=batch,
        options={"hidden": 3, "max_delay": 30, "tau": 1.5, "dropout": 0.25},
    )
    claim = Claim("rounded: accuracy", ">=", 0.804, "the paper's 0.807 +- 0.002, quoted from memory")
    return of_a_cochlea(SSC, fit, claim, smoke)
