//! Signing in against an authorization server on loopback that is in order, and against those that are
//! not: what is given, who is asked for what, and that nothing secret is told.

use std::{pin::Pin, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use posthouse_net::Guard;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use url::Url;

use super::*;

mod place;

use place::{Asked, Change, Place, Reply, described, resource};

const DESCRIPTION: &str = "/.well-known/oauth-authorization-server";
const RESOURCE: &str = "/.well-known/oauth-protected-resource/mcp";
const BACK: &str = "http://127.0.0.1:1/callback";

/// Given the state and the place's address: the query with which a user comes back.
type Back = fn(&str, &str) -> String;

/// A user who says yes, and what his browser is made to say.
struct User {
    place: Arc<Place>,
    back: Back,
    /// Where he was led.
    led: Vec<Url>,
}

impl Consent for User {
    fn redirect_uri(&self) -> String {
        BACK.to_owned()
    }

    fn ask<'a>(
        &'a mut self,
        url: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<String, SignInError>> + Send + 'a>> {
        let url = Url::parse(url).unwrap();
        self.place.visit(&query(&url, "code_challenge"));
        let back = (self.back)(&query(&url, "state"), &self.place.base);
        self.led.push(url);
        Box::pin(async move { Ok(format!("{BACK}?{back}")) })
    }
}

fn query(url: &Url, name: &str) -> String {
    let found = url.query_pairs().find(|(key, _)| key == name);
    found.map(|(_, value)| value.into_owned()).unwrap_or_default()
}

fn yes(state: &str, base: &str) -> String {
    format!("code=the-code&state={state}&iss={base}")
}

/// One sign-in.
struct Story {
    place: Arc<Place>,
    user: User,
    of: SignIn,
}

impl Story {
    async fn new(change: Change) -> Self {
        Self::at(Place::start(change).await)
    }

    fn at(place: Place) -> Self {
        let guard = place.open_guard();
        let place = Arc::new(place);
        let of = SignIn {
            server: place.server(),
            guard,
            client: Client::Unknown,
            scopes: Vec::new(),
            time: Duration::from_secs(10),
        };
        let user = User { place: Arc::clone(&place), back: yes, led: Vec::new() };
        Self { place, user, of }
    }

    fn known(mut self, id: &str, secret: Option<&str>) -> Self {
        let secret = secret.map(|secret| secret.to_owned().into());
        self.of.client = Client::Known { id: id.to_owned(), secret };
        self
    }

    async fn sign_in(&mut self) -> Result<Grant, SignInError> {
        let outcome = sign_in(self.of.clone(), &mut self.user).await;
        let told = match &outcome {
            Ok(grant) => format!("{grant:?}"),
            Err(error) => format!("{error} {error:?}"),
        };
        for secret in ["the-access-token", "the-refresh-token", "the-code", "the-secret"] {
            assert!(!told.contains(secret), "{told}");
        }
        let plain = |one: char| !one.is_control();
        assert!(outcome.as_ref().err().is_none_or(|error| error.to_string().chars().all(plain)));
        outcome
    }

    /// It comes to nothing: what is said, after checking that nobody has asked for a token.
    async fn refused(&mut self) -> String {
        let error = self.sign_in().await.unwrap_err().to_string();
        assert!(self.place.asked("/token").is_empty(), "{error}");
        error
    }

    /// The same, when not even the user is asked.
    async fn refused_at_once(&mut self) -> String {
        let error = self.refused().await;
        assert!(self.user.led.is_empty(), "{error}");
        error
    }
}

fn nothing(_: &Asked, _: &str) -> Option<Reply> {
    None
}

#[tokio::test]
async fn a_user_signs_in_by_a_client_that_registers_itself() {
    let mut story = Story::new(nothing).await;
    let grant = story.sign_in().await.unwrap();
    assert_eq!(grant.access_token.expose_secret(), "the-access-token");
    assert_eq!((grant.expires_in, grant.scope.as_deref()), (Some(3600), Some("read")));
    let renewal = grant.renewal.unwrap();
    assert_eq!(renewal.refresh_token.expose_secret(), "the-refresh-token");
    assert_eq!(renewal.token_endpoint, format!("{}/token", story.place.base));
    assert_eq!(renewal.client_id, "registered");
    assert!(matches!(renewal.client_auth, ClientAuth::None));
    assert_eq!(renewal.resource.as_deref(), Some(story.place.server().as_str()));

    let registered = &story.place.asked("/register")[0].body;
    let registered: Value = serde_json::from_str(registered).unwrap();
    assert_eq!(registered["redirect_uris"], json!([BACK]));
    assert_eq!(registered["application_type"], "native");
    let led = &story.user.led[0];
    for (name, expected) in [
        ("response_type", "code"),
        ("client_id", "registered"),
        ("redirect_uri", BACK),
        ("code_challenge_method", "S256"),
        ("scope", "read"),
        ("resource", story.place.server().as_str()),
    ] {
        assert_eq!(query(led, name), expected, "{name}");
    }
    let asked = &story.place.asked("/token")[0];
    assert_eq!(asked.form["redirect_uri"], BACK);
    assert_eq!(asked.form["resource"], story.place.server().as_str());
    assert_eq!(asked.authorization, None);
}

#[tokio::test]
async fn a_client_that_is_known_proves_it_as_it_is_asked_to() {
    let basic: Change = |asked, base| {
        let methods = json!(["client_secret_basic"]);
        let name = "token_endpoint_auth_methods_supported";
        (asked.path == DESCRIPTION).then(|| described(base, name, methods)).flatten()
    };
    let mut story = Story::new(basic).await.known("a client:1", Some("the-secret %"));
    let renewal = story.sign_in().await.unwrap().renewal.unwrap();
    assert_eq!(renewal.client_id, "a client:1");
    let ClientAuth::Basic(secret) = &renewal.client_auth else { panic!("{renewal:?}") };
    assert_eq!(secret.expose_secret(), "the-secret %");
    assert!(story.place.asked("/register").is_empty());
    let asked = &story.place.asked("/token")[0];
    assert!(asked.authorization.is_some() && !asked.form.contains_key("client_secret"));

    let post: Change = |asked, base| {
        let methods = json!(["client_secret_post"]);
        let name = "token_endpoint_auth_methods_supported";
        (asked.path == DESCRIPTION).then(|| described(base, name, methods)).flatten()
    };
    let mut story = Story::new(post).await.known("c", Some("the-secret"));
    let renewal = story.sign_in().await.unwrap().renewal.unwrap();
    let ClientAuth::Post(secret) = &renewal.client_auth else { panic!("{renewal:?}") };
    assert_eq!(secret.expose_secret(), "the-secret");
    let asked = &story.place.asked("/token")[0];
    assert_eq!(asked.form["client_secret"], "the-secret");
    assert_eq!(asked.authorization, None);
}

#[tokio::test]
async fn a_description_is_a_client_where_descriptions_are_read() {
    let reads: Change = |asked, base| {
        let name = "client_id_metadata_document_supported";
        (asked.path == DESCRIPTION).then(|| described(base, name, json!(true))).flatten()
    };
    let id = Url::parse("https://posthouse.example/client.json").unwrap();
    for (change, expected) in [(reads, id.as_str()), (nothing as Change, "registered")] {
        let mut story = Story::new(change).await;
        story.of.client = Client::Described(id.clone());
        assert_eq!(story.sign_in().await.unwrap().renewal.unwrap().client_id, expected);
    }
}

#[tokio::test]
async fn what_is_asked_for_is_what_was_said_else_what_the_server_names() {
    let offline: Change = |asked, base| match asked.path.as_str() {
        DESCRIPTION => described(base, "scopes_supported", json!(["x", "offline_access"])),
        _ => None,
    };
    let mut story = Story::new(offline).await;
    story.sign_in().await.unwrap();
    assert_eq!(query(&story.user.led[0], "scope"), "read offline_access");
    story.of.scopes = vec!["write".to_owned()];
    story.sign_in().await.unwrap();
    assert_eq!(query(&story.user.led[1], "scope"), "write offline_access");
    // What an authorization server has to give beside is nobody's to ask for.
    let silent: Change = |asked, base| match asked.path.as_str() {
        "/mcp" => Some(Reply::status(401)),
        DESCRIPTION => described(base, "scopes_supported", json!(["everything"])),
        _ => None,
    };
    let mut story = Story::new(silent).await;
    story.sign_in().await.unwrap();
    assert_eq!(query(&story.user.led[0], "scope"), "");
}

#[tokio::test]
async fn a_server_of_old_describes_nothing() {
    let bare: Change = |asked, _| match asked.path.as_str() {
        "/mcp" => Some(Reply::status(401)),
        RESOURCE | DESCRIPTION => Some(Reply::status(404)),
        _ => None,
    };
    let mut story = Story::new(bare).await;
    story.user.back = |state, _| format!("code=the-code&state={state}");
    let renewal = story.sign_in().await.unwrap().renewal.unwrap();
    assert_eq!(renewal.token_endpoint, format!("{}/token", story.place.base));
}

#[tokio::test]
async fn a_client_signs_in_for_itself() {
    let place = Place::start(|asked, base| {
        let methods = json!(["client_secret_basic", "private_key_jwt"]);
        let name = "token_endpoint_auth_methods_supported";
        (asked.path == DESCRIPTION).then(|| described(base, name, methods)).flatten()
    });
    let story = Story::at(place.await).known("c", None);
    let secret = Proof::Secret("the-secret".to_owned().into());
    let grant = client_credentials(story.of.clone(), secret).await.unwrap();
    assert_eq!(grant.access_token.expose_secret(), "the-access-token");
    assert!(grant.renewal.is_none(), "it asks again instead");
    let asked = &story.place.asked("/token")[0];
    assert!(asked.authorization.is_some());
    assert_eq!(asked.form["scope"], "read");
    assert_eq!(asked.form["resource"], story.place.server().as_str());

    let pem = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let key =
        |algorithm: &str| Proof::Key { pem: pem.clone().into(), algorithm: algorithm.to_owned() };
    client_credentials(story.of.clone(), key("ES256")).await.unwrap();
    let asked = &story.place.asked("/token")[1];
    let part = |index| {
        let part = asked.form["client_assertion"].split('.').nth(index).unwrap();
        serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    };
    assert_eq!(part(0)["alg"], "ES256");
    assert_eq!((&part(1)["iss"], &part(1)["sub"]), (&json!("c"), &json!("c")));
    assert_eq!(part(1)["aud"], story.place.base);
    let error = client_credentials(story.of.clone(), key("none")).await.unwrap_err();
    assert!(error.to_string().contains("use ES256"), "{error}");
    let wrong = Proof::Key { pem: "the-secret".into(), algorithm: "ES256".to_owned() };
    let error = client_credentials(story.of.clone(), wrong).await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains("the-secret"), "{error:?}");
}

#[tokio::test]
async fn who_comes_back_with_something_else_is_not_let_in() {
    let backs: [(Back, &str); 4] = [
        (|_, base| format!("code=the-code&state=other&iss={base}"), "state not found"),
        (|state, _| format!("code=the-code&state={state}&iss=https://evil.example"), "mismatch"),
        (|state, base| format!("code=the-code&state={state}&iss={base}/"), "mismatch"),
        (|state, _| format!("state={state}"), "code"),
    ];
    for (back, expected) in backs {
        let mut story = Story::new(nothing).await;
        story.user.back = back;
        let error = story.refused().await;
        assert!(error.contains(expected), "{error}");
    }
    // One that says that it names itself has to.
    let mut story = Story::new(|asked, base| {
        let name = "authorization_response_iss_parameter_supported";
        (asked.path == DESCRIPTION).then(|| described(base, name, json!(true))).flatten()
    })
    .await;
    story.user.back = |state, _| format!("code=the-code&state={state}");
    let error = story.refused().await;
    assert!(error.contains("issuer"), "{error}");
}

#[tokio::test]
async fn a_refusal_is_told_in_words_that_do_a_terminal_no_harm() {
    let mut story = Story::new(nothing).await;
    story.user.back = |state, _| {
        format!("error=access_denied&error_description=%1B%5B31mno%0Away%07&state={state}")
    };
    let error = story.refused().await;
    assert_eq!(error, "the authorization server says access_denied: [31mnoway");

    let refuses: Change = |asked, _| {
        let said =
            json!({ "error": "invalid_grant", "error_description": "no\u{1b}[2J such code" });
        (asked.path == "/token").then(|| Reply::Whole(400, String::new(), said.to_string()))
    };
    let error = Story::new(refuses).await.sign_in().await.unwrap_err();
    assert_eq!(error.to_string(), "the authorization server says invalid_grant: no[2J such code");
    // Not even what was sent there.
    let quotes: Change = |asked, _| {
        let said = json!({ "error": "invalid_grant", "error_description": asked.body });
        (asked.path == "/token").then(|| Reply::Whole(400, String::new(), said.to_string()))
    };
    let error = Story::new(quotes).await.sign_in().await.unwrap_err();
    assert_eq!(error.to_string(), "the authorization server says invalid_grant");
    let registers: Change = |asked, _| {
        let said = "\u{1b}]0;x\u{7}".repeat(100_000);
        (asked.path == "/register").then(|| Reply::Whole(400, String::new(), said))
    };
    let error = Story::new(registers).await.refused_at_once().await;
    assert!(error.contains("400") && error.len() < 1_000, "{error}");
}

#[tokio::test]
async fn descriptions_that_do_not_fit_lead_nowhere() {
    let changes: [(Change, &str); 8] = [
        (
            |asked, base| {
                let mut other = resource(base);
                other["resource"] = json!("https://evil.example/mcp");
                (asked.path == RESOURCE).then(|| Reply::json(&other))
            },
            "evil.example",
        ),
        (
            |asked, base| match asked.path.as_str() {
                DESCRIPTION => described(base, "issuer", json!("https://evil.example")),
                _ => None,
            },
            "issuer",
        ),
        (
            |asked, base| match asked.path.as_str() {
                DESCRIPTION => described(base, "code_challenge_methods_supported", Value::Null),
                _ => None,
            },
            "S256",
        ),
        (
            |asked, base| match asked.path.as_str() {
                DESCRIPTION => {
                    described(base, "code_challenge_methods_supported", json!(["plain"]))
                }
                _ => None,
            },
            "S256",
        ),
        (
            |asked, base| match asked.path.as_str() {
                DESCRIPTION => {
                    described(base, "authorization_endpoint", json!("file:///etc/passwd"))
                }
                _ => None,
            },
            "https address",
        ),
        (
            |asked, base| match asked.path.as_str() {
                DESCRIPTION => {
                    described(base, "authorization_endpoint", json!("javascript:alert(1)"))
                }
                _ => None,
            },
            "https address",
        ),
        (
            |asked, _| {
                let html = "<!doctype html><p>Sign in".to_owned();
                (asked.path == DESCRIPTION).then(|| Reply::Whole(200, String::new(), html))
            },
            "authorization server",
        ),
        (
            |asked, _| {
                let long = "x".repeat(10 << 20);
                (asked.path == DESCRIPTION).then(|| Reply::Whole(200, String::new(), long))
            },
            "longer than",
        ),
    ];
    for (change, expected) in changes {
        let error = Story::new(change).await.refused_at_once().await;
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[tokio::test]
async fn no_description_leads_to_another_host() {
    // By another name, the same port is another origin.
    let leads: Change = |asked, base| {
        let other = base.replace("127.0.0.1", "localhost");
        let to = format!("{other}{}", asked.path);
        (asked.path == DESCRIPTION && asked.host.starts_with("127.")).then(|| Reply::redirect(&to))
    };
    let mut story = Story::new(leads).await;
    story.refused_at_once().await;
    assert!(story.place.all().iter().all(|asked| asked.host.starts_with("127.")));
}

#[tokio::test]
async fn a_server_that_names_a_thousand_others_is_given_up() {
    let names: Change = |asked, base| {
        let mut many = resource(base);
        many["authorization_servers"] = (0..1_000).map(|one| format!("{base}/{one}")).collect();
        match asked.path.as_str() {
            RESOURCE => Some(Reply::json(&many)),
            DESCRIPTION => Some(Reply::status(404)),
            _ => None,
        }
    };
    let mut story = Story::new(names).await;
    let error = story.refused_at_once().await;
    assert!(error.contains("too many"), "{error}");
    assert_eq!(story.place.all().len(), 100);
}

#[tokio::test]
async fn nobody_is_led_to_addresses_that_the_operator_has_not_opened() {
    let authorization: Change = |asked, base| {
        let mut other = resource(base);
        other["authorization_servers"] = json!(["http://10.0.0.1"]);
        (asked.path == RESOURCE).then(|| Reply::json(&other))
    };
    let registration: Change = |asked, base| match asked.path.as_str() {
        DESCRIPTION => {
            described(base, "registration_endpoint", json!("http://169.254.169.254/register"))
        }
        _ => None,
    };
    let token: Change = |asked, base| match asked.path.as_str() {
        DESCRIPTION => described(base, "token_endpoint", json!("http://127.0.0.1:9/token")),
        _ => None,
    };
    for (change, expected) in
        [(authorization, "10.0.0.1"), (registration, "169.254.169.254"), (token, "127.0.0.1")]
    {
        let place = Place::named(Some("mcp.test"), change).await;
        let guard = place.narrow_guard("mcp.test");
        let mut story = Story::at(place);
        story.of.guard = guard.clone();
        let error = story.refused().await;
        assert!(story.place.all().iter().all(|asked| asked.host == "mcp.test"), "{error}");
        assert!(guard.dialled() > 0 && error.contains(expected), "{error}");
    }
}

#[tokio::test]
async fn a_token_endpoint_gives_a_token_or_nothing() {
    let changes: [(Change, &str); 7] = [
        (
            |asked, base| {
                let to = format!("{base}/elsewhere");
                (asked.path == "/token").then(|| Reply::redirect(&to))
            },
            "has answered 307",
        ),
        (|asked, _| (asked.path == "/token").then_some(Reply::Drip), "in time"),
        (
            |asked, _| {
                let long = "x".repeat(10 << 20);
                (asked.path == "/token").then(|| Reply::Whole(200, String::new(), long))
            },
            "longer than",
        ),
        (
            |asked, _| {
                let html = "<p>the-access-token".to_owned();
                (asked.path == "/token").then(|| Reply::Whole(200, String::new(), html))
            },
            "not with a token",
        ),
        (
            |asked, _| {
                let odd = json!("the-access-token");
                (asked.path == "/token").then(|| Reply::json(&odd))
            },
            "not with a token",
        ),
        (
            |asked, _| {
                let odd = json!({
                    "access_token": "a", "token_type": "Bearer", "refresh_token": ["the-refresh-token"],
                });
                (asked.path == "/token").then(|| Reply::json(&odd))
            },
            "not with a token",
        ),
        (
            |asked, _| {
                let bound = json!({ "access_token": "the-access-token", "token_type": "DPoP" });
                (asked.path == "/token").then(|| Reply::json(&bound))
            },
            "no bearer token",
        ),
    ];
    for (change, expected) in changes {
        let mut story = Story::new(change).await;
        story.of.time = Duration::from_secs(2);
        let error = story.sign_in().await.unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
        assert_eq!(story.place.asked("/token").len(), 1);
        assert!(story.place.asked("/elsewhere").is_empty());
    }
}

#[tokio::test]
async fn who_is_out_of_reach_is_not_asked() {
    let place = Place::start(nothing).await;
    let mut story = Story::at(place);
    story.of.guard = Guard::new(posthouse_net::Rules::default(), Vec::new());
    story.refused_at_once().await;
    assert!(story.place.all().is_empty());
}
