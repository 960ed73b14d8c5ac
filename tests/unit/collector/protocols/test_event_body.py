"""Events as bodies: what is accepted, and what is said of the rest."""

import json
import traceback
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from footfall.collector.protocols.event_body import MAX_EVENTS, MAX_EXPLAINED, parse_event, read_events
from footfall.entry import Event, Scalar
from footfall.problem import FieldError, Problem

NOW = datetime(2025, 11, 12, 9, 30, tzinfo=UTC)
NOW_NS = int(NOW.timestamp()) * 1_000_000_000
SMALLEST = {"site_id": "a", "event_type": "page_view"}

TEXT_LIMITS = [
    ("site_id", 128),
    ("event_type", 64),
    ("path", 2_048),
    ("user_id", 128),
    ("referrer", 2_048),
    ("event_id", 64),
    ("language", 35),
]


def vouch() -> None:
    """This sender may speak for visitors."""


def parse(body: bytes) -> Event:
    return parse_event(body, received_ns=NOW_NS, address="192.0.2.1", user_agent=b"Agent/1", vouch=vouch)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (b"https://Blog.example:8443", "blog.example"),
        (b"", None),
        (b"null", None),
        (b"http://[", None),
        (b"https://" + b"a" * 3_000, "a" * 253),
    ],
)
def test_the_page_that_sent_it_tells_its_host(origin: bytes, host: str | None) -> None:
    """Browsers send `Origin` with a POST; other clients need not."""
    event = parse_event(
        json.dumps(SMALLEST).encode(), received_ns=NOW_NS, address=None, user_agent=b"", vouch=vouch, origin=origin
    )
    assert host == event.host


def parse_fields(**fields: object) -> Event:
    """The smallest event with `fields` in it."""
    return parse(json.dumps({**SMALLEST, **fields}).encode())


def refusal(body: bytes) -> Problem | None:
    """Why a body is refused; None where it is taken. No other error may come of it."""
    try:
        parse(body)
    except Problem as problem:
        return problem
    return None


def problem_of(body: bytes) -> Problem:
    problem = refusal(body)
    assert problem is not None
    return problem


def field_errors_of(**fields: object) -> list[FieldError]:
    """What is said of the smallest event with `fields` in it."""
    problem = problem_of(json.dumps({**SMALLEST, **fields}).encode())
    assert 422 == problem.status
    return problem.field_errors


def fields_named(problem: Problem) -> list[str]:
    return [fault.field for fault in problem.field_errors]


def microseconds(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def test_two_fields_make_an_event() -> None:
    """A site and a type are enough; what was not sent is None, not empty."""
    assert Event(NOW_NS, "192.0.2.1", b"Agent/1", "a", "page_view") == parse_fields()


def test_every_field_is_taken() -> None:
    """All that the contract names is in the event, as it was sent."""
    props: dict[str, Scalar] = {"plan": "free", "count": 3, "price": 9.5, "is_new": True, "coupon": None}

    actual = parse_fields(
        path="/pricing",
        user_id="user-42",
        timestamp="2025-11-12T09:00:00Z",
        referrer="https://news.example/",
        props=props,
        event_id="01JCQ3W9",
        screen_width=1_920,
        language="pt-BR",
        scroll_depth=80,
        engaged_ms=12_500,
        interactive=False,
    )

    assert (
        Event(
            NOW_NS,
            "192.0.2.1",
            b"Agent/1",
            "a",
            "page_view",
            "/pricing",
            "user-42",
            microseconds(NOW - timedelta(minutes=30)),
            "https://news.example/",
            props,
            "01JCQ3W9",
            screen_width=1_920,
            language="pt-BR",
            scroll_depth=80,
            engaged_ms=12_500,
            interactive=False,
        )
        == actual
    )


def test_an_event_has_of_a_user_agent_what_is_looked_at() -> None:
    """A thousand events of one request have it once each, which must not make 64 MB of 64 KiB."""
    body = json.dumps([SMALLEST] * 1_000).encode()
    many = read_events(
        body, max_event_bytes=65_536, received_ns=NOW_NS, address=None, user_agent=b"a" * 65_000, vouch=vouch
    )
    assert [b"a" * 512] * 1_000 == [event.user_agent for event in many if isinstance(event, Event)]


@pytest.mark.parametrize("value", [1, None, "text", [1, [2]], {"a": {"b": [None]}}])
def test_unknown_fields_are_ignored(value: object) -> None:
    """A field that the contract does not name is no error, whatever it holds."""
    assert parse_fields() == parse_fields(some_field_of_tomorrow=value)


@pytest.mark.parametrize(
    "field",
    [
        *("path", "user_id", "timestamp", "referrer", "props", "event_id"),
        *("screen_width", "language", "scroll_depth", "engaged_ms", "interactive"),
    ],
)
def test_null_is_as_good_as_absent(field: str) -> None:
    """An optional field may be null."""
    assert parse_fields() == parse_fields(**{field: None})


@pytest.mark.parametrize(
    ("field", "empty"),
    [("path", ""), ("user_id", ""), ("referrer", ""), ("event_id", ""), ("props", {}), ("language", "")],
)
def test_empty_is_as_good_as_absent(field: str, empty: object) -> None:
    """An optional field may be empty: no visitor has the empty name."""
    assert parse_fields() == parse_fields(**{field: empty})


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b" \r\n", id="white space"),
        pytest.param(b"site_id=a&event_type=page_view", id="form"),
        pytest.param(b'{"site_id": "a", "event_type": "page_view"', id="cut"),
        pytest.param(b'{"site_id": "a", "event_type": "page_view"} {}', id="two documents"),
        pytest.param(b'{"site_id": "a", "event_type": "page_view"}\0', id="trailing NUL"),
        pytest.param(b"{'site_id': 'a', 'event_type': 'page_view'}", id="single quotes"),
        pytest.param(b"NaN", id="bare NaN"),
        pytest.param(b'{"site_id": "a", "event_type": "b", "props": {"n": NaN}}', id="NaN"),
        pytest.param(b'{"site_id": "a", "event_type": "b", "props": {"n": -Infinity}}', id="infinity"),
        pytest.param(b'{"site_id": "\xff", "event_type": "b"}', id="invalid UTF-8"),
        pytest.param(b'{"site_id": "\xed\xa0\x80", "event_type": "b"}', id="surrogate in UTF-8"),
        pytest.param(b'{"site_id": "\\ud800", "event_type": "b"}', id="lone surrogate"),
        pytest.param(b'{"site_id": "a", "event_type": "b", "props": {"\\udfff": 1}}', id="lone surrogate as a key"),
        pytest.param('{"site_id": "a", "event_type": "b"}'.encode("utf-16"), id="UTF-16"),
        pytest.param(b"[" * 10_000 + b"]" * 10_000, id="deep"),
        pytest.param(b'{"a":' * 10_000 + b"1" + b"}" * 10_000, id="deep objects"),
        pytest.param(b'{"site_id": "a", "event_type": "b", "x": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", id="deep x"),
        pytest.param(b"[" * 10_000, id="deep and cut"),
    ],
)
def test_what_is_not_json_is_refused_with_400(body: bytes) -> None:
    """The body as a whole is at fault, no field is."""
    problem = problem_of(body)

    assert 400 == problem.status
    assert [] == problem.field_errors


@pytest.mark.parametrize("body", [b"[]", b'[{"site_id": "a", "event_type": "b"}]', b'"text"', b"null", b"1", b"true"])
def test_json_that_is_no_object_is_refused_with_422(body: bytes) -> None:
    """One event a body, as an object."""
    problem = problem_of(body)

    assert 422 == problem.status
    assert [FieldError("", "the body must be a JSON object")] == problem.field_errors


def test_bare_number_of_5000_digits_is_refused_as_no_object() -> None:
    """A number too long for anything is not blamed on a field that was not sent."""
    assert [""] == fields_named(problem_of(b"1" * 5_000))


@pytest.mark.parametrize("missing", ["site_id", "event_type"])
def test_missing_field_is_named(missing: str) -> None:
    """A required field that is not there is named."""
    body = {name: value for name, value in SMALLEST.items() if name != missing}

    problem = problem_of(json.dumps(body).encode())

    assert 422 == problem.status
    assert [FieldError(missing, "is required")] == problem.field_errors


@pytest.mark.parametrize("field", ["site_id", "event_type"])
@pytest.mark.parametrize("value", ["", None, 5, True, [], {}])
def test_required_field_that_is_empty_or_no_text_is_named(field: str, value: object) -> None:
    """A required field is text of at least one character."""
    assert [field] == [fault.field for fault in field_errors_of(**{field: value})]


@pytest.mark.parametrize("field", ["path", "user_id", "timestamp", "referrer", "event_id"])
@pytest.mark.parametrize("value", [5, 1.5, True, [], {}])
def test_optional_field_that_is_no_text_is_named(field: str, value: object) -> None:
    """An optional field is text or null."""
    assert [field] == [fault.field for fault in field_errors_of(**{field: value})]


@pytest.mark.parametrize(
    ("field", "limit"), [("screen_width", 65_535), ("scroll_depth", 100), ("engaged_ms", 30 * 24 * 60 * 60 * 1_000)]
)
def test_a_number_has_a_range(field: str, limit: int) -> None:
    """From 0 to its limit, whole; what is wrong is named with what is allowed."""
    assert 0 == getattr(parse_fields(**{field: 0}), field)
    assert limit == getattr(parse_fields(**{field: limit}), field)
    error = [FieldError(field, f"must be a whole number from 0 to {limit}")]
    wrong: list[object] = [-1, limit + 1, 0.5, "1", True, [], 10**400]
    for value in wrong:
        assert error == field_errors_of(**{field: value})


@pytest.mark.parametrize("value", [0, 1, "true", [], {}])
def test_a_flag_is_true_or_false(value: object) -> None:
    """Nothing else stands for either."""
    assert ["interactive"] == [fault.field for fault in field_errors_of(interactive=value)]


def test_every_wrong_field_is_named_at_once() -> None:
    """A client sees all its mistakes in one answer."""
    problem = problem_of(b'{"event_type": "", "path": 5, "timestamp": "soon", "props": {"a": []}, "user_id": "ok"}')

    assert ["event_type", "path", "props", "site_id", "timestamp"] == sorted(fields_named(problem))


@pytest.mark.parametrize("field", ["site_id", "props"])
@pytest.mark.parametrize("number", ["1" * 5_000, "1e999"], ids=["5,000 digits", "1e999"])
def test_number_out_of_all_range_is_blamed_on_its_field(field: str, number: str) -> None:
    """A number that no type takes is named where it stands, together with what else is wrong."""
    body = {**SMALLEST, field: 0}
    del body["event_type"]

    problem = problem_of(json.dumps(body).replace(f'"{field}": 0', f'"{field}": {number}').encode())

    assert 422 == problem.status
    assert sorted(["event_type", field]) == sorted(fields_named(problem))


@pytest.mark.parametrize("number", ["1" * 5_000, "1e999"], ids=["5,000 digits", "1e999"])
def test_number_out_of_all_range_in_props_is_named(number: str) -> None:
    """It is no 400, and no error of ours."""
    problem = problem_of(b'{"site_id": "a", "event_type": "b", "props": {"n": %b}}' % number.encode())

    assert 422 == problem.status
    assert ["props"] == fields_named(problem)


@pytest.mark.parametrize("number", ["1" * 5_000, "1e999"], ids=["5,000 digits", "1e999"])
def test_number_out_of_all_range_in_an_unknown_field_is_ignored(number: str) -> None:
    """What is ignored can't be wrong."""
    assert "a" == parse(b'{"site_id": "a", "event_type": "b", "x": %b}' % number.encode()).site_id


def test_field_given_twice_and_once_wrong_is_named() -> None:
    """A 422 never leaves the client guessing, even where the two readings of a body differ."""
    problem = problem_of(b'{"site_id": 5, "site_id": "a", "event_type": "b"}')

    assert 422 == problem.status
    assert problem.field_errors


@pytest.mark.parametrize(("field", "limit"), TEXT_LIMITS)
@pytest.mark.parametrize("character", ["a", "é", "\U0001f600", "\0"], ids=ascii)
def test_text_of_exactly_its_limit_is_taken_whole(field: str, limit: int, character: str) -> None:
    """Limits count characters, not bytes, and nothing is cut."""
    assert character * limit == getattr(parse_fields(**{field: character * limit}), field)


@pytest.mark.parametrize(("field", "limit"), TEXT_LIMITS)
@pytest.mark.parametrize("character", ["a", "\U0001f600"], ids=ascii)
def test_text_of_one_more_than_its_limit_is_named(field: str, limit: int, character: str) -> None:
    """It is refused, not cut; the limit is said."""
    [fault] = field_errors_of(**{field: character * (limit + 1)})

    assert field == fault.field
    assert str(limit) in fault.detail


def test_thirty_props_are_taken() -> None:
    """The limit itself is allowed."""
    props = {f"key-{number}": number for number in range(30)}

    assert props == parse_fields(props=props).props


def test_thirty_one_props_are_refused() -> None:
    """One over the limit is named."""
    assert ["props"] == [fault.field for fault in field_errors_of(props={f"key-{number}": 1 for number in range(31)})]


@pytest.mark.parametrize("value", ["", "text", "\U0001f600", 0, -(2**63), 2**63 - 1, 0.5, -1e300, True, False, None])
def test_scalar_props_are_taken(value: object) -> None:
    """Text, numbers, booleans and null are kept as they are, type included."""
    props = parse_fields(props={"key": value}).props

    assert props is not None
    assert (type(value), value) == (type(props["key"]), props["key"])


@pytest.mark.parametrize("value", [{}, [], {"a": 1}, [1], 2**63, -(2**63) - 1, 2**64])
def test_props_that_are_no_scalars_are_refused(value: object) -> None:
    """Nested values and integers beyond 64 bits are named."""
    assert ["props"] == [fault.field for fault in field_errors_of(props={"fine": 1, "key": value})]


@pytest.mark.parametrize("value", [[], [["a", 1]], "a=1", 5, True])
def test_props_that_are_no_object_are_refused(value: object) -> None:
    """Props have names."""
    assert ["props"] == [fault.field for fault in field_errors_of(props=value)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2025-11-12T09:00:00Z", datetime(2025, 11, 12, 9, tzinfo=UTC)),
        ("2025-11-12T09:00:00+00:00", datetime(2025, 11, 12, 9, tzinfo=UTC)),
        ("2025-11-12T10:00:00+01:00", datetime(2025, 11, 12, 9, tzinfo=UTC)),
        ("2025-11-11T19:30:00-13:30", datetime(2025, 11, 12, 9, tzinfo=UTC)),
        ("2025-11-12T09:00Z", datetime(2025, 11, 12, 9, tzinfo=UTC)),
        ("20251112T090000Z", datetime(2025, 11, 12, 9, tzinfo=UTC)),
        ("2025-11-12T09:00:00.123Z", datetime(2025, 11, 12, 9, 0, 0, 123_000, tzinfo=UTC)),
        ("2025-11-12T09:00:00.1234567Z", datetime(2025, 11, 12, 9, 0, 0, 123_456, tzinfo=UTC)),
        ("1969-12-31T23:59:59.999999Z", datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
        ("0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
    ],
)
def test_timestamp_with_an_offset_is_taken(text: str, expected: datetime) -> None:
    """ISO 8601 in any of its usual forms, kept to the microsecond."""
    assert microseconds(expected) == parse_fields(timestamp=text).occurred_us


@pytest.mark.parametrize("text", ["2025-11-12T09:00:00", "2025-11-12 09:00", "2025-11-12", "20251112"])
def test_timestamp_without_an_offset_is_refused(text: str) -> None:
    """A local time is nobody's in particular; the answer shows how to write one that is."""
    [fault] = field_errors_of(timestamp=text)

    assert "timestamp" == fault.field
    assert "offset" in fault.detail


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "1762939800",
        "12/11/2025",
        "2025-02-30T00:00:00Z",
        "2025-11-12T25:00:00Z",
        "2025-11-12T09:00:00+24:00",
        "10000-01-01T00:00:00Z",
        "-0001-01-01T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+01:00",
        "٢٠٢٥-11-12T09:00:00Z",
    ],
)
def test_timestamp_that_is_none_is_refused(text: str) -> None:
    """What is no date, or before the first one, is named."""
    assert ["timestamp"] == [fault.field for fault in field_errors_of(timestamp=text)]


def test_timestamp_of_exactly_24_hours_ahead_is_taken() -> None:
    """The limit itself is allowed."""
    limit = NOW + timedelta(hours=24)

    assert microseconds(limit) == parse_fields(timestamp=limit.isoformat()).occurred_us


@pytest.mark.parametrize(
    "text",
    [
        (NOW + timedelta(hours=24, microseconds=1)).isoformat(),
        (NOW + timedelta(days=365)).isoformat(),
        "9999-12-31T23:59:59.999999-23:59",
    ],
)
def test_timestamp_of_more_than_24_hours_ahead_is_refused(text: str) -> None:
    """A clock that is wrong by more than a day does not make the future."""
    [fault] = field_errors_of(timestamp=text)

    assert "timestamp" == fault.field
    assert "24 hours" in fault.detail


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=5),
    max_leaves=20,
)
bodies = st.fixed_dictionaries(
    {},
    optional={
        name: json_values | st.text()
        for name in (
            "site_id",
            "event_type",
            "path",
            "user_id",
            "timestamp",
            "referrer",
            "props",
            "event_id",
            "screen_width",
            "language",
            "scroll_depth",
            "engaged_ms",
            "interactive",
            "unknown",
        )
    },
)


@settings(deadline=None)
@given(json_values | bodies)
def test_any_json_is_taken_or_explained(document: Any) -> None:
    """Whatever JSON says, the answer is an event, a 400, or a 422 that names what is wrong."""
    problem = refusal(json.dumps(document).encode())

    if problem is not None:
        assert {400: False, 422: True}[problem.status] == bool(problem.field_errors)


@settings(deadline=None)
@given(st.binary() | st.text().map(str.encode))
def test_any_bytes_are_taken_or_explained(body: bytes) -> None:
    """Whatever the bytes, nothing but a `Problem` comes of them."""
    problem = refusal(body)

    assert problem is None or problem.status in {400, 422}


def parse_many(body: bytes) -> tuple[list[str], list[tuple[int, Problem]]]:
    """The sites of the events that are taken, and what is said of the rest, each with its place."""
    many = list(
        read_events(
            body, max_event_bytes=65_536, received_ns=NOW_NS, address="192.0.2.1", user_agent=b"Agent/1", vouch=vouch
        )
    )
    refused = [(place, event) for place, event in enumerate(many) if isinstance(event, Problem)]
    return [event.site_id for event in many if isinstance(event, Event)], refused


@pytest.mark.parametrize(
    "body",
    [
        b'[{"site_id": "a", "event_type": "e"}, {"site_id": "b", "event_type": "e"}]',
        b' \n[{"site_id": "a", "event_type": "e"},\n{"site_id": "b", "event_type": "e"}]\n',
        b'{"site_id": "a", "event_type": "e"}\n{"site_id": "b", "event_type": "e"}',
        b'\n{"site_id": "a", "event_type": "e"}\r\n \r\n{"site_id": "b", "event_type": "e"}\r\n',
    ],
    ids=["array", "array on lines", "lines", "blank lines"],
)
def test_many_events_are_an_array_or_lines(body: bytes) -> None:
    """Both ways that JSON comes in numbers are read, in order."""
    assert (["a", "b"], []) == parse_many(body)


def test_one_of_many_is_the_same_as_one_alone() -> None:
    """Many events are checked and filled in as one is."""
    body = json.dumps([SMALLEST]).encode()
    many = read_events(
        body, max_event_bytes=65_536, received_ns=NOW_NS, address="192.0.2.1", user_agent=b"Agent/1", vouch=vouch
    )

    assert [parse_fields()] == list(many)


@pytest.mark.parametrize(
    "body",
    [
        b'[{"site_id": "a", "event_type": "e"}, {"event_type": 5}, {"site_id": "b", "event_type": "e"}, []]',
        b'{"site_id": "a", "event_type": "e"}\n{"event_type": 5}\n{"site_id": "b", "event_type": "e"}\n[]',
    ],
    ids=["array", "lines"],
)
def test_wrong_event_does_not_harm_its_neighbours(body: bytes) -> None:
    """Each is judged alone; a refused one is named by its place, with its fields."""
    taken, refused = parse_many(body)

    assert ["a", "b"] == taken
    assert [(1, {"site_id", "event_type"}), (3, {""})] == [
        (place, set(fields_named(problem))) for place, problem in refused
    ]


def test_line_that_is_not_json_does_not_harm_its_neighbours() -> None:
    """On lines of their own, events are apart even where one is no JSON."""
    taken, refused = parse_many(
        b'{"site_id": "a", "event_type": "e"}\n{"site_id":\n{"site_id": "b", "event_type": "e"}'
    )

    assert ["a", "b"] == taken
    [(place, problem)] = refused
    assert 1 == place
    assert "not JSON" in problem.detail


@pytest.mark.parametrize(("start", "separator", "end"), [("[", ",", "]"), ("", "\n", "")], ids=["array", "lines"])
def test_thousand_events_at_once_are_the_most(start: str, separator: str, end: str) -> None:
    """The limit itself is allowed; beyond it nothing is taken."""
    sites = [str(number) for number in range(1_001)]

    def body(count: int) -> bytes:
        events = [json.dumps({"site_id": site, "event_type": "page_view"}) for site in sites[:count]]
        return (start + separator.join(events) + end).encode()

    assert (sites[:1_000], []) == parse_many(body(1_000))
    with pytest.raises(Problem) as caught:
        parse_many(body(1_001))
    assert 413 == caught.value.status


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b" \n\n", 422),
        (b"[]", 422),
        (b"[", 400),
        (b'[{"site_id": "a", "event_type": "e"}', 400),
        (b'[{"site_id": "a", "event_type": "e"}] x', 400),
        (b"[NaN]", 400),
        (b"[" * 10_000, 400),
        (b"[" * 10_000 + b"]" * 10_000, 400),
    ],
    ids=["empty", "blank", "no event", "cut", "cut later", "more after it", "NaN", "deep and cut", "deep"],
)
def test_body_without_events_is_refused_whole(body: bytes, status: int) -> None:
    """An array that is none, or an empty body."""
    with pytest.raises(Problem) as caught:
        parse_many(body)

    assert status == caught.value.status


@settings(deadline=None)
@given(st.binary() | st.lists(json_values | bodies).map(json.dumps).map(str.encode))
def test_any_bytes_for_many_events_are_taken_or_explained(body: bytes) -> None:
    """Whatever the bytes, each event is taken or named, or a `Problem` says why none is."""
    try:
        taken, refused = parse_many(body)
    except Problem as problem:
        status = problem.status
    else:
        status = 200
        assert len(taken) + len(refused) > 0

    assert status in {200, 400, 413, 422}


@pytest.mark.parametrize("body", [b"[%b1]" % (b"1," * MAX_EVENTS), b"1\n" * (MAX_EVENTS + 1)], ids=["array", "lines"])
def test_too_many_events_are_refused_together(body: bytes) -> None:
    """Before any of them is judged."""
    with pytest.raises(Problem, match="more than 1000") as raised:
        parse_many(body)

    assert 413 == raised.value.status


def test_as_many_events_as_are_allowed_are_judged() -> None:
    """The last of them, too, whatever they are."""
    _, refused = parse_many(b"[%b1]" % (b"1," * (MAX_EVENTS - 1)))

    assert list(range(MAX_EVENTS)) == [place for place, _ in refused]


def test_the_first_that_are_wrong_are_explained() -> None:
    """The rest are named by their place only: to tell their fields would take longer than all else together."""
    _, refused = parse_many(b"\n".join([b'{"site_id": "c"}'] * (MAX_EXPLAINED + 2)))

    assert list(range(MAX_EXPLAINED + 2)) == [place for place, _ in refused]
    assert [["event_type"]] * MAX_EXPLAINED + [[]] * 2 == [fields_named(problem) for _, problem in refused]
    assert "the first 20" in refused[-1][1].detail


def test_a_refusal_holds_nothing_of_others() -> None:
    """An exception that is raised again and again would keep the frames of all requests that ever met it."""
    body = b"\n".join([b'{"site_id": "c"}'] * (MAX_EXPLAINED + 2))
    for _ in range(10):
        _, refused = parse_many(body)

    for _, problem in refused:
        assert len(traceback.extract_tb(problem.__traceback__)) < 10
