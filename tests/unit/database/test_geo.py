"""Places of addresses, from databases of both shapes that are in use."""

from pathlib import Path
from typing import Any

import pytest
from mmdb_writer import MMDBWriter
from netaddr import IPSet

from footfall.database.enrich import SALT_BYTES, Skip, enrich
from footfall.database.geo import NOWHERE, GeoDatabase, nowhere, open_places
from footfall.database.schema import NAMES
from footfall.entry import Hit
from footfall.errors import BadSettingError
from footfall.processes.roles import PROCESSOR, STORAGE, validate
from footfall.settings import GeoSettings, Settings

GEOIP2 = {
    "country": {"iso_code": "DE", "names": {"en": "Germany"}},
    "subdivisions": [
        {"iso_code": "BY", "names": {"de": "Bayern", "en": "Bavaria"}},
        {"names": {"en": "Upper Bavaria"}},
    ],
    "city": {"geoname_id": 2867714, "names": {"de": "M\u00fcnchen", "en": "Munich"}},
}
FLAT = {"country_code": "gb", "state1": "England", "city": "London"}


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def write(path: Path, records: dict[str, Any], ip_version: int = 6) -> Path:
    """A database in a new file, which takes the place of the old one."""
    writer = MMDBWriter(ip_version, "Test", ipv4_compatible=ip_version == 6)
    for network, record in records.items():
        writer.insert_network(IPSet([network]), record)
    made = path.with_suffix(".new")
    writer.to_db_file(str(made))
    made.replace(path)
    return path


@pytest.mark.parametrize(
    ("record", "place"),
    [
        (GEOIP2, ("DE", "Bavaria", "Munich")),
        ({"country": {"iso_code": "DE"}}, ("DE", None, None)),
        (FLAT, ("GB", "England", "London")),
        ({"country_code": "US"}, ("US", None, None)),
        ({"country": "FR", "region": "Brittany", "city": ""}, ("FR", "Brittany", None)),
        ({"country": "France", "city": {"names": {"fr": "Brest"}}, "subdivisions": []}, NOWHERE),
        ({"city": "x" * 500}, (None, None, "x" * 100)),
        ({"asn": 64496}, NOWHERE),
    ],
)
def test_a_place_is_read_from_any_shape(tmp_path: Path, record: dict[str, Any], place: tuple[str | None, ...]) -> None:
    """Of both families of addresses; what a record does not say is not known."""
    path = write(tmp_path / "geo.mmdb", {"203.0.113.0/24": record, "2001:db8::/32": record})
    find = open_places(str(path))
    assert place == find("203.0.113.7") == find("2001:db8::7")


@pytest.mark.parametrize("address", ["198.51.100.1", "2001:db8::1", "", "localhost", "203.0.113.300", "::ffff:0:0:1"])
def test_an_address_that_the_database_does_not_know_is_nowhere(tmp_path: Path, address: str) -> None:
    """Nor is what is no address, and IPv6 where there is only IPv4."""
    database = GeoDatabase(write(tmp_path / "geo.mmdb", {"203.0.113.0/24": GEOIP2}, ip_version=4))
    assert NOWHERE == database.find(address)


def test_a_database_that_is_replaced_is_opened_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Within ten seconds; one that can't be read is told, and changes nothing."""
    clock = Clock()
    path = write(tmp_path / "geo.mmdb", {"203.0.113.0/24": GEOIP2})
    database = GeoDatabase(path, clock)
    write(path, {"203.0.113.0/24": FLAT})
    clock.now = 9.9
    assert "DE" == database.find("203.0.113.7")[0]
    clock.now = 10.0
    assert "GB" == database.find("203.0.113.7")[0]

    broken = tmp_path / "broken"
    broken.write_bytes(b"no database")
    broken.replace(path)
    clock.now = 20.0
    assert "GB" == database.find("203.0.113.7")[0]
    path.unlink()
    clock.now = 30.0
    assert "GB" == database.find("203.0.113.7")[0]
    assert 2 == caplog.text.count("can't be read (geo.database), so the one before is still used")


def test_a_database_that_can_not_be_read_stops_the_start(tmp_path: Path) -> None:
    """The text names the key and the file; only the service that needs it looks."""
    broken = tmp_path / "broken.mmdb"
    broken.write_bytes(b"no database")
    for path in (tmp_path / "missing.mmdb", broken, tmp_path):
        settings = Settings(geo=GeoSettings(database=str(path)))
        with pytest.raises(BadSettingError, match=rf"geo\.database: {path} can't be read: "):
            validate(settings, (PROCESSOR,))
    validate(Settings(geo=GeoSettings(database="missing")), (STORAGE,))


def test_a_row_has_the_place_of_its_address(tmp_path: Path) -> None:
    """And nothing of the address; without a database or an address, no place is known."""
    find = open_places(str(write(tmp_path / "geo.mmdb", {"203.0.113.0/24": GEOIP2})))
    place = slice(NAMES.index("country"), NAMES.index("city") + 1)
    rows = [
        enrich(Hit(0, address, b"", b"", "my-blog"), {0: bytes(SALT_BYTES)}, find_place=found)
        for address, found in [("203.0.113.7", find), (None, find), ("203.0.113.7", nowhere)]
    ]
    assert [("DE", "Bavaria", "Munich"), NOWHERE, NOWHERE] == [row[place] for row in rows if not isinstance(row, Skip)]
    assert "203.0.113" not in str(rows)
