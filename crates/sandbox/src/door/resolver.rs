//! Answers a cage's questions for names, over UDP and TCP.
//!
//! A name that the policy does not let through is answered here and gets no further: what a cage
//! asks for can carry what it knows. Its answer is an address at which connections are told why
//! they go nowhere. A name that is let through is resolved by the guard, once, and answered with
//! the address that stands for it.

use std::{
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};

use posthouse_net::Refused;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    Rule, State, datagram,
    dns::{self, Answer, Query, Unreadable},
    locked,
    names::TIME_TO_LIVE,
};

/// Questions of one cage that wait for an answer. More are answered with a failure.
const WAITING: usize = 256;
/// Questions over one TCP connection, and the longest that one may take to arrive.
const QUESTIONS: usize = 64;
const QUESTION_TIMEOUT: Duration = Duration::from_secs(10);

/// Answers datagrams for as long as the door is open.
pub(super) async fn serve(socket: UdpSocket, state: Arc<State>) {
    let socket = Arc::new(socket);
    // Ends with this future, which ends with the door.
    let mut waiting = JoinSet::new();
    let mut buffer = vec![0; dns::LONGEST + 1];
    loop {
        while waiting.try_join_next().is_some() {}
        let Ok((length, route)) = datagram::receive(&socket, &mut buffer).await else {
            // Nothing that a peer does is an error here; what is left is a lack of memory.
            sleep(Duration::from_millis(10)).await;
            continue;
        };
        let bytes = match dns::read(&buffer[..length]) {
            Ok(query) => match state.answer_at_once(&query) {
                Some(answer) => query.answer(answer),
                None if waiting.len() >= WAITING => query.answer(Answer::Failed),
                None => {
                    let (socket, state) = (Arc::clone(&socket), Arc::clone(&state));
                    waiting.spawn(async move {
                        let answer = state.look_up(&query).await;
                        let _ = datagram::answer(&socket, &query.answer(answer), route);
                    });
                    continue;
                }
            },
            Err(Unreadable::Answered(bytes)) => bytes,
            Err(Unreadable::Ignored) => continue,
        };
        // An answer that can't be sent is as good as lost: whoever asked will ask again.
        let _ = datagram::answer(&socket, &bytes, route);
    }
}

/// Answers what comes over a connection. Messages have their length in front (RFC 7766).
pub(super) async fn serve_connection(mut stream: TcpStream, state: &State) {
    for _ in 0..QUESTIONS {
        let Ok(Ok(message)) = timeout(QUESTION_TIMEOUT, read_message(&mut stream)).await else {
            return;
        };
        let answer = match dns::read(&message) {
            Ok(query) => match state.answer_at_once(&query) {
                Some(answer) => query.answer(answer),
                None => query.answer(state.look_up(&query).await),
            },
            Err(Unreadable::Answered(answer)) => answer,
            Err(Unreadable::Ignored) => return,
        };
        let mut bytes = (answer.len() as u16).to_be_bytes().to_vec();
        bytes.extend(answer);
        if !matches!(timeout(QUESTION_TIMEOUT, stream.write_all(&bytes)).await, Ok(Ok(()))) {
            return;
        }
    }
}

async fn read_message(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let length = usize::from(stream.read_u16().await?);
    // One byte more than the longest is enough to be refused.
    let mut message = vec![0; length.min(dns::LONGEST + 1)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

impl State {
    /// What can be said without asking anybody.
    fn answer_at_once(&self, query: &Query) -> Option<Answer> {
        let Some(name) = &query.name else { return Some(Answer::NoSuchName) };
        if name == "localhost" || name.ends_with(".localhost") {
            let here = Answer::Address(Ipv4Addr::LOCALHOST, TIME_TO_LIVE);
            return Some(if query.wants_address { here } else { Answer::Nothing });
        }
        if name.ends_with(".arpa") {
            return Some(Answer::NoSuchName);
        }
        if let Err(rule) = self.hosts.allows(name) {
            let (address, new) = locked(&self.names).block(name);
            // Programs ask for each kind of address, and again; it is one refusal.
            if new {
                self.decided(name, None, false, rule);
            }
            let blocked = Answer::Address(address, TIME_TO_LIVE);
            return Some(if query.wants_address { blocked } else { Answer::Nothing });
        }
        if !query.wants_address {
            return Some(Answer::Nothing);
        }
        let address = locked(&self.names).fresh(name, Instant::now())?;
        Some(Answer::Address(address, TIME_TO_LIVE))
    }

    async fn look_up(&self, query: &Query) -> Answer {
        let Some(name) = &query.name else { return Answer::NoSuchName };
        match self.guard.resolve(name).await {
            Ok(pinned) => {
                let address = locked(&self.names).pin(pinned, Instant::now());
                Answer::Address(address, TIME_TO_LIVE)
            }
            Err(Refused::NotPublic { .. } | Refused::Own { .. }) => {
                self.decided(name, None, false, Rule::Guard);
                Answer::NoSuchName
            }
            Err(Refused::NotFound { .. } | Refused::Malformed(_)) => Answer::NoSuchName,
            Err(Refused::Unresolved { .. }) => Answer::Failed,
        }
    }
}
