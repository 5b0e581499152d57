"""SIGINT and SIGTERM: one exception, raised where it ends the work in order, in luigi's workers too.

Python runs a signal's handler between any two instructions, also inside what it calls back and whose exceptions it
drops: a finalizer, or what libraries do around a fork. An interrupt that was raised there would be lost, and with it
the lock that the callback holds. So none is raised around a fork, and one that was dropped is raised again.

A process that was forked for a step gets SIGTERM when the run's is killed: nothing would use what it does.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, NoReturn


class Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM. luigi lets a KeyboardInterrupt through everywhere; a SystemExit it takes for a failure."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


#: Linux alone sends a signal to the children of a process that ends: prctl(2).
_PR_SET_PDEATHSIG = 1
_prctl = getattr(ctypes.CDLL(None), "prctl", None)

#: Seconds until an interrupt that could not be raised, or was dropped, is raised again.
_SOON = 0.02


@dataclass
class _ProcessState:
    """What the signal handler knows of this process; it gets no arguments of ours."""

    root: int = field(default_factory=os.getpid)  #: the process that the others were forked from
    has_work: bool = False  #: whether this process is in a step that must clear up when it is interrupted
    is_forking: bool = False
    parent: int = 0  #: the process that forks, or has forked this one
    interrupt: Interrupted | None = None  #: the one that this process was sent; the first counts


_state = _ProcessState()
_other_drops = sys.unraisablehook  #: what handles dropped exceptions that are no interrupts


def install_signal_handlers() -> None:
    """Make signals to this process, and to what it forks, raise Interrupted.

    To be called after all that registers callbacks of its own around a fork: they then stand between ours.
    """
    _state.root = os.getpid()
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_begin_worker)
    sys.unraisablehook = _raise_again
    signal.signal(signal.SIGALRM, _deliver)
    signal.signal(signal.SIGTERM, _receive)
    signal.signal(signal.SIGINT, _receive)


def is_worker() -> bool:
    """Tell whether this is a process that luigi forked for a task."""
    return os.getpid() != _state.root


@contextmanager
def work() -> Iterator[None]:
    """Say that an interrupt must raise, for the block has something to clear up."""
    before, _state.has_work = _state.has_work, True
    try:
        yield
    finally:
        _state.has_work = before


def end_worker(interrupt: KeyboardInterrupt) -> NoReturn:
    """End a forked process after an interrupt without the traceback that multiprocessing would print."""
    sys.stderr.flush()
    os._exit(interrupt.exit_code if isinstance(interrupt, Interrupted) else 130)


def _receive(number: int, frame: FrameType | None) -> None:
    if _state.interrupt is None:  # once is enough: what follows is clearing up
        _state.interrupt = Interrupted(number)
        _deliver(number, frame)


def _deliver(_number: int, _frame: FrameType | None) -> None:
    if _state.interrupt is None:
        return  # another library's alarm
    if _state.is_forking:
        signal.setitimer(signal.ITIMER_REAL, _SOON)
        return
    if is_worker() and not _state.has_work:
        end_worker(_state.interrupt)  # in luigi's own code, from where multiprocessing would print a traceback
    raise _state.interrupt


def _raise_again(dropped: Any) -> None:
    if isinstance(dropped.exc_value, Interrupted):
        signal.setitimer(signal.ITIMER_REAL, _SOON)
    else:
        _other_drops(dropped)


def _before_fork() -> None:
    _state.is_forking, _state.parent = True, os.getpid()


def _after_fork() -> None:
    _state.is_forking = False


def _begin_worker() -> None:
    _state.is_forking, _state.interrupt = False, None
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != _state.parent:  # killed before that
            os.kill(os.getpid(), signal.SIGTERM)
