"""What the schedule knows: the waits, gathered by provider, and the requests in flight. Data only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_bifrost import providers
from airflow_bifrost.waiting.decision import WaitPolicy, WaitState
from airflow_bifrost.waiting.limits import CircuitBreaker, ConcurrencyLimit
from airflow_bifrost.waiting.page_index import PageIndex


class ScheduledWait:
    """One batch that one trigger waits for. The hub's waits are futures as well, which is why the fields become slots only there.

    :ivar next_poll_at: Unix seconds.
    :ivar request: the request in flight that answers for this wait; None: the next poll is scheduled, or due.
    :ivar sent_at: when the last request that answers for it was sent.
    :ivar counted_at: when its counts were last seen.
    :ivar last_entry: status and counts as they were last seen.
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
        """Whether this poll may wait for a sweep: once, or sweeps that never come to the batch would put it off for ever."""
        return not (self.confirm or self.left_to_sweep)


@dataclass(slots=True, eq=False)
class PollBatch:
    """Poll one batch by its ID.

    :param waits: those that it answers for.
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


@dataclass(slots=True, eq=False)
class ProviderGroup:
    """The waits for the batches of one provider.

    :param provider: as the triggers name it; None: the connection's.
    :ivar name: the provider's name, known as soon as the connection is.
    :ivar waits: by the ID that a list shows.
    :ivar due: the waits whose next poll is due, in that order.
    :ivar pages: the requests in flight for a page, by cursor.
    :ivar sweep: the one in flight.
    :ivar list_faults: in a row.
    :ivar served: the number of the group's last request, of all that the schedule has given out.
    """

    provider: str | None
    name: str = ""
    index: PageIndex = field(default_factory=lambda: PageIndex(None))
    waits: dict[str, list[ScheduledWait]] = field(default_factory=dict)
    due: dict[ScheduledWait, None] = field(default_factory=dict)
    pages: dict[str | None, PollPage] = field(default_factory=dict)
    sweep: PollPage | None = None
    list_faults: int = 0
    in_flight: int = 0
    served: int = 0
    limit: ConcurrencyLimit = field(default_factory=lambda: ConcurrencyLimit(1))
    breaker: CircuitBreaker = field(default_factory=CircuitBreaker)

    @property
    def facts(self) -> providers.Provider:
        return providers.get(self.name or self.provider or "")

    def enter(self, wait: ScheduledWait) -> None:
        wait.listed_id = self.facts.listed_id(wait.batch_id)
        self.waits.setdefault(wait.listed_id, []).append(wait)
        self.index.add(wait.listed_id)

    def leave(self, wait: ScheduledWait) -> None:
        self.due.pop(wait, None)
        others = self.waits[wait.listed_id]
        others.remove(wait)
        if not others:
            del self.waits[wait.listed_id]
            self.index.remove(wait.listed_id)

    def slots(self, now: float) -> int:
        """How many requests for this provider may be in flight."""
        slots = self.breaker.slots(now)
        return self.limit.slots(now) if slots is None else slots
