"""python -m examples.digits.train

Trains a small convolutional network in PyTorch on the 1797 handwritten digits that come with
scikit-learn, and exports it: artifacts/digits/model.onnx and score.json. Under a minute.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

HERE = Path(__file__).parent
ARTIFACT = HERE / "artifacts" / "digits"
SEED, EPOCHS, BATCH = 7, 40, 64


def digits() -> tuple[Any, Any, Any, Any]:
    """Training and held-out images, then their digits. Images have 8 × 8 pixels from 0 to 16."""
    bunch = load_digits()
    pictures = bunch.images.astype("float32")
    split = train_test_split(
        pictures, bunch.target, test_size=0.2, random_state=SEED, stratify=bunch.target
    )
    return tuple(split)


class DigitClassifier(nn.Module):
    """Returns ten probabilities per image."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(),
            nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 10),
        )  # fmt: skip

    def scores(self, pictures: Tensor) -> Tensor:
        scores: Tensor = self.layers(pictures.unsqueeze(1) / 16)
        return scores

    def forward(self, pictures: Tensor) -> Tensor:
        return self.scores(pictures).softmax(-1)


def train(network: DigitClassifier, pictures: Tensor, labels: Tensor) -> None:
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(pictures)).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network.scores(pictures[batch]), labels[batch]).backward()
            optimizer.step()


def export(network: DigitClassifier, example: Tensor) -> None:
    """Export with the weights inside the file and a first dimension named `batch`, for batches of
    requests."""
    program = torch.onnx.export(
        network,
        (example,),
        input_names=["pictures"],
        output_names=["probabilities"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )
    assert program is not None
    model = program.model_proto
    # Remove the exporter's notes on source files, which contain paths of this machine
    for part in (model, model.graph, *model.graph.node, *model.graph.value_info):
        part.ClearField("metadata_props")
    ARTIFACT.mkdir(parents=True, exist_ok=True)
    onnx.save(model, ARTIFACT / "model.onnx")


def main() -> None:
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    pictures, held_out, labels, expected = map(torch.from_numpy, digits())
    network = DigitClassifier()
    train(network, pictures, labels)
    network.eval()
    with torch.inference_mode():
        found = network(held_out).argmax(-1)
    accuracy = (found == expected).float().mean().item()
    score = {"accuracy": round(accuracy, 3), "held_out": len(found)}
    export(network, held_out[:2])
    (HERE / "score.json").write_text(json.dumps(score) + "\n")
    print(score)


if __name__ == "__main__":
    main()
