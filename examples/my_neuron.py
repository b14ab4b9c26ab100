"""A neuron of one's own: its equation is written once, and training runs it as kernels made from that."""

import torch
from torch import nn

import ranvier
from ranvier.data.sets.digits import Digits


class SaturatingDendrite(ranvier.Neuron):
    """A leaky integrate-and-fire neuron whose dendrite saturates: v = a v + (1 - a) gain tanh(x / gain)."""

    tau = ranvier.Parameter(3.0, unit="dt", low=1.0, doc="membrane time constant")
    gain = ranvier.Parameter(2.0, low=0.1, doc="largest current that the dendrite passes on")
    threshold = ranvier.Parameter(1.0, low=0.0, doc="membrane at which it fires")
    v = ranvier.State(doc="membrane")

    def step(self, x, v):
        current = self.gain * torch.tanh(x / self.gain)
        v = current + self.decay(self.tau) * (v - current)
        z = self.spike(v - self.threshold)
        return z, self.reset(v, z)


def main() -> None:
    torch.manual_seed(0)
    digits = Digits()
    (x, y, _), (test_x, test_y, _) = digits.load("train").batch(), digits.load("test").batch()
    gain = nn.Parameter(torch.full((128,), 2.0))  # one dendrite a neuron, learnt
    model = nn.Sequential(
        ranvier.Direct(8),  # an image is one step; it is shown for eight
        nn.Flatten(2),
        nn.Linear(64, 128),
        SaturatingDendrite(gain=gain),
        nn.Linear(128, 10),
        ranvier.LeakyIntegrator(),
        ranvier.RateDecoder(),
    )
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(60):
        loss = nn.functional.cross_entropy(model(x), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    accuracy = (model(test_x).argmax(1) == test_y).float().mean().item()
    print(
        f"loss {loss.item():.3f}, accuracy on new digits {accuracy:.3f}, gains now {gain.min():.2f} to {gain.max():.2f}"
    )

    # the loop over `step` gives the same spikes, so the kernels compute what the equation says
    neuron, current = model[3], torch.randn(100, 32, 128)
    fused = neuron(current)
    with ranvier.backend("reference"):
        same = (neuron(current) == fused).float().mean().item()
    print(f"ran fused ({fused.grad_fn.name()}), {100 * same:.2f} % of spikes as in the loop over step")


if __name__ == "__main__":
    main()
