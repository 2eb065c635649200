"""A network of the team's own: model_fn and predict_fn, the rest as sagemaker-inference does it."""

from pathlib import Path

import torch
from network import Network, standardised
from safetensors.torch import load_file


def model_fn(model_dir: str) -> Network:
    network = Network()
    network.load_state_dict(load_file(Path(model_dir) / "weights.safetensors"))
    return network.eval()


def predict_fn(data: object, model: Network) -> list[dict[str, object]]:
    """Rows of two coordinates: which of the two moons each point lies on, and how sure that is."""
    with torch.inference_mode():
        upper = torch.sigmoid(model(standardised(torch.as_tensor(data, dtype=torch.float32))))
    return [
        {"moon": "upper" if share > 0.5 else "lower", "sure": round(max(share, 1 - share), 3)}
        for share in upper.flatten().tolist()
    ]
