"""The registry: one model per name, only READY models are listed, a model id is never reused."""

import asyncio
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from model_handler.artifacts.artifact import Artifact
from model_handler.artifacts.conventions import Convention
from model_handler.artifacts.properties import Properties
from model_handler.engine.registry import Registry
from model_handler.errors import ModelAlreadyLoaded, ModelNotFound
from model_handler.model import Entry, Model, ModelInfo, State

names = st.sampled_from(["a", "b", "c"])
ARTIFACT = Artifact(Path("/x"), Convention.HUGGING_FACE, "", "auto", 0, Properties())


class RegistryMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.registry = Registry()
        self.entries: dict[str, Entry] = {}
        self.numbers: set[int] = set()

    @rule(name=names)
    def begin(self, name: str) -> None:
        if name in self.entries:
            with pytest.raises(ModelAlreadyLoaded):
                self.registry.begin(ModelInfo(name, "/x"))
            return
        entry = self.registry.begin(ModelInfo(name, "/x", target=f"{name}.tar.gz"))
        assert entry.model_id not in self.numbers
        self.numbers.add(entry.model_id)
        self.entries[name] = entry

    def state(self, name: str) -> State | None:
        entry = self.registry.find(name)
        assert entry is self.entries.get(name)
        return entry.state if entry is not None else None

    @rule(name=names)
    def ready(self, name: str) -> None:
        if self.state(name) is State.LOADING:
            self.registry.serve(Model(self.entries[name], ARTIFACT))
            assert self.entries[name].settled.is_set()

    @rule(name=names)
    def unload(self, name: str) -> None:
        if self.state(name) is State.READY:
            self.registry.withdraw(self.registry.ready(name))

    @rule(name=names)
    def remove(self, name: str) -> None:
        if self.state(name) is State.READY:
            with pytest.raises(AssertionError):
                self.registry.remove(self.entries[name])
        elif name in self.entries:
            entry = self.entries.pop(name)
            self.registry.remove(entry)
            assert entry.gone.is_set()
            assert entry.settled.is_set()

    @invariant()
    def lists_what_is_ready(self) -> None:
        ready = sorted(name for name in self.entries if self.state(name) is State.READY)
        assert [info.name for info in self.registry.all_ready()] == ready

    @invariant()
    def finds_ready_ones_by_name_and_target(self) -> None:
        for name in ("a", "b", "c"):
            for target in (name, f"{name}.tar.gz"):
                if self.state(name) is State.READY:
                    assert self.registry.ready(name).entry is self.entries[name]
                    assert self.registry.resolve(target) == name
                else:
                    with pytest.raises(ModelNotFound):
                        self.registry.resolve(target)


TestRegistry = RegistryMachine.TestCase


def test_a_state_that_cannot_follow_is_our_mistake() -> None:
    async def scenario() -> None:
        entry = Registry().begin(ModelInfo("a", "/x"))
        entry.become(State.READY)
        with pytest.raises(AssertionError):
            entry.become(State.LOADING)

    asyncio.run(scenario())


def test_of_two_loads_with_one_target_the_latest_counts_while_it_lasts() -> None:
    registry = Registry()
    first, second = (
        Model(registry.begin(ModelInfo(name, "/x", "t.tar.gz")), ARTIFACT) for name in ("1", "2")
    )
    for model in (second, first):
        registry.serve(model)
    assert registry.resolve("t.tar.gz") == "2"
    registry.withdraw(second)
    assert registry.resolve("t.tar.gz") == "1"
