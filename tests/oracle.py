"""The oracle: knows what was sent and what was acknowledged, and holds both outputs against it.

Each event and each hit has an id of its own and a payload made from the id, so that one which is lost, doubled,
invented or changed is found by name. What must hold after any fault, once the system has settled:

- every acknowledged event is in the database; and every hit of which it can be known that it was committed is in both
  outputs. The image does not wait for the disk, so the last hits may go with a killed process. But a collector
  commits in the order of arrival: a hit between two acknowledged events of one connection was committed before the
  second of them.
- nothing is in an output that was not sent, or was refused, and nothing twice;
- each payload is what was sent;
- the ledger's figures are those of the outputs.

Every other event has an `event_id`, and is sent again when its answer was lost, as a careful client does: it, too, is
in the database once.
"""

import hashlib
import http.client
import itertools
import json
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol
from urllib.parse import quote

from msgspec import Struct

from footfall.visit_log.line import parse_line

SITE = "oracle"


class System(Protocol):
    """What is sent to and read from: one `Footfall`, or many that work together."""

    @property
    def ports(self) -> Sequence[int]:
        """Where collectors are, on 127.0.0.1."""
        ...

    def settle(self, timeout_s: float) -> None:
        """Wait until every sink has dealt with everything received."""
        ...

    def ledger(self) -> Any:
        """The ledger of all together."""
        ...

    def stop(self) -> int:
        """End it in good order; the exit code."""
        ...

    def output(self) -> str:
        """What it has logged."""
        ...

    def rows(self, site_id: str) -> list[tuple[str, str | None, str | None]]:
        """Path, props and referrer of each row in the database; nothing else has it open."""
        ...

    def lines(self) -> list[str]:
        """The visits log."""
        ...


def _event_id(name: str) -> str | None:
    """The `event_id` of an event that is sent again when its answer was lost; None of one that is not."""
    return name if int(name.removeprefix("event-")) % 2 else None


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:16]


class Figures(Struct, frozen=True):
    """What a check has found to be as it must.

    Attributes:
        sent: events and hits handed to the network.
        acknowledged: events answered 2xx; all are written.
        refused: events answered 503; none is written.
        in_doubt: events whose answer was lost; each may be written or not.
        duplicates: events that were sent again with their `event_id`, and had been committed before.
        served: hits whose image came back.
        written: entries in the database.
        lines: hits in the visits log.
    """

    sent: int = 0
    acknowledged: int = 0
    refused: int = 0
    in_doubt: int = 0
    duplicates: int = 0
    served: int = 0
    written: int = 0
    lines: int = 0


class Oracle:
    """Sends, remembers, and checks. Its senders outlive any number of kills and restarts.

    Args:
        system: what is sent to, with nothing in it yet.
        senders: how many connections send at once.
        filler_bytes: how much larger than need be each event is made.

    Attributes:
        sent: ids handed to the network, whatever became of them.
        acknowledged: ids of events that were answered 2xx.
        refused: ids of events that were answered 503.
        in_doubt: ids of events whose answer was lost.
        committed_hits: ids of hits that are known to be on disk.
    """

    def __init__(self, system: System, *, senders: int = 4, filler_bytes: int = 0) -> None:
        self._system = system
        self._senders = senders
        self._filler_bytes = filler_bytes
        self._numbers = itertools.count()
        self._stop = threading.Event()
        self._failures: list[BaseException] = []
        self.sent: set[str] = set()
        self.acknowledged: set[str] = set()
        self.refused: set[str] = set()
        self.in_doubt: set[str] = set()
        self._sent_again: list[str] = []
        self.served = 0
        self.committed_hits: set[str] = set()

    @contextmanager
    def load(self) -> Iterator[None]:
        """Send from several connections at once until the block ends."""
        self._stop.clear()
        ports = itertools.islice(itertools.cycle(self._system.ports), self._senders)
        threads = [threading.Thread(target=self._send_all, args=(port,), daemon=True) for port in ports]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()
        assert [] == self._failures

    def check(self) -> Figures:
        """Send each collector one more event and hit, wait, stop all, and hold the outputs against what was sent."""
        for port in self._system.ports:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            self._send_event(connection, self._next("event"))
            self._send_hit(connection, self._next("hit"))
            connection.close()
        self._system.settle(150)
        ledger = self._system.ledger()
        assert self._system.stop() == 0, self._system.output()
        rows, lines = self._rows(), self._lines()
        sent_hits = {name for name in self.sent if _is_hit(name)}
        hits = {name for name in rows if _is_hit(name)}
        duplicates = ledger["received"] - len(rows)
        _hold(set(), rows.keys() - (self.sent - self.refused), "in the database, and not sent, or refused, or changed")
        _hold(set(), lines.keys() - sent_hits, "in the visits log, and not sent, or changed")
        _hold(set(), _repeated(rows), "more than once in the database")
        _hold(set(), _repeated(lines), "more than once in the visits log")
        _hold(set(), self.acknowledged - rows.keys(), "acknowledged, and not in the database")
        _hold(set(), self.committed_hits - hits, "committed, and not in the database")
        _hold(set(), hits ^ lines.keys(), "in one of the outputs only")
        assert 0 <= duplicates <= len(self._sent_again), f"{duplicates} of {len(self._sent_again)} are duplicates"
        _hold(
            {
                "visit_log": {
                    "written": len(lines),
                    "skipped": _skips(event=ledger["received"] - len(hits)),
                    "pending": 0,
                },
                "database": {"written": len(rows), "skipped": _skips(duplicate=duplicates), "pending": 0},
            },
            ledger["sinks"],
            "the ledger",
        )
        return Figures(
            sent=len(self.sent),
            acknowledged=len(self.acknowledged),
            refused=len(self.refused),
            in_doubt=len(self.in_doubt),
            duplicates=duplicates,
            served=self.served,
            written=len(rows),
            lines=len(lines),
        )

    def _next(self, kind: str) -> str:
        name = f"{kind}-{next(self._numbers)}"
        self.sent.add(name)
        return name

    def _send_all(self, port: int) -> None:
        try:
            self._send(port)
        except BaseException as error:  # noqa: BLE001 - raised again by `load`, in the test's own thread
            self._failures.append(error)

    def _send(self, port: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        event: str | None = None
        hits: list[str] = []
        was_accepted = False
        while not self._stop.is_set():
            try:
                if connection.sock is None:
                    connection.connect()  # what can't be handed over was not sent
                if event is None:
                    event = self._next("event")
                else:
                    self._sent_again.append(event)
                is_accepted = self._send_event(connection, event)
                event = None
                if was_accepted and is_accepted:
                    self.committed_hits.update(hits)
                hits = [self._next("hit")]
                was_accepted = is_accepted
                self._send_hit(connection, hits[0])
            except (OSError, http.client.HTTPException):
                connection.close()
                was_accepted = False
                if event is not None and _event_id(event) is None:
                    event = None
                self._stop.wait(0.01)  # the collector is away for a moment; don't spin until it is back
        connection.close()

    def _send_event(self, connection: http.client.HTTPConnection, name: str) -> bool:
        self.in_doubt.add(name)
        event = {
            "site_id": SITE,
            "event_type": "page_view",
            "path": f"/{name}",
            "user_id": name,
            "props": self._props(name),
            "event_id": _event_id(name),
        }
        connection.request("POST", "/event", json.dumps(event), {"Content-Type": "application/json"})
        response = connection.getresponse()
        response.read()
        if response.status == 202:
            self.acknowledged.add(name)
            self.in_doubt.remove(name)
        else:
            assert response.status == 503
            if _event_id(name) is None:  # another may have been committed the time before
                self.refused.add(name)
                self.in_doubt.remove(name)
        return response.status == 202

    def _send_hit(self, connection: http.client.HTTPConnection, name: str) -> None:
        headers = {"User-Agent": f"{name} | {_digest(name)}", "Referer": f"https://oracle.example/{_digest(name)}"}
        connection.request("GET", f"/track?site_id={SITE}&path={quote('/' + name, safe='')}", headers=headers)
        response = connection.getresponse()
        response.read()
        assert response.status == 200
        self.served += 1

    def _rows(self) -> Counter[str]:
        """Ids in the database; a row whose payload is not what was sent goes under a name that was never sent."""
        found: Counter[str] = Counter()
        for path, props, referrer in self._system.rows(SITE):
            name = path.removeprefix("/")
            actual = (props and json.loads(props), referrer)
            expected = (self._props(name), None) if name.startswith("event") else (None, _referrer(name))
            found[name if actual == expected else f"changed: {path} {props} {referrer}"] += 1
        return found

    def _props(self, name: str) -> dict[str, str]:
        return {"digest": _digest(name), "filler": (_digest(name) * (self._filler_bytes // 16))}

    def _lines(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for text in self._system.lines():
            line = parse_line(text)
            name, _, digest = line.user_agent.decode().partition(" | ")
            expected = (_digest(name), _referrer(name), "127.0.0.1")
            found[name if (digest, line.referrer.decode(), line.address) == expected else f"changed: {text}"] += 1
        return found


def _referrer(name: str) -> str:
    return f"https://oracle.example/{_digest(name)}"


def _is_hit(name: str) -> bool:
    return name.startswith("hit-")


def _repeated(found: Counter[str]) -> set[str]:
    return {name for name, count in found.items() if count > 1}


def _hold(expected: object, actual: object, what: str) -> None:
    """Assert that they are equal, and say it outside pytest, too."""
    assert expected == actual, f"{what}: expected {expected!s:.1000}, found {actual!s:.1000}"


def _skips(**counts: int) -> dict[str, int]:
    return {reason: count for reason, count in counts.items() if count}
