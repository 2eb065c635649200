"""The fake runtime behaves like CUDA in all respects on which the server and these tests depend."""

import pytest
import torch

from tests.fake_cuda import programs
from tests.fake_cuda.gpu import ASSERT, ILLEGAL_ADDRESS, MIB, OUT_OF_MEMORY, FakeMachine
from tests.fake_cuda.programs import result, running

CONTEXT_NBYTES = 300 * MIB
ALREADY_REGISTERED, NOT_REGISTERED, NOT_SUPPORTED = 712, 713, 801

# ---- copies ----


def test_a_copy_runs_when_it_is_waited_for(machine: FakeMachine) -> None:
    """A change of pinned memory before the wait is copied; a change after the wait is not."""
    early, late = result(machine, programs.copy_around_changes)
    assert early == [2]
    assert late == [2]


def test_a_copy_on_another_stream_needs_a_wait(machine: FakeMachine) -> None:
    """Without a wait, the default stream reads the old contents."""
    without, with_event = result(machine, programs.read_behind_another_stream)
    assert without == [0]
    assert with_event == [1]


def test_an_event_is_not_ready_at_once(machine: FakeMachine) -> None:
    assert result(machine, programs.query_twice) == [False, True]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.int64])
def test_conversions_are_computed(machine: FakeMachine, dtype: torch.dtype) -> None:
    """To each dtype of weights, and back."""
    assert result(machine, programs.convert, dtype) == (True, True)


# ---- memory ----


def test_allocations_are_counted_until_they_are_freed(machine: FakeMachine) -> None:
    used = result(machine, programs.used_around_a_block)
    assert used == (CONTEXT_NBYTES, CONTEXT_NBYTES + 50 * MIB, CONTEXT_NBYTES)


def test_a_device_has_limited_memory(machine: FakeMachine) -> None:
    found = result(machine, programs.allocate, 300, 200, TOTAL=str(512 * MIB))
    assert found == [False, True]


def test_devices_have_separate_memory(machine: FakeMachine) -> None:
    used = result(machine, programs.used_on_each_device, DEVICES="2")
    assert used == [CONTEXT_NBYTES, CONTEXT_NBYTES + 50 * MIB]


def test_an_unused_device_has_no_context(machine: FakeMachine) -> None:
    with running(machine.environment(DEVICES="2"), programs.hold, 50):
        assert machine.used_nbytes(0) == CONTEXT_NBYTES + 50 * MIB
        assert machine.used_nbytes(1) == 0


def test_memory_of_other_processes_is_not_free(machine: FakeMachine) -> None:
    """Contexts and allocations of other processes count until these exit, also by a signal."""
    with running(machine.environment(), programs.hold, 50) as (other, _):
        assert result(machine, programs.used_nbytes) == 2 * CONTEXT_NBYTES + 50 * MIB
        other.kill()
        other.join()
        assert machine.processes() == []
        assert result(machine, programs.used_nbytes) == CONTEXT_NBYTES


def test_memory_is_seen_from_outside(machine: FakeMachine) -> None:
    wanted = {"content": bytes(range(256)) * 16}
    with running(machine.environment(), programs.hold_content, wanted["content"]) as (process, _):
        (found,) = machine.processes()
        assert found.pid == process.pid
        assert not found.missing(wanted)
        assert found.counters()["h2d_nbytes"] == 4096
        assert found.erase(wanted) == 1
        assert found.missing(wanted) == {"content"}


# ---- registered memory ----


def test_invalid_registrations_are_errors(machine: FakeMachine) -> None:
    """Repeated and overlapping registrations and unknown unregistrations are errors, as in CUDA."""
    whole, part = (0, 1 << 20), (4096, 4096)
    codes = result(machine, programs.register, whole, whole, part, None, None, part, whole)
    refused = ALREADY_REGISTERED
    assert codes == [0, refused, refused, 0, NOT_REGISTERED, 0, refused]


def test_a_registration_may_fail(machine: FakeMachine) -> None:
    whole = (0, 1 << 20)
    machine.inject("register", OUT_OF_MEMORY)
    assert result(machine, programs.register, whole, whole) == [OUT_OF_MEMORY, 0]
    codes = result(machine, programs.register, whole, READ_ONLY_REGISTRATION="0")
    assert codes == [NOT_SUPPORTED]


# ---- faults ----


@pytest.mark.parametrize(
    ("point", "code", "says"),
    [
        ("launch", ASSERT, "device-side assert"),
        ("copy", ILLEGAL_ADDRESS, "illegal memory access"),
        ("malloc", ASSERT, "device-side assert"),
        ("call", ILLEGAL_ADDRESS, "illegal memory access"),
    ],
)
def test_a_lost_device_stays_lost(machine: FakeMachine, point: str, code: int, says: str) -> None:
    """The process that lost its device cannot use it again; another process can."""
    machine.inject(point, code)
    assert len(said := result(machine, programs.use_three_times)) == 3
    assert all(says in line for line in said)
    assert result(machine, programs.use_three_times) == []


def test_some_allocations_fail(machine: FakeMachine) -> None:
    """A fault can be limited to allocations of a size, after one that succeeds; PyTorch tries each twice."""
    machine.inject("malloc", OUT_OF_MEMORY, after=1, count=2, nbytes=40 * MIB)
    assert result(machine, programs.allocate, 50, 1, 60, 70) == [True, True, False, True]
    assert not machine.pending("malloc")


def test_a_fault_can_be_limited_to_one_process(machine: FakeMachine) -> None:
    machine.inject("call", ASSERT, pid=1)
    assert result(machine, programs.use_three_times) == []
    assert machine.pending("call")


# ---- processes ----


def test_a_forked_child_cannot_use_the_device_of_its_parent(machine: FakeMachine) -> None:
    """The fork server therefore never uses the device."""
    assert "forked" in result(machine, programs.use_in_a_fork)


def test_the_capability_is_a_setting(machine: FakeMachine) -> None:
    assert result(machine, programs.capability, CAPABILITY="7.5") == (7, 5)
