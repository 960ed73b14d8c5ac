"""Quarantine: a damaged file gets another name, with all that belongs to it."""

from pathlib import Path

from footfall.durable.quarantine import quarantine


def test_files_that_belong_together_stay_together(tmp_path: Path) -> None:
    """The suffix stays at the end, where SQLite looks for it."""
    path = tmp_path / "queue.sqlite"
    path.write_bytes(b"main")
    (tmp_path / "queue.sqlite-wal").write_bytes(b"log")
    (tmp_path / "other").touch()

    kept = quarantine(path, "-wal", "-shm")

    assert kept is not None
    assert kept.name.startswith("queue.sqlite.damaged-")
    assert b"main" == kept.read_bytes()
    assert b"log" == kept.with_name(f"{kept.name}-wal").read_bytes()
    assert {kept.name, f"{kept.name}-wal", "other"} == {path.name for path in tmp_path.iterdir()}


def test_what_is_left_of_a_file_that_is_gone_is_kept(tmp_path: Path) -> None:
    """A log without its database is not mistaken for that of the next one."""
    (tmp_path / "queue.sqlite-wal").write_bytes(b"log")
    kept = quarantine(tmp_path / "queue.sqlite", "-wal")
    assert kept is not None
    assert [f"{kept.name}-wal"] == [path.name for path in tmp_path.iterdir()]


def test_nothing_to_keep_is_told(tmp_path: Path) -> None:
    """The log then says that nothing was there."""
    assert quarantine(tmp_path / "queue.sqlite", "-wal") is None
    assert [] == list(tmp_path.iterdir())


def test_second_damage_does_not_replace_the_first(tmp_path: Path) -> None:
    """Each has the time in its name."""
    path = tmp_path / "queue.sqlite"
    for content in (b"first", b"second"):
        path.write_bytes(content)
        quarantine(path)
    assert [b"first", b"second"] == [kept.read_bytes() for kept in sorted(tmp_path.iterdir())]
