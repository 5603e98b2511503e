"""Indexer acknowledgement of HEC: ids per channel; a `true` can be read once. Pure; times are arguments, in seconds."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

GUID = re.compile(r"[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")


class ChannelFull(Exception):
    """The channel holds the maximum number of unread acknowledgements: code 27."""


@dataclass(slots=True)
class _Channel:
    used_at: float
    next_id: int = 0
    ready_at: dict[int, float] = field(default_factory=dict)


class Acks:
    """The acknowledgements of one token.

    Each becomes true `delay` seconds after its request (about 1 on an idle server). A channel unused for `max_idle`
    seconds is forgotten with its ids (`maxIdleTime`, 600 by default in inputs.conf). Above `max_unacked` a channel
    refuses requests (`max_number_of_acked_requests_pending_query_per_ack_channel` in limits.conf).
    """

    def __init__(self, *, delay: float = 1.0, max_idle: float = 600.0, max_unacked: int = 1_000_000) -> None:
        self.delay = delay
        self.max_idle = max_idle
        self.max_unacked = max_unacked
        self._channels: dict[str, _Channel] = {}

    def check(self, channel: str, now: float) -> None:
        """Raise ChannelFull if `channel` can accept no further request."""
        if len(self._channel(channel, now).ready_at) >= self.max_unacked:
            raise ChannelFull

    def issue(self, channel: str, now: float) -> int:
        """Return the id of an accepted request: 0, 1, 2, … within its channel."""
        held = self._channel(channel, now)
        number = held.next_id
        held.next_id += 1
        held.ready_at[number] = now + self.delay
        return number

    def read(self, channel: str, ids: Iterable[int], now: float) -> dict[str, bool]:
        """Return for each id whether it is indexed; true ones are discarded. Unknown ids are false, never an error."""
        held = self._channel(channel, now)
        answer = {}
        for number in ids:
            is_ready = number in held.ready_at and held.ready_at[number] <= now
            if is_ready:
                del held.ready_at[number]
            answer[str(number)] = is_ready
        return answer

    def _channel(self, name: str, now: float) -> _Channel:
        held = self._channels.get(name)
        if held is None or now - held.used_at > self.max_idle:
            held = self._channels[name] = _Channel(now)
        held.used_at = now
        return held
