"""python -m examples.home_values.train

Trains one XGBoost model per city to estimate the price of a home, on data generated with a fixed seed.
Writes artifacts/<city>/model.ubj and score.json. Takes about a second.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import xgboost

HERE = Path(__file__).parent
ARTIFACTS = HERE / "artifacts"
COLUMNS = ("year_built", "square_feet", "bedrooms", "bathrooms", "lot_acres", "garage_spaces")
# Dollars per square foot, dollars per acre, loss in dollars per year of age
CITIES = {
    "chicago": (190.0, 90_000.0, 350.0),
    "houston": (150.0, 60_000.0, 500.0),
    "los_angeles": (480.0, 600_000.0, 400.0),
    "new_york": (620.0, 900_000.0, 300.0),
}
HOMES, HELD_OUT, THIS_YEAR = 4000, 500, 2026
PARAMETERS = {"max_depth": 4, "eta": 0.2, "nthread": 1, "seed": 0}
TREES = 60


def homes(city: str, count: int, seed: int) -> tuple[Any, Any]:
    """Rows of COLUMNS, and prices in dollars with random noise of five percent.

    For one home in twenty the size of the lot is missing.
    """
    per_foot, per_acre, per_year = CITIES[city]
    rng = np.random.default_rng([seed, *city.encode()])
    year = rng.integers(1900, THIS_YEAR, count)
    feet = rng.normal(2000, 600, count).clip(500, 6000).round()
    bedrooms = (feet / 650 + rng.normal(0, 0.7, count)).clip(1, 7).round()
    bathrooms = (bedrooms * 0.7 + rng.normal(0, 0.4, count)).clip(1, 6).round()
    acres = rng.gamma(2.0, 0.12, count).clip(0.02, 3).round(2)
    garage = rng.integers(0, 4, count)
    value = feet * per_foot + acres * per_acre - (THIS_YEAR - year) * per_year
    value += bathrooms * 9_000 + garage * 12_000
    prices = value.clip(30_000) * rng.normal(1, 0.05, count)
    acres[rng.random(count) < 0.05] = np.nan
    return np.column_stack([year, feet, bedrooms, bathrooms, acres, garage]), prices


def error(model: xgboost.Booster, city: str) -> float:
    """Median relative error of the model on held-out homes."""
    rows, prices = homes(city, HELD_OUT, seed=2)
    return float(np.median(np.abs(model.inplace_predict(rows) - prices) / prices))


def train(city: str) -> xgboost.Booster:
    rows, prices = homes(city, HOMES, seed=1)
    matrix = xgboost.DMatrix(rows, prices, feature_names=list(COLUMNS))
    model = xgboost.train(PARAMETERS, matrix, TREES)
    (ARTIFACTS / city).mkdir(parents=True, exist_ok=True)
    model.save_model(ARTIFACTS / city / "model.ubj")
    return model


def main() -> None:
    score = {city: round(error(train(city), city), 4) for city in CITIES}
    (HERE / "score.json").write_text(json.dumps({"median_error": score}, indent=2) + "\n")
    print(score)


if __name__ == "__main__":
    main()
