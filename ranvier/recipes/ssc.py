from dataclasses import replace

from ranvier.data.lazy import Mapped
from ranvier.data.samples import Samples, Split
from ranvier.data.sets.ssc import SSC
from ranvier.lab.learn_delays import BANDS, ORDER, LearnDelays, mel_spikes, pooled
from ranvier.lab.recipe import Claim, Recipe


def ssc(epochs: int = 60, batch: int = 128, width: int = 512, smoke: bool = False) -> Recipe:
    """Spiking Speech Commands with delays that are learnt: three hidden layers of 512, up to 300 ms, beside fixed ones and none.

    10 ms slices, five neighbouring channels added up, and the training of the source: 60 epochs, batch 128. It needs
    the download of the set (`ranvier data get ssc`); without it the accuracies read "not run". The smoke size listens
    to a few recordings of spoken-digits instead.
    """
    fit = LearnDelays(
        (2 * BANDS, 32, 10) if smoke else (140, width, 35),
        epochs=2 if smoke else epochs,
        batch=10 if smoke else batch,
        options={"hidden": 3, "max_delay": 30, "tau": 1.5, "dropout": 0.25},
        repeats=30 if smoke else 1,
        alone=smoke,
    )

    def part(split: str) -> Samples:
        if smoke:
            return mel_spikes(split, smoke=True)
        whole = SSC().load(split)
        return replace(whole, x=Mapped(whole.x, pooled))

    full = (Claim("rounded: accuracy", ">=", 0.804, "the paper's 0.807 +- 0.002, quoted from memory"), *ORDER)
    return Recipe(
        model=fit.network,
        data=lambda fold: Split(part("train"), part("test")),
        fit=fit,
        claims=(Claim("accuracy", ">=", 0.15, "smoke size: above chance"),) if smoke else full,
        source="Hammouamri, Khalfaoui-Hassani and Masquelier, ICLR 2024",
        seeds=(0,) if smoke else (0, 1, 2),
    )
