//! Root keys of a key service that speaks the transit API of HashiCorp Vault and OpenBao.
//!
//! The service seals and opens; its key never comes here. Data keys pass over the connection, which
//! the guard makes. An answer's words are not repeated: they are the service's, not ours.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use http::{HeaderValue, Request, header::CONTENT_TYPE};
use posthouse_net::{
    Guard,
    http::{Limits, send},
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{RootKey, RootKeyError, Work};

/// What a request may take.
const LIMITS: Limits = Limits { time: Duration::from_secs(10), body_bytes: 64 << 10 };
/// What the proof of a place is made with.
const LABEL: &[u8] = b"posthouse transit place\0";

/// Where the service is, and what opens it.
pub struct TransitParts {
    /// The way out.
    pub guard: Guard,
    /// Its address, without a path: `https://vault.example.com`.
    pub url: String,
    /// Where the engine is mounted: `transit`.
    pub mount: String,
    /// The token that may encrypt and decrypt with the keys.
    pub token: SecretString,
}

/// One key of the service, whatever versions it has.
pub struct TransitKey {
    parts: Arc<TransitParts>,
    key: String,
    name: String,
}

/// The keys of these names, the one that seals first.
#[must_use]
pub fn keys(parts: TransitParts, names: &[String]) -> Vec<Arc<dyn RootKey>> {
    let parts = Arc::new(parts);
    let key = |key: &String| {
        let name = format!("transit:{}/{key}", parts.mount);
        Arc::new(TransitKey { parts: Arc::clone(&parts), key: key.clone(), name }) as _
    };
    names.iter().map(key).collect()
}

#[derive(Deserialize)]
struct Answer<T> {
    data: T,
}

#[derive(Deserialize)]
struct Sealed {
    ciphertext: String,
}

#[derive(Deserialize)]
struct Opened {
    plaintext: String,
}

#[derive(Serialize)]
struct Seal<'a> {
    plaintext: &'a str,
    associated_data: &'a str,
}

#[derive(Serialize)]
struct Open<'a> {
    ciphertext: &'a str,
    associated_data: &'a str,
}

/// What binds a data key to its place where the service leaves `associated_data` out without a word,
/// as those do that are too old to know of it: it travels inside.
fn place(context: &str) -> [u8; 32] {
    Sha256::new().chain_update(LABEL).chain_update(context).finalize().into()
}

impl TransitKey {
    async fn ask<T: for<'a> Deserialize<'a>>(
        &self,
        verb: &str,
        body: &impl Serialize,
    ) -> Result<T, RootKeyError> {
        let failed = |what: String| RootKeyError::Service(what);
        let parts = &self.parts;
        let body = serde_json::to_vec(body).map(Zeroizing::new);
        let body = body.map_err(|_| failed("its request can't be written".to_owned()))?;
        let url = format!("{}/v1/{}/{verb}/{}", parts.url, parts.mount, self.key);
        let mut token = HeaderValue::from_str(parts.token.expose_secret())
            .map_err(|_| failed("its token can't be sent in a header".to_owned()))?;
        token.set_sensitive(true);
        let request = Request::post(url)
            .header(CONTENT_TYPE, "application/json")
            .header("x-vault-request", "true")
            .header("x-vault-token", token)
            .body(Bytes::from_owner(body))
            .map_err(|_| failed("its address can't be used".to_owned()))?;
        let answer =
            send(&parts.guard, request, LIMITS).await.map_err(|error| failed(error.to_string()))?;
        let status = answer.status().as_u16();
        match status {
            200 => {}
            // What is wrong with a request of ours is what it asks to open, or the key.
            400 if verb == "decrypt" => return Err(RootKeyError::Refused(self.name.clone())),
            400 => return Err(failed(format!("it has no {}, or it is no AEAD key", self.name))),
            403 => return Err(failed(format!("its token may not {verb} with {}", self.name))),
            404 => return Err(failed(format!("nothing is mounted at {}", parts.mount))),
            503 => return Err(failed("it is sealed, or not ready".to_owned())),
            _ => return Err(failed(format!("it has answered {status}"))),
        }
        let answer: Answer<T> = serde_json::from_slice(answer.body())
            .map_err(|_| failed("it has answered something else than transit does".to_owned()))?;
        Ok(answer.data)
    }

    async fn seal(&self, data_key: &[u8; 32], context: &str) -> Result<Vec<u8>, RootKeyError> {
        let plain = Zeroizing::new([data_key.as_slice(), &place(context)].concat());
        let plain = Zeroizing::new(BASE64.encode(&*plain));
        let body = Seal { plaintext: &plain, associated_data: &BASE64.encode(context) };
        let sealed: Sealed = self.ask("encrypt", &body).await?;
        Ok(sealed.ciphertext.into_bytes())
    }

    async fn open(
        &self,
        wrapped: &[u8],
        context: &str,
    ) -> Result<Zeroizing<[u8; 32]>, RootKeyError> {
        let refused = || RootKeyError::Refused(self.name.clone());
        let ciphertext = std::str::from_utf8(wrapped).map_err(|_| refused())?;
        let body = Open { ciphertext, associated_data: &BASE64.encode(context) };
        let opened: Opened = self.ask("decrypt", &body).await?;
        let plain = Zeroizing::new(opened.plaintext);
        let plain = Zeroizing::new(BASE64.decode(&*plain).map_err(|_| refused())?);
        match plain.split_first_chunk::<32>() {
            Some((data_key, proof)) if proof == place(context) => Ok(Zeroizing::new(*data_key)),
            _ => Err(refused()),
        }
    }
}

impl RootKey for TransitKey {
    fn name(&self) -> &str {
        &self.name
    }

    fn wrap<'a>(
        &'a self,
        data_key: &'a [u8; 32],
        context: &'a str,
    ) -> Work<'a, Result<Vec<u8>, RootKeyError>> {
        Box::pin(self.seal(data_key, context))
    }

    fn unwrap<'a>(
        &'a self,
        wrapped: &'a [u8],
        context: &'a str,
    ) -> Work<'a, Result<Zeroizing<[u8; 32]>, RootKeyError>> {
        Box::pin(self.open(wrapped, context))
    }
}

#[cfg(test)]
mod tests;
