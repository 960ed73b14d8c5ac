"""Settings: where they come from, and what is said of one that can't be."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from footfall.config import known_keys, load, masked_url
from footfall.errors import BadSettingError
from footfall.settings import Settings, is_loopback

DEFAULTS: dict[str, object] = {
    "data_dir": "footfall-data",
    "collector.host": "127.0.0.1",
    "collector.port": 8000,
    "collector.workers": 1,
    "collector.max_body_bytes": 65_536,
    "collector.trusted_proxies": [],
    "collector.public_url": None,
    "collector.pixel_url": None,
    "collector.only_known_sites": False,
    "collector.max_age_hours": None,
    "collector.rate_limit_per_minute": None,
    "collector.honour_privacy_signals": False,
    "queue.url": None,
    "queue.durability": "disk",
    "queue.max_bytes": 1 << 30,
    "queue.margin_hours": 48,
    "storage.path": "/tmp/visits.log",
    "storage.addresses": "whole",
    "storage.referrer_queries": "keep",
    "database.url": None,
    "database.path_queries": "strip",
    "database.referrer_queries": "strip",
    "database.retention_days": None,
    "database.memory_limit_mb": 512,
    "geo.database": None,
    "reporting.host": "127.0.0.1",
    "reporting.port": 8001,
    "reporting.token": None,
    "reporting.time_zone": "UTC",
    "monitor.host": "127.0.0.1",
    "monitor.port": None,
    "sites": {},
}
"""The contract's table, and the monitor."""

OTHERS: dict[str, Any] = {
    "data_dir": "/var/lib/footfall",
    "collector.host": "0.0.0.0",
    "collector.port": 9000,
    "collector.workers": 4,
    "collector.max_body_bytes": 1_000,
    "collector.trusted_proxies": ["10.0.0.0/8", "fd00::/8"],
    "collector.public_url": "https://stats.example/footfall/",
    "collector.pixel_url": "https://cdn.example/pixel.gif",
    "collector.only_known_sites": True,
    "collector.max_age_hours": 24,
    "collector.rate_limit_per_minute": 600,
    "collector.honour_privacy_signals": True,
    "queue.durability": "memory",
    "queue.max_bytes": 5_000_000,
    "queue.margin_hours": 0,
    "storage.path": "/var/log/visits.log",
    "storage.addresses": "none",
    "storage.referrer_queries": "strip",
    "database.url": "duckdb:/var/lib/other.duckdb",
    "database.path_queries": "keep",
    "database.referrer_queries": "keep",
    "database.retention_days": 400,
    "database.memory_limit_mb": 256,
    "reporting.host": "::1",
    "reporting.port": 9001,
    "reporting.token": "correct-horse",
    "queue.url": "kafka://broker:9092/hits",
    "reporting.time_zone": "Asia/Kathmandu",
    "monitor.host": "::1",
    "monitor.port": 9002,
    "sites": {
        "my-blog": {
            "name": "My blog",
            "group": "Blogs",
            "domains": ["blog.example", "münchen.example", "[::1]"],
            "time_zone": "Europe/Berlin",
            "goals": [{"name": "Read", "page": "/posts/*"}, {"name": "Order", "event": "order", "props": {"a": "b"}}],
            "funnels": [{"name": "Buying", "steps": ["Read", "Order"]}],
        }
    },
}
"""Another value for each setting that has one."""

BOUNDS = [
    ("collector.port", 1, 65_535),
    ("collector.workers", 1, 64),
    ("collector.max_body_bytes", 1, 16 * 1024 * 1024),
    ("collector.max_age_hours", 1, None),
    ("collector.rate_limit_per_minute", 1, None),
    ("queue.max_bytes", 128 * 1024, None),
    ("queue.margin_hours", 0, None),
    ("reporting.port", 1, 65_535),
    ("monitor.port", 1, 65_535),
]


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def variable(key: str) -> str:
    return "FOOTFALL__" + key.replace(".", "__").upper()


def value_of(settings: Settings, key: str) -> object:
    value: object = settings
    for part in key.split("."):
        value = getattr(value, part)
    return msgspec.to_builtins(value)


def document(key: str, value: object) -> dict[str, object]:
    """A settings file's content that sets `key`."""
    section, _, name = key.rpartition(".")
    return {section: {name: value}} if section else {name: value}


def write(content: object, name: str = "appsettings.json") -> Path:
    path = Path(name)
    path.write_text(json.dumps(content), "utf-8")
    return path


def refusal(environ: dict[str, str] | None = None, path: Path | None = None) -> str:
    """What is said of settings that are refused."""
    with pytest.raises(BadSettingError) as caught:
        load(path, environ or {})
    assert 2 == caught.value.exit_code
    return str(caught.value)


def test_every_setting_has_its_documented_default() -> None:
    """Without a file and variables the contract's table is in force."""
    settings = load(None, {}).settings

    assert DEFAULTS == {key: value_of(settings, key) for key in known_keys()}


@pytest.mark.parametrize("key", OTHERS)
def test_file_sets_every_setting(key: str) -> None:
    """`appsettings.json` of the working directory is read without being asked for."""
    write(document(key, OTHERS[key]))

    assert OTHERS[key] == value_of(load(None, {}).settings, key)


@pytest.mark.parametrize("key", OTHERS)
def test_variable_overrides_every_setting(key: str) -> None:
    """A variable wins over the file."""
    value = OTHERS[key]
    write(document(key, DEFAULTS[key]) if DEFAULTS[key] is not None else {})

    text = ",".join(value) if isinstance(value, list) else value if isinstance(value, str) else json.dumps(value)

    assert value == value_of(load(None, {variable(key): text}).settings, key)


def test_rest_of_a_section_stands_beside_a_variable() -> None:
    """Overriding one key does not reset its neighbours."""
    write({"collector": {"port": 9000, "workers": 2}})

    collector = load(None, {"FOOTFALL__COLLECTOR__PORT": "9001"}).settings.collector

    assert (9001, 2) == (collector.port, collector.workers)


@pytest.mark.parametrize("text", ["10.0.0.0/8,fd00::/8", " 10.0.0.0/8 , fd00::/8, ", '["10.0.0.0/8", "fd00::/8"]'])
def test_list_in_a_variable_is_json_or_between_commas(text: str) -> None:
    """Both ways that people write a list are read."""
    settings = load(None, {"FOOTFALL__COLLECTOR__TRUSTED_PROXIES": text}).settings

    assert ["10.0.0.0/8", "fd00::/8"] == settings.collector.trusted_proxies


@pytest.mark.parametrize("text", ["", " ", "[]"])
def test_empty_list_in_a_variable_is_no_network(text: str) -> None:
    """A variable can take back what the file trusts."""
    write({"collector": {"trusted_proxies": ["10.0.0.0/8"]}})

    assert [] == load(None, {"FOOTFALL__COLLECTOR__TRUSTED_PROXIES": text}).settings.collector.trusted_proxies


def test_text_of_digits_stays_text() -> None:
    """A token is what was written, not a number."""
    assert "0123456789" == load(None, {"FOOTFALL__REPORTING__TOKEN": "0123456789"}).settings.reporting.token


@pytest.mark.parametrize("name", ["FOOTFALL", "FOOTFALL_COLLECTOR__PORT", "footfall__collector__port", "PATH"])
def test_other_variables_are_left_alone(name: str) -> None:
    """Only names with the prefix are ours."""
    assert Settings() == load(None, {name: "anything"}).settings


def test_named_file_is_read_instead() -> None:
    """With `--settings` the file of the working directory does not count."""
    write({"collector": {"port": 9000}})
    other = write({"collector": {"workers": 2}}, "other.json")

    collector = load(other, {}).settings.collector

    assert (8000, 2) == (collector.port, collector.workers)


def test_byte_order_mark_is_no_content() -> None:
    """An editor that begins a file with one does not make it wrong."""
    Path("appsettings.json").write_bytes(b'\xef\xbb\xbf{"data_dir": "elsewhere"}')

    assert "elsewhere" == load(None, {}).settings.data_dir


def test_named_file_must_be_there() -> None:
    """A misspelt path does not start with the defaults."""
    assert "absent.json: there is no such file" in refusal(path=Path("absent.json"))


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b'"text"', b"\xff", b"{'data_dir': 'a'}", b"[" * 100_000, b'{"collector": []}'],
    ids=lambda content: ascii(content[:10]),
)
def test_file_that_is_no_settings_is_refused_by_name(content: bytes) -> None:
    """Whatever the file holds, it is named, and nothing but a `BadSettingError` comes of it."""
    Path("appsettings.json").write_bytes(content)

    assert refusal().startswith("appsettings.json: ")


def test_directory_in_place_of_the_file_is_refused() -> None:
    """What can't be read is named."""
    Path("appsettings.json").mkdir()

    assert refusal().startswith("appsettings.json: ")


@pytest.mark.parametrize(
    ("content", "key"),
    [
        ({"colector": {"port": 9000}}, "colector"),
        ({"Collector": {"port": 9000}}, "Collector"),
        ({"collector": {"prot": 9000}}, "collector.prot"),
        ({"collector": {"": 9000}}, "collector."),
        ({"collector": {"port": 9000, "data_dir": "a"}}, "collector.data_dir"),
        ({"port": 9000}, "port"),
    ],
)
def test_unknown_key_is_named(content: object, key: str) -> None:
    """A misspelt key stops the start instead of having no effect, and what is known is said."""
    write(content)

    said = refusal()

    assert f"there is no setting {key};" in said
    assert "collector.port" in said


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("FOOTFALL__COLECTOR__PORT", "FOOTFALL__COLLECTOR__PORT"),
        ("FOOTFALL__COLLECTOR__WORKER", "FOOTFALL__COLLECTOR__WORKERS"),
        ("FOOTFALL__COLLECTOR_PORT", "FOOTFALL__COLLECTOR__PORT"),
        ("FOOTFALL__DATADIR", "FOOTFALL__DATA_DIR"),
    ],
)
def test_a_misspelt_variable_is_told_what_was_meant(name: str, meant: str) -> None:
    """The nearest one that there is."""
    assert f"did you mean {meant}?" in refusal({name: "1"})


@pytest.mark.parametrize(
    "name",
    ["FOOTFALL__COLLECTOR__PROT", "FOOTFALL__PORT", "FOOTFALL__COLLECTOR", "FOOTFALL__collector__port", "FOOTFALL__"],
)
def test_unknown_variable_is_named(name: str) -> None:
    """A misspelt variable stops the start, and what is known is said."""
    said = refusal({name: "9000"})

    assert said.startswith(f"{name}: there is no such setting")
    assert "FOOTFALL__COLLECTOR__PORT" in said


@pytest.mark.parametrize(("key", "least", "most"), BOUNDS)
def test_bounds_are_allowed_themselves(key: str, least: int, most: int | None) -> None:
    """The smallest and the largest value work, from a variable as from the file."""
    for value in (least, most or 1 << 50):
        write(document(key, value))
        assert value == value_of(load(None, {}).settings, key)
        write({})
        assert value == value_of(load(None, {variable(key): str(value)}).settings, key)


@pytest.mark.parametrize(("key", "least", "most"), BOUNDS)
def test_value_out_of_range_is_refused(key: str, least: int, most: int | None) -> None:
    """The key, the value, where it came from and what is allowed are said."""
    for value, allowed in ((least - 1, least), *([(most + 1, most)] if most else [])):
        write(document(key, value))
        said = refusal()
        assert said.startswith(f"{key} = {value} (appsettings.json): ")
        assert str(allowed) in said
        write({})
        said = refusal({variable(key): str(value)})
        assert said.startswith(f"{key} = '{value}' ({variable(key)}): ")
        assert str(allowed) in said


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data_dir", ""),
        ("data_dir", 5),
        ("data_dir", None),
        ("data_dir", "a\0b"),
        ("data_dir", "\ud800"),
        ("storage.path", "/tmp/visits\udce9.log"),
        ("database.url", "duckdb:a\0b"),
        ("collector.host", ""),
        ("collector.port", "8000"),
        ("collector.port", 80.5),
        ("collector.port", True),
        ("collector.port", None),
        ("collector.port", []),
        ("collector.trusted_proxies", "10.0.0.0/8"),
        ("collector.trusted_proxies", [10]),
        ("collector.trusted_proxies", ["10.0.0.1/8"]),
        ("collector.trusted_proxies", ["10.0.0.0/33"]),
        ("collector.trusted_proxies", ["0.0.0.0/0"]),
        ("collector.trusted_proxies", ["10.0.0.0/8", "::/0"]),
        ("collector.trusted_proxies", ["proxy.example"]),
        ("collector.trusted_proxies", [""]),
        ("collector.only_known_sites", "yes"),
        ("collector.only_known_sites", 1),
        ("collector.max_age_hours", 0.5),
        ("collector.max_age_hours", "24"),
        ("sites", []),
        ("sites", ["my-site"]),
        ("sites", {"": {}}),
        ("sites", {"x" * 129: {}}),
        ("sites", {"half \ud800": {}}),
        ("sites", {"my-site": None}),
        ("sites", {"my-site": ["blog.example"]}),
        ("collector.public_url", ""),
        ("collector.public_url", "stats.example"),
        ("collector.public_url", "ftp://stats.example"),
        ("collector.public_url", "https://stats.example/?a=b"),
        ("collector.public_url", "https://stats.example/#top"),
        ("collector.public_url", "https://user:password@stats.example"),
        ("collector.public_url", 'https://stats.example/"onload='),
        ("collector.public_url", "https://stats.example:port"),
        ("collector.pixel_url", ""),
        ("collector.pixel_url", "/pixel.gif"),
        ("collector.pixel_url", "//cdn.example/pixel.gif"),
        ("collector.pixel_url", "ftp://cdn.example/pixel.gif"),
        ("collector.pixel_url", "javascript:alert(1)"),
        ("collector.pixel_url", "https://cdn.example/\r\nSet-Cookie: a=b"),
        ("collector.pixel_url", "https://cdn.example/a b"),
        ("collector.pixel_url", "https://cdn.example/é"),
        ("collector.pixel_url", "https://[cdn.example/"),
        ("queue.url", ""),
        ("queue.url", "redis://broker:6379"),
        ("queue.url", "amqp://user:pass[word@broker:5672"),
        ("queue.durability", "none"),
        ("queue.durability", True),
        ("queue.max_bytes", "1 GiB"),
        ("storage.path", ""),
        ("storage.addresses", "short"),
        ("storage.addresses", None),
        ("storage.referrer_queries", "none"),
        ("database.referrer_queries", True),
        ("database.retention_days", 0),
        ("database.memory_limit_mb", 127),
        ("database.url", "postgres://user:password@host/database"),
        ("database.url", ""),
        ("database.url", "clickhouse://user:pass[word@host/database"),
        ("reporting.token", "2 short"),
        ("reporting.token", "with space"),
        ("reporting.token", "with\nline break"),
        ("reporting.token", "ÄÖÜäöüßß"),
    ],
)
def test_value_that_cannot_be_is_refused_by_its_key(key: str, value: object) -> None:
    """The setting and the file are named."""
    write(document(key, value))

    said = refusal()

    assert said.startswith(key)
    assert "appsettings.json" in said


def test_every_setting_says_what_it_may_be() -> None:
    """A value of the wrong kind is refused with what is allowed, not with what it was taken for."""
    allowed = {
        "collector.port": "a whole number from 1 to 65535",
        "queue.max_bytes": "a whole number of at least 131072",
        "queue.durability": "one of disk, memory",
        "storage.addresses": "one of none, truncated, whole",
        "collector.only_known_sites": "true or false",
        "collector.trusted_proxies": "a list of texts",
        "collector.max_age_hours": "a whole number of at least 1",
        "storage.path": "a text that is not empty",
    }
    for key in DEFAULTS.keys() - {"sites"}:
        write(document(key, {}))
        said = refusal()
        assert said.startswith(f"{key} = "), said
        assert f"(appsettings.json): must be {allowed.get(key, '')}" in said


@pytest.mark.parametrize(
    ("site", "key", "allowed"),
    [
        (
            {"domain": ["blog.example"]},
            "sites.my-site.domain",
            "did you mean domains? Known are: name, group, domains, time_zone",
        ),
        ({"domains": "blog.example"}, "sites.my-site.domains", "a list of texts"),
        ({"domains": [1]}, "sites.my-site.domains", "a list of texts"),
        ({"domains": None}, "sites.my-site.domains", "a list of texts"),
        ({"domains": [""]}, "sites.my-site.domains", "as in blog.example"),
        ({"domains": ["https://blog.example"]}, "sites.my-site.domains", "without scheme"),
        ({"domains": ["blog.example:443"]}, "sites.my-site.domains", "port"),
        ({"domains": ["blog.example/posts"]}, "sites.my-site.domains", "path"),
        ({"domains": ["*.blog.example"]}, "sites.my-site.domains", "all hosts below"),
        ({"domains": ["blog..example"]}, "sites.my-site.domains", "as in blog.example"),
        ({"domains": ["blog \ud800.example"]}, "sites.my-site.domains", "as in blog.example"),
        ({"time_zone": 1}, "sites.my-site.time_zone", "a text"),
        ({"time_zone": ""}, "sites.my-site.time_zone", "as in Europe/Berlin"),
        ({"time_zone": "Europe"}, "sites.my-site.time_zone", "as in Europe/Berlin"),
        ({"time_zone": "Europe/Berln"}, "sites.my-site.time_zone", "as in Europe/Berlin"),
        ({"time_zone": "../etc/passwd"}, "sites.my-site.time_zone", "as in Europe/Berlin"),
        ({"name": ""}, "sites.my-site.name", "a text of 1 to 128 characters"),
        ({"goals": {}}, "sites.my-site.goals", "must be a list of JSON objects"),
        ({"goals": ["order"]}, "sites.my-site.goals[0]", "must be a JSON object"),
        ({"goals": [{}]}, "sites.my-site.goals[0]", "needs name"),
        ({"goals": [{"name": "a", "pages": "/"}]}, "sites.my-site.goals[0].pages", "did you mean page?"),
        ({"goals": [{"name": "a", "page": 1}]}, "sites.my-site.goals[0].page", "must be a text of 1 to 400"),
        ({"goals": [{"name": "a"}]}, "sites.my-site.goals[0]", "needs either page or event"),
        ({"goals": [{"name": "a", "page": "/", "event": "b"}]}, "sites.my-site.goals[0]", "and not both"),
        ({"goals": [{"name": "a", "page": "shoes"}]}, "sites.my-site.goals[0].page", "must begin with / or *"),
        ({"goals": [{"name": "a", "page": "/", "props": {"b": "c"}}]}, "sites.my-site.goals[0].props", "with event"),
        ({"goals": [{"name": "a", "event": "b", "props": {"c": 1}}]}, "sites.my-site.goals[0].props", "an object of"),
        ({"goals": [{"name": "a", "event": "b", "props": {"": "c"}}]}, "sites.my-site.goals[0].props", "needs a name"),
        ({"goals": [{"name": "a", "event": "b"}] * 2}, "sites.my-site.goals", "'a' is given 2 times"),
        ({"funnels": [{"name": "a"}]}, "sites.my-site.funnels[0]", "needs steps"),
        ({"funnels": [{"name": "a", "steps": ["b"]}]}, "sites.my-site.funnels[0].steps", "needs 2 to 20 steps"),
        (
            {"funnels": [{"name": "a", "steps": ["b", "c"]}]},
            "sites.my-site.funnels[0].steps",
            "none of the site's goals",
        ),
    ],
)
def test_a_site_that_cannot_be_is_refused_by_its_key(site: object, key: str, allowed: str) -> None:
    """The site and what is wrong with it are named, from the file as from a variable."""
    write({"sites": {"other": {}, "my-site": site}})
    from_file = refusal()
    write({})
    from_variable = refusal({"FOOTFALL__SITES": json.dumps({"my-site": site})})

    for said, origin in ((from_file, "appsettings.json"), (from_variable, "FOOTFALL__SITES")):
        assert (True, True, True) == (key in said, origin in said, allowed in said), said


@pytest.mark.parametrize("text", ["", "my-site", "{", "[" * 100_000])
def test_sites_in_a_variable_are_json(text: str) -> None:
    """Anything else is refused, and the text shows how to write them."""
    assert '{"domains": ["blog.example"]}' in refusal({"FOOTFALL__SITES": text})


@pytest.mark.parametrize("text", ["", "eighty", "0x50", "8_000", " 80", "1" * 5_000])
def test_variable_that_is_no_number_is_refused(text: str) -> None:
    """What a person would not call a number is none."""
    assert refusal({"FOOTFALL__COLLECTOR__PORT": text}).startswith("collector.port = ")


def test_every_setting_says_where_it_came_from() -> None:
    """`footfall config` shows the default, the file or the variable."""
    path = write({"collector": {"port": 9000, "workers": 2}}, "other.json")

    sources = {source.key: source for source in load(path, {"FOOTFALL__COLLECTOR__PORT": "9001"}).sources()}

    assert known_keys() == list(sources)
    assert (9001, "FOOTFALL__COLLECTOR__PORT") == (
        sources["collector.port"].value,
        sources["collector.port"].origin,
    )
    assert (2, "other.json") == (sources["collector.workers"].value, sources["collector.workers"].origin)
    assert ("disk", "default") == (sources["queue.durability"].value, sources["queue.durability"].origin)


def test_token_is_shown_to_nobody() -> None:
    """Neither the list of settings nor an error holds the secret."""
    shown = str(list(load(None, {"FOOTFALL__REPORTING__TOKEN": "correct-horse"}).sources()))

    assert "correct-horse" not in shown
    assert "***" in shown
    assert "hunter 2" not in refusal({"FOOTFALL__REPORTING__TOKEN": "hunter 2"})


@pytest.mark.parametrize("key", ["queue.url", "database.url"])
def test_password_in_an_address_is_shown_to_nobody(key: str) -> None:
    """An error about an address does not hold its password."""
    assert "hunter2" not in refusal({variable(key): "other://user:hunter2@host:5672/vhost"})


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("duckdb:/var/lib/f.duckdb", "duckdb:/var/lib/f.duckdb"),
        ("amqp://user:hunter2@host:5672/vhost", "amqp://***@host:5672/vhost"),
        ("amqp://user:hunter2?x@host:5672/vhost?heartbeat=5", "amqp://***@host:5672/vhost?***"),
        ("kafka://host:9092/hits", "kafka://host:9092/hits"),
        ("kafka://host:9092/hits?sasl.password=hunter2@x", "kafka://host:9092/hits?***"),
        ("kafka://user:hunter2@host:9092/hits", "kafka://***@host:9092/hits"),
        ("clickhouse://user:hunter2@host:8123/db?cluster=c", "clickhouse://***@host:8123/db?***"),
        ("kafka://host:9092,[::1]:9093/hits", "kafka://host:9092,[::1]:9093/hits"),
        ("amqp://host:5672/%2Fvhost", "amqp://host:5672/%2Fvhost"),
        ("kafka:user:hunter2@host:9092/hits", "kafka:***"),
        ("kafka:/user:hunter2@host:9092/hits", "kafka:***"),
        ("amqp:user:hunter2@host:5672/vhost", "amqp:***"),
        ("amqp:hunter2", "amqp:***"),
        ("KAFKA://user:hunter2@host:9092/hits", "KAFKA://***@host:9092/hits"),
        ("kafka://user:hunter2?x@host:9092/hits", "kafka://***?***"),
        ("amqp://user:hunter2#x@host:5672/vhost", "amqp://***@host:5672/vhost"),
        ("amqp://user:hunter2/host:5672/vhost", "amqp://***"),
        ("user:hunter2@host:9092/hits", "***"),
        ("hunter2", "***"),
    ],
)
def test_an_address_is_shown_without_its_secrets(url: str, shown: str) -> None:
    """Neither a password before the host nor one among the options is in a list of settings."""
    assert shown == masked_url(url)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (None, "state/footfall.duckdb"),
        ("duckdb:", "state/footfall.duckdb"),
        ("duckdb:other.duckdb", "other.duckdb"),
        ("duckdb:/var/lib/other.duckdb", "/var/lib/other.duckdb"),
    ],
)
def test_database_is_in_the_data_directory_unless_given_a_place(url: str | None, expected: str) -> None:
    """`data_dir` holds all state that has no place of its own."""
    environ = {"FOOTFALL__DATA_DIR": "state"} | ({"FOOTFALL__DATABASE__URL": url} if url else {})

    assert Path(expected) == load(None, environ).settings.database_path


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_is_this_machine_only(host: str) -> None:
    """These hosts are reached from here alone."""
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com", "localhost.example.com", "", "127.1"])
def test_any_other_host_may_be_reached_from_elsewhere(host: str) -> None:
    """In doubt a host is a public one."""
    assert not is_loopback(host)


@pytest.mark.parametrize("text", ["none"])
@pytest.mark.parametrize("key", [key for key, default in DEFAULTS.items() if default is None])
def test_none_is_taken_where_it_is_printed(key: str, text: str) -> None:
    """What `footfall config` shows for a setting without a value can be given as one."""
    assert value_of(load(None, {variable(key): text}).settings, key) is None
    write(document(key, text))
    assert value_of(load(None, {}).settings, key) is None


def test_a_variable_with_one_underscore_is_told() -> None:
    """It is the likeliest mistake of all, and what it sets would quietly not be set."""
    said = refusal({"FOOTFALL_COLLECTOR_PORT": "9000"})
    assert "FOOTFALL_COLLECTOR_PORT" in said
    assert "FOOTFALL__COLLECTOR__PORT" in said
    load(None, {"FOOTFALL_SOMETHING_ELSE": "1"})


def test_retention_in_clickhouse_is_refused() -> None:
    """Nothing would be removed, and nobody would know."""
    url = "clickhouse://default@127.0.0.1:8123/footfall"
    said = refusal({variable("database.url"): url, variable("database.retention_days"): "30"})
    assert "database.retention_days" in said
    assert "TTL" in said
