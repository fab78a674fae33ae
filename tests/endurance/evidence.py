"""What a run leaves behind, as plain values. The account is a function of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from support.tokens import Sighting


@dataclass(frozen=True)
class SentRow:
    """A row of a batch, in the gateway's ledger.

    :param fate: ``ok``, ``failed``, ``expired``, ``missing`` or ``garbled``.
    """

    custom_id: str
    prompt: str
    fate: str = "ok"


@dataclass(frozen=True)
class Batch:
    """A batch in the gateway's ledger.

    :param readable: whether all of its rows are known.
    :param cancelled: whether a cancel was requested.
    """

    id: str
    provider: str
    created_at: float
    rows: tuple[SentRow, ...]
    readable: bool = True
    cancelled: bool = False
    status: str = "completed"


@dataclass(frozen=True)
class Job:
    """One DAG run of the load.

    :param kind: which DAG it runs, see ``load``.
    :param prompts: its rows, in order; empty: it only waits.
    :param batch_ids: the batches that it waits for and has not made.
    :param output: the name of the file that it writes; None: it writes no file.
    :param conf: of the DAG run.
    """

    id: str
    kind: str
    provider: str
    prompts: tuple[str, ...] = ()
    batch_ids: tuple[str, ...] = ()
    output: str | None = None
    conf: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TaskEnd:
    """The state of a task instance at the end of the run."""

    job: str
    task_id: str
    map_index: int
    state: str | None
    try_number: int


@dataclass(frozen=True)
class LoggedError:
    """An exception in a log.

    :param source: the log file.
    :param job: the job whose task it ended; empty: it is in the log of a component.
    :param kind: the class of the exception.
    :param files: the source files of the traceback, outermost first.
    :param text: the log line.
    """

    source: str
    at: float
    job: str
    kind: str
    message: str
    files: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class OutputFile:
    """A file of results: its rows in order; None if it is not there or cannot be read, and why."""

    rows: tuple[Mapping[str, Any], ...] | None
    problem: str = ""


@dataclass(frozen=True)
class Sample:
    """The memory of a component's processes at one moment, in bytes.

    :param incarnation: counts the starts of the component.
    """

    component: str
    incarnation: int
    at: float
    bytes: int


@dataclass(frozen=True)
class Window:
    """The time of an event of the chaos, in Unix seconds."""

    what: str
    target: str
    begin: float
    end: float


@dataclass
class Evidence:
    """Everything that the account judges.

    :param returned: the return value of each job's task that made its batches: a manifest, or a batch ID.
    :param progress: the last ``progress`` XCom of each task instance that has one.
    :param leftovers: temporary files and folders that nobody removed.
    """

    jobs: list[Job]
    batches: list[Batch] = field(default_factory=list)
    tasks: list[TaskEnd] = field(default_factory=list)
    errors: list[LoggedError] = field(default_factory=list)
    outputs: dict[str, OutputFile] = field(default_factory=dict)
    returned: dict[str, Any] = field(default_factory=dict)
    progress: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    leftovers: list[str] = field(default_factory=list)
    sightings: list[Sighting] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    windows: list[Window] = field(default_factory=list)
