"""What the telemetry has told so far, as a value that enriching folds over. Pure."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from telemetry_forwarder.records.handover import Handover
from telemetry_forwarder.records.record import Item
from telemetry_forwarder.records.running import ENDS, Heard, is_loss, is_needed

if TYPE_CHECKING:
    from telemetry_forwarder.records.tracing import Traces


class Knowledge(Struct, frozen=True, kw_only=True):
    """What the telemetry up to one point has told. With it, anyone makes the same records of what follows."""

    instance_id: str | None
    init_type: str | None
    current: str | None = None
    first: str | None = None
    starts: int = 0
    init_within: str | None = None  # the request within which the last init began
    known: tuple[str, ...] = ()  # requests that were started, oldest first
    ended: tuple[str, ...] = ()  # requests in `known` that have ended; only on Managed Instances
    inherited: str | None = None  # the last request of the previous generation
    inherited_first: str | None = None  # and its first request
    restored: str | None = None  # the name of an environment that was restored from a snapshot
    is_lost: bool = False  # for this and the next three see `Running`
    started_ms: int = 0
    end: tuple[str, int] | None = None
    invocations: tuple[tuple[str, int, int], ...] = ()  # `Invocation`s as plain tuples
    is_traced: bool = False  # whether records get the trace id of their request
    traces: tuple[tuple[str, str], ...] = ()  # the trace ids that Lambda told, of requests in `known` and `inherited`


def traces_of(knowledge: Knowledge) -> "Traces | None":
    """Return the trace ids of the requests; None, and import nothing, if records get none."""
    if not knowledge.is_traced:
        return None
    from telemetry_forwarder.records.tracing import Traces  # loaded only where traces are on

    return Traces(knowledge.traces)


def consult(knowledge: Knowledge, heard: Heard, items: Sequence[Item], gaps: Sequence[int] = ()) -> Knowledge:
    """Return `knowledge` with the INVOKE events that are needed to enrich `items`. Call it before enriching them.

    Events are copied only if the telemetry leaves something open, because each change makes the caller save it again.
    """
    told = heard.since(knowledge.current, knowledge.started_ms)
    if not told or knowledge.invocations[-len(told) :] == told:
        return knowledge
    is_lossy = knowledge.is_lost or gaps or any(is_loss(one) for one in items if one.type != "function")
    if not (is_lossy or is_needed(told, knowledge.current, items)):
        return knowledge
    return replace(
        knowledge, first=knowledge.first or heard.first, invocations=tuple([(*invocation,) for invocation in told])
    )


def handover(knowledge: Knowledge, heard: Heard) -> Handover:
    """Return what the next generation has to know. Its `request_id` is the running request if that is certain."""
    told = heard.since(knowledge.current, knowledge.started_ms)
    newest = told[-1].request_id if told else knowledge.invocations[-1][0] if knowledge.invocations else None
    is_open = is_in_doubt(knowledge)
    is_certain = newest == knowledge.current or not is_open if newest is not None else not knowledge.is_lost
    running = knowledge.current if is_certain else None
    request_id = running if knowledge.starts or is_open else knowledge.inherited
    is_traced = knowledge.is_traced and request_id is not None
    return Handover(
        instance_id=knowledge.instance_id,
        request_id=request_id,
        first=knowledge.first or knowledge.inherited_first,
        restored=knowledge.restored,
        trace_id=dict(knowledge.traces).get(request_id or "") if is_traced else None,
        started=str(knowledge.started_ms) if is_traced and request_id == knowledge.current else None,
    )


def is_in_doubt(knowledge: Knowledge) -> bool:
    """Return whether only an INVOKE event can tell which request runs."""
    told = knowledge.invocations
    return knowledge.is_lost or bool(told and told[-1][0] != knowledge.current)


def init_start_in(items: Sequence[Item]) -> Mapping[str, Any]:
    bodies = (item.body for item in items if item.type == "platform.initStart" and isinstance(item.body, dict))
    return next(bodies, {})


def ended_before_any_start(items: Sequence[Item]) -> str | None:
    """Return the request whose end comes before any start, or None; None also if something was lost before that end.

    The first items of a new generation may be the last lines of an invocation that ended the previous one, or an init
    within an invocation whose start came before the subscription. Only the end event after them names that request.
    """
    for item in items:
        body = item.body if isinstance(item.body, dict) else {}
        if item.type in ("platform.start", "platform.logsDropped"):
            return None
        if item.type == "platform.initStart" and body.get("phase") != "invoke":
            return None
        if item.type in ENDS and isinstance(request_id := body.get("requestId"), str):
            return request_id
    return None
