"""The client that the MCP conformance suite starts: hands its task to the user who waits for it, and ends
as that user has ended.

`mcp_suite_client.py DESK SERVER`: the address of the desk of `mcp_suite.py`, and, put there by the suite,
that of the MCP server to use. It imports little, because the suite starts one for each scenario.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.request

# The suite ends its clients earlier, by `--timeout`.
BOUND = 120.0


def main() -> int:
    """Asks, tells and ends."""
    desk, server = sys.argv[1:]
    task = {
        "scenario": os.environ["MCP_CONFORMANCE_SCENARIO"],
        "context": json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT") or "{}"),
        "server": server,
    }
    request = urllib.request.Request(desk, method="POST", data=json.dumps(task).encode())
    with urllib.request.urlopen(request, timeout=BOUND) as response:
        answer = json.load(response)
    print(answer["told"])
    return 0 if answer["worked"] else 1


if __name__ == "__main__":
    sys.exit(main())
