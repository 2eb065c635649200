"""Pools: `reserved` is the sum of all reservations and never exceeds the capacity."""

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from model_handler.errors import InsufficientMemory
from model_handler.memory.pools import MemoryPool, Reservation, Tier

CAPACITY = 100
amounts = st.integers(min_value=0, max_value=CAPACITY + 20)
picks = st.integers(min_value=0, max_value=50)


class LedgerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.pool = MemoryPool(Tier.DEVICE, CAPACITY)
        self.held: list[Reservation] = []

    def pick(self, number: int) -> Reservation:
        return self.held[number % len(self.held)]

    @rule(nbytes=amounts)
    def reserve(self, nbytes: int) -> None:
        free = self.pool.free
        if nbytes <= free:
            self.held.append(self.pool.reserve(nbytes))
        else:
            with pytest.raises(InsufficientMemory):
                self.pool.reserve(nbytes)
            assert self.pool.free == free

    @precondition(lambda self: self.held)
    @rule(number=picks, nbytes=amounts)
    def resize(self, number: int, nbytes: int) -> None:
        reservation = self.pick(number)
        before = reservation.nbytes
        if nbytes - before <= self.pool.free:
            reservation.resize(nbytes)
            assert reservation.nbytes == nbytes
        else:
            with pytest.raises(InsufficientMemory):
                reservation.resize(nbytes)
            assert reservation.nbytes == before

    @precondition(lambda self: self.held)
    @rule(number=picks)
    def release_twice(self, number: int) -> None:
        reservation = self.pick(number)
        reservation.release()
        reservation.release()
        self.held.remove(reservation)

    @invariant()
    def sum_and_bound(self) -> None:
        assert self.pool.reserved == sum(one.nbytes for one in self.held)
        assert 0 <= self.pool.reserved <= CAPACITY


TestLedger = LedgerMachine.TestCase


def test_a_reservation_ends_with_its_block() -> None:
    pool = MemoryPool(Tier.HOST, 10)
    with pool.reserve(7):
        assert pool.free == 3
    assert pool.free == 10


def test_a_refusal_says_both_figures() -> None:
    pool = MemoryPool(Tier.DEVICE, 10)
    pool.reserve(4)
    with pytest.raises(InsufficientMemory, match=r"8 bytes .* 6 of 10 free"):
        pool.reserve(8)
