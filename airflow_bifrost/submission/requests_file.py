"""Rows become request lines of a provider, checked one by one and written into files within its limits. Nothing is sent from here.

Rows stream through. What stays in memory is a digest for each row that has an id of its own (about 100 bytes), and nothing for the others.
"""

from __future__ import annotations

import codecs
import hashlib
import math
import mmap
import re
import sys
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import msgspec

from airflow_bifrost.exceptions import BatchInputError
from airflow_bifrost.submission.limits import Limits, limits_of

JsonObject = dict[str, Any]

MAX_ERRORS = 20  # that are collected before the reading stops
ERRORS_SHOWN = 5  # of them in the message
MAX_SHOWN = 80  # characters of an id, a model or a member's name in a message; of a prompt none
CHUNK = 2**18  # bytes that are written at once


@dataclass(frozen=True, slots=True)
class Part:
    """A file with the rows of one batch.

    :param number: counted from 1.
    :param bytes: size of the file.
    :param sha256: of the file, in hex.
    :param models: that its rows name, in the order of their first row; none for Gemini and Bedrock, whose batch names the model.
    """

    number: int
    path: Path
    rows: int
    bytes: int
    sha256: str
    models: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """What stands for a row where a line cannot be read; ``reason`` says why."""

    reason: str


def read_jsonl(lines: Iterable[bytes]) -> Iterator[tuple[int, Any]]:
    """The rows of a JSONL file, each with its number, counted from 1. Blank lines are passed over, and so is a byte order mark.

    :param lines: with their ends or without.

    A line that is not JSON in UTF-8 comes as :class:`Unreadable`, so that :func:`write_parts` can name all of them.
    """
    decode = msgspec.json.Decoder().decode
    for number, line in enumerate(lines, 1):
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if not line or line.isspace():
            continue
        try:
            row = decode(line)
        except UnicodeDecodeError:
            row = Unreadable("is not UTF-8")
        except msgspec.DecodeError as error:
            row = Unreadable(f"is not JSON: {error}")
        except RecursionError:
            row = Unreadable("is nested too deeply")
        yield number, row


class _Named(msgspec.Struct):
    """What is read of a line to know its row."""

    custom_id: str | None = None
    key: str | None = None  # Gemini's word for it
    recordId: str | None = None  # noqa: N815 - Bedrock's


_decode_named = msgspec.json.Decoder(_Named).decode


def custom_id_of(line: bytes) -> str:
    """The id of a line that :func:`write_parts` has written."""
    named = _decode_named(line)
    return named.custom_id or named.key or named.recordId or ""


def write_parts(
    rows: Iterable[tuple[int, Any]],
    folder: Path,
    *,
    provider: str,
    endpoint: str,
    model: str | None = None,
    system_prompt: str | None = None,
    request_params: Mapping[str, Any] | None = None,
    limits: Limits | None = None,
    max_rows: int | None = None,
    max_input_bytes: int | None = None,
    unit: str = "row",
) -> list[Part]:
    """Write rows as request lines into ``part-0001.jsonl``, ``part-0002.jsonl``, ..., each as full as the limits allow.

    The same rows and arguments give the same bytes. Whatever goes wrong, no file is left behind.

    :param rows: each with the number that errors call it by, as :func:`read_jsonl` and ``enumerate(rows, 1)`` give them. A row is
        a prompt (text); a request body; or a whole line: ``custom_id``, ``body``, ``method`` and ``url``, or the provider's own names
        (``params`` of Anthropic, ``key`` and ``request`` of Gemini, ``recordId`` and ``modelInput`` of Bedrock). A row without an id
        gets ``row-000000001``, its place among all rows. Dates in a body become ISO 8601; what has no JSON at all is an error.
    :param folder: an existing one; files of these names in it are overwritten.
    :param endpoint: e.g. ``/v1/chat/completions``. Anthropic, Gemini and Bedrock have one form of body, whatever it is.
    :param model: goes into each body that names none (not for Gemini and Bedrock: their batch names it).
    :param system_prompt: a system prompt for each row that has none.
    :param request_params: members of each body that does not have them, e.g. ``{"temperature": 0}``.
    :param limits: None: those of the provider behind a gateway as it comes, see :func:`~airflow_bifrost.submission.limits.limits_of`.
    :param max_rows: a guard against costs: more rows are an error.
    :param max_input_bytes: likewise, for the bytes of all parts.
    :param unit: what the numbers of ``rows`` count: ``row``, or ``line`` for those of a file.
    :return: the parts in order; none for no rows.
    :raises BatchInputError: rows cannot be sent. It names up to 20 of them, never a prompt.
    """
    limits = limits or limits_of(provider)
    requests = _Requests(provider, endpoint, model, system_prompt, request_params or {}, _Ids(limits))
    most_rows = sys.maxsize if max_rows is None else max_rows
    most_bytes = sys.maxsize if max_input_bytes is None else max_input_bytes
    models: dict[str | None, int] = {}  # and the number of the first row that names it
    errors: list[tuple[int, str]] = []
    stopped = False

    with _Files(folder, limits) as files:
        for place, (number, row) in enumerate(rows, 1):
            try:
                if place > most_rows:
                    raise _Stop(f"is one more than max_rows={max_rows} allows")
                line, named, weight = requests.line_of(place, row)
                if len(line) > limits.bytes:
                    raise _BadRow(f"takes {len(line):,} bytes, and {provider} takes at most {limits.bytes:,}")
                if weight > limits.rows:
                    raise _BadRow(f"has {weight:,} inputs, and {provider} takes at most {limits.rows:,}")
                if named not in models:
                    if models and limits.one_model:
                        (other, first), *_ = models.items()
                        raise _BadRow(
                            f"names the model {_shown(named)}, and {unit} {first} names {_shown(other)};"
                            f" {provider} takes one model: make it two inputs"
                        )
                    models[named] = number
                if not errors:
                    files.add(line, weight, named)
                    if files.bytes > most_bytes:
                        raise _Stop(f"makes the input larger than max_input_bytes={max_input_bytes} allows")
            except _BadRow as bad:
                errors.append((number, str(bad)))
                stopped = isinstance(bad, _Stop) or len(errors) == MAX_ERRORS
                if stopped:
                    break
        if errors:
            raise _refusal(errors, unit, stopped=stopped)
        return files.finish()


class _BadRow(ValueError):
    """A row that cannot be sent; its text goes on where "row 7" ends."""


class _Stop(_BadRow):
    """A row after which there is no sense in reading on."""


def _refusal(errors: list[tuple[int, str]], unit: str, *, stopped: bool) -> BatchInputError:
    alike: dict[str, list[int]] = {}
    for number, reason in errors:
        alike.setdefault(reason, []).append(number)
    shown = [
        f"{unit} {first}{f' (and {len(others)} more)' if others else ''} {reason}"
        for reason, (first, *others) in alike.items()
    ]
    rest = len(shown) - ERRORS_SHOWN
    problem = (
        f"The input is not sent because of {len(errors)} {unit}{'s' if len(errors) > 1 else ''}"
        f"{', where the reading stopped' if stopped else ''}: {'; '.join(shown[:ERRORS_SHOWN])}"
        f"{f'; and {rest} more reasons' if rest > 0 else ''}."
    )
    advice = "Mend the input or the task's arguments, and run the task again."
    return _error(problem, advice, errors)


def _error(problem: str, advice: str, errors: list[tuple[int, str]]) -> BatchInputError:
    message = f"{problem} {advice} Nothing was submitted, and nothing is billed."
    return BatchInputError(message, problem=problem, advice=advice, errors=errors)


def _shown(text: object) -> str:
    """An id or a name as a message may have it: in quotes, in one line, shortened."""
    text = str(text)
    return repr(text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "…")


# What a provider calls the parts of a line, and how a prompt becomes a body.


@dataclass(frozen=True, slots=True)
class _Form:
    """A provider's form of a line. ``names_model``: whether a body names the model; if not, the create call does."""

    id: str = "custom_id"
    body: str = "body"
    names_model: bool = True


_OPENAI = _Form()
_FORMS = {
    "anthropic": _Form(body="params"),
    "gemini": _Form(id="key", body="request", names_model=False),
    "bedrock": _Form(id="recordId", body="modelInput", names_model=False),
}


@dataclass(frozen=True, slots=True)
class _Prompts:
    """What a body is made of.

    :param body: of a prompt.
    :param system: the members of a body that hold a system prompt; None: there is no place for one.
    :param system_is_message: it is the first of the ``messages`` instead.
    """

    body: Callable[[Any], JsonObject]
    system: Callable[[str], JsonObject] | None = None
    system_is_message: bool = False


def _messages(prompt: Any) -> JsonObject:
    return {"messages": [{"role": "user", "content": prompt}]}


def _contents(prompt: Any) -> JsonObject:
    return {"contents": [{"role": "user", "parts": [{"text": prompt}]}]}


_PROMPTS_OF_PROVIDER = {
    "anthropic": _Prompts(_messages, lambda system: {"system": system}),
    "gemini": _Prompts(_contents, lambda system: {"systemInstruction": {"parts": [{"text": system}]}}),
    "bedrock": _Prompts(_messages),
}
_PROMPTS_OF_ENDPOINT = {
    "/v1/chat/completions": _Prompts(_messages, system_is_message=True),
    "/v1/responses": _Prompts(lambda prompt: {"input": prompt}, lambda system: {"instructions": system}),
    "/v1/embeddings": _Prompts(lambda prompt: {"input": prompt}),
    "/v1/completions": _Prompts(lambda prompt: {"prompt": prompt}),
}
_SYSTEM_ROLES = {"system", "developer"}


class _Requests:
    """Makes request lines for one endpoint of one provider.

    :raises BatchInputError: a system prompt where there is no place for it.
    """

    def __init__(
        self,
        provider: str,
        endpoint: str,
        model: str | None,
        system: str | None,
        defaults: Mapping[str, Any],
        ids: _Ids,
    ) -> None:
        self._ids = ids
        self._provider = provider
        self._endpoint = endpoint
        self._form = _FORMS.get(provider, _OPENAI)
        self._prompts = _PROMPTS_OF_PROVIDER.get(provider) or _PROMPTS_OF_ENDPOINT.get(endpoint)
        own: JsonObject = {"model": model} if model and self._form.names_model else {}
        self._system: JsonObject | None = None
        if system is not None:
            if self._prompts is not None and self._prompts.system is not None:
                own |= self._prompts.system(system)
            elif self._prompts is not None and self._prompts.system_is_message:
                self._system = {"role": "system", "content": system}
            else:
                raise _error(
                    f"`system_prompt` has no place of its own in a request to {endpoint} of {provider}.",
                    "Put it into the bodies, or into `request_params` by the name that the model has for it.",
                    [],
                )
        self._fill = {**own, **defaults, **own}
        self._id_names = {"custom_id", self._form.id}
        self._body_names = {"body", self._form.body}
        self._own_members = self._id_names | self._body_names  # which no request body has
        self._members = {*self._own_members, "method", "url"}

    def line_of(self, place: int, row: Any) -> tuple[bytes, str | None, int]:
        """The line of a row, the model that it names, and how many rows it counts for."""
        if isinstance(row, str):
            self._ids.take_automatic(place)
            before, between, after, model = self._template
            return b'%b"row-%09d"%b%b%b' % (before, place, between, _encode(row), after), model, 1
        custom_id, body = self._read(row)
        if custom_id is None:
            self._ids.take_automatic(place)
            custom_id = automatic_id(place)
        else:
            self._ids.take(custom_id, place)
        body = self._complete(body)
        return self._line(custom_id, body), self._model_of(body), self._weight_of(body)

    @cached_property
    def _template(self) -> tuple[bytes, bytes, bytes, str | None]:
        """What stands before, between and after the id and the prompt in the line of a prompt; and the model."""
        if self._prompts is None:
            raise _Stop(
                f"is a prompt, and what the endpoint {_shown(self._endpoint)} takes is not known: give request bodies, or an endpoint"
                f" such as {', '.join(_PROMPTS_OF_ENDPOINT)}"
            )
        gap = msgspec.Raw(b"\0")  # which JSON never has as it is
        body = self._complete(self._prompts.body(gap))
        before, between, after = self._line(gap, body).split(b"\0")
        return before, between, after, self._model_of(body)

    def _read(self, row: Any) -> tuple[str | None, JsonObject]:
        """The id (None: it has none) and the body of a row that is no prompt."""
        if not isinstance(row, dict):
            if isinstance(row, Unreadable):
                raise _BadRow(row.reason)
            raise _BadRow(f"is {type(row).__name__}: a row is a prompt (text), a request body or a whole batch line")
        if self._own_members.isdisjoint(row):
            return None, row
        form = self._form
        if unknown := row.keys() - self._members:
            names = ", ".join(sorted(map(str, unknown)))
            raise _BadRow(
                f"has what no batch line has: {_shown(names)}; the members are {form.id}, {form.body}, method and url"
            )
        bodies = [row[name] for name in self._body_names if name in row]
        if len(bodies) != 1 or not isinstance(bodies[0], dict):
            raise _BadRow(f"is a batch line without one `{form.body}` that is an object")
        if row.get("method", "POST") != "POST":
            raise _BadRow(f"has the method {_shown(row['method'])}: a batch knows POST only")
        if row.get("url", self._endpoint) != self._endpoint:
            raise _BadRow(f"has the url {_shown(row['url'])}, and the batch is for {self._endpoint}")
        ids = [row[name] for name in self._id_names if name in row]
        if len(ids) > 1 or (ids and not isinstance(ids[0], str)):
            raise _BadRow(f"is a batch line whose `{form.id}` is not one text (in quotes, if it is a number)")
        return (ids[0] if ids else None), bodies[0]

    def _complete(self, body: JsonObject) -> JsonObject:
        """The body with what it lacks."""
        body = {**self._fill, **body}
        if self._system is not None and isinstance(messages := body.get("messages"), list):
            roles = {str(message.get("role")) for message in messages if isinstance(message, dict)}
            if not roles & _SYSTEM_ROLES:
                body["messages"] = [self._system, *messages]
        if self._form.names_model and not (isinstance(body.get("model"), str) and body["model"]):
            raise _BadRow("names no model: give `model`")
        if self._provider == "anthropic" and "max_tokens" not in body:
            raise _BadRow(
                'has no max_tokens, which Anthropic wants: give it by `request_params`, e.g. {"max_tokens": 1024}'
            )
        return body

    def _model_of(self, body: JsonObject) -> str | None:
        return body["model"] if self._form.names_model else None

    def _weight_of(self, body: JsonObject) -> int:
        """An embedding counts as many as it has inputs: texts, or lists of tokens."""
        if self._endpoint != "/v1/embeddings":
            return 1
        given = body.get("input")
        return len(given) if isinstance(given, list) and given and not isinstance(given[0], int) else 1

    def _line(self, custom_id: Any, body: JsonObject) -> bytes:
        if self._form is _OPENAI:
            request = {"custom_id": custom_id, "method": "POST", "url": self._endpoint, "body": body}
        else:
            request = {self._form.id: custom_id, self._form.body: body}
        try:
            line = _encode(request) + b"\n"
            changed = b"null" in line and _has_nan(body)
            unordered = _has_set(body)
        except RecursionError:
            raise _BadRow("is nested too deeply") from None
        if changed:
            raise _BadRow("has a number that JSON does not know (NaN or Infinity)")
        if unordered:
            raise _BadRow(
                "has a set, whose order is another in each process, so that a retry would pay again: give a list"
            )
        return line


def _plain(value: Any) -> Any:
    """Subclasses, such as numpy's, as the type that JSON knows."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, float):
        return float(value)
    raise TypeError(f"{type(value).__name__} is no type of JSON")


_encoder = msgspec.json.Encoder(enc_hook=_plain)


def _encode(value: Any) -> bytes:
    try:
        return _encoder.encode(value)
    except UnicodeEncodeError:
        raise _BadRow("has half of a surrogate pair, which UTF-8 cannot hold") from None
    except TypeError as error:
        raise _BadRow(f"cannot be written as JSON: {error}") from None


def _has_nan(value: Any) -> bool:
    """Whether there is a number that the encoder makes null."""
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        return any(map(_has_nan, value.values()))
    return isinstance(value, list | tuple) and any(map(_has_nan, value))


def _has_set(value: Any) -> bool:
    """Whether there is a set, which the encoder takes."""
    if isinstance(value, dict):
        return any(map(_has_set, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_has_set, value))
    return isinstance(value, set | frozenset)


def automatic_id(place: int) -> str:
    """The id of a row that has none of its own."""
    return f"row-{place:09d}"


_AUTOMATIC = re.compile(r"row-(0[0-9]{8}|[1-9][0-9]{8,17})")


class _Ids:
    """Whether every id is the only one of its kind. An automatic one is known by its number alone."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._given: set[bytes] = set()  # digests
        self._places = array("Q")  # of the rows that have them, ascending
        self._claimed: set[int] = set()  # the places whose automatic id is given to an earlier row

    def take(self, custom_id: str, place: int) -> None:
        """A row has an id of its own."""
        self._places.append(place)
        if not self._limits.custom_id.fullmatch(custom_id):
            raise _BadRow(f"has the id {_shown(custom_id)}: it must be {self._limits.custom_id_words}")
        digest = hashlib.blake2b(custom_id.encode(errors="surrogatepass"), digest_size=16).digest()
        if digest in self._given:
            raise _BadRow(f"has the id {_shown(custom_id)}, and an earlier one has it too")
        self._given.add(digest)
        if found := _AUTOMATIC.fullmatch(custom_id):
            number = int(found[1])
            if number > place:
                self._claimed.add(number)
            elif 0 < number < place and not self._has_own(number):
                raise _BadRow(f"has the id {custom_id!r}, which an earlier one without an id has got")

    def take_automatic(self, place: int) -> None:
        """A row has none, and gets that of its place."""
        if place in self._claimed:
            raise _BadRow(f"would get the id {automatic_id(place)}, which an earlier one has: give it one")

    def _has_own(self, place: int) -> bool:
        index = bisect_left(self._places, place)
        return index < len(self._places) and self._places[index] == place


class _Files:
    """Writes lines into parts, greedily. All of them are removed unless ``finish`` has come to its end."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.bytes = 0  # of all parts
        self._folder = folder
        self._limits = limits
        self._parts: list[Part] = []
        self._begun: list[Path] = []
        self._open: _OpenPart | None = None

    def __enter__(self) -> _Files:
        return self

    def __exit__(self, *_: object) -> None:
        for path in self._begun:
            path.unlink(missing_ok=True)
        if self._open is not None:
            self._open.file.close()

    def add(self, line: bytes, weight: int, model: str | None) -> None:
        part = self._open
        if part is None or part.weight + weight > self._limits.rows or part.size + len(line) > self._limits.bytes:
            self._close_part()
            part = self._open = self._begin_part()
        part.buffer.append(line)
        part.rows += 1
        part.weight += weight
        part.size += len(line)
        self.bytes += len(line)
        if model is not None:
            part.models[model] = None
        if part.size - part.written >= CHUNK:
            part.flush()

    def finish(self) -> list[Part]:
        """The parts, which now stay."""
        self._close_part()
        self._fill_up_last()
        self._begun.clear()
        return self._parts

    def _begin_part(self) -> _OpenPart:
        path = self._folder / f"part-{len(self._parts) + 1:04d}.jsonl"
        file = path.open("wb")
        self._begun.append(path)
        return _OpenPart(path, file)

    def _close_part(self) -> None:
        part = self._open
        if part is None:
            return
        part.flush()
        part.file.close()
        self._open = None
        digest = part.hash.hexdigest()
        self._parts.append(Part(len(self._parts) + 1, part.path, part.rows, part.size, digest, tuple(part.models)))

    def _fill_up_last(self) -> None:
        """Move rows from the last part but one to a last one that has too few.

        :raises BatchInputError: there are too few rows even so.
        """
        fewest = self._limits.min_rows
        if len(self._parts) > 1 and (lacking := fewest - self._parts[-1].rows) > 0:
            *_, giver, taker = self._parts
            if giver.rows - lacking >= fewest:
                moved = _cut_lines(giver.path, lacking)
                if taker.bytes + len(moved) <= self._limits.bytes:
                    taker.path.write_bytes(moved + taker.path.read_bytes())
                    models = tuple(dict.fromkeys(giver.models + taker.models))
                    self._parts[-2:] = [
                        _measured(giver, rows=giver.rows - lacking),
                        _measured(taker, rows=taker.rows + lacking, models=models),
                    ]
        for part in self._parts:
            if part.rows < fewest:
                raise _error(
                    f"Part {part.number} of the input has {part.rows} rows, and the provider takes no batch of fewer than {fewest}.",
                    "Give more rows: this is the least that it documents.",
                    [],
                )


@dataclass(slots=True)
class _OpenPart:
    path: Path
    file: IO[bytes]
    hash: Any = field(default_factory=hashlib.sha256)
    buffer: list[bytes] = field(default_factory=list)
    rows: int = 0
    weight: int = 0
    size: int = 0
    written: int = 0
    models: dict[str, None] = field(default_factory=dict)

    def flush(self) -> None:
        lines = b"".join(self.buffer)
        self.file.write(lines)
        self.hash.update(lines)
        self.written += len(lines)
        self.buffer.clear()


def _cut_lines(path: Path, count: int) -> bytes:
    """Take the last lines away from a file that has more of them."""
    with path.open("r+b") as file:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            cut = len(content) - 1
            for _ in range(count):
                cut = content.rfind(b"\n", 0, cut)
            lines = content[cut + 1 :]
        file.truncate(cut + 1)
    return lines


def _measured(part: Part, **changes: Any) -> Part:
    """A part whose file has changed."""
    with part.path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return replace(part, bytes=part.path.stat().st_size, sha256=digest, **changes)
