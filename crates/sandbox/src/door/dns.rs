//! Reads queries for names and writes answers: as much of RFC 1035 as a door needs.
//!
//! Bytes come from inside of a cage. A query has one question whose name is written out: what is
//! compressed, cut short or too long is answered with an error or not at all. No IO.

use std::net::Ipv4Addr;

/// The longest message that is read. Queries are far shorter.
pub(super) const LONGEST: usize = 4096;

const HEADER: usize = 12;
const ADDRESS: u16 = 1;
const INTERNET: u16 = 1;
/// QR: set in answers.
const IS_ANSWER: u16 = 0x8000;
const OPERATION: u16 = 0x7800;
const RECURSION_DESIRED: u16 = 0x0100;
const RECURSION_AVAILABLE: u16 = 0x0080;
/// A pointer to the question's name, which stands right behind the header.
const NAME_OF_QUESTION: u16 = 0xc000 | HEADER as u16;

/// One question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Query {
    id: u16,
    flags: u16,
    question: Vec<u8>,
    /// The name in lower case, or nothing if it holds bytes that no host's name has.
    pub(super) name: Option<String>,
    /// Whether an IPv4 address is asked for.
    pub(super) wants_address: bool,
}

/// What is said to a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// The name has this address, for so many seconds.
    Address(Ipv4Addr, u32),
    /// The name has nothing of the kind that was asked for.
    Nothing,
    /// There is no such name.
    NoSuchName,
    /// Not now.
    Failed,
}

/// Why bytes are no question that can be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// Nothing is said, or two who answer each other's errors would never stop.
    Ignored,
    /// This is said.
    Answered(Vec<u8>),
}

/// Reads a message.
pub(super) fn read(bytes: &[u8]) -> Result<Query, Unreadable> {
    const FORMAT_ERROR: u16 = 1;
    const NOT_IMPLEMENTED: u16 = 4;
    let number = |at: usize| bytes.get(at..at + 2).map(|two| u16::from_be_bytes([two[0], two[1]]));
    let (Some(id), Some(flags)) = (number(0), number(2)) else { return Err(Unreadable::Ignored) };
    if bytes.len() < HEADER || flags & IS_ANSWER != 0 {
        return Err(Unreadable::Ignored);
    }
    let refuse = |code| Err(Unreadable::Answered(head(id, flags, code, 0, 0)));
    if flags & OPERATION != 0 {
        return refuse(NOT_IMPLEMENTED);
    }
    // Additional records (EDNS) may follow and are not read; answers in a question are odd.
    if bytes.len() > LONGEST || (number(4), number(6)) != (Some(1), Some(0)) {
        return refuse(FORMAT_ERROR);
    }
    let Some((name, end)) = read_name(bytes) else { return refuse(FORMAT_ERROR) };
    let (Some(kind), Some(class)) = (number(end), number(end + 2)) else {
        return refuse(FORMAT_ERROR);
    };
    if class != INTERNET {
        return refuse(NOT_IMPLEMENTED);
    }
    let question = bytes.get(HEADER..end + 4).unwrap_or_default().to_vec();
    Ok(Query { id, flags, question, name, wants_address: kind == ADDRESS })
}

/// The name behind the header and where it ends. The labels of a question point nowhere, so there
/// is nothing to follow in circles.
fn read_name(bytes: &[u8]) -> Option<(Option<String>, usize)> {
    let mut at = HEADER;
    let mut name = String::new();
    let mut plain = true;
    loop {
        let length = usize::from(*bytes.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        // Lengths above 63 are pointers and labels of kinds that were never used.
        let label = bytes.get(at..at + length).filter(|_| length <= 63)?;
        at += length;
        if at - HEADER > 254 {
            return None;
        }
        if !name.is_empty() {
            name.push('.');
        }
        for byte in label {
            plain &= byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            name.push(char::from(byte.to_ascii_lowercase()));
        }
    }
    Some(((plain && !name.is_empty()).then_some(name), at))
}

impl Query {
    /// The message that answers it.
    pub(super) fn answer(&self, answer: Answer) -> Vec<u8> {
        let (code, addresses) = match answer {
            Answer::Address(..) => (0, 1),
            Answer::Nothing => (0, 0),
            Answer::Failed => (2, 0),
            Answer::NoSuchName => (3, 0),
        };
        let mut bytes = head(self.id, self.flags, code, 1, addresses);
        bytes.extend(&self.question);
        if let Answer::Address(address, seconds) = answer {
            for number in [NAME_OF_QUESTION, ADDRESS, INTERNET] {
                bytes.extend(number.to_be_bytes());
            }
            bytes.extend(seconds.to_be_bytes());
            bytes.extend(4_u16.to_be_bytes());
            bytes.extend(address.octets());
        }
        bytes
    }
}

fn head(id: u16, flags: u16, code: u16, questions: u16, answers: u16) -> Vec<u8> {
    let kept = flags & (OPERATION | RECURSION_DESIRED);
    let flags = IS_ANSWER | RECURSION_AVAILABLE | kept | code;
    [id, flags, questions, answers, 0, 0].iter().flat_map(|number| number.to_be_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(counts: [u16; 4], flags: u16, rest: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0xab, 0xcd];
        bytes.extend(flags.to_be_bytes());
        bytes.extend(counts.iter().flat_map(|count| count.to_be_bytes()));
        bytes.extend(rest);
        bytes
    }

    fn question(name: &[u8], kind: u16, class: u16) -> Vec<u8> {
        [name, &kind.to_be_bytes(), &class.to_be_bytes()].concat()
    }

    const NAME: &[u8] = b"\x03WWW\x07example\x00";

    #[test]
    fn a_question_is_read_and_answered() {
        let asked = question(NAME, 1, 1);
        // With an EDNS record behind it, as resolvers send it.
        let edns = [&asked[..], b"\x00\x00\x29\x10\x00\x00\x00\x00\x00\x00\x00"].concat();
        let query = read(&message([1, 0, 0, 1], 0x0120, &edns)).unwrap();
        assert_eq!(query.name.as_deref(), Some("www.example"));
        assert!(query.wants_address);
        let address = query.answer(Answer::Address(Ipv4Addr::new(198, 18, 1, 0), 60));
        let expected = [
            &message([1, 1, 0, 0], 0x8180, &asked)[..],
            b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xc6\x12\x01\x00",
        ];
        assert_eq!(address, expected.concat());
        let nothing = query.answer(Answer::Nothing);
        assert_eq!(nothing, message([1, 0, 0, 0], 0x8180, &asked));
        assert_eq!(query.answer(Answer::NoSuchName)[3] & 15, 3);
        assert_eq!(query.answer(Answer::Failed)[3] & 15, 2);
        let other = read(&message([1, 0, 0, 0], 0, &question(NAME, 28, 1))).unwrap();
        assert!(!other.wants_address);
    }

    #[test]
    fn what_is_no_question_is_refused_or_ignored() {
        let asked = question(NAME, 1, 1);
        for bytes in [
            vec![],
            vec![0; 3],
            message([1, 0, 0, 0], 0, &[])[..11].to_vec(),
            message([1, 0, 0, 0], 0x8000, &asked),
        ] {
            assert_eq!(read(&bytes), Err(Unreadable::Ignored), "{bytes:?}");
        }
        let long = [b"\x3f".as_slice(), &[b'a'; 63]].concat().repeat(4);
        let long = [&long[..], b"\x00"].concat();
        for (bytes, code) in [
            (message([1, 0, 0, 0], 0x0800, &asked), 4),
            (message([0, 0, 0, 0], 0, &asked), 1),
            (message([2, 0, 0, 0], 0, &[&asked[..], &asked[..]].concat()), 1),
            (message([65535, 65535, 65535, 65535], 0, &asked), 1),
            (message([1, 1, 0, 0], 0, &asked), 1),
            (message([1, 0, 0, 0], 0, &question(NAME, 1, 3)), 4),
            (message([1, 0, 0, 0], 0, &question(b"\xc0\x0c", 1, 1)), 1),
            (message([1, 0, 0, 0], 0, &question(b"\x03www\xc0\x0c", 1, 1)), 1),
            (message([1, 0, 0, 0], 0, &question(b"\x40aaaa\x00", 1, 1)), 1),
            (message([1, 0, 0, 0], 0, &question(&long, 1, 1)), 1),
            (message([1, 0, 0, 0], 0, &asked[..asked.len() - 1]), 1),
            (message([1, 0, 0, 0], 0, b"\x3fabc"), 1),
            (message([1, 0, 0, 0], 0, &[&asked[..], &[0; LONGEST]].concat()), 1),
        ] {
            let Err(Unreadable::Answered(answer)) = read(&bytes) else { panic!("{bytes:?}") };
            assert_eq!((answer.len(), answer[3] & 15), (HEADER, code), "{bytes:?}");
        }
    }

    #[test]
    fn a_name_with_other_bytes_is_no_name() {
        for name in [
            &b"\x00"[..],
            b"\x03a.b\x07example\x00",
            b"\x02\xc3\xbc\x00",
            b"\x01\x00\x00",
            b"\x01*\x00",
        ] {
            let query = read(&message([1, 0, 0, 0], 0, &question(name, 1, 1))).unwrap();
            assert_eq!(query.name, None, "{name:?}");
        }
    }

    #[test]
    fn no_bytes_bring_it_down() {
        // xorshift: the same bytes in each run.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let seed = message([1, 0, 0, 1], 0x0120, &question(NAME, 1, 1));
        for round in 0..200_000 {
            let mut bytes = if round % 2 == 0 {
                (0..random() % 80).map(|_| random() as u8).collect()
            } else {
                seed.clone()
            };
            for _ in 0..random() % 4 {
                if let Some(length) = std::num::NonZeroUsize::new(bytes.len()) {
                    bytes[random() as usize % length] = random() as u8;
                }
            }
            bytes.truncate(random() as usize % 100);
            if let Ok(query) = read(&bytes) {
                let answer = query.answer(Answer::Address(Ipv4Addr::LOCALHOST, 1));
                assert!(answer.len() <= HEADER + 255 + 4 + 16, "{bytes:?}");
            }
        }
    }
}
