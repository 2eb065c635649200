"""Defines model_fn and predict_fn; requests and answers use the defaults of sagemaker-inference."""

from pathlib import Path

import torch
from network import Network, standardised
from safetensors.torch import load_file


def model_fn(model_dir: str) -> Network:
    network = Network()
    network.load_state_dict(load_file(Path(model_dir) / "weights.safetensors"))
    return network.eval()


def predict_fn(data: object, model: Network) -> list[dict[str, object]]:
    """For each row of two coordinates: the half circle of the point, and the probability of it."""
    with torch.inference_mode():
        upper = torch.sigmoid(model(standardised(torch.as_tensor(data, dtype=torch.float32))))
    return [
        {"moon": "upper" if share > 0.5 else "lower", "sure": round(max(share, 1 - share), 3)}
        for share in upper.flatten().tolist()
    ]
