//! Tables of the options of `web_fetch` and `web_search`, as clients send them.

use super::{
    Field, Kind, Member, Table, Union,
    tools::{CONFIG_TYPE, INHERITED, POLICY_FIELD},
};

/// At most this many entries in a list of domains.
const DOMAINS: usize = 64;
/// At most this many tools in a list of sources.
const SOURCES_NAMED: usize = 128;
/// The longest domain, with a path where one is taken.
const LONGEST: usize = 2048;

const A_DOMAIN: &Kind = &Kind::Text { least: 1, most: LONGEST };
const fn domains(name: &'static str, about: &'static str, rule: &'static str) -> Field {
    Field::new(name, Kind::List { of: A_DOMAIN, least: 1, most: DOMAINS }, about)
        .rule(rule)
        .example(r#"["docs.example.com"]"#)
}
const PLAIN: &str = "Host names without scheme, port and path; no addresses, no names of one label, no \
                     private names, letters beyond ASCII written out. Not together with the other \
                     list of domains.";
const WITH_PATH: &str = "Host names without scheme and port, with or without a path; no addresses, no \
                         names of one label, no private names, letters beyond ASCII written out. Not \
                         together with the other list of domains.";

/// The hosts that `web_fetch` may read.
pub const FETCH_ALLOWED: Field =
    domains("allowed_domains", "Only these hosts are read, and those below them.", PLAIN);
/// The hosts that `web_fetch` may not read.
pub const FETCH_BLOCKED: Field =
    domains("blocked_domains", "These hosts are never read, nor those below them.", PLAIN);
/// The hosts that `web_search` may find.
pub const SEARCH_ALLOWED: Field =
    domains("allowed_domains", "Only these hosts are found, and those below them.", WITH_PATH);
/// The hosts that `web_search` may not find.
pub const SEARCH_BLOCKED: Field =
    domains("blocked_domains", "These hosts are never found, nor those below them.", WITH_PATH);

/// How much of a page the model sees.
pub const MAX_CONTENT_TOKENS: Field = Field::new(
    "max_content_tokens",
    Kind::Integer { least: 1, most: i64::MAX },
    "How many tokens of a fetched text the model sees at most. PDF files are not cut.",
)
.example("20000");

/// Where addresses may come from.
pub const URL_SOURCES: Field = Field::new(
    "url_sources",
    Kind::Object(&SOURCES),
    "Where the addresses that are read may come from; from everywhere when it is left out. All three \
     none is refused.",
)
.example(r#"{"user_input": "all"}"#);

/// The short words for sources.
pub const SHORTHAND: &[&str] = &["all", "none"];
const USER_FORMS: &[Kind] = &[Kind::choice(SHORTHAND), Kind::Union(&USER_SOURCE)];
const CLIENT_FORMS: &[Kind] = &[Kind::choice(SHORTHAND), Kind::Union(&CLIENT_SOURCE)];
const SERVER_FORMS: &[Kind] = &[Kind::choice(SHORTHAND), Kind::Union(&SERVER_SOURCE)];
/// What users say.
pub const USER_INPUT: Field = Field::new(
    "user_input",
    Kind::Forms(USER_FORMS),
    "Addresses in what users say. Left out: all.",
)
.example(r#""all""#);
/// What custom tools give.
pub const CLIENT_RESULTS: Field = Field::new(
    "client_tool_results",
    Kind::Forms(CLIENT_FORMS),
    "Addresses in results of custom tools. Left out: all.",
)
.example(r#""all""#);
/// What the tools of the web give.
pub const SERVER_RESULTS: Field = Field::new(
    "server_tool_results",
    Kind::Forms(SERVER_FORMS),
    "Addresses in results of web_search and web_fetch. Left out: all.",
)
.example(r#""all""#);

/// Where addresses may come from.
pub static SOURCES: Table = Table {
    name: "UrlSourcesParams",
    about: "Where the addresses that web_fetch reads may come from.",
    fields: &[USER_INPUT, CLIENT_RESULTS, SERVER_RESULTS],
};

/// All are sources.
pub static SOURCE_ALL: Table =
    Table { name: "FetchSourceAll", about: "All of them.", fields: &[Field::tag(&["all"])] };
/// None is a source.
pub static SOURCE_NONE: Table =
    Table { name: "FetchSourceNone", about: "None of them.", fields: &[Field::tag(&["none"])] };

/// Whether what users say is a source.
pub static USER_SOURCE: Union = Union {
    name: "UserUrlSourceParams",
    tag: "type",
    members: &[Member::taken("all", &SOURCE_ALL), Member::taken("none", &SOURCE_NONE)],
};

/// The type of a reference.
pub const REFERENCE_TYPE: Field = Field::tag(&["tool_reference"]);
/// A custom tool.
pub static CLIENT_REFERENCE: Table = Table {
    name: "CustomToolReference",
    about: "A custom tool of the same agent.",
    fields: &[REFERENCE_TYPE, CLIENT_NAME],
};
/// The name of a custom tool.
pub const CLIENT_NAME: Field = Field::text("name", 1, 128, "Its name, letter by letter.")
    .required()
    .rule("A custom tool in the same tools.")
    .example(r#""weather""#);
/// A tool of the web.
pub static SERVER_REFERENCE: Table = Table {
    name: "WebToolReference",
    about: "A tool of the web.",
    fields: &[REFERENCE_TYPE, SERVER_NAME],
};
/// The name of a tool of the web.
pub const SERVER_NAME: Field =
    Field::choice("name", &["web_search", "web_fetch"], "Its name.").required();

const A_CUSTOM_TOOL: &Kind = &Kind::Object(&CLIENT_REFERENCE);
const A_WEB_TOOL: &Kind = &Kind::Object(&SERVER_REFERENCE);
const fn named(of: &'static Kind, example: &'static str) -> Field {
    Field::new("tools", Kind::List { of, least: 1, most: SOURCES_NAMED }, "The tools.")
        .required()
        .rule("None twice.")
        .example(example)
}
/// Custom tools.
pub const CLIENT_TOOLS: Field =
    named(A_CUSTOM_TOOL, r#"[{"type": "tool_reference", "name": "weather"}]"#);
/// Tools of the web.
pub const SERVER_TOOLS: Field =
    named(A_WEB_TOOL, r#"[{"type": "tool_reference", "name": "web_search"}]"#);

macro_rules! sources {
    ($($union:ident $shown:literal $tools:ident, $only:ident $name:literal, $except:ident $other:literal;)*) => {$(
        #[doc = concat!("The member `only` of `", $shown, "`.")]
        pub static $only: Table = Table {
            name: $name,
            about: "Results of these tools alone.",
            fields: &[Field::tag(&["only"]), $tools],
        };
        #[doc = concat!("The member `except` of `", $shown, "`.")]
        pub static $except: Table = Table {
            name: $other,
            about: "Results of all tools but these.",
            fields: &[Field::tag(&["except"]), $tools],
        };
        #[doc = concat!("`", $shown, "`: which tools' results are a source.")]
        pub static $union: Union = Union {
            name: $shown,
            tag: "type",
            members: &[
                Member::taken("all", &SOURCE_ALL),
                Member::taken("none", &SOURCE_NONE),
                Member::taken("only", &$only),
                Member::taken("except", &$except),
            ],
        };
    )*};
}
sources! {
    CLIENT_SOURCE "ClientUrlSourceParams" CLIENT_TOOLS,
        CLIENT_ONLY "ClientUrlSourceOnly", CLIENT_EXCEPT "ClientUrlSourceExcept";
    SERVER_SOURCE "ServerUrlSourceParams" SERVER_TOOLS,
        SERVER_ONLY "ServerUrlSourceOnly", SERVER_EXCEPT "ServerUrlSourceExcept";
}

/// About where the user is.
pub const USER_LOCATION: Field = Field::new(
    "user_location",
    Kind::Object(&LOCATION),
    "About where the user is, for results from there.",
)
.example(r#"{"type": "approximate", "country": "DE"}"#);
/// How exact a place is.
pub const LOCATION_TYPE: Field = Field::tag(&["approximate"]);
const fn place(name: &'static str, about: &'static str) -> Field {
    Field::text(name, 1, 255, about)
}
/// A city.
pub const CITY: Field = place("city", "The city.").example(r#""Berlin""#);
/// A region.
pub const REGION: Field = place("region", "The region or the state.").example(r#""Bavaria""#);
/// A country.
pub const COUNTRY: Field = Field::text("country", 2, 2, "The country, by ISO 3166-1 alpha-2.")
    .rule("Two capital letters.")
    .example(r#""DE""#);
/// A time zone.
pub const TIMEZONE: Field =
    place("timezone", "The time zone, by its IANA name.").example(r#""Europe/Berlin""#);
/// About where the user is.
pub static LOCATION: Table = Table {
    name: "UserLocationParams",
    about: "About where the user is.",
    fields: &[LOCATION_TYPE, CITY, REGION, COUNTRY, TIMEZONE],
};

/// An entry of `web_fetch`.
pub static WEB_FETCH: Table = Table {
    name: "WebFetchConfigParams",
    about: "An entry of web_fetch, which reads pages whose addresses the conversation has shown.",
    fields: &[
        Field::choice("name", &["web_fetch"], "The tool.").required(),
        CONFIG_TYPE,
        INHERITED,
        POLICY_FIELD,
        FETCH_ALLOWED,
        FETCH_BLOCKED,
        MAX_CONTENT_TOKENS,
        URL_SOURCES,
    ],
};

/// An entry of `web_search`.
pub static WEB_SEARCH: Table = Table {
    name: "WebSearchConfigParams",
    about: "An entry of web_search. Where the server has no search back end, it can only be off; a \
            toolset without this entry does not offer the tool then.",
    fields: &[
        Field::choice("name", &["web_search"], "The tool.").required(),
        CONFIG_TYPE,
        INHERITED
            .rule("Only false, here or in the default, where the server has no search back end."),
        POLICY_FIELD,
        SEARCH_ALLOWED,
        SEARCH_BLOCKED,
        USER_LOCATION,
    ],
};
