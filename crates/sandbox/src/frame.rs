//! What the server and a helper say to each other: frames of JSON behind their length.
//!
//! The helper's side blocks, the server's is asynchronous. A frame from a helper is data from a
//! hostile place: its length is bounded, and what can't be read ends the cage.

use std::{
    io::{self, Read, Write},
    path::PathBuf,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::{
    cgroups::ResourceLevel,
    inside::lockdown::Report,
    settings::{Isolation, Limits},
    tools::{Outcome, program::Program},
};

/// The longest frame: a PDF of 20 MiB in base64, and room.
const LONGEST: usize = 48 << 20;

/// Everything that a helper needs to know to make its cage. Never anything secret.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Setup {
    pub(crate) isolation: Isolation,
    /// The session's files, on the host.
    pub(crate) tree: PathBuf,
    /// The folders of the tree that are writable inside: name in the tree, path inside.
    pub(crate) writable: Vec<(String, PathBuf)>,
    /// The session's uploads, on the host.
    pub(crate) uploads: PathBuf,
    /// Links to make at literal paths: where, and to what.
    pub(crate) links: Vec<(PathBuf, PathBuf)>,
    /// Links that a cage before has made and nobody wants any more.
    pub(crate) unlink: Vec<PathBuf>,
    /// The made `/etc`, on the host.
    pub(crate) etc: PathBuf,
    /// The folder of public certificates that cages share, on the host.
    pub(crate) certificates: PathBuf,
    /// The file of those whom this cage trusts, on the host.
    pub(crate) authorities: PathBuf,
    /// Variables of tools beside the usual ones: name and value.
    pub(crate) environment: Vec<(String, String)>,
    /// An empty folder on the host, to mount the root on.
    pub(crate) root: PathBuf,
    pub(crate) limits: Limits,
    pub(crate) level: ResourceLevel,
    /// Tells cages apart where they would all choose the same.
    pub(crate) seed: u32,
    /// Whether supplementary groups may be dropped.
    pub(crate) drop_groups: bool,
    /// Said before the first result of a shell.
    pub(crate) note: Option<String>,
    /// How much longer the start takes, in milliseconds; for benches.
    pub(crate) delay_ms: u64,
}

/// What a server tells a helper.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ToHelper {
    /// Comes first.
    Setup(Box<Setup>),
    /// Run a tool.
    Call { call: String, name: String, input: Value },
    /// End a call before its time.
    Stop { call: String },
    /// Run a program. Its input and its output travel beside this frame.
    Program { number: u64, program: Program },
    /// End a program.
    EndProgram { number: u64 },
}

/// What a helper tells the server.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FromHelper {
    /// The cage stands. The listeners of the door travel beside this frame, the names' last.
    Ready(Box<Ready>),
    /// The cage can't be made.
    Failed { step: String, reason: String },
    /// A call has ended.
    Done { call: String, outcome: Outcome },
    /// A program was executed.
    Began { number: u64 },
    /// A program has ended, or was not started: what has happened to it.
    Ended { number: u64, why: String },
}

/// What a helper knows of its cage.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Ready {
    pub(crate) report: Option<Report>,
    /// Whether the door catches connections to all ports.
    pub(crate) all_ports: bool,
}

/// Writes one frame.
pub(crate) fn write(to: &mut impl Write, frame: &impl Serialize) -> io::Result<()> {
    to.write_all(&bytes(frame)?)
}

/// One frame as bytes.
pub(crate) fn bytes(frame: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, frame)?;
    let length = u32::try_from(bytes.len() - 4).map_err(|_| too_long())?;
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    Ok(bytes)
}

/// Reads one frame; `None` at the end.
pub(crate) fn read<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let mut body = vec![0; checked(length)?];
    from.read_exact(&mut body)?;
    Ok(Some(serde_json::from_slice(&body)?))
}

/// Reads one frame; `None` at the end.
pub(crate) async fn receive<T: DeserializeOwned>(
    from: &mut (impl AsyncRead + Unpin),
) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let mut body = vec![0; checked(length)?];
    from.read_exact(&mut body).await?;
    Ok(Some(serde_json::from_slice(&body)?))
}

fn checked(length: [u8; 4]) -> io::Result<usize> {
    let length = u32::from_be_bytes(length) as usize;
    if length > LONGEST { Err(too_long()) } else { Ok(length) }
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a frame is too long")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_as_they_went() {
        let mut wire = Vec::new();
        let sent = ToHelper::Stop { call: "sevt_1".into() };
        write(&mut wire, &sent).unwrap();
        write(&mut wire, &sent).unwrap();
        let mut from = wire.as_slice();
        for _ in 0..2 {
            let read: ToHelper = read(&mut from).unwrap().unwrap();
            assert!(matches!(read, ToHelper::Stop { call } if call == "sevt_1"));
        }
        assert!(read::<ToHelper>(&mut from).unwrap().is_none());
    }

    #[test]
    fn a_length_that_no_frame_has_is_refused() {
        let mut from: &[u8] = &[0xff; 16];
        assert!(read::<ToHelper>(&mut from).is_err());
        let mut cut: &[u8] = &[0, 0, 0, 9, b'{'];
        assert!(read::<ToHelper>(&mut cut).is_err());
    }
}
