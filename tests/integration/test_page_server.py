"""The page's server over real sockets: what it shows of a real environment, who may ask it, and what it answers."""

import asyncio
import contextlib
import io
import json
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from local_lambda import Fleet, Function
from local_lambda.errors import AddressInUse, InvalidSetting
from local_lambda.page import Request, Show, Sighting
from tests.integration.local_lambda_probe import FUNCTIONS, Probe
from tests.sharing import sharing


class Somewhere:
    """A destination that is told in the test what it has."""

    name = "somewhere"
    faults = {"503": "answers 503"}  # noqa: RUF012 - as the protocol has it

    def __init__(self) -> None:
        self.fault: str | None = None
        self.requests: list[Request] = []
        self.on_disk: list[Sighting] | None = None
        self._observer: Callable[[], None] = lambda: None

    @property
    def request_count(self) -> int:
        return len(self.requests)

    def request(self, number: int) -> Request:
        return self.requests[number]

    def waiting(self) -> Sequence[Sighting] | None:
        return self.on_disk

    def set_fault(self, fault: str | None) -> None:
        self.fault = fault

    def observe(self, observer: Callable[[], None]) -> None:
        self._observer = observer

    def have(self, *requests: Request) -> None:
        self.requests = list(requests)
        self._observer()


class Reader:
    """Reads the page's stream of events, as a browser does."""

    def __init__(self, stream: aiohttp.StreamReader) -> None:
        self._stream = stream
        self.tables: dict[str, dict[str, Any]] = {}

    async def message(self) -> tuple[str, Any]:
        lines = []
        while (line := (await self._stream.readline()).decode().rstrip("\n")) != "":
            lines.append(line)
        fields = dict(line.split(": ", 1) for line in lines)
        return fields["event"], json.loads(fields["data"])

    async def until(self, wanted: Callable[[dict[str, dict[str, Any]]], object]) -> Any:
        """Take messages until `wanted` is true of all rows; return what it returned."""
        async with asyncio.timeout(20):
            while not (found := wanted(self.tables)):
                kind, news = await self.message()
                for name, rows in news["rows"].items() if kind == "rows" else ():
                    self.tables.setdefault(name, {}).update({row["id"]: row for row in rows})
        return found


class World:
    """A page with an environment, and a client for it."""

    def __init__(self, show: Show, fleet: Fleet, http: aiohttp.ClientSession) -> None:
        self.url = show.url
        self.fleet = fleet
        self.http = http

    @asynccontextmanager
    async def reader(self) -> AsyncIterator[Reader]:
        async with self.http.get(f"{self.url}events") as response:
            assert response.headers["Content-Type"] == "text/event-stream"
            reader = Reader(response.content)
            kind, self.start = await reader.message()
            assert kind == "start"
            yield reader

    async def ask(self, what: str, **members: Any) -> tuple[int, Any]:
        """Press a button of the page."""
        origin = {"Origin": self.url.rstrip("/")}
        body = io.BytesIO(json.dumps(members).encode())
        async with self.http.post(f"{self.url}{what}", data=body, headers=origin) as response:
            return response.status, await response.json()


@asynccontextmanager
async def world(
    *probes: Probe, destinations: Sequence[Any] = (), concurrency: int = 1, **show: Any
) -> AsyncIterator[World]:
    variables = dict(probe.variable for probe in probes)
    function = Function(code=FUNCTIONS, timeout_s=10.0, environment=variables)
    async with (
        Show(port=0, destinations=destinations, **show) as shown,
        Fleet(
            function,
            [probe.path for probe in probes],
            concurrency=concurrency,
            platform=sharing(),
            on_start=shown.follow,
        ) as fleet,
        aiohttp.ClientSession() as http,
    ):
        shown.act_on(fleet)
        yield World(shown, fleet, http)


def state(tables: dict[str, dict[str, Any]]) -> str | None:
    """Return the state of the first environment."""
    return next((str(one["state"]) for one in tables.get("environments", {}).values()), None)


def invocations(tables: dict[str, dict[str, Any]], status: str) -> list[Any]:
    return [row for row in tables.get("invocations", {}).values() if row["status"] == status]


async def test_what_happens_is_sent_as_it_happens(tmp_path: Path) -> None:
    async with world(Probe(tmp_path), event={"print": ["hello"]}) as here, here.reader() as page:
        assert here.start == {"event": {"print": ["hello"]}}
        status, answer = await here.ask("invoke", event='{"print": ["hello"]}')
        assert status == 202
        row = await page.until(lambda tables: "answer" in tables.get("invocations", {}).get(answer["request"], {}) and
                               tables["invocations"][answer["request"]])  # fmt: skip
        assert (row["status"], row["environment"]) == ("success", "1")
        assert row["init_ms"] > 0
        await page.until(lambda tables: state(tables) == "frozen")
        assert page.tables["environments"]["1"]["number"] == 1
        kinds = {span["kind"] for span in page.tables["spans"].values()}
        assert {"init", "invoke", "overhead", "extension", "frozen"} <= kinds
        (status, _) = await here.ask("shutdown")
        assert status == 202
        await page.until(lambda tables: state(tables) == "ended")
        (ending,) = [span for span in page.tables["spans"].values() if span["kind"] == "shutdown"]
        assert ending["detail"] == "spindown"
        assert ending["ended"] > ending["began"]
        assert await here.ask("invoke", event="{}") == (
            409, {"error": "The environment was shut down. Ctrl-C in the terminal ends the page."},
        )  # fmt: skip


async def test_each_record_has_the_request_that_ran_and_its_line(tmp_path: Path) -> None:
    async with world(Probe(tmp_path)) as here, here.reader() as page:
        _, answer = await here.ask("invoke", event='{"print": ["<b>hello</b>"]}')
        (record,) = await page.until(
            lambda tables: [one for one in tables.get("records", {}).values() if "<b>" in str(one["record"])]
        )
        assert (record["type"], record["request"], record["missing"]) == ("function", answer["request"], 0)
        starts = [one for one in page.tables["records"].values() if one["type"] == "platform.start"]
        assert starts[0]["line"] == f"START RequestId: {answer['request']} Version: $LATEST"


async def test_an_environment_is_frozen_in_the_middle_of_an_invocation_and_thawed(tmp_path: Path) -> None:
    async with world(Probe(tmp_path)) as here, here.reader() as page:
        await here.fleet.provision(1)
        await here.ask("thaw", environment=1)
        await page.until(lambda tables: state(tables) == "running")
        await here.ask("freeze", environment=1)
        await page.until(lambda tables: state(tables) == "frozen")
        await here.ask("invoke", event='{"sleep": 0.5}')
        await page.until(lambda tables: invocations(tables, "running"))
        assert (await here.ask("freeze", environment=1))[0] == 202
        await page.until(lambda tables: state(tables) == "frozen")
        assert invocations(page.tables, "running")
        assert (await here.ask("thaw", environment=1))[0] == 202
        await page.until(lambda tables: invocations(tables, "success"))


async def test_after_a_reset_there_is_nothing_to_freeze_until_the_next_invocation(tmp_path: Path) -> None:
    async with world(Probe(tmp_path)) as here, here.reader() as page:
        await here.ask("invoke", event='{"exit": 3}')
        await page.until(lambda tables: state(tables) == "reset")
        status, answer = await here.ask("freeze", environment=1)
        assert (status, answer["error"].partition(":")[0]) == (409, "There is nothing to freeze")
        await here.ask("invoke", event="{}")
        await page.until(lambda tables: state(tables) == "frozen")
        shutdowns = [span for span in page.tables["spans"].values() if span["kind"] == "shutdown"]
        assert [span["detail"] for span in shutdowns] == ["failure"]
        assert [row["error_type"] for row in invocations(page.tables, "error")] == ["Runtime.ExitError"]


async def test_an_environment_that_does_not_come_up_is_said_to_have_failed_and_why() -> None:
    async with (
        Show(port=0) as shown,
        Fleet(Function(code=FUNCTIONS, handler="broken.handler"), on_start=shown.follow) as fleet,
        aiohttp.ClientSession() as http,
    ):
        shown.act_on(fleet)
        here = World(shown, fleet, http)
        async with here.reader() as page:
            assert (await here.ask("invoke", event="{}"))[0] == 202
            await page.until(lambda tables: state(tables) == "failed")
            (notice,) = await page.until(lambda tables: list(tables.get("notices", {}).values()))
            assert notice["text"].startswith("The environment did not come up (Runtime.")
            (init,) = [span for span in page.tables["spans"].values() if span["kind"] == "init"]
            assert init["status"] == "error"


async def test_what_is_asked_for_while_all_are_busy_waits_for_its_turn(tmp_path: Path) -> None:
    async with world(Probe(tmp_path)) as here, here.reader() as page:
        for _ in range(3):
            assert (await here.ask("invoke", event='{"sleep": 0.1}'))[0] == 202
        await page.until(lambda tables: len(invocations(tables, "success")) == 3)
        assert len(here.fleet.environments) == 1


@pytest.mark.parametrize(
    ("what", "members", "status", "sentence"),
    [
        ("invoke", {"event": '{"a": }'}, 400, "The event is not JSON: unexpected character"),
        ("invoke", {"event": ""}, 400, "The event is not JSON: "),
        ("invoke", {}, 400, "The event is NoneType; it must be a text that holds JSON."),
        ("invoke", {"event": " " * 6291457}, 400, "The event has 6,291,457 bytes; Lambda takes 6,291,456 at most."),
        ("freeze", {"environment": 7}, 400, "There is no environment 7; there are 1."),
        ("thaw", {"environment": "1"}, 400, "There is no environment '1'; there are 1."),
        ("fault", {"destination": "nowhere"}, 400, "There is no backend 'nowhere'; there are somewhere."),
        ("fault", {"destination": ["x"]}, 400, "There is no backend ['x']; there are somewhere."),
        ("fault", {"destination": "somewhere", "fault": "x"}, 400, "somewhere knows no fault 'x'; it knows 503."),
        ("fault", {"destination": "somewhere", "fault": ["x"]}, 400, "somewhere knows no fault ['x']; it knows 503."),
        ("nothing", {}, 404, "POST /nothing: Not Found."),
        ("events", {}, 405, "POST /events: Method Not Allowed."),
    ],
)
async def test_what_cannot_be_is_refused_in_one_sentence(
    what: str, members: dict[str, Any], status: int, sentence: str
) -> None:
    async with world(destinations=[Somewhere()]) as here:
        await here.fleet.provision(1)
        given, answer = await here.ask(what, **members)
        assert (given, answer["error"].startswith(sentence)) == (status, True), answer
        assert "\n" not in answer["error"]


async def test_a_body_that_is_no_json_object_is_refused() -> None:
    async with world() as here:
        for body, sentence in ((b"{", "The request is not JSON: "), (b"[]", "The request is not a JSON object.")):
            headers = {"Origin": here.url.rstrip("/")}
            async with here.http.post(f"{here.url}invoke", data=body, headers=headers) as response:
                assert response.status == 400
                assert (await response.json())["error"].startswith(sentence)


async def test_a_managed_instance_is_never_frozen() -> None:
    function = Function(code=FUNCTIONS, init_type="lambda-managed-instances")
    async with (
        Show(port=0) as shown,
        Fleet(function, platform=sharing(), on_start=shown.follow) as fleet,
        aiohttp.ClientSession() as http,
    ):
        shown.act_on(fleet)
        here = World(shown, fleet, http)
        await fleet.provision(1)
        status, answer = await here.ask("freeze", environment=1)
        assert status == 409
        assert answer["error"].startswith("This environment is never frozen")


@pytest.mark.parametrize(
    "origin", [None, "null", "http://evil.example", "https://127.0.0.1:{port}", "http://127.0.0.1"]
)
async def test_another_site_presses_no_button(origin: str | None) -> None:
    """A form or a script of another site sends its own Origin, or none."""
    async with world() as here:
        port = here.url.rstrip("/").rpartition(":")[2]
        headers = {} if origin is None else {"Origin": origin.format(port=port)}
        async with here.http.post(f"{here.url}shutdown", data=b"{}", headers=headers) as response:
            assert response.status == 403
            assert (await response.json())["error"].startswith(f"Only the page {here.url} may ask for this; ")
        assert here.fleet.is_open


@pytest.mark.parametrize("path", ["", "events", "report.html", "page.css"])
async def test_another_name_reads_nothing(path: str) -> None:
    """A site whose name is made to lead to 127.0.0.1 has that name in the Host of its requests."""
    async with world() as here:
        headers = {"Host": "evil.example:80"}
        async with here.http.get(f"{here.url}{path}", headers=headers) as response:
            assert response.status == 403
            assert "does not answer to the name 'evil.example:80'" in (await response.json())["error"]
        port = here.url.rstrip("/").rpartition(":")[2]
        async with here.http.get(f"{here.url}{path}", headers={"Host": f"localhost:{port}"}) as response:
            assert response.status == 200


async def test_the_page_may_load_nothing_but_its_own_files() -> None:
    async with world() as here, here.http.get(here.url) as response:
        policy = response.headers["Content-Security-Policy"]
        page = await response.text()
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "//" not in page.replace("<!doctype html>", "")  # no address of another host
    assert "onclick" not in page
    assert "style=" not in page
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert "Access-Control-Allow-Origin" not in response.headers


async def test_a_record_is_shown_where_it_arrived_and_where_it_waits(tmp_path: Path) -> None:
    place = Somewhere()
    async with world(Probe(tmp_path), destinations=[place]) as here, here.reader() as page:
        await here.fleet.invoke({"print": ["hello"]})
        (record,) = await page.until(
            lambda tables: [one for one in tables.get("records", {}).values() if "hello" in str(one["record"])]
        )
        sighting = Sighting(id="id 1", time_ms=round(record["time"] * 1000), type="function", content="hello")
        place.on_disk = [sighting]
        await page.until(lambda tables: tables["records"][record["id"]]["on_disk"] == ["somewhere"])
        place.on_disk = []
        place.have(Request(operation="put", began=1.0, ended=2.0, status=200, brought=[sighting]))
        row = await page.until(lambda tables: tables["records"][record["id"]]["arrived"] and tables["records"])
        assert row[record["id"]]["on_disk"] in ([], ["somewhere"])
        await page.until(lambda tables: tables["records"][record["id"]]["on_disk"] == [])
        own = Sighting(id="id 2", time_ms=5000, type="mine.lost", content={"lost": 1})
        place.have(*place.requests, Request(operation="put", began=3.0, status=None, brought=[sighting, own]))
        await page.until(lambda tables: tables["destinations"]["somewhere"]["own"] == 1)
        shown = page.tables["destinations"]["somewhere"]
        assert (shown["arrived"], shown["repeats"], shown["requests"], shown["open"]) == (1, 1, 2, 1)
        assert page.tables["records"][record["id"]]["arrived"]["somewhere"][1] == 2
        assert page.tables["records"]["own id 2"]["record"] == {"lost": 1}
        assert (await here.ask("fault", destination="somewhere", fault="503"))[0] == 202
        await page.until(lambda tables: tables["destinations"]["somewhere"]["fault"] == "503")
        assert (await here.ask("fault", destination="somewhere", fault=None))[0] == 202
        await page.until(lambda tables: tables["destinations"]["somewhere"]["fault"] is None)
        assert place.fault is None


async def test_several_browsers_may_look_and_leave(tmp_path: Path) -> None:
    async with world(Probe(tmp_path)) as here:
        async with here.reader() as first, here.reader() as second:
            await here.fleet.invoke({})
            for page in (first, second):
                await page.until(lambda tables: invocations(tables, "success"))
        await here.fleet.invoke({})
        async with here.reader() as third:
            await third.until(lambda tables: len(invocations(tables, "success")) == 2)


async def test_a_long_record_is_cut_and_says_so(tmp_path: Path) -> None:
    async with world(Probe(tmp_path)) as here, here.reader() as page:
        await here.fleet.invoke({"print": ["x" * 9_000]})
        (record,) = await page.until(
            lambda tables: [one for one in tables.get("records", {}).values() if "xxx" in str(one["record"])]
        )
        assert (len(record["record"]), record["missing"]) == (8_000, 1_001)  # with its line end


async def test_the_report_is_written_whatever_happens_and_a_wrong_place_is_said_at_once(tmp_path: Path) -> None:
    file = tmp_path / "run.html"
    with contextlib.suppress(RuntimeError):
        async with Show(file=file) as show, Fleet(Function(code=FUNCTIONS), on_start=show.follow) as fleet:
            await fleet.invoke({"print": ["</script><script>alert(1)</script>"]})
            raise RuntimeError("on the way")
    text = file.read_text()
    assert "alert(1)" in text
    assert "<script>alert" not in text
    assert text.count("</script>") == text.count("<script")
    with pytest.raises(InvalidSetting, match=r"The report .* cannot be written: Is a directory"):
        await Show(file=tmp_path).__aenter__()


async def test_a_port_in_use_is_named() -> None:
    async with Show(port=0) as first:
        port = int(first.url.rstrip("/").rpartition(":")[2])
        with pytest.raises(AddressInUse, match=rf"127\.0\.0\.1:{port}"):
            async with Show(port=port):
                raise AssertionError("unreachable")


async def test_the_page_stays_while_watch_starts_changed_code_anew(tmp_path: Path) -> None:
    code = tmp_path / "app.py"
    code.write_text("def handler(event, context):\n    return 'before'\n")
    run = "from local_lambda.cli import main; main()"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", run, "local", "--page", "--watch", "--json", "--code", str(tmp_path),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        shown = json.loads(await process.stdout.readline())
        assert shown["what"] == "page"
        async with aiohttp.ClientSession() as http, http.get(f"{shown['url']}events") as response:
            page = Reader(response.content)
            (first,) = await page.until(lambda tables: answers(tables, 1))
            assert first == '"before"'
            await page.until(lambda tables: state(tables) == "frozen")
            code.write_text("def handler(event, context):\n    return 'after'\n")
            assert await page.until(lambda tables: answers(tables, 2)) == ['"before"', '"after"']
            assert state(page.tables) == "ended"
            headers = {"Origin": shown["url"].rstrip("/")}
            async with http.post(f"{shown['url']}invoke", json={"event": "{}"}, headers=headers) as asked:
                assert asked.status == 202
            assert await page.until(lambda tables: answers(tables, 3)) == ['"before"', '"after"', '"after"']
        process.send_signal(signal.SIGINT)
        _, errors = await process.communicate()
        assert (process.returncode, errors) == (0, b"")
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def answers(tables: dict[str, dict[str, Any]], count: int) -> list[str]:
    """Return what the invocations answered, once they are `count`."""
    found = [row["answer"] for row in tables.get("invocations", {}).values() if "answer" in row]
    return found if len(found) == count else []


@pytest.mark.parametrize(
    "command", [["local", "--code", str(FUNCTIONS)], ["demo"]], ids=["local", "demo"],
)  # fmt: skip
async def test_a_run_without_the_page_loads_nothing_of_it(command: list[str]) -> None:
    program = """if True:
        import sys
        from telemetry_forwarder.cli import main
        try:
            main(sys.argv[1:])
        except SystemExit as end:
            assert end.code == 0, end.code
        wanted_by_nobody = ("local_lambda.page", "telemetry_forwarder.cli.demo_backends")
        wrong = [name for name in sys.modules if name.startswith(wanted_by_nobody)]
        assert not wrong, wrong
        assert "local_lambda.local_lambda" in sys.modules
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
