"""Checks bodies of model requests against the parameter types of the providers' own SDKs.

The SDKs never check what they are given at run time, and pydantic reads their types leniently: it
lets unknown keys of a `TypedDict` pass and leaves an `Iterable` unread. So the types of OpenAI and
Anthropic are walked here, key by key. Those of Google are models that forbid what they don't know,
and are asked themselves.

Each function returns what is wrong with a body as sentences; an empty list says that the SDK's types
know all of it.
"""

from __future__ import annotations

import collections.abc
import functools
import inspect
import json
import types
import typing
import warnings
from typing import Any, Union, get_args, get_origin

import pydantic
import typing_extensions
from anthropic.types.message_create_params import MessageCreateParams
from google.genai import types as google
from openai.types.chat.completion_create_params import CompletionCreateParams
from openai.types.responses.response_create_params import ResponseCreateParams

_LISTS = (list, collections.abc.Iterable, collections.abc.Sequence)
_MAPPINGS = (dict, collections.abc.Mapping)

# What stands in the body of a request to Gemini beside `generationConfig`.
_GEMINI: dict[str, Any] = {
    "contents": list[google.Content],
    "systemInstruction": google.Content,
    "tools": list[google.Tool],
    "toolConfig": google.ToolConfig,
    "safetySettings": list[google.SafetySetting],
    "generationConfig": google.GenerationConfig,
    "cachedContent": str,
    "labels": dict[str, str],
}


def openai_responses(body: Any) -> list[str]:
    """What is wrong with a body for `POST /v1/responses`."""
    return _check(body, ResponseCreateParams, "body")


def openai_chat(body: Any) -> list[str]:
    """What is wrong with a body for `POST /v1/chat/completions`."""
    return _check(body, CompletionCreateParams, "body")


def anthropic_messages(body: Any) -> list[str]:
    """What is wrong with a body for `POST /v1/messages`."""
    return _check(body, MessageCreateParams, "body")


def gemini(body: Any) -> list[str]:
    """What is wrong with a body for `POST /v1beta/models/{model}:streamGenerateContent`."""
    if not isinstance(body, dict):
        return ["body: is no object"]
    problems = [f"body.{name}: unknown" for name in body if name not in _GEMINI]
    if not body.get("contents"):
        problems.append("body.contents: missing or empty")
    for name, kind in _GEMINI.items():
        if name in body:
            problems += _ask_model(body[name], kind, f"body.{name}")
    return problems


def _ask_model(value: Any, kind: Any, path: str) -> list[str]:
    with warnings.catch_warnings(record=True) as said:
        # Of a word that an enumeration does not know, the models only warn.
        warnings.simplefilter("always")
        try:
            pydantic.TypeAdapter(kind).validate_json(
                json.dumps(value), strict=True, by_alias=True, by_name=False
            )
        except pydantic.ValidationError as error:
            return [
                f"{'.'.join([path, *map(str, one['loc'])])}: {one['msg']}" for one in error.errors()
            ]
    return [f"{path}: {one.message}" for one in said]


# --- the types of OpenAI and Anthropic ------------------------------------------------------


def _check(value: Any, annotation: Any, path: str) -> list[str]:
    annotation = _bare(annotation)
    origin = get_origin(annotation)
    if annotation in (Any, object):
        return []
    if origin in (Union, types.UnionType):
        return _check_union(value, get_args(annotation), path)
    if origin in (typing.Literal, typing_extensions.Literal):
        choices = get_args(annotation)
        known = any(type(value) is type(one) and value == one for one in choices)
        return [] if known else [f"{path}: {value!r} is not one of {choices}"]
    if origin in _LISTS:
        if not isinstance(value, list):
            return [f"{path}: {value!r} is no list"]
        (entry,) = get_args(annotation)
        return [p for i, one in enumerate(value) for p in _check(one, entry, f"{path}[{i}]")]
    if origin in _MAPPINGS or annotation is dict:
        if not isinstance(value, dict):
            return [f"{path}: {value!r} is no object"]
        entry = (get_args(annotation) or (str, object))[1]
        return [p for key, one in value.items() for p in _check(one, entry, f"{path}.{key}")]
    if typing_extensions.is_typeddict(annotation):
        return _check_typed_dict(value, annotation, path)
    return _check_plain(value, annotation, path)


def _bare(annotation: Any) -> Any:
    """An annotation without what says more about it than its type."""
    wrappers = (typing.Annotated, typing.Required, typing.NotRequired)
    while True:
        if isinstance(annotation, typing_extensions.TypeAliasType):
            annotation = annotation.__value__
        elif get_origin(annotation) in wrappers:
            annotation = get_args(annotation)[0]
        else:
            return annotation


def _check_plain(value: Any, annotation: Any, path: str) -> list[str]:
    if annotation is type(None):
        good = value is None
    elif annotation is bool:
        good = isinstance(value, bool)
    elif annotation is int:
        good = isinstance(value, int) and not isinstance(value, bool)
    elif annotation is float:
        good = isinstance(value, int | float) and not isinstance(value, bool)
    elif annotation is str:
        good = isinstance(value, str)
    else:
        # A file, a model of a response: nothing that can stand in JSON.
        good = False
    name = getattr(annotation, "__name__", str(annotation))
    return [] if good else [f"{path}: {value!r} is not {name}"]


def _check_union(value: Any, variants: tuple[Any, ...], path: str) -> list[str]:
    flat = [one for variant in variants for one in _members(variant)]
    if isinstance(value, dict):
        flat = [one for one in flat if _fits_tags(value, one)]
    elif isinstance(value, list):
        flat = [one for one in flat if get_origin(one) in _LISTS]
    found = [_check(value, one, path) for one in flat]
    if [] in found:
        return []
    if not found or not isinstance(value, dict | list):
        return [f"{path}: {value!r} is no member of the union"]
    # The member that is meant is most likely the one of which the least is wrong.
    return min(found, key=len)


def _members(variant: Any) -> list[Any]:
    bare = _bare(variant)
    if get_origin(bare) in (Union, types.UnionType):
        return [one for inner in get_args(bare) for one in _members(inner)]
    return [] if inspect.isclass(bare) and issubclass(bare, pydantic.BaseModel) else [bare]


def _fits_tags(value: dict[str, Any], variant: Any) -> bool:
    """Whether an object has the words, such as its type, that tell this member from others."""
    if get_origin(variant) in _MAPPINGS or variant in (object, Any, dict):
        return True
    if not typing_extensions.is_typeddict(variant):
        return False
    for name, (annotation, required) in _fields(variant).items():
        bare = _bare(annotation)
        if name not in ("type", "role") or get_origin(bare) is not typing.Literal:
            continue
        if value.get(name) not in get_args(bare) and (required or name in value):
            return False
    return True


def _check_typed_dict(value: Any, annotation: Any, path: str) -> list[str]:
    name = annotation.__name__
    if not isinstance(value, dict):
        return [f"{path}: {value!r} is no {name}"]
    fields = _fields(annotation)
    problems = [f"{path}.{key}: {name} has no such key" for key in value if key not in fields]
    for key, (inner, required) in fields.items():
        if key in value:
            problems += _check(value[key], inner, f"{path}.{key}")
        elif required:
            problems.append(f"{path}.{key}: missing; {name} requires it")
    return problems


@functools.cache
def _fields(annotation: Any) -> dict[str, tuple[Any, bool]]:
    """The keys of a `TypedDict`: what each holds, and whether it has to be there."""
    hints = typing_extensions.get_type_hints(annotation, include_extras=True)
    return {name: (inner, _required(annotation, name, inner)) for name, inner in hints.items()}


def _required(annotation: Any, name: str, inner: Any) -> bool:
    # `__required_keys__` is wrong where annotations are strings, as they are in the SDKs.
    origin = get_origin(inner)
    if origin in (typing.Required, typing.NotRequired):
        return origin is typing.Required
    for base in typing_extensions.get_original_bases(annotation):
        if typing_extensions.is_typeddict(base) and name in _fields(base):
            return _fields(base)[name][1]
    return bool(annotation.__total__)
