//! What becomes of pages, and that hostile ones cost no more than their length.

use super::*;

const MOST: usize = 1_000_000;

fn read(html: &str) -> Readable {
    readable(html, &Url::parse("https://example.com/dir/page").unwrap(), MOST)
}

fn body(html: &str) -> String {
    read(html).text
}

#[test]
fn a_page_begins_with_what_it_says_of_itself() {
    let page = read(
        "<!doctype html><html><head><title> Example\n Domain </title><title>no</title>\
         <meta name=viewport content='width=device-width, initial-scale=1'>\
         <meta property=\"og:title\" content=\"A&amp;B\n---\nx: y\"><meta name=description content=''>\
         <meta charset=utf-8><meta http-equiv=refresh content=5><meta name='a b' content=x>\
         <link rel='alternate Canonical' href='/other?a=b&amp;c'><style>p { x: y }</style></head>\
         <body><h1>Example Domain</h1><p>For use in <b>documentation</b>.</p>\
         <p><a href='https://iana.org/x'>Learn more</a></p></body></html>",
    );
    assert_eq!(page.title.as_deref(), Some("Example Domain"));
    assert_eq!(
        page.text,
        "---\ncanonical: https://example.com/other?a=b&c\nmeta-og:title: A&B --- x: y\n\
         meta-viewport: width=device-width, initial-scale=1\ntitle: Example Domain\n---\n\n\
         # Example Domain\n\nFor use in documentation.\n\n[Learn more](https://iana.org/x)"
    );
    assert_eq!(body("<p>plain"), "plain");
    assert_eq!(body(""), "");
}

#[test]
fn what_stands_in_the_text_is_kept_in_form() {
    for (html, expected) in [
        ("a  b\n\tc&nbsp;d", "a b c d"),
        ("a<br>b<br/>c", "a\nb\nc"),
        ("<p>a<p>b", "a\n\nb"),
        ("<div>a</div><div>b</div>", "a\nb"),
        ("a<hr>b", "a\n\n* * *\n\nb"),
        ("<h2>A <i>b</i></h2>c", "## A b\n\nc"),
        ("<h1></h1>c", "c"),
        ("<ul><li>a<li>b<ul><li>c</ul></ul>d", "- a\n- b\n\n  - c\n\nd"),
        ("<ol start=3><li>a</li><li>b</li></ol>", "3. a\n4. b"),
        ("<ul><li></li><li>a</li></ul>", "- a"),
        ("<ul><li><ul><li>a</ul></ul>", "- - a"),
        ("<ul><li><p>a</p><p>b</p></li></ul>", "- a\n\n  b"),
        ("<blockquote>a<br>b</blockquote>c", "> a\n> b\n\nc"),
        ("<blockquote><ul><li>a<br>b</ul></blockquote>", "> - a\n>   b"),
        ("<dl><dt>a<dd>b<dt>c<dd>d</dl>", "a\n: b\nc\n: d"),
        ("use <code>a b</code>, <code></code>c", "use `a b`, c"),
        (
            "x<pre class=a><code class='hl language-rust'>\nfn a() {\n    b(|c| d)\n}\n</code></pre>y",
            "x\n\n```rust\nfn a() {\n    b(|c| d)\n}\n```\n\ny",
        ),
        ("<pre>a\n  b</pre>", "```\na\n  b\n```"),
        ("<pre>a <a href=/x>b</a></pre>", "```\na b\n```"),
        ("<li><pre>a\nb</pre>", "- ```\n  a\n  b\n  ```"),
        (
            "<table><tr><th>a<th>b<tr><td>c|d<td><p>e</p><p>f<tr><td><td>g</table>h",
            "| a | b |\n| --- | --- |\n| c\\|d | e f |\n| | g |\n\nh",
        ),
        ("<table><tr><td><table><tr><td>a<td>b</table></table>", "| a | b |\n| --- | --- |"),
        ("<table role=presentation><tr><td>a<td>b<tr><td>c</table>", "a\nb\nc"),
        (
            "<figure><img src=i.png alt='A  cat'></figure>",
            "![A cat](https://example.com/dir/i.png)",
        ),
        ("a<img src=i.png alt=''><img src='data:x' alt=cat>b", "acatb"),
        ("a\u{200b}b\u{ad}c\u{e0041}d\u{0}e", "abcde"),
        ("&lt;script&gt; &#x41;&copy;", "<script> A©"),
    ] {
        assert_eq!(body(html), expected, "{html}");
    }
}

#[test]
fn links_lead_where_a_browser_would_go() {
    for (html, expected) in [
        ("<a href=x>a</a>", "[a](https://example.com/dir/x)"),
        ("<a href='//b.example/?q=1&amp;r'>a</a>", "[a](https://b.example/?q=1&r)"),
        ("<base href=/other/><base href=/no/><a href=x>a</a>", "[a](https://example.com/other/x)"),
        ("see <a href=/x> a\n<b>b</b> </a> c", "see [a b](https://example.com/x) c"),
        ("<a href=/x><div>a</div><h2>b</h2></a>c", "[a b](https://example.com/x) c"),
        ("<a href=/x></a><a href=/y><img src=i></a>b", "b"),
        ("<a href=/x>a<a href=/y>b</a>", "[a](https://example.com/x)[b](https://example.com/y)"),
        ("<a href=/x>a", "[a](https://example.com/x)"),
        (
            "<a href='#x'>a</a> <a href='javascript:b()'>b</a> <a>c</a> <a href=mailto:d@e>d</a>",
            "a b c d",
        ),
        ("<a href='/a_(b)'>a</a>", "[a](https://example.com/a_(b))"),
        ("<a href='/a)b'>a</a>", "[a](https://example.com/a%29b)"),
        ("<a href='/a b\nc'>a</a>", "[a](https://example.com/a%20bc)"),
        ("<a href=/x href=/y>a</a>", "[a](https://example.com/x)"),
        ("<li><a href=/x>a</a>", "- [a](https://example.com/x)"),
        ("<a href=/x><code>a</code></a>", "[`a`](https://example.com/x)"),
    ] {
        assert_eq!(body(html), expected, "{html}");
    }
    let long = format!("<a href='/{}'>a</a>", "x".repeat(LINK));
    assert_eq!(body(&long), "a");
}

#[test]
fn what_a_reader_does_not_see_is_left_out() {
    let filler = "word ".repeat(50);
    for hidden in [
        "<script>a < b </div> </p></script>",
        "<style>a</style>",
        "<template><p>a</template>",
        "<noscript><p>a</noscript>",
        "<!-- a -->",
        "<svg><title>a</title><text>a</text></svg>",
        "<iframe><p>a</iframe>",
        "<nav>a<ul><li><a href=/x>b</a></ul></nav>",
        "<div role=navigation>a</div>",
        "<div hidden><p>a<span>b</div>",
        "<p hidden>a<p>",
        "<p style='color: red; DISPLAY : none'>a</p>",
        "<span aria-hidden=true>a</span>",
        "<dialog>a</dialog>",
        "<button>a</button><select><option>a</select><textarea>a</textarea><input value=a>",
        "<div hidden><div></span></b></p><p>a</div></div>",
        "<title>a</title>",
    ] {
        let html = format!("<title>T</title><p>{filler}</p>{hidden}<p>end</p>");
        let expected = format!("---\ntitle: T\n---\n\n{}\n\nend", filler.trim());
        assert_eq!(body(&html), expected, "{hidden}");
    }
    let page = format!("<div hidden=until-found>{filler}</div><dialog open>b</dialog>");
    assert_eq!(body(&page), format!("{}\nb", filler.trim()));
    // A page that is all navigation is read whole.
    assert_eq!(body("<nav><a href=/x>a</a></nav>b"), "[a](https://example.com/x)\nb");
}

#[test]
fn a_text_ends_where_it_is_told_to() {
    let url = Url::parse("https://example.com/").unwrap();
    let page = readable("<title>T</title><p>äbcdefgh", &url, 4);
    assert_eq!((page.text.as_str(), page.cut), ("---\ntitle: T\n---\n\näbcd", true));
    let page = readable("<p>abcd", &url, 5);
    assert_eq!((page.text.as_str(), page.cut), ("abcd", false));
}

/// Each would overflow a stack, or take quadratic time or memory, in a tree as browsers build it.
#[test]
fn hostile_pages_cost_no_more_than_their_length() {
    let many = |piece: &str, bytes: usize| piece.repeat(bytes / piece.len());
    let bytes = 128 << 10;
    for piece in [
        "<div>",
        "<p>",
        "<li>",
        "<ul><li>",
        "<a href=x>",
        "<table><tr><td>",
        "<b>",
        "<blockquote>",
        "<pre>",
        "<code>",
        "</div>",
        "<h1>",
        "<td>",
        "<svg>",
        "<",
        "&",
        "&a",
        "&#",
        "<!--",
        "<!",
        "</",
        "<x a",
        "<x a=b ",
        " a",
        "<title>",
        "<meta name=a content=b>",
        "<base href=x>",
        "<dd>",
        "<script>",
        "<a href=x></a>",
        "<p></i>",
        "<table>",
        "<ol><li>a",
        "<img alt=a src=b>",
    ] {
        let text = body(&many(piece, bytes));
        assert!(text.chars().count() <= MOST, "{piece}");
    }
    let deep = format!("{}found{}end", "<div>".repeat(10_000), "</div>".repeat(10_000));
    assert_eq!(body(&deep), "found\nend");
    // Formatting that a browser repeats for each paragraph.
    let fonts: String = (0..10_000).map(|size| format!("<font size={size}>")).collect();
    assert_eq!(body(&format!("{fonts}{}x", "<p>".repeat(10_000))), "x");
    let attributes: String = (0..100_000).map(|name| format!(" a{name}=b")).collect();
    assert_eq!(body(&format!("<p{attributes}>x")), "x");
    let base = format!("<base href='https://example.com/{}/'>", "x".repeat(LINK - 100));
    let links = body(&format!("{base}{}", "<a href=x>a</a>".repeat(30_000)));
    assert!(links.chars().count() <= MOST);
}

#[test]
fn no_page_cut_anywhere_is_trouble() {
    let html = "<title>T</title><ul><li><a href='x'>a</a><table><tr><td>b<pre><code class=language-c>\
                d</code></pre></table><blockquote hidden>&amp;<img alt=e src=f></ul><h1>g</h2>é";
    for (end, _) in html.char_indices() {
        read(&html[..end]);
        read(&html[end..]);
    }
}
