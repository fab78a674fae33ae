"""Where a task's rows come from: its argument, the output of other tasks, or files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_bifrost._compat import XComNotFound
from airflow_bifrost.results.lines import lines_in
from airflow_bifrost.results.storage import locate
from airflow_bifrost.submission.bad_rows import input_error, shown
from airflow_bifrost.submission.parts import SOURCES
from airflow_bifrost.submission.reading import RowNumber, numbered, read_jsonl
from airflow_bifrost.submission.tables.files import FileFormat, format_of, is_data_file, opened, read_table
from airflow_bifrost.submission.tables.objects import table_of
from airflow_bifrost.submission.tables.prompts import COLUMNS_SHOWN, TablePrompt
from airflow_bifrost.worker.arguments import is_resolved_later

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context


@dataclass(frozen=True, slots=True)
class GivenRows:
    """The rows of a task.

    :param rows: each with the number, or number and file, by which errors refer to it.
    :param unit: what the numbers count: ``row``, or ``line`` of a file.
    :param table: what the rows are, such as ``a CSV file``, if they are a table; None: prompts, bodies or batch lines.
    :param columns: the table's columns; None if they are known only row by row.
    """

    rows: Iterator[tuple[RowNumber, Any]]
    unit: str = "row"
    table: str | None = None
    columns: tuple[str, ...] | None = None


class RowsGone(ValueError):
    """The output of another task that holds the rows does not exist."""


VANISHED = (FileNotFoundError, RowsGone)  # the rows may have been there in an earlier attempt


@contextmanager
def rows_of(rows: Any, input_path: str | None, input_format: str | None = None) -> Iterator[GivenRows]:
    """The rows of a task.

    :param rows: prompts, bodies or batch lines, or a table in memory; see :func:`resolved`.
    :param input_path: a file, a folder of files, or a pattern such as ``s3://bucket/reviews-*.csv``.
    :param input_format: the format of the files; None: as their names say.
    :raises ValueError: ``rows`` is neither an iterable of rows nor a table.
    :raises BatchInputError: the rows have no stable order, or a file's content does not match its name.
    :raises FileNotFoundError: there is no file at ``input_path``.
    """
    if input_path is None:
        yield rows_given(rows)
        return
    given = rows_of_files(input_path, input_format)
    with closing(given.rows):  # type: ignore[type-var]
        yield given


def rows_given(rows: Any) -> GivenRows:
    """The rows of an object: an iterable of rows, or a table."""
    if (table := table_of(rows)) is not None:
        return GivenRows(enumerate(table.rows, 1), table=table.kind, columns=table.columns)
    return GivenRows(numbered(rows))


def resolved(rows: Any, task: BaseOperator, context: Context) -> Any:
    """``rows`` with the values of what Airflow resolves only when the task runs: a template, a task's output, a DAG parameter.

    An item of a list that is another task's output stands for that output: for one row, or for a list of rows.

    :raises ValueError: a template rendered to text.
    :raises RowsGone: the other task has no output.
    """
    if isinstance(rows, str):
        rows = task.render_template(rows, context)
        if isinstance(rows, str):
            raise ValueError(
                f"rows must be a list of rows or a table, not text ({rows[:80]!r}): pass the task's output itself (`rows=prepare.output`), or set"
                " render_template_as_native_obj=True on the DAG"
            )
    if is_resolved_later(rows):
        return _value_of(rows, context)
    if isinstance(rows, list | tuple) and any(map(is_resolved_later, rows)):
        return list(chain.from_iterable(_rows_of_item(row, context) for row in rows))
    return rows


def _value_of(source: Any, context: Context) -> Any:
    with suppress(XComNotFound):
        if (value := source.resolve(context)) is not None:
            return value
    raise RowsGone(
        "rows is the output of another task, but that task has no output (XCom). Nothing was submitted in this attempt. Check what the"
        " other task returns, or clear it to have it return its rows again."
    )


def _rows_of_item(item: Any, context: Context) -> Iterable[Any]:
    if not is_resolved_later(item):
        return [item]
    value = _value_of(item, context)
    return [value] if isinstance(value, str | Mapping) or not isinstance(value, Iterable) else value


def rows_of_files(input_path: str, input_format: str | None = None) -> GivenRows:
    """The rows of a file, of all files in a folder, or of all files that match a pattern, in the order of their names."""
    names, fs = _files_at(input_path)
    forms = {name: format_of(name, input_format) for name in names}
    if len({form.content for form in forms.values()}) > 1:
        kinds = ", ".join(sorted({form.content for form in forms.values()}))
        raise input_error(
            f"The files at {input_path} have several formats: {kinds}.",
            "Name files of one format, e.g. with a pattern.",
        )
    first = _rows_of_file(fs, names[0], forms[names[0]])
    if len(names) == 1:
        return first
    others = (_rows_of_file(fs, name, forms[name]) for name in names[1:])

    def rows() -> Iterator[tuple[RowNumber, Any]]:
        for name, given in zip(names, chain([first], others), strict=True):
            with closing(given.rows):  # type: ignore[type-var]
                for number, row in given.rows:
                    yield f"{number} of {name.rpartition('/')[2]}", row

    return replace(first, rows=rows())


def _files_at(input_path: str) -> tuple[list[str], Any]:
    path, fs = locate(input_path)
    if fs.isfile(path.path):
        return [path.path], fs
    if fs.isdir(path.path):
        names = [name for name in sorted(fs.find(path.path)) if is_data_file(name)]
        wanted = "file of rows (.jsonl, .csv, .tsv or .parquet)"
    elif any(sign in path.path for sign in "*?["):
        names = [name for name in sorted(fs.glob(path.path)) if fs.isfile(name)]
        wanted = "file"
    else:
        names, wanted = [], "file"
    if not names:
        raise FileNotFoundError(f"There is no {wanted} at {input_path}.")
    return names, fs


def _rows_of_file(fs: Any, name: str, form: FileFormat) -> GivenRows:
    if form.content == "jsonl":
        return GivenRows(_lines_of(fs, name, form), unit="line")
    file = opened(fs.open(name, "rb"), form, name)
    table = read_table(file, form.content, name)

    def rows() -> Iterator[tuple[RowNumber, Any]]:
        with file:
            yield from enumerate(table.rows, 1)

    return GivenRows(rows(), table=table.kind, columns=table.columns)


def _lines_of(fs: Any, name: str, form: FileFormat) -> Iterator[tuple[RowNumber, Any]]:
    with fs.open(name, "rb") as raw, opened(raw, form, name) as file:
        yield from read_jsonl(lines_in(file))


@contextmanager
def requests_of(
    given: GivenRows, folder: Path, *, prompt: Any, id_column: str | None, keep: Sequence[str]
) -> Iterator[Iterator[tuple[RowNumber, Any]]]:
    """The request rows of a task's rows: what ``prompt`` makes of each, or the rows themselves.

    :param folder: gets the file of the columns that the results carry, if there are any.
    :raises BatchInputError: the rows are a table and there is no prompt, or the prompt does not fit the table.
    """
    if prompt is None:
        if given.table is not None:
            columns = ", ".join(map(shown, (given.columns or ())[:COLUMNS_SHOWN]))
            raise input_error(
                f"The rows are {given.table} with the columns {columns}, and the task has no `prompt` that makes a request of a row.",
                f'Set `prompt`, with names of columns in braces: prompt="Classify: {{{(given.columns or ("text",))[-1]}}}".',
            )
        yield given.rows
        return
    requests = TablePrompt(prompt, id_column=id_column, keep=keep, columns=given.columns)
    if not keep:
        yield requests.rows(given.rows)
        return
    with (folder / SOURCES).open("wb") as file:
        yield requests.rows(given.rows, lambda columns: file.write(columns + b"\n"))
