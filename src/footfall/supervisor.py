"""Runs a tree of processes: starts them, restarts those that crash, and stops them in order.

Every child is forked from a parent that has no threads, holds no database and has imported little. A child inherits its
listening sockets, so a connection that arrives while the child is being restarted waits instead of being refused.
"""

import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import wait
from multiprocessing.context import ForkProcess
from types import FrameType
from typing import Final

from footfall.errors import DamagedQueueError, FootfallError, UnreadableFileError
from footfall.telemetry import configure_logging

STOP_S: Final = 10.0
"""How long children may take to stop after the first signal. Then they are killed."""
_BACKOFF_S: Final = 0.1
_MAX_BACKOFF_S: Final = 5.0
_STEADY_S: Final = 30.0
"""A child that ran this long before it died is restarted at once."""
_REPAIR_AGAIN_S: Final = 60.0
"""If the queue is found damaged again within this time, the children wait `_MAX_BACKOFF_S` before they start."""

_log = logging.getLogger(__name__)
_fork = multiprocessing.get_context("fork")


class Lifeline:
    """Connects a child with its parent. It tells the parent that the child is ready, and tells the child to stop.

    Attributes:
        stop: set on SIGTERM, and when the parent has died.
    """

    def __init__(self, ready_fd: int, parent_fd: int) -> None:
        self.stop = threading.Event()
        self._ready_fd = ready_fd
        self._parent_fd = parent_fd
        self._is_ready = False
        self._stopped: list[Callable[[], None]] = []

    def ready(self) -> None:
        """Tell the parent that this child is ready. Further calls do nothing."""
        if not self._is_ready:
            os.write(self._ready_fd, b"+")
        self._is_ready = True

    def on_stop(self, callback: Callable[[], None]) -> None:
        """Call `callback` once, in the main thread, when the signal to stop arrives, or now if it has arrived."""
        self._stopped.append(callback)
        if self.stop.is_set():
            callback()

    def stop_now(self) -> None:
        """Stop this process as the signal would. Any of its threads may call this."""
        os.kill(os.getpid(), signal.SIGTERM)

    def watch(self) -> None:
        """Handle signals and watch the parent. An interrupt from the terminal is left to the parent."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._on_signal)
        threading.Thread(target=self._watch_parent, name="lifeline", daemon=True).start()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if not self.stop.is_set():
            self.stop.set()
            for callback in self._stopped:
                callback()

    def _watch_parent(self) -> None:
        os.read(self._parent_fd, 1)  # returns when the parent dies, because only the parent has the other end
        self.stop_now()


class Child:
    """One process of the tree.

    Args:
        name: its name in the log.
        run: does the work, and returns when its lifeline says stop. A `FootfallError` before the child is ready ends
            the whole tree.
        phase: when it is stopped. Phases are stopped in ascending order, each after the one before has ended.
        niceness: how far this process gives way to others when the processor is busy (`nice`).
    """

    def __init__(self, name: str, run: Callable[[Lifeline], None], *, phase: int, niceness: int = 0) -> None:
        self.name = name
        self.run = run
        self.phase = phase
        self.niceness = niceness
        self.process: ForkProcess | None = None
        self.ready_fd = -1
        self.is_ready = False
        self.was_ready = False
        self.started_at = 0.0
        self.backoff_s = 0.0
        self.start_at: float | None = 0.0


class Supervisor:
    """Runs children until a signal arrives, or until a child can't start.

    Args:
        children: the processes to run.
        on_ready: called once, when all children are ready.
        on_damage: repairs the queue after a child has found it damaged. All children are stopped before the call, and
            started again after it.
    """

    def __init__(
        self, children: Sequence[Child], *, on_ready: Callable[[], None], on_damage: Callable[[], None]
    ) -> None:
        self._children = list(children)
        self._on_ready: Callable[[], None] | None = on_ready
        self._on_damage = on_damage
        self._is_damaged = False
        self._damaged_at = -_REPAIR_AGAIN_S
        self._parent_read_fd, self._parent_write_fd = os.pipe()
        self._wakeup_read, self._wakeup_write = socket.socketpair()
        self._signals = 0
        self._deadline = 0.0
        self._failed_code: int | None = None

    def run(self) -> int:
        """Run until all children have ended; return the exit code."""
        self._wakeup_write.setblocking(False)
        signal.set_wakeup_fd(self._wakeup_write.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        try:
            while not self._step():
                pass
        finally:
            for child in self._alive():
                assert child.process is not None
                child.process.kill()
        return self._failed_code or 0

    def _step(self) -> bool:
        """Handle what has happened, and wait for the next thing to happen. True if there is nothing left to do."""
        stopping = self._signals > 0 or self._failed_code is not None
        now = time.monotonic()
        if stopping:
            self._deadline = self._deadline or now + STOP_S
            if self._signals > 1 or now > self._deadline:
                _log.warning("not waiting for %s", ", ".join(child.name for child in self._alive()))
                return True
            if not self._stop_next_phase():
                return True
        elif self._is_damaged:
            self._repair(now)
        else:
            for child in self._children:
                if child.start_at is not None and child.start_at <= now:
                    self._start(child)
        self._wait(now)
        for child in self._children:
            self._look_after(child)
        if self._on_ready is not None and all(child.is_ready for child in self._children):
            with suppress(OSError):  # a closed terminal is no reason to stop
                self._on_ready()
            self._on_ready = None
        return False

    def _repair(self, now: float) -> None:
        """Stop all children. Once none has the queue open, repair it and let all children start."""
        self._deadline = self._deadline or now + STOP_S
        if self._stop_next_phase():
            for child in self._alive() if now > self._deadline else ():
                assert child.process is not None
                child.process.kill()
            return
        try:
            self._on_damage()
        except FootfallError as error:
            _log.error("%s", error)
        soon = now - self._damaged_at < _REPAIR_AGAIN_S
        for child in self._children:
            child.start_at = time.monotonic() + (_MAX_BACKOFF_S if soon else 0.0)
        self._is_damaged = False
        self._damaged_at = now
        self._deadline = 0.0

    def _wait(self, now: float) -> None:
        """Wait for a signal, for a child to become ready or to end, or for the next start or deadline."""
        sentinels = [child.process.sentinel for child in self._alive() if child.process is not None]
        unready = [child.ready_fd for child in self._alive() if not child.is_ready]
        due = [child.start_at - now for child in self._children if child.start_at is not None]
        if self._deadline:
            due.append(self._deadline - now + 0.01)
        wait([self._wakeup_read, *sentinels, *unready], timeout=max(0.0, min(due)) if due else None)
        self._wakeup_read.setblocking(False)
        while True:
            try:
                if not self._wakeup_read.recv(64):
                    return
            except BlockingIOError:
                return

    def _start(self, child: Child) -> None:
        read_fd, write_fd = os.pipe()
        os.set_blocking(read_fd, False)
        child.process = _fork.Process(
            name=child.name, target=self._in_child, args=(child, Lifeline(write_fd, self._parent_read_fd))
        )
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        child.process.start()
        os.close(write_fd)
        child.ready_fd = read_fd
        child.is_ready = False
        child.started_at = time.monotonic()
        child.start_at = None

    def _in_child(self, child: Child, lifeline: Lifeline) -> None:
        signal.set_wakeup_fd(-1)
        os.close(self._parent_write_fd)
        lifeline.watch()
        os.nice(child.niceness)
        configure_logging(child.name)
        try:
            child.run(lifeline)
        except FootfallError as error:
            _log.error("%s", error)
            sys.exit(error.exit_code)
        except Exception:  # noqa: BLE001 - above this there is only the end of the process
            _log.exception("stopped by an unexpected error")
            sys.exit(70)  # EX_SOFTWARE of sysexits.h

    def _look_after(self, child: Child) -> None:
        process = child.process
        if process is None:
            return
        if not child.is_ready:
            with suppress(BlockingIOError):
                child.is_ready = bool(os.read(child.ready_fd, 1))
                child.was_ready |= child.is_ready
        if process.is_alive():
            return
        process.join()
        os.close(child.ready_fd)
        child.process = None
        if self._signals == 0 and self._failed_code is None and not self._is_damaged:
            self._ended(child, process.exitcode or 0)

    def _ended(self, child: Child, code: int) -> None:
        """Restart a child that has ended by itself, or give up.

        If a child can't start the first time, a setting is wrong, and the child has said so. Then the whole tree ends.
        If a child ends later, the others go on: hits are still accepted while, say, the visits log needs attention.
        """
        if code == DamagedQueueError.exit_code:
            _log.warning("%s found the queue damaged; stopping all processes to repair it", child.name)
            self._is_damaged = True
            for other in self._children:
                other.start_at = None
            return
        if not child.was_ready and code > 0 and code != UnreadableFileError.exit_code:
            self._failed_code = code
            return
        ran_s = time.monotonic() - child.started_at
        child.backoff_s = 0.0 if ran_s > _STEADY_S else min(_MAX_BACKOFF_S, max(_BACKOFF_S, child.backoff_s * 2))
        child.start_at = time.monotonic() + child.backoff_s
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        _log.warning("%s %s; restarting it", child.name, how)

    def _alive(self) -> list[Child]:
        return [child for child in self._children if child.process is not None]

    def _stop_next_phase(self) -> bool:
        """Ask the earliest phase that is still running to stop; False if nothing is running."""
        alive = self._alive()
        if not alive:
            return False
        phase = min(child.phase for child in alive)
        for child in alive:
            if child.phase == phase and child.process is not None and child.process.is_alive():
                child.process.terminate()
        return True

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._signals += 1
