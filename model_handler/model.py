"""One model as the platform knows it: a name, its artifact and its state.

The state is what the platform was told; where the weights are is residency's business.
"""

import asyncio
from dataclasses import dataclass, field
from enum import Enum

from model_handler.artifact import Artifact


class State(Enum):
    LOADING = "loading"
    READY = "ready"
    UNLOADING = "unloading"
    GONE = "gone"  # load failed or unload finished: the name is free again


TRANSITIONS: dict[State, frozenset[State]] = {
    State.LOADING: frozenset({State.READY, State.GONE}),
    State.READY: frozenset({State.UNLOADING, State.GONE}),
    State.UNLOADING: frozenset({State.GONE}),
    State.GONE: frozenset(),
}


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What listings show. `target` is the caller's TargetModel seen at the load, for logging."""

    name: str
    url: str
    target: str | None = None


@dataclass(slots=True, eq=False)
class Model:
    """A registered model. `model_id` is never reused, so a late message cannot hit a namesake.

    `worker`: the name of the device worker that carries it; empty for one with a process of its own code.
    """

    model_id: int
    info: ModelInfo
    state: State = State.LOADING
    artifact: Artifact | None = None
    worker: str = ""
    settled: asyncio.Event = field(default_factory=asyncio.Event)  # set on leaving LOADING
    gone: asyncio.Event = field(default_factory=asyncio.Event)  # set on reaching GONE

    @property
    def isolated(self) -> bool:
        """It brings code of its own, which runs apart from the device's worker."""
        return self.artifact is not None and self.artifact.isolated

    @property
    def on_cpu(self) -> bool:
        """It computes in main memory, whatever the device is."""
        return self.artifact is not None and self.artifact.on_cpu

    def become(self, state: State) -> None:
        assert state in TRANSITIONS[self.state], f"{self.state} -> {state}"
        self.state = state
        self.settled.set()
        if state is State.GONE:
            self.gone.set()
