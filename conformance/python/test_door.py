"""The door by its list: which hosts a sandbox reaches, how it is told of the others, what passes to
those that it reaches, and what is written down. Everything that is connected to is on loopback.

What is said inside of connections is in `test_door_requests.py`, addresses and resolvers are in
`test_door_public.py`.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from door import REFUSAL, ROOTS, Sandbox, Site, is_refused, new_world, origins, shared_site, site
from origins import (
    API,
    APEX,
    BELOW,
    BLOCKED,
    CLOSED_PORT,
    EXPIRED,
    MISNAMED,
    OPAQUE,
    PINNED,
    SELF_MADE,
    TWIN,
    digest_of,
)
from support import TOOLSET, bash, results, text, turn

# Looks like one that is allowed, and nobody has fixed an address for it.
LOOKALIKE = "xwild.example.test"
EVERY = [API, TWIN, APEX, *BELOW, BLOCKED, LOOKALIKE]


def ask_all(sandbox: Sandbox, *hosts: str) -> dict[tuple[str, str], dict[str, Any]]:
    """Asks hosts, by https and http."""
    asked = [(scheme, host) for host in hosts for scheme in ("https", "http")]
    told = sandbox.tasks(
        *({"do": "http", "url": f"{scheme}://{host}/{scheme}"} for scheme, host in asked)
    )
    return dict(zip(asked, told, strict=True))


# --- lists


@pytest.mark.parametrize(
    ("listed", "reached"),
    [
        ([], []),
        ([API], [API]),
        (["API.Example.TEST"], [API]),
        ([APEX], [APEX]),
        (["*.wild.example.test"], [*BELOW]),
        (["*.b.wild.example.test"], [BELOW[1]]),
        (["*.WILD.example.test", API], [API, *BELOW]),
        (["*.api.example.test"], []),
        # What is no host of anybody opens nothing else.
        (["ample.test", "*.xample.test", "example"], []),
    ],
)
def test_a_list_holds(site: Site, listed: list[str], reached: list[str]) -> None:
    sandbox = site.sandbox(site.limited(*listed))
    for (scheme, host), told in ask_all(sandbox, *EVERY).items():
        if host in reached:
            assert (told.get("status"), told.get("body")) == (200, "ok\n"), (scheme, host, told)
        else:
            assert is_refused(told, host), (scheme, host, told)
    # Nothing but what was answered has come, and over what was asked.
    came = [
        (one.header("host"), one.path, one.connection.tls) for one in site.origins.main.requests
    ]
    assert sorted(came) == sorted(
        (host, f"/{scheme}", scheme == "https")
        for host in reached
        for scheme in ("http", "https")
    )
    assert site.origins.blocked.connections == []


def test_without_a_list_they_are_all_there(site: Site) -> None:
    """The control of all refusals: what is refused elsewhere could be reached."""
    sandbox = site.sandbox(site.unrestricted())
    hosts = [one for one in EVERY if one != LOOKALIKE]
    tasks = [{"do": "http", "url": f"https://{host}/", "roots": ROOTS} for host in hosts]
    tasks += [{"do": "http", "url": f"http://{host}/"} for host in hosts]
    assert [one.get("status") for one in sandbox.tasks(*tasks)] == [200] * (2 * len(hosts))


def test_curl_is_told_in_words(site: Site) -> None:
    sandbox = site.sandbox(site.limited(API))
    ask = "curl --silent --show-error --max-time 10 --write-out ' %{http_code}'"
    told = sandbox.shell(
        *(f"{ask} {scheme}://{host}/; echo \" exit $?\"" for scheme in ("https", "http")
          for host in (API, BLOCKED)),
        f"{ask} --http2 https://{BLOCKED}/; echo \" exit $?\"",
        f"{ask} --http1.1 --data-binary @/usr/bin/bash https://{BLOCKED}/; echo \" exit $?\"",
    )  # fmt: skip
    assert [told[0], told[2]] == ["ok\n 200 exit 0\n"] * 2
    for one in (told[1], told[3], told[4], told[5]):
        assert one.startswith(f"{REFUSAL}{BLOCKED}: ") and one.endswith("\n 403 exit 0\n"), one
    assert site.origins.blocked.connections == []


def test_no_variable_has_to_be_set(site: Site) -> None:
    """No proxy is named, and programs that would ignore one are held all the same."""
    sandbox = site.sandbox(site.limited(API))
    bare = (
        "env -i /usr/bin/curl --silent --cacert /etc/ssl/certs/ca-certificates.crt --noproxy '*'"
    )
    proxies, allowed, blocked = sandbox.shell(
        "env | grep -i proxy || echo none",
        f"{bare} https://{API}/",
        f"{bare} https://{BLOCKED}/",
    )
    assert (proxies, allowed) == ("none\n", "ok\n")
    assert blocked.startswith(f"{REFUSAL}{BLOCKED}: ")


def test_names_are_answered_by_the_door(site: Site) -> None:
    sandbox = site.sandbox(site.limited(API))
    dns = {"do": "dns"}
    tasks = [
        {**dns, "name": API},
        {**dns, "name": API, "tcp": True},
        {**dns, "name": API, "server": "8.8.8.8"},
        {**dns, "name": BLOCKED},
        {**dns, "name": LOOKALIKE},
        {**dns, "name": API, "kind": 28},
        {**dns, "name": f"secret.{BLOCKED}", "kind": 16},
    ]
    told = sandbox.tasks(*tasks)
    own = [one["answers"] for one in told[:5]]
    assert all(len(one) == 1 and one[0].startswith("198.18.") for one in own), told
    # One name is one address, whoever is asked and by what.
    assert own[0] == own[1] == own[2]
    assert own[3] not in (own[0], own[4])
    assert [one["answers"] for one in told[5:]] == [[], []]


def test_datagrams_reach_nobody(site: Site) -> None:
    sandbox = site.sandbox(site.limited(API))
    for told in sandbox.tasks(
        {"do": "udp", "host": API, "port": 443},
        {"do": "udp", "host": "198.51.100.7", "port": 5353},
        {"do": "udp", "host": "2001:db8::7", "port": 443},
    ):
        assert "error" in told, told
    # The one kind of datagram that is answered.
    assert sandbox.task("dns", name=API)["answers"] != []


# --- redirects


def test_a_redirect_leads_no_further_than_the_list(site: Site) -> None:
    sandbox = site.sandbox(site.limited(API, TWIN))
    (seen,) = sandbox.tasks({"do": "dns", "name": BLOCKED})
    follow = "curl --silent --location --max-time 10 --write-out ' %{http_code}'"
    targets = {
        f"https://{TWIN}/there": "ok\n 200",
        f"http://{TWIN}/there": "ok\n 200",
        f"https://{BLOCKED}/": f"{REFUSAL}{BLOCKED}: ",
        f"http://{BLOCKED}/": f"{REFUSAL}{BLOCKED}: ",
        f"http://{seen['answers'][0]}/": REFUSAL,
    }
    told = sandbox.shell(
        *(f"{follow} 'https://{API}/to/{target.replace('/', '%2F')}'" for target in targets)
    )
    for one, expected in zip(told, targets.values(), strict=True):
        assert one.startswith(expected), (one, expected)
    assert site.origins.blocked.connections == []


# --- who is at the other end


def test_the_authority_is_the_sandboxs_own(site: Site) -> None:
    environment = site.limited(API, TWIN)
    first, second = site.sandbox(environment), site.sandbox(environment)
    issuers = [one.task("certificate", host=API) for one in (first, second)]
    for told in issuers:
        assert "issuer" in told and "origins of the tests" not in told["issuer"], told
    assert issuers[0]["sha256"] != issuers[1]["sha256"]
    bundle = "/etc/ssl/certs/ca-certificates.crt"
    (theirs,) = first.shell(f"cat {bundle} | tail -n 60")
    block = theirs[theirs.rindex("-----BEGIN") :]
    # What one sandbox trusts is of no use to another.
    alone = f"cat > /tmp/only.pem <<'END'\n{block}END\ncurl --silent --show-error "
    alone += f'--capath /nowhere --cacert /tmp/only.pem https://{API}/ 2>&1; echo "exit $?"'
    (own,) = first.shell(alone)
    (other,) = second.shell(alone)
    assert own == "ok\nexit 0\n"
    assert other.endswith("exit 60\n") and "certificate" in other
    # The origin's own authority is not known inside.
    (refused,) = first.tasks({"do": "http", "url": f"https://{API}/", "roots": ROOTS})
    assert "CERTIFICATE_VERIFY_FAILED" in refused["error"]


@pytest.mark.parametrize("host", [MISNAMED, EXPIRED, SELF_MADE])
def test_an_origin_with_a_wrong_certificate_is_sent_nothing(site: Site, host: str) -> None:
    sandbox = site.sandbox(site.limited(API, host))
    body = "what the origin must not see"
    good, bad = sandbox.tasks(
        {"do": "http", "url": f"https://{API}/", "method": "POST", "body": body},
        {"do": "http", "url": f"https://{host}/", "method": "POST", "body": body},
    )
    assert good["status"] == 200
    assert bad["status"] == 502 and bad["body"].startswith(f"{REFUSAL}{host}: "), bad
    assert "certificate" in bad["body"]
    origin = site.origins.names[host]
    # It was asked for its certificate, and for nothing else.
    assert origin.connections != []
    assert [bytes(one.received) for one in origin.connections if one.received] == []
    assert (host, 443, False, "certificate") in sandbox.decisions()


def test_an_origin_that_is_not_there_is_told_in_words(site: Site) -> None:
    sandbox = site.sandbox(site.limited(API, CLOSED_PORT))
    told = sandbox.tasks(
        {"do": "http", "url": f"https://{CLOSED_PORT}/"},
        {"do": "http", "url": f"http://{CLOSED_PORT}/"},
        {"do": "http", "url": f"https://{API}/"},
    )
    assert [one["status"] for one in told] == [502, 502, 200], told
    assert all(CLOSED_PORT in one["body"] for one in told[:2])


# --- hosts that are passed through


def test_a_host_that_is_passed_through_shows_its_own_certificate(site: Site) -> None:
    sandbox = site.sandbox(site.limited(API, passthrough=[PINNED]))
    own, ended = sandbox.tasks(
        {"do": "http", "url": f"https://{PINNED}/", "roots": ROOTS},
        {"do": "http", "url": f"https://{API}/"},
    )
    assert (own.get("status"), ended.get("status")) == (200, 200), (own, ended)
    seen = sandbox.task("certificate", host=PINNED, roots=ROOTS)
    assert "origins of the tests" in seen["issuer"]
    # Everybody else stays out, whatever name is said.
    (at_pinned,) = sandbox.tasks({"do": "dns", "name": PINNED})
    (at_api,) = sandbox.tasks({"do": "dns", "name": API})
    site.origins.clear()
    for sni, address in [
        (API, at_pinned["answers"][0]),
        (BLOCKED, at_pinned["answers"][0]),
        (None, at_pinned["answers"][0]),
        (PINNED, at_api["answers"][0]),
    ]:
        told = sandbox.task(
            "http", url=f"https://{PINNED}/", connect=address, sni=sni, verify=False
        )
        assert told.get("status") in (None, 403), (sni, told)
    assert site.origins.pinned.connections == site.origins.main.connections == []
    allowed = {one for one in sandbox.decisions() if one[2]}
    assert allowed == {(PINNED, 443, True, "passthrough"), (API, 443, True, "allowed_hosts")}
    shown = sandbox.records("sandbox")[0]
    assert shown["passthrough"] == [PINNED]


# --- what passes


def test_both_versions_of_http_pass(site: Site) -> None:
    sandbox = site.sandbox(site.limited(API))
    one, two, head = sandbox.tasks(
        {
            "do": "http",
            "url": f"https://{API}/echo/a?b=c",
            "headers": [["X-A", "b"]],
            "body": "é",
        },
        {
            "do": "http2",
            "host": API,
            "requests": [
                {"path": "/echo/2?q", "headers": [["x-a", "b"]]},
                {"path": "/sink", "method": "POST", "size": 300_000},
                {"path": "/large/3000000"},
            ],
        },
        {"do": "http", "url": f"https://{API}/large/1000", "method": "HEAD"},
    )
    told = json.loads(one["body"])
    assert one["alpn"] == "http/1.1"
    assert (told["protocol"], told["method"], told["target"]) == (
        "HTTP/1.1",
        "GET",
        "/echo/a?b=c",
    )
    assert told["body"] == "é" and told["sni"] == API
    assert "b" in [value for name, value in told["headers"] if name.lower() == "x-a"]
    assert two["alpn"] == "h2" and [one["status"] for one in two["answers"]] == [200] * 3, two
    told = json.loads(two["answers"][0]["body"])
    assert (told["protocol"], told["target"]) == ("HTTP/2", "/echo/2?q")
    assert json.loads(two["answers"][1]["body"])["length"] == 300_000
    assert two["answers"][2]["length"] == 3_000_000
    assert (head["status"], head["length"]) == (200, 0)


def test_a_body_passes_while_it_is_made(site: Site) -> None:
    sandbox = site.sandbox(site.limited(API))
    for told in sandbox.tasks(
        {"do": "stream", "host": API, "tls": True, "key": "secure"},
        {"do": "stream", "host": API, "tls": False, "key": "plain"},
    ):
        assert told == {"first": "first\n", "rest": "second\n"}
    up = sandbox.task("upload", host=API, key="needle-of-an-upload")
    assert (up["seen"], up["status"]) == (True, 200), up


def test_web_sockets_pass(site: Site) -> None:
    sandbox = site.sandbox(site.limited(API))
    messages = ["hello", "x" * 300, "bye"]
    told = sandbox.tasks(
        {"do": "websocket", "host": API, "tls": True, "messages": messages},
        {"do": "websocket", "host": API, "tls": False, "messages": messages},
        {"do": "websocket", "host": BLOCKED, "tls": True, "messages": messages},
    )
    assert [one.get("said") for one in told] == [messages, messages, None]
    assert told[2]["status"] == 403


def test_large_bodies_pass_whole(site: Site) -> None:
    sandbox = site.sandbox(site.limited(API))
    length = 200 << 20
    fetch = f"curl --silent --show-error https://{API}/large/{length} | sha256sum"
    one, two, up = sandbox.shell(
        fetch.replace("curl", "curl --http1.1"),
        fetch.replace("curl", "curl --http2"),
        f"head -c 33554432 /dev/zero | curl --silent --data-binary @- https://{API}/sink",
    )
    assert [one.split()[0], two.split()[0]] == [digest_of(length)] * 2
    zeros = hashlib.sha256(bytes(32 << 20)).hexdigest()
    assert json.loads(up) == {"length": 32 << 20, "sha256": zeros}


def test_a_connection_is_used_again(site: Site) -> None:
    sandbox = site.sandbox(site.limited(API))
    (told,) = sandbox.shell(
        f"curl --silent --http1.1 https://{API}/1 https://{API}/2 -H 'Expect: 100-continue' "
        f"--data x --next --silent https://{API}/3"
    )
    assert told == "ok\nok\nok\n"
    assert site.origins.main.asked() == ["/1", "/2", "/3"]
    assert len({id(one.connection) for one in site.origins.main.requests}) <= 2


# --- what is not HTTP


def test_what_is_not_http_does_not_pass_a_list(site: Site) -> None:
    """Both ways: what the client says does not get out, what the origin says does not get in."""
    task = {"do": "raw", "host": OPAQUE, "port": 443, "send": ["one\n"], "until": "one\n"}
    tasks = [
        {**task, "tls": True},
        {**task, "port": 80},
        {**task, "port": 2525},
        {**task, "tls": True, "alpn": ["smtp"]},
        {**task, "tls": True, "send": []},
    ]
    free = site.sandbox(site.unrestricted())
    for told in free.tasks(*({**one, "roots": ROOTS, "alpn": []} for one in tasks[:3])):
        assert told["received"].endswith("you said one\n"), told
    site.origins.clear()
    held = site.sandbox(site.limited(OPAQUE))
    for told in held.tasks(*tasks):
        assert "you said" not in told.get("received", "")
        assert "hello" not in told.get("received", "")
    assert b"one" not in site.origins.opaque.received()
    assert (OPAQUE, 443, False, "protocol") in held.decisions()


# --- what is written down


def test_what_the_door_does_is_written_down(site: Site) -> None:
    sandbox = site.sandbox(site.limited(API, "*.wild.example.test"))
    world = site.world
    ask = f"curl --silent https://{API}/ http://{BELOW[0]}/ https://{BLOCKED}/ https://{API}/"
    world.model.script(bash(ask), text("done"), allow_prefix_change=True)
    events = turn(site.client, sandbox.id, "go")
    assert results(events)[0].count("ok\n") == 3
    (call,) = [one.id for one in events if one.type == "agent.tool_use"]
    assert sandbox.decisions() >= {
        (API, 443, True, "allowed_hosts"),
        (BELOW[0], 80, True, "allowed_hosts"),
        (BLOCKED, 443, False, "not_listed"),
    }
    for one in sandbox.records():
        assert one["type"] == "sandbox_record" and one["session_id"] == sandbox.id
        assert one["id"].startswith("sbrec_")
        if one["kind"] in ("allow", "deny"):
            assert one["event_ids"] == [call], one
    (made,) = sandbox.records("sandbox")
    listed = {(one["host"], one["rule"]) for one in made["allowlist"]}
    assert listed == {(API, "allowed_hosts"), ("*.wild.example.test", "allowed_hosts")}
    assert made["isolation"]["technology"] == "namespaces" and made["kernel"] and made["version"]
    live = site.raw.get("/posthouse/v1/sandboxes").json()["data"]
    (shown,) = [one for one in live if one["session_id"] == sandbox.id]
    assert shown["allowlist"] == made["allowlist"]


def test_no_list_has_anything_that_nobody_has_put_there(site: Site) -> None:
    plain = site.sandbox(site.limited())
    plain.shell("true")
    assert plain.records("sandbox")[0]["allowlist"] == []
    managed = site.sandbox(site.limited(allow_package_managers=True))
    managed.shell("true")
    listed = managed.records("sandbox")[0]["allowlist"]
    assert "pypi.org" in [one["host"] for one in listed]
    assert {one["rule"] for one in listed} == {"package_managers"}
    free = site.sandbox(site.unrestricted())
    free.shell("true")
    assert free.records("sandbox")[0]["allowlist"] is None


def test_an_agent_without_tools_leaves_no_record(site: Site) -> None:
    session = site.world.session(environment=site.limited(API), tools=[TOOLSET])
    site.world.model.script(text("hello"))
    turn(site.client, session, "hi")
    assert Sandbox(site, session).records() == []
