"""A model: its name and state, from the start of its load, and its artifact, once that was inspected.

The state is the one that the platform's API reports; Residency records where the weights are.
"""

import asyncio
from dataclasses import dataclass, field
from enum import Enum

from model_handler.artifacts.artifact import Artifact
from model_handler.artifacts.properties import Isolation


class State(Enum):
    LOADING = "loading"
    READY = "ready"
    UNLOADING = "unloading"
    GONE = "gone"  # load failed or unload finished: the name is free again


TRANSITIONS: dict[State, frozenset[State]] = {
    State.LOADING: frozenset({State.READY, State.GONE}),
    State.READY: frozenset({State.UNLOADING}),
    State.UNLOADING: frozenset({State.GONE}),
    State.GONE: frozenset(),
}


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Fields that listings show. `target`: the TargetModel header of the load request, for log lines."""

    name: str
    url: str
    target: str | None = None


@dataclass(slots=True, eq=False)
class Entry:
    """A name in use. `model_id` is never reused, so a late message cannot reach a newer model of the same
    name."""

    model_id: int
    info: ModelInfo
    state: State = State.LOADING
    settled: asyncio.Event = field(default_factory=asyncio.Event)  # set on leaving LOADING
    gone: asyncio.Event = field(default_factory=asyncio.Event)  # set on reaching GONE

    def become(self, state: State) -> None:
        assert state in TRANSITIONS[self.state], f"{self.state} -> {state}"
        self.state = state
        self.settled.set()
        if state is State.GONE:
            self.gone.set()


@dataclass(frozen=True, slots=True)
class User:
    """Whom the model's process becomes; uid 0: it keeps its user."""

    uid: int = 0
    gids: tuple[int, ...] = ()
    home: str = ""


NOBODY = User()


class Model:
    """The model of an entry in one worker.

    `worker`: name of the device worker; empty for a model in an isolated process. `replica`: 0 for the one
    that the load created and that lives until the unload. Further ones are opened in other workers when
    requests wait; they can be closed at any time. `strikes`: number of times that it lost the device of
    other models; counted in replica 0.
    """

    __slots__ = (
        "artifact",
        "entry",
        "info",
        "key",
        "model_id",
        "replica",
        "strikes",
        "user",
        "worker",
    )

    def __init__(self, entry: Entry, artifact: Artifact, replica: int = 0) -> None:
        self.entry = entry
        self.model_id = entry.model_id
        self.replica = replica
        self.key = entry.model_id, replica
        self.info = entry.info
        self.artifact = artifact
        self.worker = ""
        self.strikes = 0
        self.user = NOBODY

    @property
    def alone(self) -> bool:
        """It has a process of its own from the start, which harms nobody when it ends."""
        return self.isolated or self.artifact.properties.isolation is Isolation.OWN

    def twin(self, replica: int, worker: str) -> "Model":
        """A further replica, for another worker."""
        twin = Model(self.entry, self.artifact, replica)
        twin.worker = worker
        return twin

    @property
    def ready(self) -> bool:
        return self.entry.state is State.READY

    @property
    def isolated(self) -> bool:
        """The artifact runs in an isolated process, not in the device worker."""
        return self.artifact.isolated

    @property
    def on_cpu(self) -> bool:
        """The model computes on the CPU, also on a machine with a GPU."""
        return self.artifact.on_cpu
