"""The registry: one model per name, only READY ones are listed, a number is never used twice."""

import asyncio

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from model_handler.engine.registry import Registry
from model_handler.errors import ModelAlreadyLoaded, ModelNotFound
from model_handler.model import Model, ModelInfo, State

names = st.sampled_from(["a", "b", "c"])


class RegistryMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.registry = Registry()
        self.models: dict[str, Model] = {}
        self.numbers: set[int] = set()

    @rule(name=names)
    def begin(self, name: str) -> None:
        if name in self.models:
            with pytest.raises(ModelAlreadyLoaded):
                self.registry.begin(ModelInfo(name, "/x"))
            return
        model = self.registry.begin(ModelInfo(name, "/x", target=f"{name}.tar.gz"))
        assert model.model_id not in self.numbers
        self.numbers.add(model.model_id)
        self.models[name] = model

    @rule(name=names)
    def ready(self, name: str) -> None:
        if name in self.models and self.models[name].state is State.LOADING:
            self.models[name].become(State.READY)
            assert self.models[name].settled.is_set()

    @rule(name=names)
    def unload(self, name: str) -> None:
        if name in self.models and self.models[name].state is State.READY:
            self.models[name].become(State.UNLOADING)

    @rule(name=names)
    def remove(self, name: str) -> None:
        if name in self.models:
            model = self.models.pop(name)
            self.registry.remove(model)
            assert model.gone.is_set()
            assert model.settled.is_set()

    @invariant()
    def lists_what_is_ready(self) -> None:
        ready = sorted(n for n, model in self.models.items() if model.state is State.READY)
        assert [model.info.name for model in self.registry.all_ready()] == ready

    @invariant()
    def finds_ready_ones_by_name_and_target(self) -> None:
        for name in ("a", "b", "c"):
            model = self.models.get(name)
            for target in (name, f"{name}.tar.gz"):
                if model is not None and model.state is State.READY:
                    assert self.registry.resolve(target) == name
                else:
                    with pytest.raises(ModelNotFound):
                        self.registry.resolve(target)


TestRegistry = RegistryMachine.TestCase


def test_a_state_that_cannot_follow_is_our_mistake() -> None:
    async def scenario() -> None:
        model = Registry().begin(ModelInfo("a", "/x"))
        model.become(State.READY)
        with pytest.raises(AssertionError):
            model.become(State.LOADING)

    asyncio.run(scenario())


def test_of_two_loads_with_one_target_the_latest_counts_while_it_lasts() -> None:
    registry = Registry()
    first, second = (registry.begin(ModelInfo(name, "/x", "t.tar.gz")) for name in ("1", "2"))
    for model in (first, second):
        model.become(State.READY)
    assert registry.resolve("t.tar.gz") == "2"
    second.become(State.UNLOADING)
    assert registry.resolve("t.tar.gz") == "1"
