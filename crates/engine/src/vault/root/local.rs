//! Root keys that this process holds itself: AES-256-GCM under a key of 32 bytes.
//!
//! Where a key comes from is known to `file` and `variable`. A key is never shown; its name tells
//! nothing of it.

use std::sync::Arc;

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    rand,
};
use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{RootKey, RootKeyError, Work};

/// How many bytes a key has.
pub const KEY_BYTES: usize = 32;

/// What the names of keys are made with, so that no other use of SHA-256 gives the same.
const NAME_LABEL: &[u8] = b"posthouse root key name\0";
/// What stands in front of what is bound to a sealed data key.
const SEAL_LABEL: &[u8] = b"posthouse root key seal\0";
/// The form of what [`LocalKey`] seals: this byte, the nonce, the sealed key with its tag.
const FORM: u8 = 1;

/// Standard base64, with padding or without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A key in memory.
pub struct LocalKey {
    name: String,
    key: RandomizedNonceKey,
}

/// What is wrong with keys that were written down. The texts hold nothing of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WrongKeys {
    /// There is none.
    #[error("holds no key; right would be base64 of 32 random bytes")]
    None,
    /// One of them is none.
    #[error("key {0} is no key; right would be base64 of 32 random bytes")]
    Key(usize),
    /// One stands there twice.
    #[error("key {0} stands there twice; right would be once")]
    Twice(usize),
}

/// A new key as it is written down.
///
/// # Errors
/// When the system gives no random numbers.
pub(super) fn make() -> Option<Zeroizing<String>> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    rand::fill(&mut *key).ok()?;
    Some(Zeroizing::new(BASE64.encode(*key)))
}

/// Reads keys as they are written down, the one that seals first.
///
/// # Errors
/// [`WrongKeys`].
pub(super) fn read<'a>(
    texts: impl Iterator<Item = &'a str>,
) -> Result<Vec<Arc<LocalKey>>, WrongKeys> {
    let mut keys: Vec<Arc<LocalKey>> = Vec::new();
    for text in texts.map(str::trim).filter(|text| !text.is_empty()) {
        let number = keys.len() + 1;
        let key = LocalKey::parse(text).ok_or(WrongKeys::Key(number))?;
        if keys.iter().any(|other| other.name == key.name) {
            return Err(WrongKeys::Twice(number));
        }
        keys.push(Arc::new(key));
    }
    if keys.is_empty() { Err(WrongKeys::None) } else { Ok(keys) }
}

impl LocalKey {
    fn parse(text: &str) -> Option<Self> {
        let bytes = Zeroizing::new(BASE64.decode(text).ok()?);
        let key =
            RandomizedNonceKey::new(&AES_256_GCM, (bytes.len() == KEY_BYTES).then_some(&bytes)?);
        let digest = Sha256::new().chain_update(NAME_LABEL).chain_update(&*bytes).finalize();
        let hex: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        Some(Self { name: format!("k_{hex}"), key: key.ok()? })
    }

    fn seal(&self, data_key: &[u8; 32], context: &str) -> Result<Vec<u8>, RootKeyError> {
        let mut sealed = data_key.to_vec();
        let nonce = self
            .key
            .seal_in_place_append_tag(bound(context), &mut sealed)
            .map_err(|_| RootKeyError::Service("this host gives no random numbers".to_owned()))?;
        let mut whole = vec![FORM];
        whole.extend_from_slice(nonce.as_ref());
        whole.append(&mut sealed);
        Ok(whole)
    }

    fn open(&self, sealed: &[u8], context: &str) -> Option<Zeroizing<[u8; 32]>> {
        let (nonce, sealed) = sealed.strip_prefix(&[FORM])?.split_first_chunk::<NONCE_LEN>()?;
        let mut opened = Zeroizing::new(sealed.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let data_key = self.key.open_in_place(nonce, bound(context), &mut opened).ok()?;
        let mut whole = Zeroizing::new([0; 32]);
        whole.copy_from_slice((data_key.len() == 32).then_some(data_key)?);
        Some(whole)
    }
}

fn bound(context: &str) -> Aad<Vec<u8>> {
    Aad::from([SEAL_LABEL, context.as_bytes()].concat())
}

impl std::fmt::Debug for LocalKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("LocalKey").field("name", &self.name).finish_non_exhaustive()
    }
}

impl RootKey for LocalKey {
    fn name(&self) -> &str {
        &self.name
    }

    fn wrap<'a>(
        &'a self,
        data_key: &'a [u8; 32],
        context: &'a str,
    ) -> Work<'a, Result<Vec<u8>, RootKeyError>> {
        Box::pin(async move { self.seal(data_key, context) })
    }

    fn unwrap<'a>(
        &'a self,
        wrapped: &'a [u8],
        context: &'a str,
    ) -> Work<'a, Result<Zeroizing<[u8; 32]>, RootKeyError>> {
        Box::pin(async move {
            self.open(wrapped, context).ok_or_else(|| RootKeyError::Refused(self.name.clone()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
    const TWO: &str = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI";

    fn key(text: &str) -> LocalKey {
        LocalKey::parse(text).unwrap()
    }

    #[tokio::test]
    async fn what_is_sealed_opens_with_this_key_at_this_place_alone() {
        let (one, two) = (key(ONE), key(TWO));
        let data_key = [7; 32];
        let sealed = one.wrap(&data_key, "wrkspc_1/vlt_1").await.unwrap();
        assert_eq!(*one.unwrap(&sealed, "wrkspc_1/vlt_1").await.unwrap(), data_key);
        assert_ne!(
            one.wrap(&data_key, "wrkspc_1/vlt_1").await.unwrap(),
            sealed,
            "a nonce of its own"
        );
        assert!(!sealed.windows(8).any(|part| part == [7; 8]));
        let refused = |outcome: Result<Zeroizing<[u8; 32]>, RootKeyError>, by: &LocalKey| {
            let error = outcome.unwrap_err();
            assert_eq!(error.to_string(), format!("the root key {} does not open this", by.name));
        };
        refused(two.unwrap(&sealed, "wrkspc_1/vlt_1").await, &two);
        refused(one.unwrap(&sealed, "wrkspc_1/vlt_2").await, &one);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            refused(one.unwrap(&changed, "wrkspc_1/vlt_1").await, &one);
            refused(one.unwrap(&sealed[..at], "wrkspc_1/vlt_1").await, &one);
        }
    }

    #[test]
    fn keys_are_read_as_they_are_written_and_named_by_what_they_are() {
        let keys = read([ONE, "", " ", TWO].into_iter()).unwrap();
        let names: Vec<&str> = keys.iter().map(|key| key.name()).collect();
        // Names stand in rows: they never change.
        assert_eq!(names, ["k_c79fa0e2b72e", "k_115e4f8e6411"]);
        assert_eq!(format!("{:?}", keys[0]), "LocalKey { name: \"k_c79fa0e2b72e\", .. }");
        let made = make().unwrap();
        assert_eq!(made.len(), 44);
        assert_ne!(key(&made).name, key(&make().unwrap()).name);
    }

    #[test]
    fn what_is_no_key_is_refused_without_being_shown() {
        for (texts, wrong) in [
            (&[][..], WrongKeys::None),
            (&["", "  "], WrongKeys::None),
            (&["secret"], WrongKeys::Key(1)),
            (&[ONE, "AQEB"], WrongKeys::Key(2)),
            (&[ONE, &format!("{ONE}{ONE}")], WrongKeys::Key(2)),
            (&[ONE, TWO, ONE.trim_end_matches('=')], WrongKeys::Twice(3)),
        ] {
            let error = read(texts.iter().copied()).unwrap_err();
            assert_eq!(error, wrong, "{texts:?}");
            assert!(!error.to_string().contains("secret"));
        }
    }
}
