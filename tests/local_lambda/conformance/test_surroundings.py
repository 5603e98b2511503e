"""What this machine lacks, and when that is held to be the reason of an extension's trouble."""

from pathlib import Path

import pytest

from local_lambda.conformance.surroundings import Surroundings, explanation, named_paths

WHY = "for a reason."


def here(**changes: object) -> Surroundings:
    """Return the surroundings of an environment without a file system of its own."""
    return Surroundings(**{"why_not_own": WHY, "host": "127.0.0.2", **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "output",
    [
        "socket.gaierror: [Errno -2] Name or service not known\n",
        "Error: getaddrinfo ENOTFOUND sandbox.localdomain\n",
        "listen tcp: lookup sandbox.localdomain on 10.0.0.2:53: no such host\n",
        'Custom { kind: Uncategorized, error: "failed to lookup address information: Name does not resolve" }\n',
        "java.net.UnknownHostException: sandbox\n",
        "curl: (6) Could not resolve host: sandbox.localdomain\n",
    ],
)
def test_a_name_that_leads_nowhere_is_not_the_extensions_fault(output: str) -> None:
    assert explanation(here(), [output]).startswith("sandbox.localdomain leads nowhere on this machine: for a reason.")
    assert "leads to 127.0.0.1" in explanation(here(machines_host="127.0.0.1"), [output])
    own = explanation(here(why_not_own="", machines_host="127.0.0.2"), [output])
    assert own.startswith("A name does not lead anywhere from this machine")


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("OSError: [Errno 98] Address already in use\n", "is taken"),
        ("Error: listen EADDRINUSE: address already in use :::4243\n", "is taken"),
        ("/usr/bin/env: \u2018node\u2019: No such file or directory\n", "needs node"),
        ("/opt/extensions/x: 2: exec: python: not found\n", "needs python,"),
        ("UnrecognizedClientException: The security token included in the request is invalid.\n", "invented"),
        ("sh: 1: /opt/x/main: not found\n", "/opt/x/main is not on this machine: for a reason."),
        ("cannot open /var/task/config.yml\n", "/var/task/config.yml is not on this machine"),
    ],
)
def test_what_the_machine_lacks_is_read_from_the_output(output: str, said: str) -> None:
    assert said in explanation(here(), [output])


@pytest.mark.parametrize(
    "output",
    [
        "",
        "the API key is missing\n",
        "FileNotFoundError: [Errno 2] No such file or directory: '/home/me/x'\n",
        'File "/var/lang/lib/python3.13/http/client.py", line 1, in request\n',
        "reading /opt/x/config.json\n",
        "/usr/bin/env: \u2018python3\\r\u2019: No such file or directory\n",
        "node 22\n",
    ],
)
@pytest.mark.parametrize("why", [WHY, ""])
def test_anything_else_stays_the_extensions_own_doing(output: str, why: str) -> None:
    assert explanation(here(why_not_own=why), [output]) == ""


def test_a_path_in_opt_is_lacking_if_a_layer_has_it_or_no_layer_was_given(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "main").touch()
    paths = ["/opt/x/main"]
    assert "for a reason" in here(opt=tmp_path).lack_of(paths)
    assert here(opt=tmp_path).lack_of(["/opt/x/other"]) == "", "Lambda would not have it either"
    assert "for a reason" in here().lack_of(paths)
    assert "name the layer that it is in" in here(why_not_own="").lack_of(paths)
    assert here(why_not_own="", opt=tmp_path).lack_of(["/opt/x/other"]) == ""
    assert here().lack_of(["/usr/bin/python9.9", "/etc/x"]) == "", "not a directory of Lambda's"


def test_paths_are_found_in_a_program_of_any_kind(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF\x00\xff/opt/otel/config.yaml\x00sh -c '/var/task/run.sh' /optical /opt/ /var/tasks/x")
    assert named_paths(program) == {"/opt/otel/config.yaml", "/var/task/run.sh"}
    assert "/opt/otel/config.yaml" in explanation(here(named=named_paths(program)), [])
