"""Which addresses `web_fetch` takes: those that the conversation has shown, from the sources that the
agent allows, on the hosts that agent and environment allow.
"""

from __future__ import annotations

import html
import json
import re
from typing import Any

import anthropic
import pytest

from origin import Request, Response
from origins import MCP
from support import (
    WEATHER,
    answer,
    bash,
    call_ids,
    calls,
    message,
    system_message,
    text,
    turn,
    wire,
)
from world import World
from web_origins import (
    BELOW,
    ENGINE,
    OTHER,
    SITE,
    Result,
    Surfer,
    Web,
    limited,
    page,
    shared_web,
    toolset,
    web,
)

NOT_SHOWN = (
    "Web fetch error: url_not_in_prior_context — this URL was not fetched because it is not among "
    "the URLs this conversation has shown you. "
)
PAGE = f"https://{SITE}/docs/page"


@pytest.fixture(scope="module")
def new_world(shared_web: Web) -> Any:
    """Makes servers with a search back end."""
    search = f'[web.search]\nbackend = "searxng"\nbase_url = "https://{ENGINE}"\n'
    return lambda: World(shared_web.config(more=search))


def sources(user: Any = None, client: Any = None, server: Any = None) -> dict[str, Any]:
    """A toolset with rules of sources."""
    given = {"user_input": user, "client_tool_results": client, "server_tool_results": server}
    return toolset(url_sources={key: value for key, value in given.items() if value is not None})


def is_shown(result: Result) -> bool:
    """Whether a page was read. Otherwise the rule of sources has refused it."""
    if result.is_error:
        assert result.error.startswith(NOT_SHOWN), result
    return not result.is_error


def finds(web: Web, *urls: str) -> None:
    """What every search finds from now on."""
    web.searching.finds({"results": [{"url": url, "title": "T", "content": "C"} for url in urls]})


# --- who shows


def test_a_user_shows(world: World, web: Web) -> None:
    # What is said, and whether it shows `https://SITE/ROW/page`.
    rows = [
        ("https://SITE/ROW/page", True),
        ("Read https://SITE/ROW/page.", True),
        ("[docs](https://SITE/ROW/page), please", True),
        ("SITE/ROW/page", True),
        ("<https://SITE/ROW/page>", True),
        ("https://SITE/ROW/", False),
        ("https://SITE/", False),
        ("https://SITE/ROW/page/deeper", False),
        ("https://SITE/ROW/page?secret=1", False),
        (f"https://{BELOW}/ROW/page", False),
        ("https://SITE.evil.example/ROW/page", False),
        ("https://evil.example/?https=//SITE/ROW/page", False),
        ("read the docs", False),
    ]
    told = [said.replace("SITE", SITE).replace("ROW", str(row)) for row, (said, _) in enumerate(rows)]
    urls = [f"https://{SITE}/{row}/page" for row in range(len(rows))]
    read = Surfer(world).fetch(*urls, shown="\n".join(told))
    shown = [is_shown(one) for one in read]
    assert dict(zip(told, shown, strict=True)) == dict(
        zip(told, (expected for _, expected in rows), strict=True)
    )
    assert sorted(web.asked()) == [f"{SITE}/{row}/page" for row in range(5)]
    # Neither does a deeper page show the one at the root.
    (root,) = Surfer(world).fetch(f"https://{SITE}/", shown=PAGE)
    assert not is_shown(root)


def test_in_any_block_of_any_message(world: World, web: Web) -> None:
    document = {
        "type": "document",
        "source": {"type": "text", "media_type": "text/plain", "data": f"see {PAGE}/a"},
        "context": f"from {PAGE}/b",
    }
    surfer = Surfer(world)
    world.model.append(text("I see"))
    turn(surfer.client, surfer.session, {"type": "user.message", "content": [document]})
    # It still counts turns later.
    told = surfer.fetch(f"{PAGE}/a", f"{PAGE}/b", f"{PAGE}/c", shown="read them")
    assert [is_shown(one) for one in told] == [True, True, False]


def test_the_application_shows(world: World, web: Web) -> None:
    surfer = Surfer(world, system=f"Our handbook is {PAGE}/handbook .")
    world.model.append(text("yes"))
    turn(surfer.client, surfer.session, "hi", system_message(f"News: {PAGE}/news"))
    told = surfer.fetch(f"{PAGE}/handbook", f"{PAGE}/news", f"{PAGE}/none", shown="read")
    assert [is_shown(one) for one in told] == [True, True, False]


def test_what_a_search_finds_is_shown(world: World, web: Web) -> None:
    finds(web, f"{PAGE}/hit", f"https://{OTHER}/")
    surfer = Surfer(world)
    (before,) = surfer.fetch(f"{PAGE}/hit", shown="go")
    assert not is_shown(before)
    surfer.search("anything")
    told = surfer.fetch(f"{PAGE}/hit", f"https://{OTHER}/", f"https://{OTHER}/x", shown="go")
    assert [is_shown(one) for one in told] == [True, True, False]


def test_a_page_shows_its_links(world: World, web: Web) -> None:
    body = f'<a href="next">next</a> and {PAGE}/named <nav><a href="/nav">nav</a></nav>{"x " * 200}'
    web.put("/docs/page", page(body))
    web.put("/plain", page(f"see https://{OTHER}/linked", "text/plain"))
    surfer = Surfer(world)
    surfer.fetch(PAGE, f"https://{SITE}/plain")
    rows = {
        f"https://{SITE}/docs/next": True,
        f"{PAGE}/named": True,
        f"https://{OTHER}/linked": True,
        # It was left out, and so has shown nobody anything.
        f"https://{SITE}/nav": False,
    }
    told = surfer.fetch(*rows, shown="go on")
    assert [is_shown(one) for one in told] == list(rows.values())
    # What an error repeats is not shown by it.
    guessed = f"https://{SITE}/guessed"
    told = surfer.fetch(guessed, guessed, shown="go on")
    assert [is_shown(one) for one in told] == [False, False]


def test_whatever_is_in_an_address(world: World, web: Web) -> None:
    """What ends most addresses in a text is a part of some, and they are shown all the same."""
    paths = [
        *("/wiki/Rust_(language)", "/a)b", "/a(b", "/q?x=[1]", "/ü", "/a|b", "/q?f=a|b|c"),
        *("/q?f={x}^y`z", "/a'b", "/a*b_c~d", "/em__x__", "/x.", "/y,", "/sp ace", "/<lt>"),
        *("/q?a=1&b=2", "/[br]", "/t~!", "/a;b:c@d", "/q?u=https://z.example/", "/%7Euser"),
    ]
    links = [f"<a href='{html.escape(path)}'>link</a>" for path in paths]
    rows = "".join(f"<tr><td>{link}</td><td>cell</td></tr>" for link in links)
    web.put("/links", page(f"<p>{' there, '.join(links)} there,</p><table>{rows}</table>"))
    surfer = Surfer(world)
    (read,) = surfer.fetch(f"https://{SITE}/links")
    seen = re.findall(r"\[link\]\((\S+?)\)(?: there,| \|)", read.page)
    assert len(seen) == 2 * len(paths)
    assert [is_shown(one) for one in surfer.fetch(*seen, shown="go on")] == [True] * len(seen)
    finds(web, *(f"https://{SITE}/hit{path}" for path in paths[:10]))
    hits = [hit["source"] for hit in surfer.search("anything")[0].hits]
    assert len(hits) == 10
    assert [is_shown(one) for one in surfer.fetch(*hits, shown="go on")] == [True] * 10
    # And what a user writes down, each in a line of its own.
    said = [f"https://{SITE}/said{path}" for path in paths if " " not in path and "<" not in path]
    told = surfer.fetch(*said, shown="\n".join(said))
    assert [is_shown(one) for one in told] == [True] * len(said)


def test_a_custom_tool_shows(world: World, web: Web) -> None:
    surfer = Surfer(world, tools=[toolset(), WEATHER])
    world.model.append(calls(("weather", {"city": "Oslo"})))
    waiting = turn(surfer.client, surfer.session, "how is it?")
    world.model.append(calls(("web_fetch", {"url": PAGE})), text("done"))
    surfer.events = turn(surfer.client, surfer.session, answer(call_ids(waiting)[0], f"see {PAGE}"))
    assert [is_shown(one) for one in surfer.results()] == [True]


def test_a_model_shows_nothing_itself(world: World, web: Web) -> None:
    surfer = Surfer(world)
    said = {"steps": [{"thinking": f"I want {PAGE}"}, {"text": f"I'll read {PAGE}."}]}
    world.model.append(said)
    turn(surfer.client, surfer.session, "go on")
    assert [is_shown(one) for one in surfer.fetch(PAGE, shown="do so")] == [False]
    # Nor do its commands, and the files that it has written.
    world.model.append(
        calls(("write", {"file_path": "a.txt", "content": PAGE})),
        bash(f"echo {PAGE}; cat a.txt"),
        calls(("read", {"file_path": "a.txt"})),
        calls(("grep", {"pattern": "docs"})),
        text("done"),
    )
    events = turn(surfer.client, surfer.session, "work")
    assert str([wire(event) for event in events]).count(PAGE) > 5
    assert [is_shown(one) for one in surfer.fetch(PAGE, shown="do so")] == [False]
    assert web.asked() == []


def _mcp(request: Request) -> Response:
    """An MCP server with one tool, which says an address."""
    if request.method != "POST":
        return Response(b"", 405)
    call = json.loads(request.body)
    if "id" not in call:
        return Response(b"", 202)
    tool = {"name": "tell", "description": "Tells.", "inputSchema": {"type": "object"}}
    result: dict[str, Any] = {"tools": [tool]}
    if call["method"] == "initialize":
        result = {
            "protocolVersion": "2025-11-25",
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "test", "version": "1"},
        }
    elif call["method"] == "tools/call":
        result = {"content": [{"type": "text", "text": f"see {PAGE}"}]}
    elif call["method"] != "tools/list":
        error = {"code": -32601, "message": "no such method"}
        body = {"jsonrpc": "2.0", "id": call["id"], "error": error}
        return Response(json.dumps(body).encode(), headers=[("content-type", "application/json")])
    body = {"jsonrpc": "2.0", "id": call["id"], "result": result}
    return Response(json.dumps(body).encode(), headers=[("content-type", "application/json")])


def test_an_mcp_server_shows_nothing(world: World, web: Web) -> None:
    web.mcp._handler = _mcp
    allow = {"permission_policy": {"type": "always_allow"}}
    tools = [
        toolset(),
        {"type": "mcp_toolset", "mcp_server_name": "teller", "default_config": allow},
    ]
    servers = [{"type": "url", "name": "teller", "url": f"https://{MCP}/"}]
    surfer = Surfer(world, tools=tools, mcp_servers=servers)
    world.model.append(calls(("mcp__teller__tell", {})), text("done"))
    events = [wire(event) for event in turn(surfer.client, surfer.session, "ask it")]
    (told,) = [one for one in events if one["type"] == "agent.mcp_tool_result"]
    assert told["content"] == [{"type": "text", "text": f"see {PAGE}"}] and not told["is_error"]
    assert [is_shown(one) for one in surfer.fetch(PAGE, shown="do so")] == [False]


# --- near misses


def test_a_near_miss_is_what_was_shown(world: World, web: Web) -> None:
    # What was shown, what the model gives, and what is fetched if that is another one.
    rows = [
        (f"https://{SITE}/0", f"http://{SITE}/0", f"https://{SITE}/0"),
        (f"https://{SITE}/1", f"https://www.{SITE}/1", f"https://{SITE}/1"),
        (f"https://{SITE}/2", f"https://{SITE}/2/", f"https://{SITE}/2"),
        (f"https://{SITE}/3/", f"https://{SITE}/3", f"https://{SITE}/3/"),
        (f"https://{SITE}/4", f"http://www.{SITE}/4/#y", f"https://{SITE}/4"),
        (f"https://{SITE}", f"https://{SITE}/", None),
        (f"https://{SITE}/%7E6", f"https://{SITE}/%7E6", None),
        (f"HTTPS://{SITE.upper()}/7", f"https://{SITE}/7", None),
    ]
    read = Surfer(world).fetch(*(row[1] for row in rows), shown=" ".join(row[0] for row in rows))
    for (shown, given, fetched), one in zip(rows, read, strict=True):
        assert not one.is_error, (shown, given, one)
        texts = [block["text"] for block in one.blocks if block["type"] == "text"]
        assert len(texts) == (fetched is not None), (given, one)
        if fetched is not None:
            note = f"Note: fetched {fetched}, not the URL you gave. "
            assert texts[0].startswith(note) and one.blocks[1]["type"] == "document", one
    came = {f"https://{one}" for one in web.asked()}
    assert {row[2] for row in rows if row[2]} <= came and len(came) == len(rows)
    assert all(request.connection.tls for request in web.site.requests)


# --- rules of sources


@pytest.mark.parametrize(
    ("rules", "by_user", "by_tool", "by_search", "by_page"),
    [
        ({}, True, True, True, True),
        ({"user": "all", "client": "all", "server": "all"}, True, True, True, True),
        ({"user": "none"}, False, True, True, True),
        ({"client": "none"}, True, False, True, True),
        ({"server": "none"}, True, True, False, False),
        ({"user": {"type": "none"}, "client": {"type": "none"}}, False, False, True, True),
        ({"client": {"only": ["weather"]}}, True, True, True, True),
        ({"client": {"except": ["weather"]}}, True, False, True, True),
        ({"client": {"only": ["other"]}}, True, False, True, True),
        ({"server": {"only": ["web_search"]}}, True, True, True, False),
        ({"server": {"only": ["web_fetch"]}}, True, True, False, True),
        ({"server": {"except": ["web_search"]}}, True, True, False, True),
        ({"server": {"except": ["web_search", "web_fetch"]}}, True, True, False, False),
    ],
)
def test_rules_of_sources(
    world: World,
    web: Web,
    rules: dict[str, Any],
    by_user: bool,
    by_tool: bool,
    by_search: bool,
    by_page: bool,
) -> None:
    def written(rule: Any) -> Any:
        for kind in ("only", "except"):
            if isinstance(rule, dict) and kind in rule:
                tools = [{"type": "tool_reference", "name": name} for name in rule[kind]]
                return {"type": kind, "tools": tools}
        return rule

    given = {name: written(rule) for name, rule in rules.items()}
    toolset = sources(**given)
    other = {**WEATHER, "name": "other"}
    surfer = Surfer(world, tools=[toolset, WEATHER, other])
    # They are shown in full.
    agent = wire(surfer.client.beta.sessions.retrieve(surfer.session))["agent"]
    configs = {one["name"]: one for one in agent["tools"][0]["configs"]}
    shown = configs["web_fetch"]["url_sources"]
    for name, key in (
        ("user", "user_input"),
        ("client", "client_tool_results"),
        ("server", "server_tool_results"),
    ):
        if name in given:
            rule = given[name]
            assert shown[key] == ({"type": rule} if isinstance(rule, str) else rule)
    first = f"https://{SITE}/by/page"
    web.put("/by/page", page(f"<a href='linked'>one</a>"))
    finds(web, f"https://{SITE}/by/search", first)
    world.model.append(
        calls(("web_search", {"query": "x"})), calls(("weather", {"city": "Oslo"}))
    )
    say = f"https://{SITE}/by/user {first}"
    waiting = turn(surfer.client, surfer.session, say)
    urls = [f"https://{SITE}/by/{one}" for one in ("user", "tool", "search", "page")]
    world.model.append(
        calls(*(("web_fetch", {"url": url}) for url in urls)),
        calls(("web_fetch", {"url": f"https://{SITE}/by/linked"})),
        text("done"),
    )
    said = answer(call_ids(waiting)[0], f"see https://{SITE}/by/tool and {first}")
    surfer.events = turn(surfer.client, surfer.session, said)
    *told, linked = [is_shown(one) for one in surfer.results()]
    assert told[:3] == [by_user, by_tool, by_search]
    assert linked is (by_page and told[3])


# --- hosts


def test_lists_of_hosts(world: World, web: Web, client: anthropic.Anthropic) -> None:
    urls = [f"https://{SITE}/x", f"https://{BELOW}/x", f"https://{OTHER}/x"]
    rows: list[tuple[dict[str, Any], list[str] | None, list[bool]]] = [
        ({}, None, [True, True, True]),
        ({"allowed_domains": [SITE]}, None, [True, True, False]),
        ({"allowed_domains": [BELOW]}, None, [False, True, False]),
        ({"allowed_domains": [SITE.upper(), OTHER]}, None, [True, True, True]),
        ({"allowed_domains": ["ite.example.test"]}, None, [False, False, False]),
        ({"blocked_domains": [SITE]}, None, [False, False, True]),
        ({"blocked_domains": [BELOW]}, None, [True, False, True]),
        ({"blocked_domains": ["example.test"]}, None, [False, False, False]),
        ({}, [SITE], [True, False, False]),
        ({}, [f"*.{SITE}"], [False, True, False]),
        ({}, ["*.example.test"], [True, True, True]),
        ({"allowed_domains": [SITE]}, [f"*.{SITE}", OTHER], [False, True, False]),
        ({"blocked_domains": [SITE]}, [SITE, OTHER], [False, False, True]),
        ({}, [], [False, False, False]),
    ]
    for options, hosts, read in rows:
        environment = None if hosts is None else limited(client, *hosts)
        surfer = Surfer(world, tools=[toolset(**options)], environment=environment)
        told = surfer.fetch(*urls)
        assert [not one.is_error for one in told] == read, (options, hosts, told)
        for one, url in zip(told, urls, strict=True):
            if not one.is_error:
                continue
            assert one.code == "url_not_allowed"
            if hosts == []:
                assert one.error == (
                    "Web fetch error: url_not_allowed — this session's environment allows no web "
                    "hosts, so no URL can be fetched. Do not retry; tell the user that web_fetch "
                    "needs hosts in the environment's allowed_hosts."
                )
            else:
                assert url.split("/")[2] in one.error, one
    # What an environment lets MCP servers and package managers reach is no page.
    more = limited(client, allow_mcp_servers=True, allow_package_managers=True)
    (one,) = Surfer(world, environment=more).fetch("https://pypi.org/simple/")
    assert one.code == "url_not_allowed"


def test_lists_that_can_not_be(world: World, client: anthropic.Anthropic) -> None:
    rows: list[tuple[dict[str, Any], str]] = [
        (
            {"allowed_domains": ["a.example.com"], "blocked_domains": ["b.example.com"]},
            "Only one of allowed_domains or blocked_domains may be set.",
        ),
        (
            {"allowed_domains": []},
            "allowed_domains: Empty list of domains is ambiguous. Provide at least one domain or null.",
        ),
        (
            {"allowed_domains": ["10.0.0.1"]},
            'allowed_domains.0: IP addresses are not supported; provide a plain hostname like "example.com"',
        ),
        ({"blocked_domains": ["https://example.com"]}, "blocked_domains.0"),
        ({"blocked_domains": ["example.com:8080"]}, "blocked_domains.0"),
        ({"blocked_domains": ["example.com/path"]}, "blocked_domains.0"),
        ({"blocked_domains": ["localhost"]}, "blocked_domains.0"),
        ({"blocked_domains": ["a.internal"]}, "blocked_domains.0"),
        ({"blocked_domains": ["*.example.com"]}, "blocked_domains.0"),
        ({"max_content_tokens": 0}, "max_content_tokens"),
        (
            {
                "url_sources": {
                    "user_input": "none",
                    "client_tool_results": "none",
                    "server_tool_results": {"type": "none"},
                }
            },
            "url_sources",
        ),
        (
            {
                "url_sources": {
                    "client_tool_results": {
                        "type": "only",
                        "tools": [{"type": "tool_reference", "name": "nobody"}],
                    }
                }
            },
            "client_tool_results",
        ),
    ]
    for options, why in rows:
        with pytest.raises(anthropic.BadRequestError) as refused:
            world.agent(tools=[toolset(**options)])
        assert why in refused.value.message, (options, refused.value.message)
