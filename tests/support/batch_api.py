"""A gateway in memory, for what is decided about batches: no HTTP, a clock that the test moves, and faults that the test names.

It is as bad as real ones are: it repeats creates, loses answers, shows batches late, refuses what it accepted, and cuts lists short.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from airflow_bifrost.exceptions import BatchNotFound, BifrostAuthError, BifrostRateLimited, BifrostUnavailable
from airflow_bifrost.gateway.models import Batch, DeletedFile, File, Page
from airflow_bifrost.gateway.pages import Listing

START = 1_800_000_000.0  # unix seconds


@dataclass
class Made:
    """A batch as the provider has it."""

    id: str
    created_at: float
    rows: int
    metadata: dict[str, str]
    visible_at: float
    owner: str
    status: str = "in_progress"
    input_file_id: str | None = None
    custom_ids: tuple[str, ...] = ()

    @property
    def paid(self) -> bool:
        return self.status not in ("cancelling", "cancelled", "failed")


@dataclass
class BatchApi:
    """The calls of :class:`airflow_bifrost.gateway.client.GatewayClient` that a ledger makes.

    :param keeps_metadata: whether the provider stores it.
    :param create_as: how the next creates end, see :meth:`create`; then ``"ok"``.
    :param list_as: how the next lists end: ``"ok"``, ``"cut"``, ``"empty pages"``, ``"away"`` or ``"refused"``.
    :param before: called before each call with its name: a test raises here, or does what another worker does.
    """

    keeps_metadata: bool = True
    now: float = START
    batches: list[Made] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    create_as: list[str] = field(default_factory=list)
    list_as: list[str] = field(default_factory=list)
    file_status: list[str] = field(default_factory=list)
    before: Callable[[str], None] = lambda _: None
    calls: list[str] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)
    page_size: int = 100
    answers_without_metadata: bool = False
    owner: str = "mine"  # of the batches that are created now
    clock_offset: float | None = None
    key_id: str = ""

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def make(
        self, owner: str = "mine", *, metadata: dict[str, str] | None = None, late: float = 0.0, **fields: Any
    ) -> Made:
        """A batch that is there from now on; with ``late``, it shows in the list that many seconds from now."""
        made = Made(
            id=f"batch_{len(self.batches) + 1}",
            created_at=self.now + late,
            rows=fields.pop("rows", 2),
            metadata=(metadata or {}) if self.keeps_metadata else {},
            visible_at=self.now + late,
            owner=owner,
            **fields,
        )
        self.batches.append(made)
        return made

    def paid(self, owner: str = "mine") -> list[str]:
        return [made.id for made in self.batches if made.paid and made.owner == owner]

    def _call(self, name: str) -> None:
        self.calls.append(name)
        self.before(name)

    def create(self, metadata: dict[str, str], **fields: Any) -> Batch:
        """A create.

        ``lost``: the answer is lost; ``late``: the same, and the batch appears after minutes; ``twice``: two batches, one answer;
        ``twice, lost``; ``six times, lost``: one every 250 s, as 1.5.16 does with max_retries 2; ``429, applied``: the batch exists, the
        answer is a refusal; ``429``, ``400``, ``503``: nothing was created; ``closed``: no answer, nothing was created; ``unsent``: the
        connection was refused.
        """
        self._call("create")
        how = self.create_as.pop(0) if self.create_as else "ok"
        if how in ("ok", "lost", "429, applied") or how.startswith("twice"):
            made = self.make(self.owner, metadata=metadata, **fields)
        if how.startswith("twice"):
            self.now += 1
            made = self.make(self.owner, metadata=metadata, **fields)
        if how == "late":
            self.make(self.owner, metadata=metadata, late=240.0, **fields)
        if how == "six times, lost":
            for number in range(6):
                self.make(self.owner, metadata=metadata, late=250.0 * number, **fields)
        match how:
            case "ok" | "twice":
                return self._wire(made)
            case "429" | "429, applied":
                raise BifrostRateLimited("refused", status_code=429)
            case "400":
                raise BifrostAuthError("refused", status_code=403)
            case "503":
                raise BifrostUnavailable("503", status_code=503)
            case "unsent":
                error = BifrostUnavailable("connection refused")
                error.sent = False
                raise error
        raise BifrostUnavailable("no answer")

    def upload(self, name: str) -> File:
        self._call("upload")
        file_id = f"file-{len(self.files) + 1}"
        self.files[file_id] = name
        return File(id=file_id, status=self.file_status.pop(0) if self.file_status else "processed")

    def get_file(self, file_id: str, *, provider: str | None = None) -> File:
        self._call("get_file")
        if file_id not in self.files:
            raise BatchNotFound("no such file", status_code=404)
        return File(id=file_id, status=self.file_status.pop(0) if self.file_status else "processed")

    def delete_file(self, file_id: str, *, provider: str | None = None) -> DeletedFile:
        self._call("delete_file")
        del self.files[file_id]
        return DeletedFile(id=file_id, deleted=True)

    def get_batch(self, batch_id: str, *, provider: str | None = None) -> Batch:
        self._call("get_batch")
        return self._wire(self._find(batch_id))

    def cancel_batch(self, batch_id: str, *, provider: str | None = None) -> Batch:
        self._call("cancel_batch")
        self._find(batch_id).status = "cancelling"
        return self._wire(self._find(batch_id))

    def list_page(
        self, *, provider: str | None = None, limit: int | None = None, after: str | None = None
    ) -> Page[Batch]:
        self._call("list")
        how = self.list_as.pop(0) if self.list_as else "ok"
        match how:
            case "away":
                raise BifrostUnavailable("the list is away", status_code=503)
            case "refused":
                raise BifrostAuthError("the list is refused", status_code=403)
            case "cut":
                return Page[Batch](data=(), has_more=True)
            case "empty pages":
                self.list_as.insert(0, "empty pages")
                return Page[Batch](data=(), has_more=True, next_cursor=f"cursor-{len(self.calls)}")
        shown = sorted(
            (made for made in self.batches if made.visible_at <= self.now), key=lambda made: -made.created_at
        )
        begin = int(after or 0)
        end = begin + min(limit or 30, self.page_size)
        more = end < len(shown)
        return Page[Batch](
            data=tuple(map(self._wire, shown[begin:end])),
            has_more=more,
            next_cursor=(str(end) if self.keeps_metadata else "0") if more else None,
        )

    def list_batches(self, *, provider: str | None = None, page_size: int = 100) -> Listing[Batch]:
        return Listing(lambda after: self.list_page(limit=page_size, after=after), pages=self.keeps_metadata)

    def result_ids(self, batch_id: str) -> tuple[str, ...]:
        return self._find(batch_id).custom_ids

    def _find(self, batch_id: str) -> Made:
        for made in self.batches:
            if made.id == batch_id:
                return made
        raise BatchNotFound("no such batch", status_code=404)

    def _wire(self, made: Made) -> Batch:
        return Batch.model_validate(
            {
                "id": made.id,
                "status": made.status,
                "created_at": int(made.created_at),
                "metadata": made.metadata,
                "input_file_id": made.input_file_id,
                "request_counts": {"total": made.rows, "completed": 0, "failed": 0},
            }
        )
