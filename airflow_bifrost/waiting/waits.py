"""What the schedule knows: the waits, and the requests in flight. Data only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_bifrost.waiting.decision import WaitState
from airflow_bifrost.waiting.policy import WaitPolicy

if TYPE_CHECKING:
    from airflow_bifrost.waiting.group import ProviderGroup


class ScheduledWait:
    """One batch that one trigger waits for. The hub's waits are also futures, so the fields become slots only there.

    :ivar next_poll_at: Unix seconds.
    :ivar request: the request in flight that answers for this wait; None: the next poll is scheduled, or due.
    :ivar sent_at: when the last request that answers for it was sent.
    :ivar counted_at: when its counts were last seen.
    :ivar last_entry: status and counts as last seen.
    :ivar left_to_sweep: whether its poll has been left to a sweep since the last answer.
    :ivar confirm: whether a list has shown it in a state that only a poll of the batch itself can confirm.
    :ivar last_chance: whether the deadline has passed, and one more poll was granted.
    :ivar over: whether the wait has ended, or was left.
    """

    if not TYPE_CHECKING:  # mypy would demand the fields here
        __slots__ = ()

    FIELDS = (
        "confirm",
        "counted_at",
        "created_at",
        "group",
        "last_chance",
        "last_entry",
        "left_to_sweep",
        "listed_id",
        "next_poll_at",
        "over",
        "policy",
        "request",
        "sent_at",
        "state",
    )

    state: WaitState
    policy: WaitPolicy
    group: ProviderGroup
    listed_id: str
    next_poll_at: float
    request: Request | None
    sent_at: float
    created_at: float | None
    counted_at: float
    last_entry: Any
    left_to_sweep: bool
    confirm: bool
    last_chance: bool
    over: bool

    def begin(self, state: WaitState, policy: WaitPolicy, group: ProviderGroup) -> None:
        """Set every field."""
        self.state = state
        self.policy = policy
        self.group = group
        self.listed_id = ""
        self.next_poll_at = state.next_poll_at
        self.request = None
        self.sent_at = 0.0
        self.created_at = None
        self.counted_at = 0.0
        self.last_entry = None
        self.left_to_sweep = False
        self.confirm = False
        self.last_chance = False
        self.over = False

    @property
    def batch_id(self) -> str:
        return self.state.batch_id

    @property
    def may_be_left_to_sweep(self) -> bool:
        """Whether this poll may wait for a sweep. Only once, because sweeps that never reach the batch would delay it forever."""
        return not (self.confirm or self.left_to_sweep)


@dataclass(slots=True, eq=False)
class PollBatch:
    """Poll one batch by its ID.

    :param waits: the waits that the poll answers.
    :param sent_at: Unix seconds.
    """

    group: ProviderGroup
    sent_at: float
    waits: list[ScheduledWait]

    @property
    def batch_id(self) -> str:
        return self.waits[0].batch_id


@dataclass(slots=True, eq=False)
class PollPage:
    """Poll one page of the list. See :class:`PollBatch`.

    :param cursor: None: the head of the list.
    :param walked: in a sweep, the cursors of its pages so far; None: a single page.
    :param next_cursor: of the page with which a sweep continues.
    :param stretch: poll intervals until the batches of the page are due again.
    """

    group: ProviderGroup
    sent_at: float
    waits: list[ScheduledWait]
    cursor: str | None
    walked: set[str | None] | None = None
    next_cursor: str | None = None
    stretch: float = 1.0


Request = PollBatch | PollPage
