"""A network that listens to a stream: its state is a value, which goes in, comes out, and can be kept on disk."""

import tempfile
from pathlib import Path

import torch
from torch import nn

import ranvier
from ranvier.data.sets.smartwatch import Smartwatch


def main() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        ranvier.DelayLine([0, 5, 10]),  # what came 0, 0.1 and 0.2 s ago
        nn.Linear(18, 32),
        ranvier.LIF(tau=10.0),
        nn.Linear(32, 7),
        ranvier.LeakyIntegrator(tau=50.0),
    ).eval()
    recording = torch.from_numpy(Smartwatch().load("test0").x[0])[:, None]  # [T, B=1, 6] at 50 Hz

    with torch.no_grad():
        whole, _ = ranvier.run(model, recording)

        # a second at a time, as a device would deliver it
        state, parts = None, []
        for chunk in recording.split(50):
            y, state = ranvier.run(model, chunk, state)
            parts.append(y)
        apart = (torch.cat(parts) - whole).abs().max().item()
        print(f"{len(parts)} chunks, largest difference to the whole {apart:.0e}, state: {', '.join(state)}")

        # stop, keep the state, and go on later in another process
        half = len(recording) // 2
        _, state = ranvier.run(model, recording[:half])
        with tempfile.TemporaryDirectory() as folder:
            ranvier.save(state, Path(folder, "state.safetensors"))
            kept = ranvier.load(Path(folder, "state.safetensors"))
        rest, _ = ranvier.run(model, recording[half:], kept)
        print(f"continued from disk: {torch.allclose(rest, whole[half:], atol=1e-5)}")

    # learn from a long stream: the gradient is cut between chunks, the state is not
    optimiser, state = torch.optim.Adam(model.parameters(), 1e-3), None
    for chunk in recording.split(100):
        y, state = ranvier.run(model, chunk, state)
        loss = nn.functional.cross_entropy(y[-1], torch.tensor([3]))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        state = {name: value.detach() for name, value in state.items()}
    print(f"truncated backpropagation, loss {loss.item():.2f}")


if __name__ == "__main__":
    main()
