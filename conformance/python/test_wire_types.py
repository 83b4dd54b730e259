"""The checker of model requests itself, and what posthouse sends to Anthropic."""

from __future__ import annotations

import base64
import copy
from collections.abc import Callable
from typing import Any

import anthropic
import pytest

import wire_types
from support import TOOLSET, WEATHER, answer, call_ids, calls, message, png, text, turn
from world import World

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
IMAGE = base64.b64encode(png(2, 2)).decode()

RESPONSES: dict[str, Any] = {
    "model": "gpt-5.2",
    "stream": True,
    "store": False,
    "instructions": "Be brief.",
    "include": ["reasoning.encrypted_content"],
    "reasoning": {"effort": "high", "summary": "auto"},
    "prompt_cache_key": "k",
    "parallel_tool_calls": True,
    "max_output_tokens": 100,
    "tools": [
        {
            "type": "function",
            "name": "weather",
            "description": "d",
            "parameters": SCHEMA,
            "strict": False,
        }
    ],
    "input": [
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "hi"},
                {
                    "type": "input_image",
                    "image_url": f"data:image/png;base64,{IMAGE}",
                    "detail": "auto",
                },
                {"type": "input_file", "filename": "a.pdf", "file_data": "data:;base64,AA=="},
            ],
        },
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"},
        {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "sunny"},
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "done", "annotations": []}],
        },
    ],
}
CHAT: dict[str, Any] = {
    "model": "m",
    "stream": True,
    "stream_options": {"include_usage": True},
    "max_completion_tokens": 100,
    "reasoning_effort": "low",
    "tools": [
        {
            "type": "function",
            "function": {"name": "weather", "description": "d", "parameters": SCHEMA},
        }
    ],
    "messages": [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "hi"},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{IMAGE}"}},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": "weather", "arguments": "{}"},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    ],
}
GEMINI: dict[str, Any] = {
    "systemInstruction": {"parts": [{"text": "Be brief."}]},
    "contents": [
        {
            "role": "user",
            "parts": [{"text": "hi"}, {"inlineData": {"mimeType": "image/png", "data": IMAGE}}],
        },
        {
            "role": "model",
            "parts": [
                {"text": "hm", "thought": True},
                {
                    "functionCall": {"id": "c1", "name": "weather", "args": {"city": "Rome"}},
                    "thoughtSignature": "AAEC",
                },
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"id": "c1", "name": "weather", "response": {"output": "sun"}}}
            ],
        },
    ],
    "tools": [
        {
            "functionDeclarations": [
                {"name": "weather", "description": "d", "parametersJsonSchema": SCHEMA}
            ]
        }
    ],
    "toolConfig": {"functionCallingConfig": {"mode": "AUTO"}},
    "generationConfig": {
        "maxOutputTokens": 100,
        "thinkingConfig": {"includeThoughts": True, "thinkingLevel": "HIGH"},
    },
}
MESSAGES: dict[str, Any] = {
    "model": "claude-opus-5",
    "max_tokens": 100,
    "stream": True,
    "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
    "thinking": {"type": "adaptive"},
    "tools": [{"name": "weather", "description": "d", "input_schema": SCHEMA}],
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "hi"}]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "R"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "toolu_1",
                    "content": [
                        {"type": "text", "text": "sun"},
                        {
                            "type": "image",
                            "source": {"type": "base64", "media_type": "image/png", "data": IMAGE},
                        },
                    ],
                }
            ],
        },
    ],
}
CHECKS: dict[str, tuple[Callable[[Any], list[str]], dict[str, Any]]] = {
    "responses": (wire_types.openai_responses, RESPONSES),
    "chat": (wire_types.openai_chat, CHAT),
    "gemini": (wire_types.gemini, GEMINI),
    "messages": (wire_types.anthropic_messages, MESSAGES),
}
GONE = object()


@pytest.mark.parametrize("wire", CHECKS)
def test_what_is_right_passes(wire: str) -> None:
    check, body = CHECKS[wire]
    assert check(body) == []


@pytest.mark.parametrize(
    ("wire", "path", "value", "told"),
    [
        ("responses", ["horse"], 1, "body.horse: "),
        ("responses", ["input", 0, "horse"], 1, ".horse: "),
        ("responses", ["input", 0, "content", 0, "text"], 7, "body.input[0].content"),
        ("responses", ["input", 0, "content", 0, "type"], "text", "body.input[0].content"),
        ("responses", ["input", 2, "call_id"], GONE, "body.input[2].call_id: missing"),
        ("responses", ["input", 2, "type"], "call", "body.input[2]"),
        ("responses", ["input", 1, "summary"], GONE, "body.input[1].summary: missing"),
        ("responses", ["tools", 0, "function"], {}, ".function: "),
        ("responses", ["tools", 0, "name"], GONE, "body.tools[0].name: missing"),
        ("responses", ["reasoning", "effort"], "huge", "body.reasoning.effort: "),
        ("responses", ["max_output_tokens"], True, "body.max_output_tokens: "),
        ("responses", ["max_output_tokens"], "100", "body.max_output_tokens: "),
        ("responses", ["include", 0], "everything", "body.include"),
        ("responses", ["stream"], "yes", "body.stream: "),
        ("chat", ["horse"], 1, "body.horse: "),
        ("chat", ["messages"], GONE, "body.messages: missing"),
        ("chat", ["messages", 1, "horse"], 1, "body.messages[1].horse: "),
        ("chat", ["messages", 1, "role"], "human", "body.messages[1]: "),
        ("chat", ["messages", 1, "content", 1, "image_url"], "x", "body.messages[1].content"),
        ("chat", ["messages", 2, "reasoning_content"], "hm", "[2].reasoning_content: "),
        ("chat", ["messages", 2, "tool_calls", 0, "index"], 0, ".index: "),
        ("chat", ["messages", 2, "tool_calls", 0, "function", "arguments"], {}, ".arguments: "),
        ("chat", ["messages", 3, "tool_call_id"], GONE, "body.messages[3].tool_call_id: missing"),
        ("chat", ["stream_options", "usage"], True, "body.stream_options.usage: "),
        ("gemini", ["horse"], 1, "body.horse: "),
        ("gemini", ["contents"], [], "body.contents: "),
        ("gemini", ["contents", 0, "horse"], 1, "body.contents.0.horse: "),
        ("gemini", ["contents", 0, "parts", 0, "text"], 7, "body.contents.0.parts.0.text: "),
        ("gemini", ["contents", 1, "parts", 1, "thought_signature"], "AA", ".thought_signature: "),
        ("gemini", ["contents", 1, "parts", 1, "thoughtSignature"], "é", ".thoughtSignature: "),
        ("gemini", ["contents", 1, "parts", 1, "functionCall", "args"], "{}", ".functionCall.args"),
        ("gemini", ["contents", 2, "parts", 0, "functionResponse", "x"], 1, "Response.x: "),
        ("gemini", ["tools", 0, "functionDeclarations", 0, "strict"], True, ".0.strict: "),
        ("gemini", ["generationConfig", "max_output_tokens"], 1, ".max_output_tokens: "),
        ("gemini", ["generationConfig", "maxOutputTokens"], "1", ".maxOutputTokens: "),
        (
            "gemini",
            ["generationConfig", "thinkingConfig", "thinkingLevel"],
            "HUGE",
            "body.generationConfig",
        ),
        ("messages", ["horse"], 1, "body.horse: "),
        ("messages", ["max_tokens"], GONE, "body.max_tokens: missing"),
        ("messages", ["messages", 1, "content", 0, "signature"], GONE, ".signature: missing"),
        ("messages", ["messages", 1, "content", 1, "index"], 0, ".index: "),
        ("messages", ["messages", 2, "content", 0, "content", 0, "type"], "x", "content"),
        ("messages", ["tools", 0, "input_schema"], GONE, "body.tools[0]"),
        ("messages", ["system", 0, "cache_control", "type"], "eternal", "cache_control"),
    ],
)
def test_what_is_wrong_is_found(wire: str, path: list[Any], value: Any, told: str) -> None:
    check, body = CHECKS[wire]
    body = copy.deepcopy(body)
    place: Any = body
    for step in path[:-1]:
        place = place[step]
    if value is GONE:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    problems = check(body)
    assert problems and any(told in one for one in problems), problems


@pytest.mark.parametrize("wire", CHECKS)
@pytest.mark.parametrize("body", [None, [], "x", 7])
def test_what_is_no_object_is_found(wire: str, body: Any) -> None:
    assert CHECKS[wire][0](body) != []


def test_what_is_sent_to_anthropic(world: World, client: anthropic.Anthropic) -> None:
    world.model.script(
        {"steps": [{"thinking": "hm"}, *calls(("weather", {"city": "Rome"}))["steps"]]},
        text("done"),
    )
    session = world.session(tools=[TOOLSET, WEATHER], system="Be brief.")
    picture = {"type": "base64", "media_type": "image/png", "data": IMAGE}
    asked: Any = message("hi")
    asked["content"].append({"type": "image", "source": picture})
    (call,) = call_ids(turn(client, session, asked))
    turn(client, session, answer(call, "sunny"))
    requests = world.model.wait_for_requests(2)
    assert [wire_types.anthropic_messages(one) for one in requests] == [[], []]
