"""A handler for Hugging Face's Inference Endpoints: a class that gets the model's path and JSON documents."""

from typing import Any

from transformers import pipeline


class EndpointHandler:
    def __init__(self, path: str = "") -> None:
        self._classify = pipeline("text-classification", model=path)

    def __call__(self, data: dict[str, Any]) -> list[dict[str, Any]]:
        """One to five stars for each review, by the probability that it is positive."""
        texts = data["inputs"] if isinstance(data["inputs"], list) else [data["inputs"]]
        answers = []
        for text, found in zip(texts, self._classify(texts), strict=True):
            positive = found["score"] if found["label"] == "POSITIVE" else 1 - found["score"]
            answers.append({"text": text, "stars": 1 + round(4 * positive)})
        return answers
