"""A module beside inference.py, which imports it by its plain name."""

import torch

MEAN, SPREAD = torch.tensor([0.5, 0.25]), torch.tensor([0.87, 0.5])


class Network(torch.nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            torch.nn.Linear(2, 16), torch.nn.Tanh(), torch.nn.Linear(16, 16), torch.nn.Tanh(),
            torch.nn.Linear(16, 1),
        )  # fmt: skip


def standardised(points: torch.Tensor) -> torch.Tensor:
    return (points - MEAN) / SPREAD
