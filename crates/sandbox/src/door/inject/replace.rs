//! Finds placeholders in bytes, also where they come in pieces, and tells what stands there
//! instead. Pure.
//!
//! The leftmost placeholder counts, of those that begin at one place the longest, and of equal ones
//! the first. What was put in is not looked at again.

use std::sync::Arc;

use bytes::Bytes;
use secrecy::ExposeSecret as _;
use zeroize::Zeroizing;

use crate::door::keeper::Secret;

/// Looks for the placeholders of some secrets.
#[derive(Debug, Clone)]
pub(super) struct Finder {
    secrets: Arc<[Secret]>,
    /// Those that are looked for, the longest placeholder first.
    wanted: Vec<usize>,
    /// The letters that a placeholder begins with.
    begins: Begins,
}

#[derive(Clone)]
struct Begins([bool; 256]);

impl std::fmt::Debug for Begins {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Begins")
    }
}

/// A placeholder that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    /// Where it begins.
    pub(super) at: usize,
    /// Whose it is, counted among all secrets.
    pub(super) secret: usize,
}

impl Finder {
    /// Looks for those of `secrets` that `may` tells.
    pub(super) fn new(secrets: &Arc<[Secret]>, may: impl Fn(&Secret) -> bool) -> Self {
        let named =
            |index: &usize| !secrets[*index].placeholder.is_empty() && may(&secrets[*index]);
        let mut wanted: Vec<usize> = (0..secrets.len()).filter(named).collect();
        wanted.sort_by_key(|index| std::cmp::Reverse(secrets[*index].placeholder.len()));
        let mut begins = [false; 256];
        for index in &wanted {
            begins[usize::from(secrets[*index].placeholder.as_bytes()[0])] = true;
        }
        Self { secrets: Arc::clone(secrets), wanted, begins: Begins(begins) }
    }

    /// Whether there is nothing to look for.
    pub(super) fn is_empty(&self) -> bool {
        self.wanted.is_empty()
    }

    /// All that are looked for.
    pub(super) fn all(&self) -> Vec<usize> {
        self.wanted.clone()
    }

    fn placeholder(&self, index: usize) -> &[u8] {
        self.secrets[index].placeholder.as_bytes()
    }

    /// What is found in a text, and up to where that is certain: behind it may stand the beginning
    /// of a placeholder, unless the text is `whole`.
    pub(super) fn find(&self, text: &[u8], whole: bool) -> (Vec<Found>, usize) {
        let (mut found, mut at) = (Vec::new(), 0);
        while let Some(next) = text[at..].iter().position(|byte| self.begins.0[usize::from(*byte)])
        {
            at += next;
            let rest = &text[at..];
            let mut open = self.wanted.iter().map(|index| self.placeholder(*index));
            if !whole && open.any(|one| one.len() > rest.len() && one.starts_with(rest)) {
                return (found, at);
            }
            match self.wanted.iter().find(|index| rest.starts_with(self.placeholder(**index))) {
                Some(&secret) => {
                    found.push(Found { at, secret });
                    at += self.placeholder(secret).len();
                }
                None => at += 1,
            }
        }
        (found, text.len())
    }

    /// A whole text with values in it, in memory that is wiped. None when that is longer than
    /// `longest`.
    pub(super) fn filled(
        &self,
        text: &[u8],
        found: &[Found],
        longest: usize,
    ) -> Option<Zeroizing<Vec<u8>>> {
        let value = |found: &Found| self.secrets[found.secret].value.expose_secret().as_bytes();
        let placeholder = |found: &Found| self.placeholder(found.secret).len();
        let new: usize = found.iter().map(|found| value(found).len()).sum();
        let length = text.len() - found.iter().map(placeholder).sum::<usize>() + new;
        if length > longest {
            return None;
        }
        // It never grows, so that no copy of it is left behind.
        let mut filled = Zeroizing::new(Vec::with_capacity(length));
        let mut from = 0;
        for found in found {
            filled.extend_from_slice(&text[from..found.at]);
            filled.extend_from_slice(value(found));
            from = found.at + placeholder(found);
        }
        filled.extend_from_slice(&text[from..]);
        Some(filled)
    }
}

/// A text that comes in pieces.
pub(super) struct Stream {
    finder: Finder,
    /// What may be the beginning of a placeholder.
    held: Bytes,
    seen: Vec<usize>,
}

impl Stream {
    pub(super) fn new(finder: Finder) -> Self {
        Self { finder, held: Bytes::new(), seen: Vec::new() }
    }

    /// Takes the next piece and gives what is certain by now. Values are not copied, however often
    /// they stand in it.
    pub(super) fn push(&mut self, piece: Bytes) -> impl Iterator<Item = Bytes> + use<> {
        self.work(piece, false)
    }

    /// What is left at the end.
    pub(super) fn end(&mut self) -> impl Iterator<Item = Bytes> + use<> {
        self.work(Bytes::new(), true)
    }

    /// The secrets that were found so far.
    pub(super) fn seen(&self) -> Vec<usize> {
        self.seen.clone()
    }

    /// Whether nothing would be left at the end.
    pub(super) fn holds_nothing(&self) -> bool {
        self.held.is_empty()
    }

    fn work(&mut self, piece: Bytes, whole: bool) -> impl Iterator<Item = Bytes> + use<> {
        let text = match std::mem::take(&mut self.held) {
            held if held.is_empty() => piece,
            held => [held, piece].concat().into(),
        };
        let (found, certain) = self.finder.find(&text, whole);
        let mut parts = Vec::with_capacity(found.len() * 2 + 1);
        let mut from = 0;
        for Found { at, secret } in found {
            parts.push(text.slice(from..at));
            let secrets = Arc::clone(&self.finder.secrets);
            parts.push(Bytes::from_owner(Value { secrets, secret }));
            from = at + self.finder.placeholder(secret).len();
            if !self.seen.contains(&secret) {
                self.seen.push(secret);
            }
        }
        parts.push(text.slice(from..certain));
        // A copy, for a few bytes must not keep a large piece.
        self.held = Bytes::copy_from_slice(&text[certain..]);
        parts.into_iter().filter(|part| !part.is_empty())
    }
}

/// A secret's value where it lies, which is wiped when nobody needs it any more.
struct Value {
    secrets: Arc<[Secret]>,
    secret: usize,
}

impl AsRef<[u8]> for Value {
    fn as_ref(&self) -> &[u8] {
        self.secrets[self.secret].value.expose_secret().as_bytes()
    }
}
