"""A tree of processes: start them, start again what crashes, stop them in order.

Every child is forked from a parent that has no threads, holds no database and has imported little. A child inherits
listening sockets, so a connection made while a child is being started again waits instead of being refused.
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
"""From the first signal to stop until what still runs is killed."""
_BACKOFF_S: Final = 0.1
_MAX_BACKOFF_S: Final = 5.0
_STEADY_S: Final = 30.0
"""A child that ran this long before it died is started again at once."""
_MEND_AGAIN_S: Final = 60.0
"""Damage that is met again so soon is not mended: all wait a little, so that nothing spins."""

_log = logging.getLogger(__name__)
_fork = multiprocessing.get_context("fork")


class Lifeline:
    """What a child knows of its parent: how to say it is ready, and when to stop.

    Attributes:
        stop: set on SIGTERM, and when the parent is gone.
    """

    def __init__(self, ready_fd: int, parent_fd: int) -> None:
        self.stop = threading.Event()
        self._ready_fd = ready_fd
        self._parent_fd = parent_fd
        self._is_ready = False
        self._stopped: list[Callable[[], None]] = []

    def ready(self) -> None:
        """Say, once, that this child does its work from now on."""
        if not self._is_ready:
            os.write(self._ready_fd, b"+")
        self._is_ready = True

    def on_stop(self, callback: Callable[[], None]) -> None:
        """Have `callback` called, once, in the main thread, by the signal to stop, or now if that has come already."""
        self._stopped.append(callback)
        if self.stop.is_set():
            callback()

    def stop_now(self) -> None:
        """End this process from another thread of it, as if the signal had come."""
        os.kill(os.getpid(), signal.SIGTERM)

    def watch(self) -> None:
        """Take over signals and watch the parent. An interrupt at the terminal is for the parent to pass on."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._on_signal)
        threading.Thread(target=self._watch_parent, name="lifeline", daemon=True).start()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if not self.stop.is_set():
            self.stop.set()
            for callback in self._stopped:
                callback()

    def _watch_parent(self) -> None:
        os.read(self._parent_fd, 1)  # returns when the parent, which alone has the other end, is gone
        self.stop_now()


class Child:
    """One process of the tree.

    Args:
        name: for the log.
        run: the work; it ends when its lifeline says stop. A `FootfallError` before it is ready ends the whole tree.
        phase: children are stopped in ascending phases, each waiting for the one before.
    """

    def __init__(self, name: str, run: Callable[[Lifeline], None], *, phase: int) -> None:
        self.name = name
        self.run = run
        self.phase = phase
        self.process: ForkProcess | None = None
        self.ready_fd = -1
        self.is_ready = False
        self.was_ready = False
        self.started_at = 0.0
        self.backoff_s = 0.0
        self.start_at: float | None = 0.0


class Supervisor:
    """Runs children until a signal, or until one can't start.

    Args:
        children: the tree.
        on_ready: called once, when all of them work.
        on_damage: called between the end of all children and their new start, when one of them has met a damaged queue.
    """

    def __init__(
        self, children: Sequence[Child], *, on_ready: Callable[[], None], on_damage: Callable[[], None]
    ) -> None:
        self._children = list(children)
        self._on_ready: Callable[[], None] | None = on_ready
        self._on_damage = on_damage
        self._is_damaged = False
        self._damaged_at = -_MEND_AGAIN_S
        self._parent_read_fd, self._parent_write_fd = os.pipe()
        self._wakeup_read, self._wakeup_write = socket.socketpair()
        self._signals = 0
        self._deadline = 0.0
        self._failed_code: int | None = None

    def run(self) -> int:
        """Work until all children have ended; return the exit code."""
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
        """One turn; True when it is over."""
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
            self._mend(now)
        else:
            for child in self._children:
                if child.start_at is not None and child.start_at <= now:
                    self._start(child)
        self._wait(now)
        for child in self._children:
            self._look_after(child)
        if self._on_ready is not None and all(child.is_ready for child in self._children):
            with suppress(OSError):  # an output that can't be written is no reason to stop
                self._on_ready()
            self._on_ready = None
        return False

    def _mend(self, now: float) -> None:
        """Once nobody has the queue open any more, have it mended, and start all of them again."""
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
        soon = now - self._damaged_at < _MEND_AGAIN_S
        for child in self._children:
            child.start_at = time.monotonic() + (_MAX_BACKOFF_S if soon else 0.0)
        self._is_damaged = False
        self._damaged_at = now
        self._deadline = 0.0

    def _wait(self, now: float) -> None:
        """Until something happens."""
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
        configure_logging(child.name)
        try:
            child.run(lifeline)
        except FootfallError as error:
            _log.error("%s", error)
            sys.exit(error.exit_code)
        except Exception:  # noqa: BLE001 - nothing is above this but the end of the process
            _log.exception("stopped by an error that Footfall does not know")
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
        """A child is gone that should not be.

        One that can't start the first time has been given something wrong, and has said so: then nothing runs. Later
        the others go on: hits are taken while a visits log, say, waits for somebody to look at it.
        """
        if code == DamagedQueueError.exit_code:
            _log.warning("%s has found the queue damaged; stopping all to mend it", child.name)
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
        how = f"killed by signal {-code}" if code < 0 else f"ended with code {code}"
        _log.warning("%s was %s; starting it again", child.name, how)

    def _alive(self) -> list[Child]:
        return [child for child in self._children if child.process is not None]

    def _stop_next_phase(self) -> bool:
        """Ask the earliest phase that still runs to end; False when nothing runs."""
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
