//! All wires against each other and against hostile providers: conversations that change hands,
//! broken streams, refusals of any shape, lists of models without end. Tests alone; what a single
//! wire means by its own words is tested beside it.
//!
//! All chance is seeded, so a failure names the seed that shows it again.

mod bodies;
mod conversations;
mod listings;
mod refusals;
mod rendering;
mod streams;

use std::{collections::VecDeque, path::PathBuf, sync::LazyLock};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use reqwest::Url;
use sse_stream::SseByteStream;

use crate::{
    Event, FailureKind, WireKind,
    golden::{request, tool},
    wire::Wire,
};

/// Numbers that look random and are the same for the same seed (splitmix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below a bound, which is not 0.
    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound).unwrap()).unwrap()
    }

    fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// A provider of the tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Speaker {
    name: &'static str,
    kind: WireKind,
    /// Which kind of server, for Chat Completions.
    server: Option<&'static str>,
}

impl Speaker {
    const fn new(name: &'static str, kind: WireKind) -> Self {
        Self { name, kind, server: None }
    }

    const fn chat(server: &'static str) -> Self {
        Self { name: server, kind: WireKind::OpenaiChat, server: Some(server) }
    }

    fn wire(&self) -> &'static dyn Wire {
        let url = Url::parse("https://example.com/v1").unwrap();
        self.kind.wire_at(&url, self.server).unwrap()
    }

    /// A tool's name as this speaker is sent it.
    fn sent(&self, own: &str) -> String {
        let found = self.renamed().iter().find(|(_, name)| name == own);
        found.map_or(own, |(sent, _)| sent).to_owned()
    }

    /// The tool's own name, which a connection would give back.
    fn own(&self, sent: &str) -> String {
        let found = self.renamed().iter().find(|(name, _)| name == sent);
        found.map_or(sent, |(_, own)| own).to_owned()
    }

    fn renamed(&self) -> &'static [(String, String)] {
        type Renamed = Vec<(String, String)>;
        static RENAMED: LazyLock<Vec<(&str, Renamed)>> = LazyLock::new(|| {
            let mut request = request("anything", Vec::new());
            request.tools = conversations::TOOLS.iter().map(|name| tool(name)).collect();
            let of = |speaker: &Speaker| speaker.wire().render(speaker.name, &request).renamed;
            SPEAKERS.iter().map(|speaker| (speaker.name, of(speaker))).collect()
        });
        let found = RENAMED.iter().find(|(name, _)| *name == self.name);
        found.map_or(&[], |(_, renamed)| renamed)
    }
}

/// Each wire, one of them behind two providers, and what differs most among the servers of Chat
/// Completions.
const SPEAKERS: [Speaker; 12] = [
    Speaker::new("anthropic", WireKind::Anthropic),
    Speaker::new("elsewhere", WireKind::Anthropic),
    Speaker::new("openai_responses", WireKind::OpenaiResponses),
    Speaker::new("google", WireKind::Gemini),
    Speaker::chat("openai"),
    Speaker::chat("openrouter"),
    Speaker::chat("groq"),
    Speaker::chat("mistral"),
    Speaker::chat("deepseek"),
    Speaker::chat("llama.cpp"),
    Speaker::chat("gemini"),
    Speaker::chat("unknown"),
];

/// The recordings of a wire with their names.
fn recordings(kind: WireKind) -> Vec<(String, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests_data").join(kind.as_str());
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let mut recordings: Vec<(String, Vec<u8>)> = files
        .filter(|path| path.extension().is_some_and(|kind| kind == "sse"))
        .map(|path| (path.display().to_string(), std::fs::read(&path).unwrap()))
        .collect();
    recordings.sort();
    assert!(recordings.len() > 10);
    recordings
}

/// Reads a stream as a connection would bring it.
async fn decode(wire: &dyn Wire, chunks: Vec<Bytes>) -> Vec<Event> {
    let chunks = chunks.into_iter().map(Ok::<_, std::io::Error>);
    let mut sse = SseByteStream::new(stream::iter(chunks));
    let mut decoder = wire.decoder();
    let mut events = VecDeque::new();
    while let Some(event) = sse.next().await {
        match event {
            Ok(event) => {
                if let Some(data) = event.data {
                    decoder.decode(&data, &mut events);
                }
            }
            Err(_) if decoder.is_finished() => break,
            Err(_) => {
                events.push_back(decoder.fail(FailureKind::Transient, "broken".to_owned()));
                break;
            }
        }
    }
    events.extend(decoder.end());
    assert!(decoder.is_finished());
    events.into()
}
