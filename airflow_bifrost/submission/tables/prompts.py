"""Makes a request row from each row of a table: its prompt, its ID, and the columns that its result carries. Pure."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from string import Formatter
from typing import Any, NamedTuple
from uuid import UUID

from airflow_bifrost.submission.bad_rows import BadRow, input_error, shown
from airflow_bifrost.submission.json_values import InexactError, JsonObject, encode, plain
from airflow_bifrost.submission.reading import IdentifiedRow, RowNumber, Unreadable
from airflow_bifrost.submission.tables.table import TableRow

COLUMNS_SHOWN = 30  # names of columns in a message

Prompt = str | Callable[[dict[str, Any]], Any]
Keep = Callable[[bytes], object]  # takes the carried columns of one row, as JSON


class TablePrompt:
    """Makes request rows from the rows of a table.

    :param prompt: text with the names of columns in braces (``"Classify: {review}"``), or a function
        that takes a row as a dict and returns a prompt, a request body or a batch line.
    :param id_column: the column whose value identifies a row; None: the row's place does.
    :param keep: the columns that the results carry.
    :param columns: the table's columns; None if they are known only row by row.
    :raises BatchInputError: the template is malformed, or names a column that the table does not have.
    """

    def __init__(
        self,
        prompt: Prompt,
        *,
        id_column: str | None = None,
        keep: Sequence[str] = (),
        columns: Sequence[str] | None = None,
    ) -> None:
        self._function = None if isinstance(prompt, str) else prompt
        self._pieces = list(_pieces_of(prompt)) if isinstance(prompt, str) else []
        self._id_column = id_column
        self._keep = tuple(keep)
        named = [piece.column for piece in self._pieces if piece.column is not None]
        self._named = tuple(dict.fromkeys([*named, *([id_column] if id_column else []), *keep]))
        if columns is not None and (unknown := [name for name in self._named if name not in columns]):
            raise input_error(
                f"The table has no column {shown(unknown[0])}, which `{self._argument(unknown[0])}` names.",
                f"Its columns are {_listed(columns)}.",
            )

    def rows(self, rows: Iterable[tuple[RowNumber, Any]], keep: Keep | None = None) -> Iterator[tuple[RowNumber, Any]]:
        """The request rows, with the numbers of the table's rows. A row that cannot be sent becomes an :class:`Unreadable`.

        :param keep: called with the carried columns of each row that can be sent.
        """
        for number, row in rows:
            if isinstance(row, Unreadable):
                yield number, row
                continue
            try:
                named = _named(row)
                request = self._request(named, number)
                kept = self._kept(named) if self._keep else b""
            except BadRow as bad:
                yield number, Unreadable(str(bad))
                continue
            if keep is not None:
                keep(kept)
            yield number, request

    def _request(self, row: TableRow, number: RowNumber) -> Any:
        if missing := [name for name in self._named if name not in row]:
            raise BadRow(f"has no column {shown(missing[0])}: it has {_listed(list(row))}")
        request = self._text(row) if self._function is None else self._called(self._function, row, number)
        return (
            request if self._id_column is None else IdentifiedRow(_id(row[self._id_column], self._id_column), request)
        )

    def _text(self, row: TableRow) -> str:
        text = "".join(piece.text_for(row) for piece in self._pieces)
        columns = [piece.column for piece in self._pieces if piece.column is not None]
        if columns and all(row[column] == "" for column in columns):
            raise BadRow(f"is empty in {'the column' if len(columns) == 1 else 'the columns'} {_listed(columns)}")
        return text

    def _called(self, function: Callable[[dict[str, Any]], Any], row: TableRow, number: RowNumber) -> Any:
        try:
            request = function(dict(row))
        except Exception as error:
            error.add_note(
                f"`prompt` failed for row {number} of the table. Nothing was submitted, and nothing is billed."
            )
            raise
        if not isinstance(request, str | dict):
            raise BadRow(
                f"got {type(request).__name__} from `prompt`, which must return a prompt (text) or a body (dict)"
            )
        return request

    def _kept(self, row: TableRow) -> bytes:
        kept: JsonObject = {}
        for name in self._keep:
            value = row[name]
            try:
                kept[name] = None if _is_null(value) else plain(value)
                encode(kept[name])
            except InexactError as error:
                raise BadRow(
                    f"has {error.what} in the column {shown(name)}, which `keep` names: {error.advice}"
                ) from None
        return encode(kept)

    def _argument(self, column: str) -> str:
        if any(piece.column == column for piece in self._pieces):
            return "prompt"
        return "id_column" if column == self._id_column else "keep"


class _Piece(NamedTuple):
    """Some text of a template, and the column whose value follows it."""

    text: str
    column: str | None
    spec: str = ""
    conversion: str | None = None

    def text_for(self, row: TableRow) -> str:
        if self.column is None:
            return self.text
        value = row[self.column]
        if _is_null(value):
            raise BadRow(f"has no value in the column {shown(self.column)}")
        if isinstance(value, bytes | bytearray | memoryview):
            raise BadRow(f"has bytes in the column {shown(self.column)}: decode them")
        if not self.spec and not self.conversion:
            return self.text + _written(value)
        try:
            return self.text + format(_FORMATTER.convert_field(value, self.conversion), self.spec)
        except (ValueError, TypeError) as error:
            raise BadRow(
                f"has a value in the column {shown(self.column)} that does not fit {self.spec!r}: {error}"
            ) from None


_FORMATTER = Formatter()


def _pieces_of(template: str) -> Iterator[_Piece]:
    try:
        for text, column, spec, conversion in _FORMATTER.parse(template):
            if column == "":
                raise ValueError("{} names no column")
            yield _Piece(text, column, spec or "", conversion)
    except ValueError as error:
        raise input_error(
            f"The template in `prompt` is malformed: {error}.",
            "Name columns in braces, as in {review}. If the text itself has braces, make `prompt` a function of the row.",
        ) from None


def _named(row: Any) -> TableRow:
    """A row by the names of its columns. The columns of a row without names are numbered from 0, as in ``{0}``."""
    if isinstance(row, Mapping):
        return row
    if isinstance(mapping := getattr(row, "_mapping", None), Mapping):  # a row of SQLAlchemy
        return mapping
    if isinstance(row, tuple) and hasattr(row, "_asdict"):
        return row._asdict()  # type: ignore[no-any-return]
    if isinstance(row, list | tuple):
        return {str(place): value for place, value in enumerate(row)}
    raise BadRow(f"is {type(row).__name__}: with `prompt`, a row is a dict, a tuple or a list of its columns")


def _id(value: Any, column: str) -> str:
    if isinstance(value, str) and value:
        return value
    if isinstance(value, int | UUID) and not isinstance(value, bool):
        return str(value)
    problem = "no value" if value == "" or _is_null(value) else f"a {type(value).__name__}"
    raise BadRow(
        f"has {problem} in the column {shown(column)}, which `id_column` names: an ID is text, a whole number or a UUID"
    )


def _is_null(value: Any) -> bool:
    """Whether a value stands for no value: None, NaN, or pandas' NaT and NA."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float | Decimal) and math.isnan(value)


def _written(value: Any) -> str:
    """A value in a prompt: text as it is, dates in ISO 8601, lists and objects as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, int | float | Decimal):
        return str(value)
    try:
        return encode(plain(value)).decode() if isinstance(value, list | tuple | dict) else str(value)
    except InexactError as error:
        raise BadRow(f"{error}") from None


def _listed(names: Sequence[Any]) -> str:
    listed = ", ".join(shown(name) for name in names[:COLUMNS_SHOWN])
    return listed + (f" and {len(names) - COLUMNS_SHOWN} more" if len(names) > COLUMNS_SHOWN else "")
