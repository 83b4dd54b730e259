"""`web_search`: each back end as it really speaks, played on loopback; the rules for hosts; what a
search costs; and servers that have none.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import pytest

from origin import Response
from support import asked, calls, rested, started, story, text, turn, wire
from world import World
from web_origins import ENGINE, Surfer, Web, limited, shared_web, toolset, web

SECRET = "key-of-the-search-engine-0123456789"
TASK = "How does the mail travel?"


class Searching(World):
    """A server that knows the key of a search engine."""

    def variables(self) -> dict[str, str]:
        """Its environment."""
        return {**super().variables(), "KEY_OF_THE_ENGINE": SECRET}


@pytest.fixture(scope="module")
def new_world(shared_web: Web) -> Callable[..., World]:
    """Servers of this module search with SearXNG."""
    return lambda: Searching(config(shared_web, 'backend = "searxng"'))


def config(web: Web, search: str, more: str = "") -> str:
    """A configuration with a back end, which is at the engine of the tests."""
    at = "" if '"model"' in search else f'base_url = "https://{ENGINE}"\n'
    return web.config(more=f"[web.search]\n{search}\n{at}{more}")


@contextlib.contextmanager
def searching(web: Web, search: str, more: str = "") -> Iterator[World]:
    """A server with that back end."""
    world = Searching(config(web, search, more))
    world.begin()
    try:
        yield world
        assert world.settle() == []
        assert SECRET not in world.server_errors()
    finally:
        world.close()


def searx(*urls: str) -> dict[str, Any]:
    """What SearXNG finds."""
    results = [
        {"url": url, "title": f"About {url}", "content": "It goes.", "engine": "a", "score": 1.0}
        for url in urls
    ]
    return {"query": "x", "number_of_results": 0, "results": results, "unresponsive_engines": []}


def shown(url: str, title: str, *texts: str) -> dict[str, Any]:
    """A hit as the API shows it."""
    return {
        "type": "search_result",
        "source": url,
        "title": title,
        "content": [{"type": "text", "text": one} for one in texts],
        "citations": {"enabled": True},
    }


# --- back ends


def test_searxng(world: World, web: Web, client: anthropic.Anthropic) -> None:
    web.searching.finds(searx("https://a.example/", "https://b.example/x"))
    surfer = Surfer(world)
    (found,) = surfer.search("  How does\nthe mail\x07 travel? ")
    assert found.hits == [
        shown("https://a.example/", "About https://a.example/", "It goes."),
        shown("https://b.example/x", "About https://b.example/x", "It goes."),
    ]
    (sent,) = web.engine.requests
    assert (sent.method, sent.path) == ("GET", "/search")
    assert sent.query == {"q": TASK, "format": "json", "categories": "general"}
    assert story(surfer.events) == [
        *started("go"),
        *asked("agent.tool_use(web_search,allow)"),
        "agent.tool_result(ok)",
        *asked("agent.message(done)"),
        *rested(),
    ]
    # The model gets the same blocks.
    (told,) = world.model.requests()[-1]["messages"][-1]["content"]
    for block in told["content"]:
        block.pop("cache_control", None)
    assert told["content"] == found.hits
    assert SECRET.encode() not in web.engine.received()


def test_brave(web: Web) -> None:
    answer = {
        "type": "search",
        "query": {"original": "x"},
        "web": {
            "type": "search",
            "results": [
                {
                    "title": "The <strong>mail</strong> &amp; more",
                    "url": "https://a.example/",
                    "description": "It <strong>goes</strong>.",
                    "extra_snippets": ["And goes.", "On &#x27;foot&#x27;."],
                },
                {"title": "", "url": "https://b.example/"},
            ],
        },
    }
    with searching(web, 'backend = "brave"\nkey_env = "KEY_OF_THE_ENGINE"\nresults = 3') as world:
        web.searching.finds(answer)
        location = {"type": "approximate", "city": "Kraków", "country": "PL", "region": "Mazovia"}
        lists = {"blocked_domains": ["bad.example.com"], "user_location": location}
        surfer = Surfer(world, tools=[toolset({"name": "web_search", **lists})])
        (found,) = surfer.search(TASK)
        assert found.hits == [
            shown("https://a.example/", "The mail & more", "It goes.", "And goes.", "On 'foot'."),
            shown("https://b.example/", "b.example", "b.example"),
        ]
    (sent,) = web.engine.requests
    assert sent.path == "/res/v1/web/search" and sent.header("x-subscription-token") == SECRET
    assert sent.query["q"] == TASK and sent.query["country"] == "PL"
    assert sent.query["goggles"] == "$discard,site=bad.example.com"
    assert sent.header("x-loc-state-name") == "Mazovia" and sent.header("x-loc-country") == "PL"


def test_tavily(web: Web) -> None:
    url = "https://docs.example.com/x"
    result = {"title": "T", "url": url, "content": "one [...] two", "score": 1}
    with searching(web, 'backend = "tavily"\nkey_env = "KEY_OF_THE_ENGINE"') as world:
        web.searching.finds({"query": "x", "results": [result], "images": []})
        location = {"type": "approximate", "country": "DE"}
        lists = {"allowed_domains": ["example.com"], "user_location": location}
        surfer = Surfer(world, tools=[toolset({"name": "web_search", **lists})])
        (found,) = surfer.search(TASK)
        assert found.hits == [shown(url, "T", "one", "two")]
    (sent,) = web.engine.requests
    assert (sent.method, sent.path) == ("POST", "/search")
    assert sent.header("authorization") == f"Bearer {SECRET}"
    body = json.loads(sent.body)
    assert body["query"] == TASK and body["include_domains"] == ["example.com"]
    assert body["country"] == "germany" and body["max_results"] == 10


def test_serpapi(web: Web) -> None:
    found_by_google = [{"position": 1, "title": "T", "link": "https://a.example/", "snippet": "S"}]
    with searching(web, 'backend = "serpapi"\nkey_env = "KEY_OF_THE_ENGINE"') as world:
        web.searching.finds(
            {"search_metadata": {"status": "Success"}, "organic_results": found_by_google}
        )
        surfer = Surfer(world)
        (found,) = surfer.search(TASK)
        assert found.hits == [shown("https://a.example/", "T", "S")]
        # Its key is a part of the address, and of no error.
        error = json.dumps({"error": f"Invalid key {SECRET}"}).encode()
        web.searching.answer = Response(error, 401)
        (refused,) = surfer.search(TASK)
        assert refused.code == "unavailable"
        assert SECRET not in json.dumps(world.log(surfer.session))
    (sent, _) = web.engine.requests
    assert sent.path == "/search.json"
    assert sent.query == {"engine": "google", "output": "json", "q": TASK, "api_key": SECRET}


def test_a_model_of_the_messages_api(web: Web) -> None:
    """The provider's own search, by way of the guard, which the operator opens for it here."""
    search = '[web.search]\nbackend = "model"\nmodel = "claude-haiku-4-5"\n'
    opened = web.config(egress='allow_private = ["127.0.0.1/32"]', more=search)
    world = Searching(opened)
    world.begin()
    try:
        result = {"type": "web_search_result", "url": "https://docs.example.com/a", "title": "A"}
        found = [{**result, "encrypted_content": "x", "page_age": None}]
        cited = {
            "type": "web_search_result_location",
            "url": "https://docs.example.com/a",
            "title": "A",
            "encrypted_index": "x",
            "cited_text": "It goes by night.",
        }
        use = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}
        searched: dict[str, Any] = {"type": "web_search_tool_result", "content": found}
        searched["tool_use_id"] = "srvtoolu_1"
        steps = [{"block": use, "deltas": []}, {"block": searched, "deltas": []}]
        said = {"type": "text", "text": "It goes.", "citations": [cited]}
        steps += [{"block": said, "deltas": []}]
        location = {"type": "approximate", "city": "Oslo", "timezone": "Europe/Oslo"}
        allowed = ["example.com/a", "docs.example.com"]
        lists = {"allowed_domains": allowed, "user_location": location}
        surfer = Surfer(world, tools=[toolset({"name": "web_search", **lists})])
        own = {"model": "claude-haiku-4-5"}
        world.model.script(
            {"steps": steps, "when": own}, calls(("web_search", {"query": TASK})), text("done")
        )
        surfer.events = turn(surfer.client, surfer.session, "go")
        (told,) = surfer.results()
        assert told.hits == [shown("https://docs.example.com/a", "A", "It goes by night.")]
        (sent,) = [one for one in world.model.requests() if one["model"] == own["model"]]
        assert sent["messages"] == [{"role": "user", "content": TASK}]
        assert sent["tools"] == [
            {
                "type": "web_search_20250305",
                "name": "web_search",
                "max_uses": 1,
                "allowed_domains": allowed,
                "user_location": location,
            }
        ]
        # What it says is none, and its own errors are told as everybody's.
        error = {"type": "web_search_tool_result_error", "error_code": "too_many_requests"}
        refused = {**searched, "content": error}
        steps[1:] = [{"block": refused, "deltas": []}]
        world.model.script(
            {"steps": steps, "when": own},
            {"steps": [{"text": "I know it by heart."}], "when": own},
            calls(("web_search", {"query": TASK})),
            calls(("web_search", {"query": TASK})),
            text("done"),
            allow_prefix_change=True,
        )
        surfer.events = turn(surfer.client, surfer.session, "again")
        assert [one.code for one in surfer.results()] == ["too_many_requests", "unavailable"]
        assert world.settle() == []
    finally:
        world.close()


def test_a_model_of_the_responses_api(web: Web) -> None:
    provider = (
        f'[providers.finder]\nkind = "openai_responses"\nbase_url = "https://{ENGINE}/v1"\n'
        'api_key_env = "KEY_OF_THE_ENGINE"\n'
    )
    said = "On the mail:\n- It goes by night ([A](https://a.example/x))."
    at = said.index("([A]")
    cited = {"type": "url_citation", "url": "https://a.example/x", "title": "A"}
    cited |= {"start_index": at, "end_index": len(said) - 1}
    action = {"type": "search", "sources": [{"type": "url", "url": "https://b.example/"}]}
    output = [
        {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": action},
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": said, "annotations": [cited]}],
        },
    ]
    with searching(web, 'backend = "model"\nmodel = "finder/gpt-6.2-sol"', provider) as world:
        web.searching.finds({"id": "resp_1", "object": "response", "output": output})
        tools = [toolset({"name": "web_search", "blocked_domains": ["c.example.com"]})]
        (found,) = Surfer(world, tools=tools).search(TASK)
        assert found.hits == [
            shown("https://a.example/x", "A", "It goes by night"),
            shown("https://b.example/", "b.example", "b.example"),
        ]
    (sent,) = web.engine.requests
    assert (sent.method, sent.path) == ("POST", "/v1/responses")
    assert sent.header("authorization") == f"Bearer {SECRET}"
    body = json.loads(sent.body)
    assert body["input"] == TASK and body["store"] is False and body["model"] == "gpt-6.2-sol"
    assert body["tools"] == [{"type": "web_search"}]


# --- rules


def test_hits_are_held_against_every_list(
    world: World, web: Web, client: anthropic.Anthropic
) -> None:
    every = [
        "https://docs.example.com/guide/x",
        "https://example.com/other",
        "https://example.org/",
        "https://notexample.com/",
        "https://example.com.evil.example/",
        "http://10.0.0.1/",
        "https://user:word@example.com/",
        "javascript:alert(1)",
        "file:///etc/passwd",
        "not a url",
        "https://docs.example.com/guide/x",
    ]
    rows: list[tuple[dict[str, Any], list[str] | None, list[int]]] = [
        ({}, None, [0, 1, 2, 3, 4, 5]),
        ({"allowed_domains": ["example.com"]}, None, [0, 1]),
        ({"allowed_domains": ["example.com/other"]}, None, [1]),
        ({"allowed_domains": ["docs.example.com/guide", "example.org"]}, None, [0, 2]),
        ({"blocked_domains": ["example.com"]}, None, [2, 3, 4, 5]),
        ({"blocked_domains": ["docs.example.com/guide"]}, None, [1, 2, 3, 4, 5]),
        ({}, ["example.org", "*.example.com"], [0, 2]),
        ({"allowed_domains": ["example.com"]}, ["*.example.com"], [0]),
    ]
    web.searching.finds(searx(*every))
    for lists, hosts, left in rows:
        tools = [toolset({"name": "web_search", **lists})]
        environment = None if hosts is None else limited(client, *hosts)
        (found,) = Surfer(world, tools=tools, environment=environment).search(TASK)
        assert [hit["source"] for hit in found.hits] == [every[at] for at in left], (lists, hosts)
    # An engine that knows how to ask for one host is asked for it.
    queries = [one.query["q"] for one in web.engine.requests]
    assert queries[1] == f"{TASK} site:example.com" and queries[0] == TASK
    web.clear()
    for hosts in ([], ["db.internal", "intranet", "x.local"]):
        (none,) = Surfer(world, environment=limited(client, *hosts)).search(TASK)
        assert none.error == (
            "Web search error: url_not_allowed — no host in this session's environment (its "
            "allowed_hosts) can be searched: the list is empty or holds only local, private or "
            "internal names. Do not retry; tell the user that web_search needs public host names "
            "in the environment's allowed_hosts."
        )
    apart = [toolset({"name": "web_search", "allowed_domains": ["example.net"]})]
    (none,) = Surfer(world, tools=apart, environment=limited(client, "example.com")).search(TASK)
    assert none.code == "url_not_allowed" and "nothing in common" in none.error
    # Nobody was asked, so that nobody has heard what is searched for.
    assert web.engine.requests == []


def test_what_is_found_is_bounded(world: World, web: Web) -> None:
    hidden = "so\u0000\u202e\u200b\U000e0041 \x1b[2Jit\n\nis"
    many = [
        {
            "url": f"https://a.example/{at}",
            "title": "t" * 9000 + hidden,
            "content": hidden + "x" * 9000,
        }
        for at in range(50)
    ]
    odd: list[Any] = [None, 1, [], {"url": 1}]
    odd.append({"url": "https://b.example/", "title": [], "content": {}})
    web.searching.finds({"results": odd + many})
    (found,) = Surfer(world).search(TASK)
    assert len(found.hits) == 10
    assert found.hits[0] == shown("https://b.example/", "b.example", "b.example")
    for hit in found.hits[1:]:
        (block,) = hit["content"]
        assert len(hit["title"]) == 300 and len(block["text"]) == 2000
        assert block["text"].startswith("so [2Jit\n\nisxxx"), block["text"][:40]


# --- errors


def test_errors(world: World, web: Web) -> None:
    json_kind = [("content-type", "application/json")]
    rows: list[tuple[Response, str, str]] = [
        (Response(b"", 429), "too_many_requests", "asked too often"),
        (Response(b"", 500), "unavailable", "Try again later"),
        (Response(b"", 401), "unavailable", "whoever runs this server"),
        (Response(b"", 402), "unavailable", "wants to be paid"),
        (Response(b"", 403), "unavailable", "search.formats"),
        (Response(b"", 404), "unavailable", "not at the address"),
        (Response(b"", 302, [("location", "/else")]), "unavailable", "at another address"),
        (Response(b"", 400), "invalid_tool_input", "in other words"),
        (Response(b"", 414), "query_too_long", "fewer words"),
        (Response(b"<html>", 200), "unavailable", "something else than JSON"),
        (Response(b"[]", 200, json_kind), "unavailable", "without results"),
        (Response(b"[" * 500_000, 200, json_kind), "unavailable", "something else than JSON"),
        (Response(b" " * (3 << 20), 200, json_kind), "unavailable", "too much"),
    ]
    surfer = Surfer(world)
    for answer, code, why in rows:
        web.searching.answer = answer
        (refused,) = surfer.search(TASK)
        assert (refused.code, why in refused.error) == (code, True), (code, refused)
    assert len(web.engine.requests) == len(rows)
    # What is no query gets to nobody.
    inputs: list[dict[str, Any]] = [{}, {"query": 1}, {"query": " \n "}, {"query": "x " * 600}]
    told = surfer.call(*(("web_search", one) for one in inputs))
    assert [one.code for one in told] == [*["invalid_tool_input"] * 3, "query_too_long"]
    assert len(web.engine.requests) == len(rows)
    # A search that was none costs nothing.
    usage = wire(surfer.client.beta.sessions.retrieve(surfer.session))["usage"]
    assert usage["server_tool_use"]["web_search_requests"] == 0
    web.searching.finds(searx())
    (nothing,) = surfer.search(TASK)
    assert not nothing.is_error and nothing.blocks[0]["type"] == "text"


# --- what it costs


def test_searches_are_counted(world: World, web: Web, client: anthropic.Anthropic) -> None:
    web.searching.finds(searx("https://a.example/"))
    surfer = Surfer(world)
    surfer.search(*("one", "two", "three"))
    web.searching.finds(searx())
    surfer.search("four")
    usage = wire(client.beta.sessions.retrieve(surfer.session))["usage"]
    assert usage["server_tool_use"] == {"web_search_requests": 4, "web_fetch_requests": 0}
    said = [wire(one)["usage"] for one in surfer.events if one.type == "session.usage"]
    assert said[-1]["server_tool_use"] == usage["server_tool_use"]
    # A thousand cost ten dollars.
    costs = []
    for searches in (False, True):
        kinds = ("input", "output", "cache_read_input", "cache_creation_input")
        tokens: dict[str, Any] = {f"{kind}_tokens": 0 for kind in kinds}
        written = {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0}
        tokens["cache_creation"] = written
        other = Surfer(world)
        replies = [calls(*[("web_search", {"query": str(at)}) for at in range(5)], usage=tokens)]
        world.model.script(*(replies if searches else []), text("done", usage=tokens))
        turn(client, other.session, "go")
        cost = wire(client.beta.sessions.retrieve(other.session))["usage"]["list_cost"]
        costs.append(int(cost["amount"]))
    assert costs == [0, 5]


# --- servers that have none


def test_without_a_back_end(web: Web) -> None:
    world = World(web.config())
    world.begin()
    try:
        client = world.client()
        for tools in (
            [toolset({"name": "web_search"})],
            [toolset({"name": "web_search", "enabled": True})],
            [toolset({"name": "web_search", "allowed_domains": ["example.com"]})],
        ):
            with pytest.raises(anthropic.BadRequestError) as refused:
                world.agent(tools=tools)
            told = refused.value.message
            assert "web_search needs a search back end" in told, told
            assert "web.search.backend" in told and "docs/CONFIGURATION.md" in told, told
        # Whoever does not name it gets what there is.
        session = world.session(tools=[toolset({"name": "web_search", "enabled": False})])
        surfer = Surfer(world)
        for one in (session, surfer.session):
            world.model.script(text("hello"))
            turn(client, one, "hi")
            offered = [tool["name"] for tool in world.model.requests()[-1]["tools"]]
            assert "web_fetch" in offered and "web_search" not in offered, offered
        world.model.script()
        # A model that calls it all the same is told.
        (refused_call,) = surfer.search(TASK)
        assert refused_call.is_error
        assert world.settle() == []
    finally:
        world.close()
