"""A plain training loop: batches, a test set, an optimiser and a learning rate that falls, in PyTorch alone."""

import numpy as np
import torch
from torch import nn

import ranvier
from ranvier.data.sets.digits import Digits

EPOCHS, BATCH = 15, 64


def network() -> nn.Module:
    return nn.Sequential(
        ranvier.Direct(6),  # an image is one step; it is shown for six
        nn.Flatten(2),
        nn.Linear(64, 128),
        ranvier.LIF(tau=2.0, detach_reset=True),
        nn.Linear(128, 10),
        ranvier.LeakyIntegrator(tau=4.0),
        ranvier.RateDecoder(),
    )


def main() -> None:
    torch.manual_seed(0)
    train, test = Digits().load("train"), Digits().load("test")
    model = network()
    optimiser = torch.optim.AdamW(model.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, EPOCHS)
    order = np.random.default_rng(0)
    for epoch in range(EPOCHS):
        model.train()
        for index in np.array_split(order.permutation(len(train)), len(train) // BATCH):
            x, y, _ = train.batch(index)  # x [T=1, B, 1, 8, 8]
            loss = nn.functional.cross_entropy(model(x), y)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        schedule.step()
        if epoch % 5 == 4:
            print(f"epoch {epoch + 1}: accuracy on new digits {accuracy(model, test):.3f}")


@torch.no_grad()
def accuracy(model: nn.Module, samples) -> float:
    model.eval()
    right = sum(int((model(x).argmax(1) == y).sum()) for x, y, _ in samples.batches(256))
    return right / len(samples)


if __name__ == "__main__":
    main()
