"""What the rest of the package asks about a model provider. Each file next to this one answers for one provider, with its sources."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

from airflow_bifrost.providers.forms import ANY_ID, IdRule, LineForm, PromptForm, SchemaForm, canonical_endpoint
from airflow_bifrost.providers.statuses import FINISHED, BatchStatus, Counts, Outcome

UNLIMITED = sys.maxsize
MB = 10**6  # providers' "MB" and "GB" are read as powers of ten: the smaller reading is within the limit by either


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one batch may hold.

    :param rows: maximum number of rows. A row of embeddings counts as many as it has inputs.
    :param bytes: maximum size of an input file; with ``inline``, of the rows in the create call.
    :param min_rows: minimum number of rows.
    :param one_model: whether all rows must name the same model.
    :param inline: whether the create call takes the rows themselves instead of the ID of a file.
    """

    rows: int
    bytes: int
    min_rows: int = 0
    one_model: bool = False
    inline: bool = False


class ListedCounts(Enum):
    """Where a provider says how many rows are done."""

    IN_LIST = "in the list"
    IN_RETRIEVE = "when the batch is retrieved"
    NOWHERE = "as a rule, nowhere"


@dataclass(frozen=True, slots=True, kw_only=True)
class ListBehavior:
    """What a provider's list of batches shows through the gateway.

    :param pages: whether the cursor leads to further pages. If not, the gateway returns page 1 again, for ever.
    :param counts: where the counts are.
    """

    pages: bool
    counts: ListedCounts


class ResultLocation(Enum):
    """Where the results of a batch are."""

    FILES = "the output file and the error file, through the gateway"
    NATIVE = "the gateway's native results route"
    OBJECT_STORAGE = "an object store, below output_file_id"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredResults:
    """How a provider lays out results in an object store.

    :param scheme: of the URI, such as ``s3``.
    :param file: matches the name of a file with results, without its folder.
    :param in_job_folder: whether each job writes into a folder named after it, so that one prefix may serve many jobs.
    """

    scheme: str
    file: re.Pattern[str]
    in_job_folder: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FullQueue:
    """One way in which a provider says that its queue of batches is full. Exactly one of ``word`` and ``message`` recognizes it.

    :param where: ``create``: it refuses the call; ``batch``: it creates the batch and fails it before a row has run.
    :param statuses: HTTP statuses of the refusal; None for a batch.
    :param word: the error's type or code.
    :param message: found within the error's message.
    """

    where: Literal["create", "batch"]
    statuses: frozenset[int] | None = None
    word: str | None = None
    message: re.Pattern[str] | None = None

    def matches(self, *words: str | None, message: str | None) -> bool:
        """Whether an error with these words (its type, its code) and this message says it."""
        if self.message is not None:
            return self.message.search(message or "") is not None
        return self.word in words


def says(pattern: str) -> re.Pattern[str]:
    """A pattern for part of an error message, in any case."""
    return re.compile(pattern, re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileReadiness:
    """What the status of an uploaded file says. A create with a file that is not ready is refused.

    :param ready: statuses of a file that a batch may use.
    :param failed: statuses of a file that never becomes ready.
    """

    ready: frozenset[str]
    failed: frozenset[str]


def same_id(batch_id: str) -> str:
    """A provider whose batches have one ID everywhere."""
    return batch_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """Everything this package knows about one model provider behind the gateway.

    :param name: as the gateway spells it.
    :param limits: of one batch.
    :param custom_ids: which IDs a row may have.
    :param lines: how a line of the input is spelled.
    :param prompts: how a prompt becomes a body, by endpoint; under None, whatever the endpoint is.
    :param schema: how a request asks for an answer of a JSON schema; None: this depends on the model.
    :param needs_model: whether the create call must name the model. For the others, a model in the create call only lets the gateway's
        governance rewrite it to that of another provider.
    :param metadata: whether the provider stores a batch's metadata and its list shows it.
    :param expires_output: whether the create call takes ``output_expires_after``.
    :param listing: what the list of batches shows; None: nothing is known, so the list is not used.
    :param results: where the results are.
    :param stored: how they are laid out, with ``results=OBJECT_STORAGE``.
    :param files: what the status of an uploaded file says; None: a file is ready at once.
    :param full_queues: how the provider says that its queue is full.
    :param completed_includes_failed: whether the count ``completed`` includes rows that failed.
    :param failed_hides_results: whether a batch with the status ``failed`` may have completed rows with usable results.
    :param completed_hides_failures: whether a batch with the status ``completed`` and without counts may have failed rows.
    :param listed_id: the ID under which the list shows a batch, from any of its IDs.
    :param native_id: the ID that the gateway's native routes pass on, from that of the OpenAI-compatible routes.
    :param one_file_id: whether every answer about a file carries the ID that was asked for.
    """

    name: str
    limits: Limits
    custom_ids: IdRule = ANY_ID
    lines: LineForm = field(default_factory=LineForm)
    prompts: Mapping[str | None, PromptForm] = field(default_factory=dict)
    schema: SchemaForm | None = None
    needs_model: bool = False
    metadata: bool = False
    expires_output: bool = False
    listing: ListBehavior | None = None
    results: ResultLocation = ResultLocation.FILES
    stored: StoredResults | None = None
    files: FileReadiness | None = None
    full_queues: tuple[FullQueue, ...] = ()
    completed_includes_failed: bool = False
    failed_hides_results: bool = False
    completed_hides_failures: bool = False
    listed_id: Callable[[str], str] = same_id
    native_id: Callable[[str], str] = same_id
    one_file_id: bool = False

    def prompt_form(self, endpoint: str) -> PromptForm | None:
        """How a prompt becomes a body for an endpoint, in any spelling; None: unknown."""
        return self.prompts.get(None) or self.prompts.get(canonical_endpoint(endpoint))

    @property
    def lists_all_pages(self) -> bool:
        """Whether further pages of the list are worth a request; also where nothing is known."""
        return self.listing is None or self.listing.pages

    def is_same_batch(self, asked: str, answered: str) -> bool:
        """Whether an answer with the ID ``answered`` is about the batch ``asked``."""
        return any(same(asked) == same(answered) for same in (same_id, self.listed_id, self.native_id))

    def outcome(self, status: str, counts: Counts) -> Outcome | None:
        """The outcome of a batch; None while it is not terminal or its status is unknown.

        :param status: as the gateway sent it.
        """
        match BatchStatus.of(status):
            case BatchStatus.COMPLETED:
                return self._outcome_of_completed(status, counts)
            case BatchStatus.PARTIALLY_COMPLETED:
                return Outcome.PARTIAL
            case BatchStatus.ENDED:
                return _outcome_of_ended(counts)
            case BatchStatus.FAILED:
                return Outcome.PARTIAL if self.failed_hides_results and counts.completed else Outcome.FAILED
            case BatchStatus.EXPIRED:
                return Outcome.EXPIRED
            case BatchStatus.CANCELLED:
                return Outcome.CANCELLED
        return None

    def processed_rows(self, counts: Counts) -> int | None:
        """How many rows the provider is done with, whatever their outcome; None where the counts do not say."""
        if self.completed_includes_failed:
            return counts.completed
        given = [counts.completed, counts.failed, counts.expired, counts.canceled]
        return sum(number for number in given if number) if counts.completed is not None else None

    def succeeded_rows(self, counts: Counts) -> int | None:
        """How many rows have an answer; None where the counts do not say."""
        if counts.succeeded is not None:
            return counts.succeeded
        if not self.completed_includes_failed:
            return counts.completed
        # The gateway leaves out ``succeeded`` where it is 0.
        return None if counts.completed is None or counts.failed is None else counts.completed - counts.failed

    def results_late(
        self, status: str, counts: Counts, *, output_file_id: str | None, error_file_id: str | None
    ) -> bool:
        """Whether a terminal batch does not name its results yet, although rows have succeeded or may have.

        Some batches are ``completed`` several polls before their ``output_file_id`` appears (seen at OpenAI behind gateways, with and
        without counts). Poll such a batch again for a while. If it still names no file then, its results are not lost, but not known.

        :param status: as the gateway sent it.
        """
        if self.results is ResultLocation.NATIVE or output_file_id or self.outcome(status, counts) is None:
            return False
        succeeded = self.succeeded_rows(counts)
        if succeeded:
            return True
        if BatchStatus.of(status) not in FINISHED:
            return False  # as a rule, a batch that failed, expired or was cancelled before a row succeeded has no output file
        processed = self.processed_rows(counts)
        nothing_succeeded = succeeded == 0 and (counts.total is None or (processed or 0) >= counts.total)
        return not (nothing_succeeded or error_file_id)

    def _outcome_of_completed(self, status: str, counts: Counts) -> Outcome:
        if not counts.failed:
            translated = status.strip().lower() == BatchStatus.COMPLETED  # Google's own word tells the two apart
            hidden = self.completed_hides_failures and translated and counts.total is None and counts.completed is None
            some_missing = _is_short(counts) or counts.expired or counts.canceled
            return Outcome.PARTIAL if hidden or some_missing else Outcome.SUCCEEDED
        if self.completed_includes_failed:
            return Outcome.PARTIAL if counts.succeeded else Outcome.FAILED
        if counts.total is not None:
            return Outcome.FAILED if counts.failed >= counts.total else Outcome.PARTIAL
        return Outcome.PARTIAL if counts.completed or counts.succeeded else Outcome.FAILED


def _outcome_of_ended(counts: Counts) -> Outcome:
    """Anthropic says ``ended`` whatever happened to the rows, so only the counts tell."""
    succeeded = (counts.succeeded if counts.succeeded is not None else counts.completed) or 0
    others = {
        Outcome.FAILED: counts.failed or 0,
        Outcome.EXPIRED: counts.expired or 0,
        Outcome.CANCELLED: counts.canceled or 0,
    }
    if succeeded:
        return Outcome.PARTIAL if _is_short(counts) or any(others.values()) else Outcome.SUCCEEDED
    if any(others.values()):
        return max(others, key=lambda outcome: others[outcome])
    return Outcome.PARTIAL  # Without counts, results may exist, and nothing shows that every row has one.


def _is_short(counts: Counts) -> bool:
    """Whether fewer rows are done than the batch has."""
    done = (counts.completed, counts.succeeded)
    return counts.total is not None and any(number is not None and number < counts.total for number in done)
