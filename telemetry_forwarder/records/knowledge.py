"""What the telemetry has told so far, as a value: enriching is a fold over it. Pure."""

from collections.abc import Sequence

from telemetry_forwarder.lazy_dataclass import dataclass, replace
from telemetry_forwarder.records.handover import Handover
from telemetry_forwarder.records.record import Item
from telemetry_forwarder.records.running import Heard, is_loss, is_needed


@dataclass(frozen=True, slots=True, kw_only=True)
class Knowledge:
    """What the telemetry up to one place has told: with it, anybody makes the same records of what follows."""

    instance_id: str | None
    init_type: str | None
    current: str | None = None
    first: str | None = None
    starts: int = 0
    init_within: str | None = None  # the request that pays for the init that was last begun
    known: tuple[str, ...] = ()  # requests that were started, the oldest first
    ended: tuple[str, ...] = ()  # of those known, on Managed Instances
    inherited: str | None = None  # the request that ran last in the generation before, and its first one
    inherited_first: str | None = None
    restored: str | None = None  # the environment's own name, where it was restored from a snapshot that has another
    is_lost: bool = False  # these four: see `Running`
    started_ms: int = 0
    end: tuple[str, int] | None = None
    invocations: tuple[tuple[str, int, int], ...] = ()  # as JSON can hold them


def consult(knowledge: Knowledge, heard: Heard, items: Sequence[Item], gaps: Sequence[int] = ()) -> Knowledge:
    """Take over from the INVOKE events what `items` leave open, before they are enriched.

    Only what is needed, since whoever keeps what was known keeps it anew when something was learned.
    """
    told = heard.since(knowledge.current, knowledge.started_ms)
    if not told or knowledge.invocations[-len(told) :] == told:
        return knowledge
    if not (knowledge.is_lost or gaps or any(map(is_loss, items)) or is_needed(told, knowledge.current, items)):
        return knowledge
    return replace(
        knowledge, first=knowledge.first or heard.first, invocations=tuple([(*invocation,) for invocation in told])
    )


def handover(knowledge: Knowledge, heard: Heard) -> Handover:
    """Return what the next generation has to know: as the request that ran last one that is certain."""
    told = heard.since(knowledge.current, knowledge.started_ms)
    newest = told[-1].request_id if told else knowledge.invocations[-1][0] if knowledge.invocations else None
    is_open = is_in_doubt(knowledge)
    is_certain = newest == knowledge.current or not is_open if newest is not None else not knowledge.is_lost
    running = knowledge.current if is_certain else None
    return Handover(
        instance_id=knowledge.instance_id,
        request_id=running if knowledge.starts or is_open else knowledge.inherited,
        first=knowledge.first or knowledge.inherited_first,
        restored=knowledge.restored,
    )


def is_in_doubt(knowledge: Knowledge) -> bool:
    """Say whether it takes an INVOKE event to tell what runs."""
    told = knowledge.invocations
    return knowledge.is_lost or bool(told and told[-1][0] != knowledge.current)
