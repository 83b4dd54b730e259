"""A world for tests that are not in Python: a server and its scripted model, as one process.

Its argument is the server's configuration file, as a text. It says where they are in one line of JSON, `{"url", "api_key", "model_url"}`. Then it takes one line
of JSON at a time and answers each with one, a list of strings. A list of session ids: it brings these
to rest, and answers what was wrong with their logs and with the model's requests. `"restart"`: it
kills the server and starts it again. It ends with its input.
"""

from __future__ import annotations

import json
import sys

from world import API_KEY, World


def main() -> None:
    """Serves until the input ends."""
    world = World(*sys.argv[1:])
    try:
        world.begin()
        _say({"url": world.url, "api_key": API_KEY, "model_url": world.model.url})
        for line in sys.stdin:
            asked = json.loads(line)
            if asked == "restart":
                world.restart()
                _say([])
                continue
            for session_id in asked:
                world.recorder.opened(session_id)
            _say(world.settle())
    finally:
        world.close()


def _say(value: object) -> None:
    print(json.dumps(value), flush=True)


if __name__ == "__main__":
    main()
