"""The only place that opens Footfall's own files, so that no other user of the machine can plant theirs instead.

Strangers can write to some directories, such as `/tmp`, where the visits log is by default. A stranger may have planted
a symbolic or hard link to one of our files, a pipe that makes us wait, or a file that they can still read and change.
These are the rules:

- A directory is *private* if it belongs to us or to root, and neither its group nor others may write to it. Only we
  and root could have put something there.
- If the last part of a path is a symbolic link, it is followed in a private directory only. A link on the way there
  is followed if it belongs to us or to root, as the kernel does where `protected_symlinks` is on
  (https://docs.kernel.org/admin-guide/sysctl/fs.html#protected-symlinks).
- Only regular files are opened. In a directory that is not private, a file must have one name only, and belong to us,
  to root, or to the directory's owner if nobody else may write to the directory.

A file is found with `O_PATH`, checked, and opened by that descriptor, so nobody can exchange it in between.

Modes: what only Footfall reads is 0600. The visits log is 0640, because its group lets in programs that ship logs. An
existing file of ours that has a wider mode is narrowed.

What it does not do: guard a path that leads through a stranger's directory, whose owner can rename everything below it;
or look at access control lists.
"""

import errno
import os
import pwd
import secrets
import stat
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from footfall.durable.sync import sync

PRIVATE: Final = 0o600
"""Only we may read and write it."""
READ_BY_GROUP: Final = 0o640

_DIRECTORY_MODE: Final = 0o750
_FIND: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_LINKS: Final = 40
"""How many links are followed on the way to one file, as in the kernel."""
_TRIES: Final = 10
"""How often to try, if somebody makes and removes the file at the same time."""
_NOT_REGULAR: Final = "it is not a regular file"
_ELSEWHERE: Final = "move it away, or choose another directory, to which nobody else can write"
_IS_LINK: Final = "it is a symbolic link that somebody else could have made: remove it, or name the file it leads to"


class UntrustedFileError(PermissionError):
    """Another user of the machine could have put this file there; the text says what to do."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(errno.EPERM, reason, str(path))

    def __str__(self) -> str:
        return f"{self.filename}: {self.strerror}"


def open_file(path: Path, flags: int, *, mode: int | None = None) -> int:
    """Open a regular file by the rules above.

    Args:
        path: the file.
        flags: as of `os.open`; with `O_CREAT`, the file is made if it is not there.
        mode: of a new file, and the most that one of our own may have; None leaves modes alone.

    Raises:
        UntrustedFileError: the rules forbid it.
        OSError: as `os.open`.
    """
    with _naming(path), ExitStack() as held:
        for _ in range(_TRIES):
            place = _find(path, held)
            if place.file is not None:
                place.check(path)
                if mode is not None:
                    place.narrow(mode)
                return os.open(_name_of(place.file), flags & ~(os.O_CREAT | os.O_EXCL) | os.O_CLOEXEC)
            if not flags & os.O_CREAT:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            with suppress(FileExistsError):
                return place.make(flags, mode or PRIVATE)
        raise UntrustedFileError(path, "somebody makes and removes it all the time")


def read_file(path: Path) -> bytes:
    """What a file holds; raises as `open_file`."""
    with os.fdopen(open_file(path, os.O_RDONLY), "rb") as file:
        return file.read()


def write_file(path: Path, content: bytes) -> None:
    """Make a private file, or replace what is in it, not as one step and not synced; raises as `open_file`."""
    with os.fdopen(open_file(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode=PRIVATE), "wb") as file:
        file.write(content)


def secure_file(path: Path, *, make: bool = False) -> Path:
    """Check a file that a library will open by its name, and make it private; return its name without links.

    The file is not opened: when a process closes one of its descriptors of an SQLite file, it loses all of its locks
    on it (https://sqlite.org/howtocorrupt.html, section 2.2).

    Args:
        path: the file, in a directory that `check_directory` approves of. It may have a second name there.
        make: make an empty one if it is not there.

    Raises:
        UntrustedFileError, OSError: as `open_file`.
    """
    with _naming(path), ExitStack() as held:
        place = _find(path, held)
        if place.file is None and make:
            with suppress(FileExistsError):
                os.close(place.make(os.O_WRONLY, PRIVATE))
            place = _find(path, held)
        if place.file is not None:
            place.check(path, may_be_linked=True)
            place.narrow(PRIVATE)
        return place.path()


def real_path(path: Path) -> Path:
    """The name of a file without links, which are followed by the rules above; the file need not be there.

    Raises:
        UntrustedFileError: a link may not be followed.
        OSError: the directory can't be reached.
    """
    with _naming(path), ExitStack() as held:
        return _find(path, held).path()


def is_trusted(path: Path) -> bool:
    """Whether a file is there that `open_file` would open.

    Raises:
        OSError: its directory can't be reached.
    """
    with _naming(path), ExitStack() as held:
        try:
            place = _find(path, held)
            if place.file is not None:
                place.check(path)
        except UntrustedFileError:
            return False
        return place.file is not None


def check_directory(path: Path) -> None:
    """Refuse a directory to which everybody may write, or that belongs neither to us nor to root.

    Raises:
        UntrustedFileError: it is one of those.
        OSError: it can't be reached.
    """
    with _naming(path), ExitStack() as held:
        status = os.fstat(_find(path / "_", held, through_last=False).directory)
        if not _is_ours(status):
            raise UntrustedFileError(
                path, f"it belongs to {_owner(status)}: run Footfall as that user, or name a directory of your own"
            )
        if status.st_mode & stat.S_IWOTH:
            raise UntrustedFileError(
                path, "everybody can write to it: name a directory in it, or take that away (chmod o-w)"
            )


def make_directory(path: Path) -> None:
    """Make a directory, and those above it, if they are not there, and check it as `check_directory` does."""
    with _naming(path), ExitStack() as held:
        try:
            place = _find(path, held)
        except FileNotFoundError:
            make_directory(path.parent)
            place = _find(path, held)
        if place.file is None:
            with suppress(FileExistsError):
                os.mkdir(place.name, _DIRECTORY_MODE, dir_fd=place.directory)
    check_directory(path)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A private file that takes the name `path` at the end of the block, whole and on the disk, or never.

    It has no name before that, so nothing is left of it however the process ends. Where the file system knows no files
    without a name (NFS, for one), it has a name that nobody can foretell.

    Raises:
        UntrustedFileError: what has that name now is not a regular file.
        OSError: it can't be made or written.
    """
    with ExitStack() as held:
        with _naming(path):
            place = _find(path, held, through_last=False)
            if place.file is not None and not stat.S_ISREG(os.fstat(place.file).st_mode):
                raise UntrustedFileError(path, _NOT_REGULAR)
            part = place._replace(name=f"{place.name}.{secrets.token_hex(8)}.part")
            fd, is_named = _make_unnamed(part)
        try:
            with os.fdopen(fd, "wb") as file:
                yield file
                file.flush()
                os.fsync(fd)
                if not is_named:
                    os.link(_name_of(fd), part.name, dst_dir_fd=part.directory)
                    is_named = True
            os.replace(part.name, place.name, src_dir_fd=part.directory, dst_dir_fd=part.directory)
            sync(path.parent)
        except BaseException:
            if is_named:
                with suppress(OSError):
                    os.unlink(part.name, dir_fd=part.directory)
            raise


class _Place(NamedTuple):
    """Where a path leads.

    Attributes:
        name: in the directory; not a link's.
        directory: open as `O_PATH`.
        file: what has the name, open likewise; None if nothing has.
    """

    name: str
    directory: int
    file: int | None

    def path(self) -> Path:
        return _name_of(self.directory).readlink() / self.name

    def check(self, path: Path, *, may_be_linked: bool = False) -> None:
        """Refuse by the rules what has the name; `path` is for the error."""
        assert self.file is not None
        status = os.fstat(self.file)
        if not stat.S_ISREG(status.st_mode):
            raise UntrustedFileError(path, _NOT_REGULAR)
        directory = os.fstat(self.directory)
        if _is_private(directory):
            return
        is_one_owners = not directory.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if not _is_ours(status) and not (is_one_owners and status.st_uid == directory.st_uid):
            raise UntrustedFileError(path, f"it belongs to {_owner(status)}: {_ELSEWHERE}")
        if status.st_nlink > 1 and not may_be_linked:
            raise UntrustedFileError(
                path, f"it has a second name, which somebody else could have given it: {_ELSEWHERE}"
            )

    def narrow(self, mode: int) -> None:
        """Take from a file of our own what others may do with it beyond `mode`."""
        assert self.file is not None
        status = os.fstat(self.file)
        present = stat.S_IMODE(status.st_mode)
        if status.st_uid == os.geteuid() and present & ~mode:
            _name_of(self.file).chmod(present & mode)

    def make(self, flags: int, mode: int) -> int:
        fd = os.open(self.name, flags | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode, dir_fd=self.directory)
        try:
            os.fchmod(fd, mode)  # whatever the umask says
        except BaseException:
            os.close(fd)
            raise
        return fd


def _find(path: Path, held: ExitStack, *, through_last: bool = True) -> _Place:
    """Follow a path by the rules; descriptors are closed with `held`."""

    def opened(name: str, flags: int, directory: int | None = None) -> int:
        fd = os.open(name, flags, dir_fd=directory)
        held.callback(os.close, fd)
        return fd

    parts = deque(path.parts or ".")
    here = opened(".", _FIND)
    links = 0
    while True:
        name = parts.popleft()
        try:
            found = opened(name, _FIND, here)
        except FileNotFoundError:
            if parts:
                raise
            return _Place(name, here, None)
        status = os.fstat(found)
        if stat.S_ISLNK(status.st_mode) and (parts or through_last):
            links += 1
            if links > _MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            if not parts and _name_of(here).readlink().is_relative_to("/proc"):
                raise UntrustedFileError(path, _NOT_REGULAR)  # /dev/stdout: what it leads to has no name of its own
            if not _is_ours(status) or not (parts or _is_private(os.fstat(here))):
                raise UntrustedFileError(path, _IS_LINK)
            parts.extendleft(reversed(Path(os.readlink("", dir_fd=found)).parts or "."))
        elif parts:
            here = found
        else:
            return _Place(name, here, found)


def _make_unnamed(part: _Place) -> tuple[int, bool]:
    """A new file in the directory; whether it has the name, because there it must have one."""
    flags = os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC
    try:
        return os.open(".", flags, PRIVATE, dir_fd=part.directory), False
    except OSError as error:
        if error.errno not in {errno.EOPNOTSUPP, errno.EISDIR}:
            raise
        return part.make(os.O_WRONLY, PRIVATE), True


def _name_of(fd: int) -> Path:
    """A name of what is open, whatever its own name is by now."""
    return Path(f"/proc/self/fd/{fd}")


def _is_ours(status: os.stat_result) -> bool:
    return status.st_uid in {0, os.geteuid()}


def _is_private(directory: os.stat_result) -> bool:
    return _is_ours(directory) and not directory.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _owner(status: os.stat_result) -> str:
    try:
        return f"the user {pwd.getpwuid(status.st_uid).pw_name}"
    except KeyError:
        return f"the user {status.st_uid}"


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Say in an error which file was asked for, not by which descriptor."""
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise
