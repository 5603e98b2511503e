"""A function that asks localhost for a parameter, as the tutorials do: no SDK, no token, no dependency."""

import json
import os
import urllib.parse
import urllib.request
from typing import Any

PORT = os.environ.get("PARAMETERS_SECRETS_EXTENSION_HTTP_PORT", "2773")


def parameter(name: str) -> str:
    query = urllib.parse.urlencode({"name": name})
    with urllib.request.urlopen(f"http://localhost:{PORT}/?{query}", timeout=5) as answer:
        return json.load(answer)["value"]  # type: ignore[no-any-return]


# In the first line of the function's own init: the answer waits until the extension has it.
PASSWORD_AT_START = parameter(os.environ["PARAMETER_NAME"])


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    password = parameter(os.environ["PARAMETER_NAME"])
    return {"characters": len(password), "changed": password != PASSWORD_AT_START}
