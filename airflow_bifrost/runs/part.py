"""A part of a run: the rows of one batch."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class RunPart:
    """The rows of one batch.

    :param number: unique in the run; the ledger identifies the submission by it.
    :param round: 1 for the input itself, then one more each time that rows are sent again.
    :param file: name of its lines in the run's folder.
    :param bytes: size of the lines.
    :param sha256: SHA-256 of the lines.
    :param first: position of its first row in the input, from 0; None in later rounds, whose rows are scattered.
    :param probe: these rows are sent to find out whether it is worth sending the others again.
    :param fixed: must be submitted unchanged: a create call may have been made for it, or it cannot be split.
    :param batch_id: its batch; None until it is submitted.
    :param attempt: number of the task's attempt that submitted it.
    :param confirmed: False if the batch may belong to another task. Its results must then be compared with the rows once it has ended.
    :param ended: its batch is terminal.
    :param outcome: outcome of its batch at the time when the results were read.
    :param duplicates: other batches that the gateway made by repeating the create call. They are cancelled.
    :param input_file_id: the file that this task uploaded for it; None if there is no such file.
    :param waits_for: batches that filled the provider's queue when the part was refused. One of them must end first.
    :param halve: split it in half, because the provider's queue takes no part of this size.
    :param cancel_requested: the run has cancelled its batch.
    :param lost: the gateway does not find its batch, or not its results. The next attempt looks for them again.
    :param resent: its batch was cancelled, and those of its rows that have no result were sent again in a later round.
    """

    number: int
    round: int
    file: str
    rows: int
    bytes: int
    sha256: str
    first: int | None = None
    probe: bool = False
    fixed: bool = False
    batch_id: str | None = None
    attempt: int = 0
    confirmed: bool = True
    ended: bool = False
    outcome: str | None = None
    duplicates: list[str] = field(default_factory=list)
    input_file_id: str | None = None
    waits_for: list[str] = field(default_factory=list)
    halve: bool = False
    cancel_requested: bool = False
    resent: bool = False
    lost: bool = False

    def unsent(self) -> RunPart:
        """The same rows, before they were submitted."""
        return RunPart(self.number, self.round, self.file, self.rows, self.bytes, self.sha256, self.first, self.probe)
