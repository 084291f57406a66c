"""The file of a backup: a gzipped tar that any machine with Python, or `tar`, can read.

    manifest.json                 the version of this format, the migrations, tables and columns
    tables/NAME/000001, …         rows in PostgreSQL's COPY text format, each part some megabytes
    end.json                      rows and SHA-256 of each table: without it the file is not whole

The text format is the same in all versions of PostgreSQL. Each part ends with a whole row.
"""

import gzip
import hashlib
import io
import json
import tarfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

FORMAT = 1
MANIFEST, END, TABLES = "manifest.json", "end.json", "tables/"
# Bytes of one part: enough for one statement to be worth it, little enough for the memory.
PART_BYTES = 4 * 1024 * 1024
# Higher levels take several times as long, for a few per cent.
COMPRESSION = 1
Row = bytes | bytearray | memoryview
READ_ERRORS = (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile)


class DamagedArchive(Exception):
    """The file is no backup, or not as it was written; the message says what is wrong."""


@dataclass
class Table:
    """What is in the file of one table."""

    name: str
    columns: list[str]
    # Columns that number new rows, and the last number that each has given.
    sequences: dict[str, int] = field(default_factory=dict)
    # Whether rows refer to others of the same table.
    refers_to_itself: bool = False
    rows: int = 0


@dataclass
class Manifest:
    """What a backup says of itself; the tables come in an order in which they can be filled."""

    created_at: str
    version: str
    postgresql: str
    # Names of the applied migrations, by app.
    migrations: dict[str, list[str]]
    tables: list[Table]
    format: int = FORMAT

    @property
    def rows(self) -> int:
        return sum(table.rows for table in self.tables)

    def count(self, table_name: str) -> int:
        """Return the rows of a table; 0 for one that it does not have."""
        return sum(table.rows for table in self.tables if table.name == table_name)


class ArchiveWriter:
    """Writes a backup to a stream, which need not be seekable."""

    def __init__(self, stream: IO[bytes], manifest: Manifest) -> None:
        self._gzip = gzip.GzipFile("", "wb", COMPRESSION, stream, mtime=0)
        self._tar = tarfile.TarFile.open(fileobj=self._gzip, mode="w|")
        self._manifest = manifest
        self._sums: dict[str, str] = {}
        self._add(MANIFEST, json.dumps(asdict(manifest), indent=1).encode())

    def add_table(self, table: Table, rows: Iterator[Row], advance: Callable[[int], None]) -> None:
        """Add the rows of a table, which come as COPY gives them; call `advance` with their number.

        A row of the text format ends with the only line break that it has.
        """
        found = hashlib.sha256()
        number, size, part = 0, 0, list[Row]()

        def put() -> None:
            content = b"".join(part)
            found.update(content)
            self._add(f"{TABLES}{table.name}/{number:06}", content)
            count = content.count(b"\n")
            table.rows += count
            advance(count)

        for row in rows:
            part.append(row)
            size += len(row)
            if size >= PART_BYTES and row[-1:] == b"\n":
                number += 1
                put()
                size, part = 0, []
        if part:
            number += 1
            put()
        self._sums[table.name] = found.hexdigest()

    def finish(self) -> None:
        """Write the end, by which a reader knows that the file is whole."""
        tables = {
            table.name: {"rows": table.rows, "sha256": self._sums[table.name]}
            for table in self._manifest.tables
        }
        self._add(END, json.dumps(tables, indent=1).encode())
        self._tar.close()
        self._gzip.close()

    def _add(self, name: str, content: bytes) -> None:
        member = tarfile.TarInfo(name)
        member.size, member.mode, member.mtime = len(content), 0o600, int(time.time())
        self._tar.addfile(member, io.BytesIO(content))


def read_manifest(path: Path) -> Manifest:
    """Return the manifest of a file; raise DamagedArchive for one that has none."""
    with _explain_errors():
        for name, content in _read_members(path):
            if name != MANIFEST:
                break
            found = json.loads(content)
            if found.get("format") != FORMAT:
                raise DamagedArchive(
                    f"it has the format {found.get('format')!r}, and this version of amplifierd"
                    f" reads {FORMAT}; use the version that made it ({found.get('version')})"
                )
            tables = [Table(**table) for table in found.pop("tables")]
            return Manifest(**found, tables=tables)
    raise DamagedArchive("it is no backup of amplifierd")


def verify(path: Path, advance: Callable[[int], None]) -> Manifest:
    """Read all of a file, and return its manifest with the number of rows of each table.

    `advance` is called with the bytes that were read. Raises DamagedArchive unless everything is
    there as it was written.
    """
    manifest = read_manifest(path)
    sums = {table.name: hashlib.sha256() for table in manifest.tables}
    counts = dict.fromkeys(sums, 0)
    end: dict[str, Any] | None = None
    with _explain_errors():
        for name, content in _read_members(path):
            advance(len(content))
            if name == END:
                end = json.loads(content)
            elif name.startswith(TABLES):
                table = name.split("/")[1]
                sums[table].update(content)
                counts[table] += content.count(b"\n")
    if end is None:
        raise DamagedArchive(
            "it ends too early; it was not written to its end, or not copied whole"
        )
    found = {
        name: {"rows": counts[name], "sha256": found.hexdigest()} for name, found in sums.items()
    }
    for name, expected in end.items():
        if found.get(name) != expected:
            raise DamagedArchive(f"the rows of {name} are not those that were written")
    if end.keys() != found.keys():
        raise DamagedArchive("its tables are not those that were written")
    for each in manifest.tables:
        each.rows = counts[each.name]
    return manifest


def read_parts(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the rows of a file, part by part, each with the name of its table."""
    with _explain_errors():
        for name, content in _read_members(path):
            if name.startswith(TABLES):
                yield name.split("/")[1], content


def _read_members(path: Path) -> Iterator[tuple[str, bytes]]:
    with gzip.open(path) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
        for member in tar:
            content = tar.extractfile(member)
            if content is None:
                raise DamagedArchive(f"it has {member.name!r}, which is no file")
            yield member.name, content.read()
        # A checksum of all follows the last member.
        while stream.read(PART_BYTES):
            pass


@contextmanager
def _explain_errors() -> Iterator[None]:
    """Raise what the libraries raise for a damaged file as DamagedArchive."""
    try:
        yield
    except READ_ERRORS as error:
        raise DamagedArchive(f"it cannot be read to its end ({error})") from error
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise DamagedArchive(f"its content makes no sense ({error!r})") from error
