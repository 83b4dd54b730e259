"""`web_fetch`: what a page becomes, whatever it is made of and however much of it there is."""

from __future__ import annotations

import base64
import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import anthropic
import pytest

from origin import Request, Response
from support import PDF, asked, bash, png, rested, started, story, text, turn, wire
from web_origins import HTML, SITE, Surfer, Web, new_world, page, shared_web, toolset, web
from world import World

GOLDEN = f"""<!doctype html>
<html lang="en"><head>
<meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta name="description" content="What  there &amp; is">
<meta property="og:title" content="Open"><link rel="canonical" href="/golden">
<title>A  golden
 page</title>
<style>p {{ color: red }}</style><script>document.write("<p>never</p>")</script>
</head><body>
<nav><a href="/elsewhere">Elsewhere</a></nav>
<h1>One &mdash; heading</h1>
<p>Some <b>bold</b> words,<br>a <a href="../near/page?x=1&amp;y=2#part">near link</a> and
<a href="https://other.example.test/far">a far one</a>.</p>
<p hidden>never</p><template>never</template><!-- never -->
<ul><li>first</li><li>second<ol><li>inner</li></ol></li></ul>
<table><tr><th>Name</th><th>Price</th></tr><tr><td>tea|pot</td><td>3 &euro;</td></tr></table>
<pre><code>if x &lt; 1:
    pass</code></pre>
<img src="/cat.png" alt="A cat"><img src="/pixel.gif">
<a href="javascript:alert(1)">no way</a>
</body></html>"""

READ = f"""---
canonical: https://{SITE}/golden
meta-description: What there & is
meta-og:title: Open
meta-viewport: width=device-width
title: A golden page
---

# One — heading

Some bold words,
a [near link](https://{SITE}/near/page?x=1&y=2#part) and [a far one](https://other.example.test/far).

- first
- second

  1. inner

| Name | Price |
| --- | --- |
| tea\\|pot | 3 € |

```
if x < 1:
    pass
```

![A cat](https://{SITE}/cat.png) no way"""


def test_html_becomes_text(world: World, client: anthropic.Anthropic, web: Web) -> None:
    url = web.put("/docs/golden", Response(GOLDEN.encode(), headers=HTML))
    surfer = Surfer(world)
    (read,) = surfer.fetch(url)
    assert read.page == READ
    assert read.document["title"] == "A golden page"
    assert story(surfer.events) == [
        *started(url),
        *asked("agent.tool_use(web_fetch,allow)"),
        "agent.tool_result(ok)",
        *asked("agent.message(done)"),
        *rested(),
    ]
    # The model gets it as the log has it.
    (told,) = world.model.requests()[-1]["messages"][-1]["content"]
    block = {key: value for key, value in read.document.items() if value is not None}
    sent = {key: value for key, value in told["content"][0].items() if value is not None}
    sent.pop("cache_control", None)
    assert sent == block and not told.get("is_error")
    # A page has no price, and is not counted.
    usage = wire(client.beta.sessions.retrieve(surfer.session))["usage"]
    assert usage["server_tool_use"] == {"web_search_requests": 0, "web_fetch_requests": 0}
    # What went out: our own name, and nothing of anybody's.
    assert web.asked() == [f"{SITE}/docs/golden"] and web.robots_asked() == [SITE]
    for request in web.site.requests:
        names = {name.lower() for name, _ in request.headers}
        agent = request.header("user-agent") or ""
        assert re.fullmatch(r"posthouse-user/\d\S* \(\+https://\S+\)", agent), agent
        assert names <= {
            *("host", "accept", "accept-encoding", "accept-language", "user-agent", "connection")
        }
        assert request.header("accept-encoding") == "identity"


def test_letters_of_every_kind(world: World, web: Web) -> None:
    words = "Grüße, Čeština, мир"
    rows: list[tuple[str, str | None, bytes, str]] = [
        ("header", "text/html; charset=koi8-r", "<p>мир".encode("koi8-r"), "мир"),
        ("quoted", 'text/plain; Charset="ISO-8859-2"', "Čeština".encode("iso8859-2"), "Čeština"),
        ("meta", "text/html", b"<meta charset=windows-1251><p>" + "мир".encode("cp1251"), "мир"),
        (
            "http-equiv",
            "text/html",
            b'<meta http-equiv="content-type" content="text/html; charset=shift_jis"><p>'
            + "日本".encode("shift_jis"),
            "日本",
        ),
        ("mark", "text/plain; charset=latin1", b"\xef\xbb\xbf" + words.encode(), words),
        ("utf-16", "text/plain", "\ufeffмир".encode("utf-16-le"), "мир"),
        ("unsaid", "text/plain", words.encode(), words),
        ("latin", "text/plain", "Grüße".encode("latin-1"), "Grüße"),
        ("unknown", "text/plain; charset=klingon", words.encode(), words),
        ("wrong", "text/plain; charset=utf-8", b"a\xff\xfe\xc3b", "a\ufffd\ufffd\ufffdb"),
        ("nothing", None, words.encode(), words),
        ("zero", "text/plain; charset=utf-8", b"a\x00b", "ab"),
    ]
    urls = [web.put(f"/{name}", page(body, kind)) for name, kind, body, _ in rows]
    read = [one.body for one in Surfer(world).fetch(*urls)]
    assert dict(zip(urls, read, strict=True)) == {
        url: row[3] for url, row in zip(urls, rows, strict=True)
    }


def test_what_is_text_already_stays_as_it_is(world: World, web: Web) -> None:
    rows = [
        ("text/plain", "a  b\n\n<p>c</p>\t&amp;\n"),
        ("application/json", '{"b": 1,\n "a": "https://x.example/"}'),
        ("application/problem+json", '{"a":[]}'),
        ("application/xml", "<?xml version='1.0'?><a>1</a>"),
        ("application/atom+xml; charset=utf-8", "<feed/>"),
        ("text/markdown", "# One\n\n* two"),
        ("text/csv", "a,b\r\n1,2\r\n"),
        ("text/javascript", "let a = '<p>';"),
    ]
    urls = [web.put(f"/as-it-is/{at}", page(body, kind)) for at, (kind, body) in enumerate(rows)]
    read = Surfer(world).fetch(*urls)
    assert [one.page for one in read] == [body for _, body in rows]
    assert {one.document["title"] for one in read} == {None}


def test_what_is_told_from_how_it_begins(world: World, web: Web) -> None:
    html = web.put("/sniffed", page("  <!DOCTYPE html><title>T</title><p>so", None))
    octets = web.put("/octets", page("<html><p>so", "application/octet-stream"))
    plain = web.put("/plain", page("<p>so", None))
    pdf = web.put("/sniffed-pdf", page(PDF, "text/html"))
    read = Surfer(world).fetch(html, octets, plain, pdf)
    assert [one.body for one in read[:3]] == ["so", "so", "<p>so"]
    assert read[3].document["source"]["media_type"] == "application/pdf"


def test_a_pdf_is_passed_on(world: World, web: Web) -> None:
    urls = [web.put("/a.pdf", page(PDF, "application/pdf"))]
    urls += [web.put("/b.pdf", page(PDF, "application/octet-stream"))]
    surfer = Surfer(world, tools=[toolset(max_content_tokens=1)])
    for read in surfer.fetch(*urls):
        assert read.document == {
            "type": "document",
            "source": {
                "type": "base64",
                "media_type": "application/pdf",
                "data": base64.b64encode(PDF).decode(),
            },
            "title": None,
            "context": None,
        }
    # One that is too large is refused, by what it says of itself or by what comes.
    said = web.put("/large.pdf", page(PDF + bytes(5_000_000), "application/pdf"))
    came = web.put("/endless.pdf", page(_repeated(PDF, 5_000_000), "application/pdf"))
    hidden = web.put("/hidden.pdf", page(PDF + bytes(5_000_000), "text/html"))
    for refused in surfer.fetch(said, came, hidden):
        assert refused.code == "content_too_large"
        assert "the PDF is larger than 4500000 bytes" in refused.error


def test_what_nobody_can_read_is_refused(world: World, web: Web) -> None:
    rows = [
        ("image/png", png(2, 2)),
        ("application/zip", b"PK\x03\x04" + bytes(99)),
        ("video/mp4", bytes(99)),
        (None, png(2, 2)),
        ("application/octet-stream", bytes(range(256))),
        ("image/" + "long" * 500, b"text"),
    ]
    urls = [
        web.put(f"/unread/{at}", page(body, kind))
        for at, (kind, body) in enumerate(rows)
    ]
    for result in Surfer(world).fetch(*urls):
        assert result.code == "unsupported_content_type"
        assert len(result.error) < 1500 and result.error.isprintable(), result


def test_nothing_is_unpacked(world: World, web: Web) -> None:
    """A server that packs its pages although nobody asked for it may send a bomb."""
    bomb = zlib.compressobj(9, zlib.DEFLATED, 31)
    packed = b"".join(bomb.compress(bytes(1 << 20)) for _ in range(200)) + bomb.flush()
    assert len(packed) < 1 << 20
    urls = [
        web.put("/gzip", page(gzip.compress(b"<p>hello"), content_encoding="gzip")),
        web.put("/bomb", page(packed, content_encoding="gzip")),
        web.put("/twice", page(gzip.compress(packed), content_encoding="gzip, gzip")),
        web.put("/brotli", page(b"\x0b\x02\x80<p>hi\x03", content_encoding="br")),
        web.put("/as-is", page("<p>hello", content_encoding="identity")),
    ]
    *refused, plain = Surfer(world).fetch(*urls)
    assert [one.code for one in refused] == ["unsupported_content_type"] * 4
    assert plain.body == "hello"


def test_an_empty_page_says_so(world: World, web: Web) -> None:
    urls = [
        web.put("/empty", page(b"", "text/plain")),
        web.put("/nothing", page(b"")),
        web.put("/script", page("<script>run()</script>")),
        web.put("/blank", page(" \n \n", "text/plain")),
        web.put("/no-content", Response(b"", 204)),
    ]
    for read in Surfer(world).fetch(*urls):
        assert not read.is_error
        assert [block["type"] for block in read.blocks] == ["text"], read
        assert read.blocks[0]["text"] == "The page was fetched, and has no text.", read


# --- much of it


def _repeated(piece: bytes, length: int) -> Iterator[bytes]:
    while length > 0:
        yield piece
        length -= len(piece)


def _memory(world: World, name: str) -> int:
    """What the server's process holds, in bytes."""
    told = Path(f"/proc/{world._program.process.pid}/status").read_text()
    found = re.search(rf"^{name}:\s+(\d+) kB$", told, re.MULTILINE)
    assert found, told
    return int(found[1]) << 10


def test_a_page_of_fifty_megabytes(world: World, web: Web) -> None:
    paragraph = ("<p>" + "word " * 19_999 + "<a href='/next'>n</a></p>\n").encode()
    sent: list[int] = []

    def endless(_request: Request) -> Response:
        def pieces() -> Iterator[bytes]:
            for piece in _repeated(paragraph, 50 << 20):
                sent.append(len(piece))
                yield piece

        return page(pieces())

    html = web.put("/fifty", endless)
    plain = web.put("/said", page(b"x" * (50 << 20), "text/plain"))
    surfer = Surfer(world)
    # Threads and buffers that any page needs are there.
    surfer.fetch(web.put("/first", page("<p>first")))
    Path(f"/proc/{world._program.process.pid}/clear_refs").write_text("5")
    before = _memory(world, "VmRSS")
    (one,) = surfer.fetch(html)
    more = _memory(world, "VmHWM") - before
    assert more < 50 << 20, f"{more >> 20} MB for a page of 50 MB"
    (other,) = surfer.fetch(plain)
    # Nobody takes more than is read.
    assert sum(sent) < 30 << 20
    for read, begins in ((one, "word word"), (other, "xxxx")):
        (block,) = read.blocks
        assert not read.is_error and block["type"] == "text"
        assert block["text"].startswith(begins) and len(block["text"]) < 12_000
        found = re.search(
            r"\n\n\[This result has (\d+) characters; the first 10000 are shown\. The whole text is "
            r"in the sandbox's file (\S+)\.\]$",
            block["text"],
        )
        assert found and 1_000_000 <= int(found[1]) < 1_001_000, block["text"][-300:]
        # The agent reads on in its sandbox.
        world.model.append(bash(f"wc -c < {found[2]}; tail -c 60 {found[2]}"), text("done"))
        (told,) = [
            wire(event)["content"][0]["text"]
            for event in turn(surfer.client, surfer.session, "read on")
            if event.type == "agent.tool_result"
        ]
        length, _, rest = told.partition("\n")
        assert int(length) == int(found[1])
        assert rest.strip().endswith("[Cut here: the page is longer than can be fetched.]"), told


def test_many_large_pages_at_once(world: World, web: Web) -> None:
    """What they hold together is bounded: some wait until others are read."""
    paragraph = ("<p>" + "word " * 19_999 + "</p>").encode()
    pages = 24
    urls = [
        web.put(f"/many/{at}", lambda _request: page(_repeated(paragraph, 50 << 20)))
        for at in range(pages)
    ]
    surfer = Surfer(world, tools=[toolset(max_content_tokens=10)])
    Path(f"/proc/{world._program.process.pid}/clear_refs").write_text("5")
    before = _memory(world, "VmRSS")
    for read in surfer.fetch(*urls):
        assert "Cut here" in read.page
    more = _memory(world, "VmHWM") - before
    assert more < pages * (10 << 20), f"{more >> 20} MB for {pages} pages of 50 MB"


def test_a_text_is_cut_where_the_agent_wants(world: World, web: Web) -> None:
    long = web.put("/long", page("<title>Long</title><p>" + "wörd " * 1000))
    short = web.put("/short", page("short", "text/plain"))
    exact = web.put("/exact", page("x" * 400, "text/plain"))
    more = web.put("/more", page("ü" * 401, "text/plain; charset=utf-8"))
    cut, *whole, over = Surfer(world, tools=[toolset(max_content_tokens=100)]).fetch(
        long, short, exact, more
    )
    mark = "\n\n[Cut here: the page is longer than max_content_tokens of this tool allows.]"
    assert cut.page.endswith(mark) and len(cut.page.removesuffix(mark)) <= 400
    assert cut.page.startswith("---\ntitle: Long\n---\n\nwörd wörd")
    assert [one.page for one in whole] == ["short", "x" * 400]
    assert over.page == "ü" * 400 + mark


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("<div>" * 50_000 + "deep" + "</div>" * 50_000, id="divs"),
        pytest.param("<table><tr><td>" * 20_000 + "deep", id="tables"),
        pytest.param("<b><i><a href=x>" * 20_000 + "deep", id="misnested"),
        pytest.param("<ul><li>" * 30_000 + "deep", id="lists"),
        pytest.param("<svg><foreignObject><math>" * 20_000 + "</svg>" * 20_000 + "deep", id="svg"),
        pytest.param("<p " + "a=b " * 100_000 + ">deep", id="attributes"),
        pytest.param("<" * 300_000 + "p>deep", id="brackets"),
        pytest.param("&" * 300_000 + " deep", id="entities"),
        pytest.param("<!--" * 100_000 + "--> deep", id="comments"),
        pytest.param("</p>" * 100_000 + "<select>" * 1000 + "</select>deep", id="ends"),
    ],
)
def test_tag_soup_costs_no_more_than_its_length(world: World, web: Web, body: str) -> None:
    (read,) = Surfer(world).fetch(web.put("/soup", page(body)))
    assert not read.is_error, read


def test_every_name_of_a_page_is_bounded(world: World, web: Web) -> None:
    head = "".join(f'<meta name="n{at}" content="{"v" * 5000}">' for at in range(500))
    url = web.put("/names", page(f"<title>{'t' * 100_000}\n---\nfake: x</title>{head}<p>so"))
    (read,) = Surfer(world).fetch(url)
    front, _, body = read.page.removeprefix("---\n").partition("\n---\n\n")
    lines = front.split("\n")
    assert body == "so" and len(lines) <= 65, len(lines)
    assert all(len(line) <= 1100 for line in lines)
    # What a page says of itself can't end what stands before it.
    assert not any(line.startswith("fake:") for line in lines)
    assert read.document["title"] == "t" * 500
