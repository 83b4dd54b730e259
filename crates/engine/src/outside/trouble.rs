//! What is told of MCP servers that do not do what they are asked: to users as a session's error, to models
//! as a result. Pure.
//!
//! What a server says stands in both, and both are data: short, and on one line.

use posthouse_mcp::client::Error;

use crate::{
    tools::{ToolOutcome, Trouble, TroubleKind},
    vault::Matching,
};

/// The most characters of what a server says that are told.
const LONGEST: usize = 1000;

/// How far a call has come that has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Came {
    /// The server has not heard of it.
    Nowhere,
    /// It was sent, or was about to be.
    ToTheServer,
}

/// What a session's error says. `searched` are its vaults, `credential` is what they have for the
/// server.
pub(super) fn trouble(
    server: &str,
    error: &Error,
    searched: &[String],
    credential: Option<&Matching>,
) -> Trouble {
    let of = |kind, message| Trouble { server: server.into(), kind, message };
    let unusable = |why: String| {
        let message = format!(
            "The MCP server {server:?} can't be used now: {why}. It is tried again with the next turn."
        );
        of(TroubleKind::Connection, message)
    };
    match error {
        Error::Connection(text) => unusable(short(text)),
        Error::Refused { code, message } => {
            unusable(format!("it has refused to list its tools: {} ({code})", short(message)))
        }
        Error::Authentication { message, scope } => {
            let mut told = format!(
                "The MCP server {server:?} does not let the session in: {}. {}",
                short(message),
                looked_through(searched, credential)
            );
            let vault = match (credential, searched) {
                (Some(one), _) => one.vault.as_str(),
                (None, [first, ..]) => first,
                (None, []) => "VAULT",
            };
            told.push_str(&format!(" `posthouse vaults connect {vault} URL"));
            if let Some(scope) = scope.as_deref().map(scopes).filter(|scope| !scope.is_empty()) {
                told.push_str(&format!(" --scope \"{scope}\""));
            }
            told.push_str("` signs in to a server and keeps the credential.");
            of(TroubleKind::Authentication, told)
        }
    }
}

/// What the model gets for a call that has failed so.
pub(super) fn result(server: &str, error: &Error, came: Came) -> ToolOutcome {
    let effect = match came {
        Came::Nowhere => "Nothing was called.",
        Came::ToTheServer => {
            "The call may or may not have had its effect; check before calling it again."
        }
    };
    ToolOutcome::error(match error {
        Error::Connection(text) => {
            format!("The MCP server {server:?} can't be used now: {}. {effect}", short(text))
        }
        Error::Authentication { message, .. } => format!(
            "The MCP server {server:?} does not let the session in: {}. Nothing was called.",
            short(message)
        ),
        Error::Refused { code, message } => {
            format!("The MCP server {server:?} has refused the call: {} ({code}).", short(message))
        }
    })
}

fn looked_through(searched: &[String], credential: Option<&Matching>) -> String {
    match credential {
        Some(Matching { vault, credential }) => {
            format!("It was asked with credential {credential} of {vault}.")
        }
        None if searched.is_empty() => "The session has no vaults.".to_owned(),
        None => format!(
            "None of the session's vaults ({}) has a credential for its address.",
            searched.join(", ")
        ),
    }
}

/// One line of bounded length, without a full stop at its end.
fn short(text: &str) -> String {
    let plain = |letter: char| if letter.is_control() { ' ' } else { letter };
    let text: String = text.trim().trim_end_matches('.').chars().map(plain).collect();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Scopes as they may stand in a command (RFC 6749, 3.3), without what a shell would read in quotes.
fn scopes(text: &str) -> String {
    let fine = |letter: &char| {
        (letter.is_ascii_graphic() || *letter == ' ')
            && !['"', '\\', '`', '$', '!'].contains(letter)
    };
    let text: String = text.chars().take(LONGEST).filter(fine).collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn matching() -> Matching {
        Matching { vault: "vlt_2".into(), credential: "vcrd_1".into() }
    }

    fn refused(scope: Option<&str>) -> Error {
        Error::Authentication { message: "HTTP 401.".into(), scope: scope.map(str::to_owned) }
    }

    #[test]
    fn a_session_s_error_says_what_helps() {
        let vaults = ["vlt_1".to_owned(), "vlt_2".to_owned()];
        let told = |error: &Error, vaults: &[String], credential: Option<&Matching>| {
            let told = trouble("a \"b\"", error, vaults, credential);
            assert_eq!(&*told.server, "a \"b\"");
            (told.kind, told.message)
        };
        let connection = Error::Connection("a.example has no address".into());
        assert_eq!(
            told(&connection, &vaults, None),
            (
                TroubleKind::Connection,
                "The MCP server \"a \\\"b\\\"\" can't be used now: a.example has no address. It is \
                 tried again with the next turn."
                    .to_owned()
            )
        );
        let listed = Error::Refused { code: -32603, message: "broken\nhere".into() };
        let (kind, text) = told(&listed, &vaults, None);
        assert_eq!(kind, TroubleKind::Connection);
        assert!(text.contains("refused to list its tools: broken here (-32603)"), "{text}");
        for (error, searched, credential, said) in [
            (
                refused(None),
                &[][..],
                None,
                "The session has no vaults. `posthouse vaults connect VAULT URL` s",
            ),
            (
                refused(None),
                &vaults[..],
                None,
                "vaults (vlt_1, vlt_2) has a credential for its address. `posthouse vaults connect vlt_1 URL`",
            ),
            (
                refused(Some("read  write")),
                &vaults[..],
                Some(&matching()),
                "HTTP 401. It was asked with credential vcrd_1 of vlt_2. `posthouse vaults connect vlt_2 URL --scope \"read write\"` signs in",
            ),
            (refused(Some("\"; `rm`$(x)\n")), &vaults[..], None, "URL --scope \"; rm(x)\"` signs"),
            (refused(Some("\"\"")), &vaults[..], None, "vlt_1 URL` signs"),
        ] {
            let (kind, text) = told(&error, searched, credential);
            assert_eq!(kind, TroubleKind::Authentication);
            assert!(text.contains(said), "{text}");
        }
    }

    #[test]
    fn a_model_is_told_whether_anything_was_called() {
        let text = |error: &Error, came| {
            let outcome = result("a", error, came);
            assert!(outcome.is_error && outcome.trouble.is_none());
            assert_eq!(outcome.content[0]["type"], json!("text"));
            outcome.content[0]["text"].as_str().unwrap().to_owned()
        };
        let connection = Error::Connection("no answer in time".into());
        assert!(text(&connection, Came::Nowhere).ends_with("in time. Nothing was called."));
        assert!(
            text(&connection, Came::ToTheServer).contains("may or may not have had its effect")
        );
        assert!(text(&refused(None), Came::ToTheServer).ends_with("401. Nothing was called."));
        let said = Error::Refused { code: -32602, message: "no such tool\u{1b}[2J".into() };
        let said = text(&said, Came::ToTheServer);
        assert_eq!(said, "The MCP server \"a\" has refused the call: no such tool [2J (-32602).");
        let long = Error::Refused { code: 1, message: "é".repeat(5000) };
        assert!(text(&long, Came::ToTheServer).chars().count() < LONGEST + 100);
    }
}
