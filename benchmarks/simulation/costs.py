"""What computing costs, as `benchmarks.simulation.measuring` has written it. Seconds of CPU time."""

from pathlib import Path
from typing import Any

import msgspec

RESULTS = Path(__file__).parents[1] / "results/simulation"
FILE = RESULTS / "costs.json"


class FrontCosts(msgspec.Struct, frozen=True):
    """`turn_s`: one turn of the event loop without its events; `batch_s` and `request_s`: sending a batch and
    its results; a request and its answer."""

    turn_s: float
    batch_s: float
    request_s: float

    def seconds(self) -> tuple[float, float, float]:
        return self.turn_s, self.batch_s, self.request_s


class LinearCost(msgspec.Struct, frozen=True):
    """Least squares of the relative error. `error`: median of the relative error."""

    fixed_s: float
    row_s: float
    token_s: float
    error: float = 0.0

    def __call__(self, rows: int, tokens: int) -> float:
        return self.fixed_s + self.row_s * rows + self.token_s * tokens


class ModelCosts(msgspec.Struct, frozen=True):
    """`host`: preparing and finishing a batch. `forward`: the forward of a batch with 1 and with 2 threads.

    `interpreter`: share of the interpreter that a forward needs while the host thread works.
    `first_load_s` and `load_s`: opening the first model of its structure in a worker, and a further one.
    `private_nbytes`: memory that opening it in one more worker adds to its `nbytes`.
    """

    host: LinearCost
    forward: tuple[LinearCost, LinearCost]
    interpreter: float
    first_load_s: float
    load_s: float
    nbytes: int
    private_nbytes: int

    def forward_s(self, rows: int, tokens: int, threads: int) -> float:
        """Amdahl's law through the two measured thread counts; from 3 threads it is an extrapolation."""
        one, two = (law(rows, tokens) for law in self.forward)
        parallel_s = min(max(0.0, 2 * (one - two)), one)
        return one - parallel_s * (1 - 1 / threads)


class MeasuredRun(msgspec.Struct, frozen=True):
    """The real container on the machine of the measurements, with 20 tiny models and Zipf's law. `cores_busy`
    includes the load generator."""

    workers: int
    clients: int
    per_s: float
    p99_ms: float
    cores_busy: float
    batch: float


class Costs(msgspec.Struct, frozen=True):
    """`client_s`: the load generator's cost of a request, for comparisons with measurements in which it runs
    on the same machine."""

    front: FrontCosts
    client_s: float
    models: dict[str, ModelCosts]
    measured: list[MeasuredRun] = []
    environment: dict[str, Any] = {}


def read(file: Path = FILE) -> Costs:
    return msgspec.json.decode(file.read_bytes(), type=Costs)
