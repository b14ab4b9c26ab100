from dataclasses import replace

from ranvier.data.lazy import Mapped
from ranvier.data.samples import Samples, Split
from ranvier.data.sets.shd import SHD
from ranvier.lab.learn_delays import BANDS, ORDER, LearnDelays, mel_spikes, pooled
from ranvier.lab.recipe import Claim, Recipe


def shd(epochs: int = 150, batch: int = 256, width: int = 256, smoke: bool = False) -> Recipe:
    """Spiking Heidelberg Digits with delays that are learnt: two hidden layers of 256, up to 240 ms, beside fixed ones and none.

    10 ms slices, five neighbouring channels added up, and the training of the source: 150 epochs, batch 256. It needs
    the download of the set (`ranvier data get shd`); without it the accuracies read "not run". The smoke size listens
    to a few recordings of spoken-digits instead.
    """
    fit = LearnDelays(
        (2 * BANDS, 32, 10) if smoke else (140, width, 20),
        epochs=2 if smoke else epochs,
        batch=10 if smoke else batch,
        options={"max_delay": 24, "tau": 1.005, "dropout": 0.4},
        repeats=30 if smoke else 1,
        alone=smoke,
    )

    def part(split: str) -> Samples:
        if smoke:
            return mel_spikes(split, smoke=True)
        whole = SHD().load(split)
        return replace(whole, x=Mapped(whole.x, pooled))

    full = (Claim("rounded: accuracy", ">=", 0.948, "the paper's 0.951 +- 0.002, quoted from memory"), *ORDER)
    return Recipe(
        model=fit.network,
        data=lambda fold: Split(part("train"), part("test")),
        fit=fit,
        claims=(Claim("accuracy", ">=", 0.15, "smoke size: above chance"),) if smoke else full,
        source="Hammouamri, Khalfaoui-Hassani and Masquelier, ICLR 2024",
        seeds=(0,) if smoke else (0, 1, 2),
    )
