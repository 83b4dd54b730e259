"""Makes `docs/COMPATIBILITY.md` of what a run of the conformance suites has written down.

    compatibility.py            says whether the committed table is that of the last run
    compatibility.py --write    writes it

The suites write a line for each method of each SDK to `target/conformance`. The table holds nothing
that differs from run to run.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "target" / "conformance"
TABLE = ROOT / "docs" / "COMPATIBILITY.md"
REFRESH = ".venv/bin/python conformance/compatibility.py --write"

# The names of the columns, by the names that the suites have for the clients.
SDKS = {"python": "Python", "python-async": "Python, async", "typescript": "TypeScript"}
ABSENT = "–"

TEXT = """# Compatibility

Each method of the official SDKs for what posthouse serves: found by reflection, and called against the
built server. The SDKs are `anthropic` {python} and `@anthropic-ai/sdk` {typescript}, unmodified. This
file is made by `./test conformance`, which fails when it is not the table of its run; to make it anew
after a run:

```
{refresh}
```

- **works**: the call did what it is for, and every response had the shape that the SDK declares.
- **refused**: the call is refused for good, with an error that says why.
- **not yet**: the call is refused until a later version; there is a test that it is.
- **fails**: the call did not do what it is for.
- **{absent}**: this client has no such method.

{summary}
"""


def read(folder: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """The results of a run, by method and client. The last line for a method counts."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for sdk in SDKS:
        path = folder / f"{sdk}.jsonl"
        if not path.is_file():
            sys.exit(f"{path.name} is missing in {folder}: run ./test conformance first")
        for line in path.read_text().splitlines():
            result = json.loads(line)
            found.setdefault(result["method"], {})[sdk] = result
    return found


def table(found: dict[str, dict[str, dict[str, Any]]]) -> str:
    """The whole file."""
    counts = []
    for sdk, name in SDKS.items():
        outcomes = [results[sdk]["outcome"] for results in found.values() if sdk in results]
        counts.append(f"{name}: {outcomes.count('works')} of {len(outcomes)} work.")
    text = TEXT.format(
        python=_pinned(ROOT / "conformance/requirements.txt", r"^anthropic==(\S+)$"),
        typescript=_pinned(
            ROOT / "conformance/typescript/package.json", r'"@anthropic-ai/sdk": "([^"]+)"'
        ),
        refresh=REFRESH,
        absent=ABSENT,
        summary=" ".join(counts),
    )
    namespace = ""
    for method in sorted(found, key=_order):
        if method.rpartition(".")[0] != namespace:
            namespace = method.rpartition(".")[0]
            text += f"\n## {namespace}\n\n| method | route | {' | '.join(SDKS.values())} | note |\n"
            text += "|---" * (len(SDKS) + 3) + "|\n"
        text += _row(method, found[method])
    return text


def _order(method: str) -> tuple[str, str]:
    namespace, _, name = method.rpartition(".")
    return namespace, name


def _row(method: str, results: dict[str, dict[str, Any]]) -> str:
    routes = sorted({route for result in results.values() for route in result["routes"]})
    notes = dict.fromkeys(result["note"] for result in results.values() if result["note"])
    cells = [
        f"`{method.rpartition('.')[2]}`",
        "<br>".join(f"`{route}`" for route in routes),
        *(results[sdk]["outcome"] if sdk in results else ABSENT for sdk in SDKS),
        "; ".join(notes),
    ]
    return f"| {' | '.join(cells)} |\n"


def _pinned(path: Path, pattern: str) -> str:
    found = re.search(pattern, path.read_text(), re.MULTILINE)
    if found is None:
        sys.exit(f"{path} pins no version of the SDK")
    return found[1]


def main(arguments: list[str]) -> None:
    """Checks or writes the table."""
    if arguments not in ([], ["--write"]):
        sys.exit(__doc__)
    made = table(read(RESULTS))
    if arguments:
        TABLE.write_text(made)
    elif not TABLE.is_file() or TABLE.read_text() != made:
        sys.exit(f"docs/COMPATIBILITY.md is not the table of this run; refresh it by\n  {REFRESH}")


if __name__ == "__main__":
    main(sys.argv[1:])
