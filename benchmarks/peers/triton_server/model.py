"""A model of Triton's Python backend: a batched text classifier, loaded from `artifact` beside this file.

Responses are JSON, one string per text, in the format of the Hugging Face toolkit.
"""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # the server puts it on the path


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        # Not above: the server imports this file once more, in a process that only asks for the configuration
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        directory = Path(args["model_repository"], args["model_version"], "artifact")
        self._torch = torch
        self._tokenizer = AutoTokenizer.from_pretrained(directory)
        self._model = AutoModelForSequenceClassification.from_pretrained(directory).eval()

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response per request; a request holds one text or several."""
        rows = [pb_utils.get_input_tensor_by_name(each, "text").as_numpy() for each in requests]
        texts = [text.decode() for each in rows for text in each[:, 0]]
        answers = iter(self._answers(texts))
        return [_response(list(itertools.islice(answers, len(each)))) for each in rows]

    def _answers(self, texts: list[str]) -> list[str]:
        inputs = self._tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        with self._torch.inference_mode():
            shares = self._model(**inputs).logits.softmax(-1)
        best, labels = shares.max(-1), self._model.config.id2label
        pairs = zip(best.values.tolist(), best.indices.tolist(), strict=True)
        return [json.dumps([{"label": labels[at], "score": score}]) for score, at in pairs]


def _response(answers: list[str]) -> Any:
    column = np.array([[answer.encode()] for answer in answers], dtype=np.object_)
    return pb_utils.InferenceResponse([pb_utils.Tensor("answer", column)])
