"""`POST /events` and event ids, from outside."""

import json

import httpx
import pytest

from footfall.collector.protocols.event_body import MAX_EVENTS
from footfall.collector.protocols.footfall import MAX_EVENTS_BYTES
from footfall.entry import MAX_EVENT_ID
from harness import Footfall

VIEW = {"site_id": "many", "event_type": "page_view"}


def post(served: Footfall, body: bytes, content_type: str = "application/json") -> httpx.Response:
    return httpx.post(served.url + "/events", content=body, headers={"Content-Type": content_type}, timeout=10)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (json.dumps([{**VIEW, "site_id": "array"}] * 3).encode(), "application/json"),
        (b"\n".join([json.dumps({**VIEW, "site_id": "lines"}).encode()] * 3) + b"\n\r\n", "application/x-ndjson"),
        (b"\n".join([json.dumps({**VIEW, "site_id": "beacon"}).encode()] * 3), "text/plain;charset=UTF-8"),
    ],
    ids=["array", "lines", "beacon"],
)
def test_many_events_are_taken_at_once(
    served: Footfall, body: bytes, content_type: str, request: pytest.FixtureRequest
) -> None:
    """An array, or a line each, also as a page sends them when it is closed."""
    site_id = request.node.callspec.id
    answer = post(served, body, content_type)
    assert (202, {"status": "accepted", "accepted": 3, "refused": []}) == (answer.status_code, answer.json())
    served.settle()
    assert 3 == served.stats(site_id)["total_views"]


def test_each_event_is_judged_on_its_own(served: Footfall) -> None:
    """What is wrong is named by its place; the others count."""
    body = json.dumps([{**VIEW, "site_id": "judged"}, {"site_id": ""}, 7, {**VIEW, "site_id": "judged"}]).encode()
    answer = post(served, body)
    assert 202 == answer.status_code
    assert 2 == answer.json()["accepted"]
    assert [(1, ["site_id", "event_type"]), (2, [""])] == [
        (refused["index"], [error["field"] for error in refused["errors"]]) for refused in answer.json()["refused"]
    ]
    served.settle()
    assert 2 == served.stats("judged")["total_views"]


def test_each_event_may_be_as_long_as_one_alone(served: Footfall) -> None:
    """What is too long for `POST /event` is not let in by another way, and the others count."""
    short, long = ({**VIEW, "site_id": "length", "props": {"text": "a" * length}} for length in (60_000, 70_000))
    alone = httpx.post(served.url + "/event", json=long)
    answer = post(served, json.dumps([short, long, short]).encode())
    assert (413, 202, 2, [1]) == (
        alone.status_code,
        answer.status_code,
        answer.json()["accepted"],
        [refused["index"] for refused in answer.json()["refused"]],
    )


def test_a_line_that_is_not_json_harms_no_other(served: Footfall) -> None:
    """One torn line of many is refused with its place."""
    good = json.dumps({**VIEW, "site_id": "torn"}).encode()
    answer = post(served, good + b"\n" + good[:20] + b"\n" + good, "application/x-ndjson")
    assert [1] == [refused["index"] for refused in answer.json()["refused"]]
    served.settle()
    assert 2 == served.stats("torn")["total_views"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"[]", 422),
        (b"", 422),
        (b"[{]", 400),
        (b'[{"a":1}]', 422),
        (json.dumps([VIEW] * (MAX_EVENTS + 1)).encode(), 413),
        (b"[" + b" " * MAX_EVENTS_BYTES, 413),
    ],
    ids=["empty array", "empty body", "not JSON", "none acceptable", "too many", "too long"],
)
def test_what_holds_no_acceptable_event_is_refused(served: Footfall, body: bytes, status: int) -> None:
    """With a problem, like a single event."""
    answer = post(served, body)
    assert (status, "application/problem+json") == (answer.status_code, answer.headers["content-type"])


def test_as_many_as_allowed_are_taken(served: Footfall) -> None:
    """Exactly the documented number."""
    answer = post(served, json.dumps([{**VIEW, "site_id": "full"}] * MAX_EVENTS).encode())
    assert MAX_EVENTS == answer.json()["accepted"]


def test_an_event_sent_again_is_acknowledged_and_counted_once(served: Footfall) -> None:
    """A client whose answer was lost may send the event again, alone or among others."""
    event = {**VIEW, "site_id": "again", "event_id": "e-1"}
    duplicates = served.ledger()["sinks"]["database"]["skipped"].get("duplicate", 0)
    assert [202, 202] == [served.post(**event).status_code for _ in range(2)]
    assert 202 == post(served, json.dumps([event, event]).encode()).status_code
    served.settle()
    assert 1 == served.stats("again")["total_views"]
    assert 3 == served.ledger()["sinks"]["database"]["skipped"]["duplicate"] - duplicates


def test_an_event_id_has_a_longest(served: Footfall) -> None:
    """One character more is refused by name."""
    assert 202 == served.post(event_id="x" * MAX_EVENT_ID).status_code
    refused = served.post(event_id="x" * (MAX_EVENT_ID + 1))
    assert (422, ["event_id"]) == (refused.status_code, [error["field"] for error in refused.json()["errors"]])
