"""`openapi.json`, held against what goes over the wire.

Every body is checked with all that the description says of it; a member that it does not name is a
problem, as is a status that it does not have.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

DOCUMENT = Path(__file__).resolve().parents[2] / "openapi.json"


class Description:
    """The committed description."""

    def __init__(self) -> None:
        self.document: dict[str, Any] = json.loads(DOCUMENT.read_text())
        self._paths = [
            (re.compile(re.sub(r"\{[^}]+\}", "[^/]+", path)), path)
            for path in self.document["paths"]
        ]
        self._validators: dict[str, Draft202012Validator] = {}

    def operations(self) -> dict[str, tuple[str, str]]:
        """Method and path of each operation, by its name."""
        return {
            operation["operationId"]: (method.upper(), path)
            for path, methods in self.document["paths"].items()
            for method, operation in methods.items()
        }

    def name_of(self, method: str, path: str) -> str | None:
        """The operation that a request is for."""
        # `/events/stream` also has the form of a longer path with an id in it.
        found = [template for pattern, template in self._paths if pattern.fullmatch(path)]
        for template in sorted(found, key=lambda one: one.count("{")):
            operation = self.document["paths"][template].get(method.lower())
            if operation is not None:
                return str(operation["operationId"])
        return None

    def _operation(self, name: str) -> dict[str, Any]:
        method, path = self.operations()[name]
        operation: dict[str, Any] = self.document["paths"][path][method.lower()]
        return operation

    def _schema(self, name: str, status: int) -> Any:
        response = self._operation(name)["responses"].get(str(status))
        if response is None:
            return None
        if "$ref" in response:
            key = response["$ref"].rsplit("/", 1)[1]
            response = self.document["components"]["responses"][key]
        (media,) = response["content"].values()
        return media["schema"]

    def check_value(self, value: Any, schema: Any) -> list[str]:
        """All the ways in which a value is not what a schema says."""
        key = json.dumps(schema, sort_keys=True)
        if key not in self._validators:
            # The whole document stands beside it, so that its references lead somewhere.
            whole = {"allOf": [schema], "components": self.document["components"]}
            self._validators[key] = Draft202012Validator(
                whole, format_checker=Draft202012Validator.FORMAT_CHECKER
            )
        return [
            f"{error.json_path}: {_innermost(error).message[:300]}"
            for error in self._validators[key].iter_errors(value)
        ]

    def check_answer(self, name: str, status: int, body: bytes) -> list[str]:
        """What is wrong with an answer to that operation."""
        schema = self._schema(name, status)
        if schema is None:
            return [f"{name}: {status} is not described"]
        if status == 200 and schema.get("contentMediaType"):
            return []
        return [f"{name} {status}: {one}" for one in self.check_value(json.loads(body), schema)]

    def check_request(self, name: str, body: Any) -> list[str]:
        """What is wrong with a body that is sent to that operation."""
        content = self._operation(name)["requestBody"]["content"]
        return self.check_value(body, content["application/json"]["schema"])


# The one that all tests go by.
DESCRIPTION = Description()


def _innermost(error: Any) -> Any:
    """Of a union's many complaints, that of the member which fits best."""
    while error.context:
        error = max(error.context, key=lambda one: len(one.absolute_path))
    return error
