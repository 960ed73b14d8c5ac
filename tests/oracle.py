"""The oracle: knows what was sent and what was acknowledged, and holds both outputs against it.

Each event and each hit has an id of its own and a payload made from the id, so that one which is lost, doubled,
invented or changed is found by name. What must hold after any fault, once the system has settled:

- every acknowledged event is in the database; every hit whose image was served `HIT_GRACE_S` before a kill is in both
  outputs (the image does not wait for the disk, so the last moments of hits may go with a killed process);
- nothing is in an output that was not sent, and nothing twice;
- each payload is what was sent;
- the ledger's figures are those of the outputs.
"""

import hashlib
import http.client
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

import duckdb

from footfall.visit_line import parse_line
from harness import Footfall

HIT_GRACE_S = 0.5
"""The promise is 10 ms; the rest is for machines busy with other tests."""
SITE = "oracle"


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:16]


class Oracle:
    """Sends, remembers, and checks. Its senders outlive any number of kills and restarts.

    Attributes:
        sent: ids handed to the network, whatever became of them.
        acknowledged: ids of events that were answered 2xx.
        served: ids of hits whose image came back, with when they were sent and answered.
    """

    def __init__(self, footfall: Footfall, *, senders: int = 4) -> None:
        self._footfall = footfall
        self._senders = senders
        self._numbers = itertools.count()
        self._stop = threading.Event()
        self._kills: list[float] = []
        self.sent: set[str] = set()
        self.acknowledged: set[str] = set()
        self.served: dict[str, tuple[float, float]] = {}

    @contextmanager
    def load(self) -> Iterator[None]:
        """Send from several connections at once until the block ends."""
        self._stop.clear()
        threads = [threading.Thread(target=self._send, daemon=True) for _ in range(self._senders)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def note_kill(self) -> None:
        """A kill has just happened: hits served within the grace before it may be lost."""
        self._kills.append(time.monotonic())

    def check(self) -> None:
        """Send one more event and hit, wait until all is settled, stop, and hold the outputs against what was sent."""
        connection = http.client.HTTPConnection("127.0.0.1", self._footfall.port, timeout=10)
        self._send_event(connection, self._next("event"))
        self._send_hit(connection, self._next("hit"))
        connection.close()
        self._footfall.settle(60)
        ledger = self._footfall.ledger()
        assert self._footfall.stop() == 0, self._footfall.output()
        rows, lines = self._rows(), self._lines()
        self._check_output("database", rows, self.sent)
        self._check_output("visits log", lines, {name for name in self.sent if name.startswith("hit")})
        promised_hits = {name for name, times in self.served.items() if not self._in_grace(*times)}
        assert (set(), "lost events") == (self.acknowledged - rows.keys(), "lost events")
        assert (set(), "lost hits") == (promised_hits - rows.keys(), "lost hits")
        assert (set(), "lost lines") == (promised_hits - lines.keys(), "lost lines")
        hits = sum(name.startswith("hit") for name in rows)
        assert {
            "visit_log": {"written": len(lines), "skipped": _skips(event=len(rows) - hits), "pending": 0},
            "database": {"written": len(rows), "skipped": {}, "pending": 0},
        } == ledger["sinks"]
        assert len(rows) == ledger["received"]

    def _check_output(self, output: str, found: Counter[str], sent: set[str]) -> None:
        assert (output, set()) == (output, found.keys() - sent)
        assert (output, {}) == (output, {name: count for name, count in found.items() if count != 1})

    def _in_grace(self, sent_at: float, answered_at: float) -> bool:
        return any(sent_at <= kill <= answered_at + HIT_GRACE_S for kill in self._kills)

    def _next(self, kind: str) -> str:
        name = f"{kind}-{next(self._numbers)}"
        self.sent.add(name)
        return name

    def _send(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._footfall.port, timeout=10)
        while not self._stop.is_set():
            try:
                self._send_event(connection, self._next("event"))
                self._send_hit(connection, self._next("hit"))
            except (OSError, http.client.HTTPException):
                connection.close()
                self._stop.wait(0.01)  # the collector is away for a moment; don't spin until it is back
        connection.close()

    def _send_event(self, connection: http.client.HTTPConnection, name: str) -> None:
        event = {
            "site_id": SITE,
            "event_type": "page_view",
            "path": f"/{name}",
            "user_id": name,
            "props": {"digest": _digest(name)},
        }
        connection.request("POST", "/event", json.dumps(event), {"Content-Type": "application/json"})
        response = connection.getresponse()
        response.read()
        if response.status == 202:
            self.acknowledged.add(name)

    def _send_hit(self, connection: http.client.HTTPConnection, name: str) -> None:
        headers = {"User-Agent": f"{name} | {_digest(name)}", "Referer": f"https://oracle.example/{_digest(name)}"}
        sent_at = time.monotonic()
        connection.request("GET", f"/track?site_id={SITE}&path={quote('/' + name, safe='')}", headers=headers)
        response = connection.getresponse()
        response.read()
        assert response.status == 200
        self.served[name] = (sent_at, time.monotonic())

    def _rows(self) -> Counter[str]:
        """Ids in the database; a row whose payload is not what was sent goes under a name that was never sent."""
        found: Counter[str] = Counter()
        with duckdb.connect(self._footfall.data_dir / "footfall.duckdb", read_only=True) as database:
            for path, digest, referrer in database.execute(
                "SELECT path, props ->> 'digest', referrer FROM events WHERE site_id = ?", [SITE]
            ).fetchall():
                name = path.removeprefix("/")
                expected = (_digest(name), None) if name.startswith("event") else (None, _referrer(name))
                found[name if (digest, referrer) == expected else f"changed: {path} {digest} {referrer}"] += 1
        return found

    def _lines(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for text in self._footfall.lines():
            line = parse_line(text)
            name, _, digest = line.user_agent.decode().partition(" | ")
            expected = (_digest(name), _referrer(name), "127.0.0.1")
            found[name if (digest, line.referrer.decode(), line.address) == expected else f"changed: {text}"] += 1
        return found


def _referrer(name: str) -> str:
    return f"https://oracle.example/{_digest(name)}"


def _skips(**counts: int) -> dict[str, int]:
    return {reason: count for reason, count in counts.items() if count}
