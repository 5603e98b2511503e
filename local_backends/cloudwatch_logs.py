"""A strict local CloudWatch Logs. Source: CloudWatch Logs API Reference and the service's model in botocore."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NoReturn

from local_backends.aws_json import AwsError, AwsJson, Members, Operation
from local_backends.embedded_metrics import EmbeddedMetrics
from local_backends.faults import Fault, ServiceFault
from local_backends.log_groups import (
    MAX_BATCH_BYTES,
    MAX_EVENTS,
    RETENTION_DAYS,
    BatchRefused,
    LogEvent,
    LogGroup,
    LogStream,
    Window,
    check_order,
    check_sizes,
    check_span,
    rejected_entity,
    window,
)
from local_backends.server import Call

_GROUP_NAME = re.compile(r"[.\-_/#A-Za-z0-9]+")
_STREAM_NAME = re.compile(r"[^:*]*")
_CLASSES = frozenset({"STANDARD", "INFREQUENT_ACCESS", "DELIVERY"})
_MAX_TAGS = 50


@dataclass(frozen=True, slots=True)
class RejectEvents(ServiceFault):
    """Accept the batch but reject some events, as `rejectedLogEventsInfo` reports; rejected events are not stored.

    `too_old_end` and `expired_end` are exclusive, `too_new_start` is inclusive.
    """

    too_old_end: int | None = None
    too_new_start: int | None = None
    expired_end: int | None = None
    times: int | None = 1


class CloudWatchLogs(AwsJson):
    """CloudWatch Logs of one account and region: PutLogEvents, and the operations to set up groups and read events.

    `max_event_bytes` includes the 26 bytes of overhead; the limit was 262,144 before 2025 (and still is in some
    partitions, by their documentation). `expired_is_inclusive`: the model does not say whether
    `expiredLogEventEndIndex` is the index of the last expired event or of the one after it; the default is the one
    after. FilterLogEvents accepts no pattern.

    `groups` maps names to groups. `rejected` are the events that were rejected in a batch answered with 200. `metrics`
    are those that were extracted from the stored events of all groups, where these are in the embedded format.
    """

    target: ClassVar[str] = "Logs_20140328"
    service: ClassVar[str] = "logs"
    validation_error: ClassVar[str] = "InvalidParameterException"
    deliveries: ClassVar[frozenset[str]] = frozenset({"PutLogEvents"})
    own_faults: ClassVar[tuple[type, ...]] = (RejectEvents,)

    def __init__(
        self, *, max_event_bytes: int = MAX_BATCH_BYTES, expired_is_inclusive: bool = False, **listen: Any
    ) -> None:
        super().__init__(**listen)
        self.groups: dict[str, LogGroup] = {}
        self.rejected: list[LogEvent] = []
        self.metrics = EmbeddedMetrics()
        self._kept: list[LogEvent] = []
        self._max_event_bytes = max_event_bytes
        self._expired_is_inclusive = expired_is_inclusive

    @property
    def kept(self) -> Sequence[LogEvent]:
        return self._kept

    def operations(self) -> Mapping[str, Operation]:
        return {
            "CreateLogGroup": self._create_group,
            "CreateLogStream": self._create_stream,
            "PutRetentionPolicy": self._put_retention,
            "PutLogEvents": self._put_events,
            "DescribeLogGroups": self._describe_groups,
            "DescribeLogStreams": self._describe_streams,
            "GetLogEvents": self._get_events,
            "FilterLogEvents": self._filter_events,
        }

    def events(self, group: str, stream: str | None = None) -> list[LogEvent]:
        """Return the stored events of `stream`, or of the whole `group`, in order of arrival; [] if there are none."""
        held = self.groups.get(group)
        streams = [] if held is None else held.streams.values()
        return [event for each in streams if stream in (None, each.name) for event in each.events]

    # --- creating groups and streams ----------------------------------------------------------------------------------

    def _create_group(self, given: Members, call: Call, _fault: Fault | None) -> Members:
        name = self.text(given, "logGroupName", _GROUP_NAME, 512)
        if name.startswith("aws/"):
            self.invalid("Log groups starting with AWS/ are reserved for AWS.")
        log_class = given.get("logGroupClass", "STANDARD")
        if log_class not in _CLASSES:
            self.constraint("logGroupClass", f"Member must satisfy enum value set: {sorted(_CLASSES)}")
        tags = given.get("tags", {})
        if len(tags) > _MAX_TAGS:
            self.constraint("tags", f"Member must have length less than or equal to {_MAX_TAGS}")
        if name in self.groups:
            raise AwsError("ResourceAlreadyExistsException", "The specified log group already exists")
        self.groups[name] = LogGroup(name, round(call.time * 1000), log_class=log_class, tags=tags)
        return {}

    def _create_stream(self, given: Members, call: Call, _fault: Fault | None) -> Members:
        group = self._group(given)
        name = self.text(given, "logStreamName", _STREAM_NAME, 512)
        if name in group.streams:
            raise AwsError("ResourceAlreadyExistsException", "The specified log stream already exists")
        group.streams[name] = LogStream(name, round(call.time * 1000))
        return {}

    def _put_retention(self, given: Members, _call: Call, _fault: Fault | None) -> Members:
        group = self._group(given)
        days = given.get("retentionInDays")
        if days not in RETENTION_DAYS:
            self.constraint("retentionInDays", f"Member must satisfy enum value set: {sorted(RETENTION_DAYS)}")
        group.retention_days = days
        return {}

    # --- writing events -----------------------------------------------------------------------------------------------

    def _put_events(self, given: Members, call: Call, fault: Fault | None) -> Members:
        events = self._events(given)
        group, stream = self._stream(given)
        now_ms = round(call.time * 1000)
        times = [event.timestamp for event in events]
        taken = _forced(fault, len(events)) or window(times, now_ms, group.retention_days)
        try:
            check_sizes([event.message for event in events], self._max_event_bytes)
            check_order(times)
            check_span(times[taken.first : taken.last])
        except BatchRefused as refused:
            self.invalid(str(refused))
        stored = [LogEvent(each.timestamp, each.message, now_ms, stream.name) for each in events]
        stream.events += stored[taken.first : taken.last]
        self._kept += stored[taken.first : taken.last]
        for event in stored[taken.first : taken.last]:
            self.metrics.take(group.name, event.message, now_ms)
        self.rejected += stored[: taken.first] + stored[taken.last :]
        return self._put_answer(taken, given)

    def _put_answer(self, taken: Window, given: Members) -> Members:
        answer: Members = {"nextSequenceToken": f"{49}{len(self.requests):054d}"}  # current clients ignore it
        if info := taken.members(expired_is_inclusive=self._expired_is_inclusive):
            answer["rejectedLogEventsInfo"] = info
        if (entity := given.get("entity")) is not None and (why := rejected_entity(entity)):
            answer["rejectedEntityInfo"] = {"errorType": why}
        return answer

    def _events(self, given: Members) -> list[LogEvent]:
        """Return the events of a request, checked against the model's constraints."""
        entries = given.get("logEvents")
        if not isinstance(entries, list):
            self.constraint("logEvents", "Member must not be null")
        if not 1 <= len(entries) <= MAX_EVENTS:
            self.constraint("logEvents", f"Member must have length between 1 and {MAX_EVENTS}")
        return [self._event(entry, f"logEvents.{place}.member") for place, entry in enumerate(entries, 1)]

    def _event(self, entry: Any, where: str) -> LogEvent:
        if not isinstance(entry, dict):
            _unreadable(where)
        timestamp, message = entry.get("timestamp"), entry.get("message")
        for name, value in (("timestamp", timestamp), ("message", message)):
            if value is None:
                self.constraint(f"{where}.{name}", "Member must not be null")
        if type(timestamp) is not int or not isinstance(message, str):
            _unreadable(where)
        if timestamp < 0:
            self.constraint(f"{where}.timestamp", "Member must have value greater than or equal to 0")
        if not message:
            self.constraint(f"{where}.message", "Member must have length greater than or equal to 1")
        return LogEvent(timestamp, message)

    # --- reading them back --------------------------------------------------------------------------------------------

    def _describe_groups(self, given: Members, _call: Call, _fault: Fault | None) -> Members:
        prefix, pattern = given.get("logGroupNamePrefix", ""), given.get("logGroupNamePattern", "")
        if prefix and pattern:
            self.invalid("LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters.")
        names = sorted(name for name in self.groups if name.startswith(prefix) and pattern.lower() in name.lower())
        page, token = self._page(names, given, 50)
        return {"logGroups": [self._group_members(self.groups[name]) for name in page], **token}

    def _describe_streams(self, given: Members, _call: Call, _fault: Fault | None) -> Members:
        group = self._group(given)
        prefix = given.get("logStreamNamePrefix", "")
        by_time = given.get("orderBy", "LogStreamName") == "LastEventTime"
        if by_time and prefix:
            self.invalid("Cannot order by LastEventTime with a logStreamNamePrefix.")
        streams = sorted(
            (stream for stream in group.streams.values() if stream.name.startswith(prefix)),
            key=lambda stream: (max(stream.times, default=0) if by_time else 0, stream.name),
            reverse=bool(given.get("descending", False)),
        )
        page, token = self._page(streams, given, 50)
        return {"logStreams": [self._stream_members(group, stream) for stream in page], **token}

    def _get_events(self, given: Members, _call: Call, _fault: Fault | None) -> Members:
        """Read one stream. Tokens are `f/<place>` and `b/<place>`; at the end the same token is returned."""
        _, stream = self._stream(given)
        events = _between(stream.events, given)
        limit = int(given.get("limit", MAX_EVENTS))
        token = given.get("nextToken") or ("f/0" if given.get("startFromHead") else f"b/{len(events)}")
        way, _, place = token.partition("/")
        if way not in ("f", "b") or not place.isdecimal():
            self.invalid("The specified nextToken is invalid.")
        start = min(int(place), len(events)) if way == "f" else max(0, int(place) - limit)
        end = min(start + limit, len(events)) if way == "f" else min(int(place), len(events))
        return {
            "events": [_members(event) for event in events[start:end]],
            "nextForwardToken": f"f/{end}",
            "nextBackwardToken": f"b/{start}",
        }

    def _filter_events(self, given: Members, _call: Call, _fault: Fault | None) -> Members:
        group = self._group(given)
        if given.get("filterPattern"):
            self.invalid("This local service takes no filterPattern.")
        names, prefix = given.get("logStreamNames"), given.get("logStreamNamePrefix", "")
        chosen = [
            event
            for stream in group.streams.values()
            if (names is None or stream.name in names) and stream.name.startswith(prefix)
            for event in stream.events
        ]
        page, token = self._page(_between(chosen, given), given, MAX_EVENTS)
        events = [
            {**_members(event), "logStreamName": event.stream, "eventId": f"{place:056d}"}
            for place, event in enumerate(page)
        ]
        return {"events": events, "searchedLogStreams": [], **token}

    def _page(self, items: list[Any], given: Members, default: int) -> tuple[list[Any], Members]:
        """Return the page for `nextToken` and `limit`, and the token of the next page if there is one."""
        limit, token = given.get("limit", default), given.get("nextToken", "0")
        if not 1 <= limit <= default:
            self.constraint("limit", f"Member must have value between 1 and {default}")
        if not token.isdecimal():
            self.invalid("The specified nextToken is invalid.")
        start, end = int(token), int(token) + limit
        return items[start:end], {"nextToken": str(end)} if end < len(items) else {}

    # --- helpers ------------------------------------------------------------------------------------------------------

    def _group(self, given: Members) -> LogGroup:
        group = self.groups.get(self.text(given, "logGroupName", _GROUP_NAME, 512))
        if group is None:
            raise AwsError("ResourceNotFoundException", "The specified log group does not exist.")
        return group

    def _stream(self, given: Members) -> tuple[LogGroup, LogStream]:
        name = self.text(given, "logStreamName", _STREAM_NAME, 512)
        group = self._group(given)
        if name not in group.streams:
            raise AwsError("ResourceNotFoundException", "The specified log stream does not exist.")
        return group, group.streams[name]

    def _group_members(self, group: LogGroup) -> Members:
        arn = self.arn(f"log-group:{group.name}")
        members: Members = {
            "logGroupName": group.name,
            "creationTime": group.created_ms,
            "metricFilterCount": 0,
            "arn": f"{arn}:*",
            "logGroupArn": arn,
            "storedBytes": 0,  # the real figure lags by hours, too
            "logGroupClass": group.log_class,
        }
        return members if group.retention_days is None else {**members, "retentionInDays": group.retention_days}

    def _stream_members(self, group: LogGroup, stream: LogStream) -> Members:
        members: Members = {
            "logStreamName": stream.name,
            "creationTime": stream.created_ms,
            "arn": self.arn(f"log-group:{group.name}:log-stream:{stream.name}"),
            "storedBytes": 0,
        }
        if not stream.events:
            return members
        times = {"firstEventTimestamp": stream.times[0], "lastEventTimestamp": stream.times[-1]}
        return {**members, **times, "lastIngestionTime": stream.events[-1].ingestion_time}


def _forced(fault: Fault | None, count: int) -> Window | None:
    if not isinstance(fault, RejectEvents):
        return None
    first = min(count, max(fault.too_old_end or 0, fault.expired_end or 0))
    last = count if fault.too_new_start is None else max(first, fault.too_new_start)
    return Window(first, last, fault.too_old_end, fault.too_new_start, fault.expired_end)


def _unreadable(where: str) -> NoReturn:
    raise AwsError("SerializationException", f"{where} is not of its type")


def _between(events: list[LogEvent], given: Members) -> list[LogEvent]:
    """Return the events from `startTime` up to, not including, `endTime`, in order of their timestamps."""
    start, end = given.get("startTime", 0), given.get("endTime")
    chosen = [event for event in events if event.timestamp >= start and (end is None or event.timestamp < end)]
    return sorted(chosen, key=lambda event: event.timestamp)


def _members(event: LogEvent) -> Members:
    return {"timestamp": event.timestamp, "message": event.message, "ingestionTime": event.ingestion_time}
