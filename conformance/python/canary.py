"""Values that can be found again: in plain and in what they are usually turned into, anywhere in a
folder, a text or a list of answers.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

# What is looked for at a time, in bytes.
_WINDOW = 8 << 20


def forms(value: str) -> dict[str, bytes]:
    """What a value may look like where somebody has kept it."""
    plain = value.encode()
    found = {
        "plain": plain,
        "reversed": plain[::-1],
        "hex": plain.hex().encode(),
        "upper hex": plain.hex().upper().encode(),
        "every byte in percent": "".join(f"%{one:02X}" for one in plain).encode(),
        "percent": quote(value, safe="").encode(),
        "JSON": json.dumps(value)[1:-1].encode(),
        "two bytes each": value.encode("utf-16-le"),
        "list of numbers": ",".join(str(one) for one in plain).encode(),
        "list of numbers, spaced": ", ".join(str(one) for one in plain).encode(),
    }
    for shift in range(3):
        # Base64 of a text depends on where in it the value stands; the edges belong to neighbours.
        padded = base64.b64encode(bytes(shift) + plain)
        end = len(padded) - (4 if (shift + len(plain)) % 3 else 0)
        middle = padded[4 if shift else 0 : end]
        found[f"base64 at {shift}"] = middle
        found[f"base64 of URLs at {shift}"] = middle.translate(bytes.maketrans(b"+/", b"-_"))
    return found


@dataclass
class Canaries:
    """Values under names, and what finds them."""

    values: dict[str, str] = field(default_factory=dict)

    def __call__(self, name: str) -> str:
        """A new value."""
        # The odd letters are those that quoting changes.
        value = f"cnry+{secrets.token_hex(12)}/{name}=~{secrets.token_hex(4)}"
        assert name not in self.values
        self.values[name] = value
        return value

    def found_in(self, data: bytes) -> Iterator[str]:
        """Which of them are in it, and in what form."""
        for name, value in self.values.items():
            for form, needle in forms(value).items():
                if needle in data:
                    yield f"{name} ({form})"

    def found_in_file(self, path: Path) -> Iterator[str]:
        """The same for a file of any size."""
        seen: set[str] = set()
        with path.open("rb") as file:
            before = b""
            while piece := file.read(_WINDOW):
                for one in self.found_in(before + piece):
                    if one not in seen:
                        seen.add(one)
                        yield f"{path.name}: {one}"
                before = piece[-4096:]

    def found_below(self, folder: Path) -> list[str]:
        """The same for all files below a folder."""
        found: list[str] = []
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.is_symlink():
                found += self.found_in_file(path)
        return found

    def found_among(self, what: str, several: Iterable[bytes]) -> list[str]:
        """The same for answers or texts."""
        return [f"{what}: {one}" for data in several for one in self.found_in(data)]
