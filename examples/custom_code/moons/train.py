"""python -m examples.custom_code.moons.train

Trains the network of the example `moons` and writes its weights. Takes a few seconds. The points are
scikit-learn's two interleaving half circles with noise, generated with a fixed seed.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from sklearn.datasets import make_moons

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER / "code"))
from network import Network as Network  # noqa: E402
from network import standardised  # noqa: E402


def points(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    where, upper = make_moons(2000, noise=0.15, random_state=seed)
    return torch.tensor(where, dtype=torch.float32), torch.tensor(upper == 0, dtype=torch.float32)


def main() -> None:
    torch.manual_seed(0)
    network, (where, upper) = Network(), points(0)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(800):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            network(standardised(where)).flatten(), upper
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    save_file(network.state_dict(), FOLDER / "weights.safetensors")
    print(f"{accuracy(network):.3f} of the held-out points are right")


def accuracy(network: Network) -> float:
    where, upper = points(1)
    with torch.inference_mode():
        found = network(standardised(where)).flatten() > 0
    return float((found == (upper == 1)).float().mean())


if __name__ == "__main__":
    main()
