"""Everything that must survive: files and batches in one SQLite file, and the contents of files in a folder next to it.

The progress of a batch is not stored, because it follows from the time of creation. So a killed server continues at the
current time.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO

from airflow_bifrost.testing.clock import Batch
from airflow_bifrost.testing.model import Fate, Verdict, digest
from airflow_bifrost.testing.scan import Scan

_SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    seq INTEGER PRIMARY KEY, provider TEXT NOT NULL, id TEXT NOT NULL, filename TEXT NOT NULL, purpose TEXT NOT NULL,
    bytes INTEGER NOT NULL, created_at REAL NOT NULL, blob TEXT, batch INTEGER, kind TEXT,
    deleted INTEGER NOT NULL DEFAULT 0, UNIQUE (provider, id));
CREATE TABLE IF NOT EXISTS batches (
    seq INTEGER PRIMARY KEY, provider TEXT NOT NULL, id TEXT NOT NULL, created_at REAL NOT NULL, seconds REAL NOT NULL,
    rows INTEGER NOT NULL, input_file INTEGER, input_file_id TEXT, endpoint TEXT NOT NULL,
    completion_window TEXT NOT NULL, model TEXT, metadata TEXT NOT NULL, options TEXT NOT NULL, errors TEXT NOT NULL,
    expiring INTEGER NOT NULL, odd_rows INTEGER NOT NULL, cancel_at REAL, held TEXT, held_at REAL,
    overrides TEXT NOT NULL, idempotency_key TEXT, UNIQUE (provider, id));
CREATE INDEX IF NOT EXISTS batches_in_order ON batches (provider, seq);
CREATE INDEX IF NOT EXISTS files_in_order ON files (provider, seq);
CREATE INDEX IF NOT EXISTS files_of_batch ON files (batch, kind);
CREATE TABLE IF NOT EXISTS odd_rows (
    batch INTEGER NOT NULL, row INTEGER NOT NULL, fate TEXT NOT NULL, code INTEGER NOT NULL,
    PRIMARY KEY (batch, row)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS seen_prompts (digest TEXT PRIMARY KEY) WITHOUT ROWID;
"""
_NEWEST = 1 << 62  # a seq after every other
_JSON_COLUMNS = ("metadata", "options", "errors", "overrides")
_BATCH_COLUMNS = tuple(field.name for field in fields(Batch))


@dataclass(frozen=True, slots=True)
class File:
    """A stored file, or (``kind`` output, error or manifest) one that a batch yields and that is written when first read."""

    seq: int
    provider: str
    id: str  # the provider's own id
    filename: str
    purpose: str
    bytes: int
    created_at: float
    blob: str | None
    batch: int | None
    kind: str | None
    deleted: bool  # clients see it no more, but a batch still reads its rows from it


@dataclass(frozen=True, slots=True)
class Yield:
    """A file that a batch will yield."""

    kind: str
    file_id: str
    filename: str


class Store:
    """The state of a gateway. Safe to use from several threads.

    :param path: the SQLite file; contents of files go into the folder ``<path>.files``.
    """

    def __init__(self, path: Path) -> None:
        self._blobs = path.with_name(path.name + ".files")
        self._blobs.mkdir(parents=True, exist_ok=True)
        self._lock = threading.RLock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Let go of the SQLite file."""
        with self._lock:
            self._db.close()

    def clear(self) -> None:
        """Forget everything."""
        with self._transaction() as db:
            for table in ("files", "batches", "odd_rows", "seen_prompts"):
                db.execute(f"DELETE FROM {table}")
        for blob in self._blobs.iterdir():
            blob.unlink()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def _all(self, query: str, *values: Any) -> list[sqlite3.Row]:
        with self._lock:
            return self._db.execute(query, values).fetchall()

    # files

    def write_blob(self, chunks: Iterable[bytes]) -> tuple[str, int]:
        """Store bytes under a new name; returns the name and the number of bytes."""
        name = secrets.token_hex(12)
        with (self._blobs / name).open("wb") as target:
            target.writelines(chunks)
            return name, target.tell()

    def open_blob(self, name: str) -> BinaryIO:
        """The stored bytes."""
        return (self._blobs / name).open("rb")

    def add_file(
        self, provider: str, file_id: str, filename: str, purpose: str, created_at: float, blob: str, size: int
    ) -> File:
        """Keep an uploaded file; one with the same id is replaced, as an object in S3 is."""
        with self._transaction() as db:
            db.execute("DELETE FROM files WHERE provider = ? AND id = ?", (provider, file_id))
            db.execute(
                "INSERT INTO files (provider, id, filename, purpose, bytes, created_at, blob) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (provider, file_id, filename, purpose, size, created_at, blob),
            )
        return self._required_file(provider, file_id)

    def fill_yield(self, file: File, blob: str, size: int) -> File:
        """Keep the content of a file that a batch has yielded."""
        with self._transaction() as db:
            db.execute("UPDATE files SET blob = ?, bytes = ? WHERE seq = ?", (blob, size, file.seq))
        return self._required_file(file.provider, file.id)

    def file(self, provider: str, file_id: str) -> File | None:
        """A file by its provider's id."""
        found = self._all("SELECT * FROM files WHERE provider = ? AND id = ? AND NOT deleted", provider, file_id)
        return File(**dict(found[0])) if found else None

    def _required_file(self, provider: str, file_id: str) -> File:
        file = self.file(provider, file_id)
        if file is None:
            raise LookupError(file_id)
        return file

    def file_by_seq(self, seq: int) -> File | None:
        """A file by its place in the state."""
        found = self._all("SELECT * FROM files WHERE seq = ?", seq)
        return File(**dict(found[0])) if found else None

    def yields(self, batch: Batch) -> dict[str, File]:
        """The files that a batch yields, by kind."""
        found = self._all("SELECT * FROM files WHERE batch = ?", batch.seq)
        return {row["kind"]: File(**dict(row)) for row in found}

    def files(self, provider: str, before: int | None, limit: int) -> list[File]:
        """Up to ``limit`` files, newest first, older than the file with seq ``before``."""
        found = self._all(
            "SELECT * FROM files WHERE provider = ? AND seq < ? AND NOT deleted ORDER BY seq DESC LIMIT ?",
            provider,
            _NEWEST if before is None else before,
            limit,
        )
        return [File(**dict(row)) for row in found]

    def delete_file(self, file: File) -> None:
        """Forget a file. Its content stays if a batch was made from it: the results are written from it when they are first read."""
        in_use = bool(self._all("SELECT 1 FROM batches WHERE input_file = ?", file.seq))
        with self._transaction() as db:
            if in_use:
                db.execute("UPDATE files SET deleted = 1 WHERE seq = ?", (file.seq,))
            else:
                db.execute("DELETE FROM files WHERE seq = ?", (file.seq,))
        if file.blob is not None and not in_use:
            (self._blobs / file.blob).unlink(missing_ok=True)

    # batches

    def add_batch(self, scan: Scan, yields: Iterable[Yield], **columns: Any) -> Batch:
        """Keep a new batch, whole or not at all; ValueError if there is one with this id."""
        failing = {Fate.FLAKY: Fate.FAIL}
        columns |= {
            "rows": scan.rows,
            "errors": scan.errors,
            "odd_rows": len(scan.odd),
            "expiring": any(v.fate is Fate.EXPIRE for _, v in scan.odd),
        }
        values = {name: json.dumps(value) if name in _JSON_COLUMNS else value for name, value in columns.items()}
        names, marks = ", ".join(values), ", ".join("?" * len(values))
        try:
            with self._transaction() as db:
                seq = db.execute(f"INSERT INTO batches ({names}) VALUES ({marks})", tuple(values.values())).lastrowid
                db.executemany(
                    "INSERT INTO odd_rows VALUES (?, ?, ?, ?)",
                    ((seq, row, failing.get(v.fate, v.fate), v.code) for row, v in scan.odd),
                )
                db.executemany(
                    "INSERT INTO files (provider, id, filename, purpose, bytes, created_at, batch, kind)"
                    " VALUES (?, ?, ?, 'batch_output', 0, ?, ?, ?)",
                    (
                        (
                            columns["provider"],
                            y.file_id,
                            y.filename,
                            columns["created_at"] + columns["seconds"],
                            seq,
                            y.kind,
                        )
                        for y in yields
                    ),
                )
        except sqlite3.IntegrityError as taken:
            raise ValueError(f"there is a batch {columns['id']} already") from taken
        return _batch(self._all("SELECT * FROM batches WHERE seq = ?", seq)[0])

    def batch(self, provider: str, batch_id: str) -> Batch | None:
        """A batch by its provider's id."""
        found = self._all("SELECT * FROM batches WHERE provider = ? AND id = ?", provider, batch_id)
        return _batch(found[0]) if found else None

    def batch_by_seq(self, seq: int) -> Batch:
        """A batch by its place in the state."""
        return _batch(self._all("SELECT * FROM batches WHERE seq = ?", seq)[0])

    def batches(self, provider: str, before: int | None, limit: int) -> list[Batch]:
        """Up to ``limit`` batches, newest first, older than the batch with seq ``before``."""
        found = self._all(
            "SELECT * FROM batches WHERE provider = ? AND seq < ? ORDER BY seq DESC LIMIT ?",
            provider,
            _NEWEST if before is None else before,
            limit,
        )
        return [_batch(row) for row in found]

    def all_batches(self) -> list[Batch]:
        """Every batch, in the order of creation."""
        return [_batch(row) for row in self._all("SELECT * FROM batches ORDER BY seq")]

    def update_batch(self, batch: Batch, **columns: Any) -> None:
        """Change columns of a batch, and forget what it had yielded."""
        values = {name: json.dumps(value) if name in _JSON_COLUMNS else value for name, value in columns.items()}
        sets = ", ".join(f"{name} = ?" for name in values)
        with self._transaction() as db:
            db.execute(f"UPDATE batches SET {sets} WHERE seq = ?", (*values.values(), batch.seq))
            db.execute("UPDATE files SET blob = NULL, bytes = 0 WHERE batch = ?", (batch.seq,))

    def odd_rows(self, batch: Batch) -> dict[int, Verdict]:
        """The rows of a batch that do not simply succeed."""
        if not batch.odd_rows:
            return {}
        found = self._all("SELECT row, fate, code FROM odd_rows WHERE batch = ?", batch.seq)
        return {row["row"]: Verdict(Fate(row["fate"]), row["code"]) for row in found}

    def tally(self, batch: Batch, finished: int) -> Counter[Fate]:
        """How many of the first ``finished`` rows of a batch have which fate."""
        tally: Counter[Fate] = Counter()
        if batch.odd_rows:
            query = "SELECT fate, COUNT(*) AS n FROM odd_rows WHERE batch = ? AND row < ? GROUP BY fate"
            tally.update({Fate(row["fate"]): row["n"] for row in self._all(query, batch.seq, finished)})
        tally[Fate.OK] = finished - tally.total()
        return tally

    # inputs

    def lines(self, file: File) -> Iterator[bytes]:
        """The lines of a stored file that are not empty."""
        if file.blob is None:
            return
        with self.open_blob(file.blob) as content:
            yield from (line for line in content if line.strip())

    def seen_before(self, prompt: str) -> bool:
        """Whether a prompt was asked about before; it is remembered."""
        with self._transaction() as db:
            new = db.execute("INSERT OR IGNORE INTO seen_prompts VALUES (?)", (digest(prompt),)).rowcount
        return new == 0


def _batch(row: sqlite3.Row) -> Batch:
    values = {name: json.loads(row[name]) if name in _JSON_COLUMNS else row[name] for name in _BATCH_COLUMNS}
    return Batch(**values)
