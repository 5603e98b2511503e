"""Nothing outlives the local Lambda, not even when it is killed in the middle."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from tests.integration.local_lambda_probe import Probe, eventually, state_of

PROGRAM = """
import asyncio, json, os, sys
from pathlib import Path
from local_lambda import Function, LocalLambda
from tests.sharing import sharing

async def main():
    function = Function(code=Path(sys.argv[1]), environment=json.loads(sys.argv[2]), timeout_s=60)
    async with LocalLambda(function, layers=[Path(sys.argv[3])], platform=sharing()) as env:
        opt = str(env._opt.path)
        groups = [str(group.path) for group in env._limits.groups]
        print(json.dumps({"pids": list(env.pids.values()), "opt": opt, "groups": groups}), flush=True)
        await (env.invoke({"sleep": 60}) if sys.argv[4] == "invoke" else asyncio.Event().wait())

asyncio.run(main())
"""


@pytest.mark.parametrize("moment", ["frozen", "invoke"])
async def test_sigkill_of_the_emulator_leaves_no_process_group_or_directory(tmp_path: Path, moment: str) -> None:
    layer = tmp_path / "layer"
    (layer / "extensions").mkdir(parents=True)
    probe = Probe(layer / "extensions", types=[], subscribed=[{"child": "sleep 60"}])
    probe.log = tmp_path / "probe.jsonl"
    probe.script["log"] = str(probe.log)
    code = Path(__file__).parent / "functions"
    arguments = [str(code), json.dumps(dict([probe.variable])), str(layer), moment]
    emulator = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, *arguments, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    try:
        assert emulator.stdout is not None
        async with asyncio.timeout(20):
            told = json.loads(await emulator.stdout.readline())
        pids = [*told["pids"], probe.notes("child")[0]["child"]]
        assert len(pids) == 3
        if moment == "invoke":
            await eventually(lambda: bool(probe.notes("event")))
    finally:
        emulator.kill()
        await emulator.wait()
    await eventually(lambda: [state_of(pid) for pid in pids] == [None] * 3, timeout_s=10)
    await eventually(lambda: not any(Path(path).exists() for path in [told["opt"], *told["groups"]]), timeout_s=10)
