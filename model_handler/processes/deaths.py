"""Why a device worker's process ended, and which models are suspected. Pure.

A model is proven to be the cause if the worker said so, if its batch outlasted its deadline, or if the
process crashed or exited while it worked for that model alone or in the thread that crashed. A signal from
outside, as the kernel's SIGKILL when memory is short, proves nothing.
"""

import signal
from typing import NamedTuple

from model_handler.sharing.work_record import WorkInProgress

CRASHES = frozenset(
    {
        signal.SIGSEGV,
        signal.SIGBUS,
        signal.SIGABRT,
        signal.SIGFPE,
        signal.SIGILL,
        signal.SIGTRAP,
        signal.SIGSYS,
    }
)


class Death(NamedTuple):
    """`suspects`: model_ids that were at work; if `proven`, the one that caused it. `crashed`: the process
    ended by itself, by an exit or a fatal signal. `poisoned`: it reported that it cannot go on, as after an
    error of its device. `lost`: it ended with the fork server, which no model and no start explains."""

    reason: str
    suspects: frozenset[int] = frozenset()
    proven: bool = False
    crashed: bool = False
    poisoned: bool = False
    lost: bool = False


def of_crash(status: int | None, work: WorkInProgress) -> Death:
    """A process that ended without a word. `status`: as in subprocess; None if unknown."""
    if status is None:
        return Death("the worker process ended", work.models)
    if status < 0 and -status not in CRASHES:
        return Death(f"the worker process was ended by {_name(-status)}", work.models)
    reason = f"the worker process crashed with {_name(-status)}"
    if status >= 0:
        reason = f"the worker process exited with status {status}"
    if work.faulty:
        return Death(reason, frozenset({work.faulty}), proven=True, crashed=True)
    proven = work.faulty is None and len(work.models) == 1
    return Death(reason, work.models, proven, crashed=True)


def of_poison(reason: str, culprit: int, work: WorkInProgress) -> Death:
    """A process that reported why it ends itself."""
    suspects = frozenset({culprit}) if culprit else work.models
    return Death(reason, suspects, proven=culprit > 0, poisoned=True)


def of_replacement(reason: str, culprit: int, work: WorkInProgress) -> Death:
    """A process that the front ended. A batch may be late because it waits for another model's batch."""
    if not culprit:
        return Death(reason, work.models)
    if culprit not in work.models and len(work.models) == 1:
        (culprit,) = work.models
    return Death(reason, frozenset({culprit}), proven=True)


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
