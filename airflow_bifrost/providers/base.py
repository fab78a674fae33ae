"""The facts that the package needs about a model provider. Each file next to this one has those of one provider, with their sources."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal

from airflow_bifrost.providers.forms import ANY_ID, IdRule, LineForm, PromptForm, SchemaForm, canonical_endpoint
from airflow_bifrost.providers.statuses import FINISHED, BatchStatus, Counts, Outcome

UNLIMITED = sys.maxsize
MB = 10**6  # read a provider's "MB" and "GB" as powers of ten: the smaller reading satisfies both


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one batch may hold.

    :param rows: maximum number of rows. A row of embeddings counts once for each of its inputs.
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
    """Where a provider reports how many rows it has processed."""

    IN_LIST = "in the list"
    IN_RETRIEVE = "when the batch is retrieved"
    NOWHERE = "usually nowhere"


@dataclass(frozen=True, slots=True, kw_only=True)
class ListBehavior:
    """What a provider's list of batches shows through the gateway.

    :param pages: whether the cursor leads to the next page. If not, the gateway returns page 1 again and again.
    :param counts: where the counts of rows are.
    """

    pages: bool
    counts: ListedCounts


class ResultLocation(Enum):
    """Where the results of a batch are."""

    FILES = "the output file and the error file, through the gateway"
    NATIVE = "the gateway's native results route"
    OBJECT_STORAGE = "an object store, below output_file_id"


def same_id(batch_id: str) -> str:
    """The mapping for a provider whose batches have the same ID everywhere."""
    return batch_id


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredResults:
    """How a provider lays out results in an object store.

    :param scheme: the URI's scheme, such as ``s3``.
    :param file: matches the name of a file of results, without its folder.
    :param in_job_folder: whether each job writes into a folder named after it, so that one prefix may serve many jobs.
    :param folder: the folder that the additional members of a create call name; None if they name none.
    :param usual_file: the name of the only file, as a rule, if the gateway also returns the results; None: only the store has them.
    :param file_id: converts the URI of a file to the ID by which the gateway knows the file.
    """

    scheme: str
    file: re.Pattern[str]
    in_job_folder: bool
    folder: Callable[[Mapping[str, Any]], str | None]
    usual_file: str | None = None
    file_id: Callable[[str], str] = same_id


@dataclass(frozen=True, slots=True, kw_only=True)
class FullQueue:
    """One way in which a provider reports that its queue of batches is full. Exactly one of ``word`` and ``message`` is set.

    :param where: ``create``: the provider refuses the create call. ``batch``: it creates the batch, and fails it before any row runs.
    :param statuses: HTTP statuses of the refusal; None for a batch.
    :param word: the error's type or code.
    :param message: matches part of the error's message.
    """

    where: Literal["create", "batch"]
    statuses: frozenset[int] | None = None
    word: str | None = None
    message: re.Pattern[str] | None = None

    def matches(self, *words: str | None, message: str | None) -> bool:
        """Whether an error with these words (its type and code) and this message reports a full queue."""
        if self.message is not None:
            return self.message.search(message or "") is not None
        return self.word in words


def says(pattern: str) -> re.Pattern[str]:
    """A case-insensitive pattern for part of an error message."""
    return re.compile(pattern, re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileReadiness:
    """The statuses of an uploaded file. The provider refuses to create a batch from a file that is not ready.

    :param ready: statuses of a file that a batch may use.
    :param failed: statuses of a file that never becomes ready.
    """

    ready: frozenset[str]
    failed: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """Everything this package knows about one model provider behind the gateway.

    :param name: as the gateway spells it.
    :param limits: the limits of one batch.
    :param custom_ids: which IDs a row may have.
    :param lines: the form of an input line.
    :param prompts: how a prompt becomes a request body, by endpoint. The entry under None applies to all endpoints.
    :param schema: how a request asks for an answer in a JSON schema; None: unsupported.
    :param needs_model: whether the create call must name the model. For other providers it must not: the gateway's governance could rewrite
        the model to one of another provider.
    :param refused_create: what to check if the provider refuses a create call, in addition to what it says itself.
    :param metadata: whether the provider stores a batch's metadata and shows it in the list.
    :param too_many_files: matches the message with which the provider refuses an upload because it keeps too many files; None: unknown.
    :param expires_output: whether the create call takes ``output_expires_after``.
    :param listing: what the list of batches shows; None: unknown, so the list is not used.
    :param results: where the results are.
    :param stored: how the results are laid out, with ``results=OBJECT_STORAGE``.
    :param files: the statuses of an uploaded file; None: a file is ready at once.
    :param full_queues: the ways in which the provider reports that its queue is full.
    :param completed_includes_failed: whether the count ``completed`` includes rows that failed.
    :param failed_hides_results: whether a batch with the status ``failed`` may have completed rows with usable results.
    :param completed_hides_failures: whether a batch with the status ``completed`` and without counts may have failed rows.
    :param listed_id: converts any ID of a batch to the one that the list shows.
    :param native_id: converts the ID of the OpenAI-compatible routes to the one that the gateway's native routes take.
    :param one_file_id: whether every answer about a file has the ID that was requested.
    """

    name: str
    limits: Limits
    custom_ids: IdRule = ANY_ID
    lines: LineForm = field(default_factory=LineForm)
    prompts: Mapping[str | None, PromptForm] = field(default_factory=dict)
    schema: SchemaForm | None = None
    needs_model: bool = False
    refused_create: str | None = None
    metadata: bool = False
    too_many_files: re.Pattern[str] | None = None
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
        """How a prompt becomes a request body for an endpoint (in any spelling); None if unknown."""
        return self.prompts.get(None) or self.prompts.get(canonical_endpoint(endpoint))

    @property
    def lists_all_pages(self) -> bool:
        """Whether to request further pages of the list. True if nothing is known about the list."""
        return self.listing is None or self.listing.pages

    def is_same_batch(self, asked: str, answered: str) -> bool:
        """Whether an answer with the ID ``answered`` is about the requested batch ``asked``."""
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
        """How many rows the provider has processed, with any outcome; None if the counts do not say."""
        if self.completed_includes_failed:
            return counts.completed
        given = [counts.completed, counts.failed, counts.expired, counts.canceled]
        return sum(number for number in given if number) if counts.completed is not None else None

    def succeeded_rows(self, counts: Counts) -> int | None:
        """How many rows have an answer; None if the counts do not say."""
        if counts.succeeded is not None:
            return counts.succeeded
        if not self.completed_includes_failed:
            return counts.completed
        # The gateway omits ``succeeded`` if it is 0.
        return None if counts.completed is None or counts.failed is None else counts.completed - counts.failed

    def results_late(
        self, status: str, counts: Counts, *, output_file_id: str | None, error_file_id: str | None
    ) -> bool:
        """Whether a terminal batch does not name its output file yet, although rows have succeeded or may have.

        Some batches are ``completed`` several polls before their ``output_file_id`` appears (seen with OpenAI behind gateways, with and
        without counts). Keep polling such a batch for a while. If it still names no file, its results may exist, but cannot be found.

        An error file proves nothing: it may be named before the output file. Only counts of all rows prove that no row succeeded.

        :param status: as the gateway sent it.
        """
        if self.results is ResultLocation.NATIVE or output_file_id or self.outcome(status, counts) is None:
            return False
        succeeded = self.succeeded_rows(counts)
        if succeeded:
            return True
        if BatchStatus.of(status) in FINISHED:
            return not (succeeded == 0 and self.counts_all_rows(counts))
        # Usually, a batch that failed, expired or was cancelled before a row succeeded has no output file. If it has an error file, some of
        # its rows were processed.
        return succeeded is None and error_file_id is not None

    def counts_all_rows(self, counts: Counts) -> bool:
        """Whether each row of a batch is counted as processed. Counts may be late, just as files may."""
        processed = self.processed_rows(counts)
        return bool(counts.total) and processed is not None and processed >= (counts.total or 0)

    def _outcome_of_completed(self, status: str, counts: Counts) -> Outcome:
        if not counts.failed:
            # Not Google's own word, which distinguishes the two.
            translated = status.strip().lower() == BatchStatus.COMPLETED
            hidden = self.completed_hides_failures and translated and counts.total is None and counts.completed is None
            some_missing = _is_short(counts) or counts.expired or counts.canceled
            return Outcome.PARTIAL if hidden or some_missing else Outcome.SUCCEEDED
        if self.completed_includes_failed:
            return Outcome.PARTIAL if counts.succeeded else Outcome.FAILED
        if counts.total is not None:
            return Outcome.FAILED if counts.failed >= counts.total else Outcome.PARTIAL
        return Outcome.PARTIAL if counts.completed or counts.succeeded else Outcome.FAILED


def _outcome_of_ended(counts: Counts) -> Outcome:
    """The outcome for ``ended``, which Anthropic reports for every outcome of the rows. Only the counts tell them apart."""
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
    return Outcome.PARTIAL  # Without counts, some rows may have results, and some may not.


def _is_short(counts: Counts) -> bool:
    """Whether the counts show fewer processed rows than the batch has."""
    done = (counts.completed, counts.succeeded)
    return counts.total is not None and any(number is not None and number < counts.total for number in done)
