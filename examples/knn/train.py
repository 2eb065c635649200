"""python -m examples.knn.train

Learns to tell three kinds of iris by their nearest neighbours, from the 150 flowers that come with
scikit-learn, and writes artifacts/iris_knn/model.skops and score.json. Under a second.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import skops.io
from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

HERE = Path(__file__).parent
ARTIFACT = HERE / "artifacts" / "iris_knn"
SEED = 7


def flowers() -> tuple[Any, Any, Any, Any]:
    """Rows to train with, rows held out, and their labels; one flower in five is held out."""
    iris = load_iris()
    labels = iris.target_names[iris.target].astype(str)
    split = train_test_split(iris.data, labels, test_size=0.2, random_state=SEED, stratify=labels)
    return tuple(split)


def main() -> None:
    rows, held_out, labels, expected = flowers()
    # Neighbours vote by distance, so that petals in centimetres must not outweigh sepals
    model = make_pipeline(StandardScaler(), KNeighborsClassifier(n_neighbors=5)).fit(rows, labels)
    ARTIFACT.mkdir(parents=True, exist_ok=True)
    skops.io.dump(model, ARTIFACT / "model.skops")
    score = {"accuracy": round(model.score(held_out, expected), 3), "held_out": len(held_out)}
    (HERE / "score.json").write_text(json.dumps(score) + "\n")
    print(score)


if __name__ == "__main__":
    main()
