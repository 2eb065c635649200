"""python -m examples.knn.train

Trains a nearest-neighbour classifier of three iris species on the 150 flowers that come with
scikit-learn. Writes artifacts/iris_knn/model.skops and score.json. Takes less than a second.
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
    """Training rows, held-out rows (one in five), and the labels of both."""
    iris = load_iris()
    labels = iris.target_names[iris.target].astype(str)
    split = train_test_split(iris.data, labels, test_size=0.2, random_state=SEED, stratify=labels)
    return tuple(split)


def main() -> None:
    rows, held_out, labels, expected = flowers()
    # Scaled, because distances depend on the scale of each column
    model = make_pipeline(StandardScaler(), KNeighborsClassifier(n_neighbors=5)).fit(rows, labels)
    ARTIFACT.mkdir(parents=True, exist_ok=True)
    skops.io.dump(model, ARTIFACT / "model.skops")
    score = {"accuracy": round(model.score(held_out, expected), 3), "held_out": len(held_out)}
    (HERE / "score.json").write_text(json.dumps(score) + "\n")
    print(score)


if __name__ == "__main__":
    main()
