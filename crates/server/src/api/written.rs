//! Bodies that tell when they have been handed out whole, so that a retry of their POST is
//! known to be one.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use posthouse_store::answers::Unwritten;

/// One JSON text that is watched on its way out. Dropped before its end, it stays unwritten.
#[derive(Debug)]
pub struct Watched {
    json: Option<Bytes>,
    unwritten: Unwritten,
    id: String,
}

impl Watched {
    /// The kept answer `id`, whose text is `json`.
    #[must_use]
    pub fn new(json: Bytes, unwritten: Unwritten, id: String) -> Self {
        Self { json: Some(json), unwritten, id }
    }
}

impl Body for Watched {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        // The one frame is the end: who knows the length does not ask again.
        Poll::Ready(self.json.take().map(|json| {
            self.unwritten.written(&self.id);
            Ok(Frame::data(json))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.json.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.json.as_ref().map_or(0, |json| json.len() as u64))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::task::noop_waker;
    use posthouse_protocol::Micros;
    use posthouse_store::answers::{Post, keep};

    use super::*;

    fn kept() -> (Unwritten, String) {
        let connection = posthouse_store::tables::Connection::open_in_memory().unwrap();
        let spine = include_str!("../../../../migrations/0001_spine.sql");
        connection.execute_batch(spine).unwrap();
        let unwritten = Unwritten::default();
        let post = Post {
            fingerprint: "f".into(),
            idempotency_key: None,
            retry: 0,
            boot: "b".into(),
            at: Micros(0),
            unwritten: unwritten.clone(),
        };
        let id = keep(&connection, &post, "{}").unwrap();
        (unwritten, id)
    }

    #[test]
    fn a_body_counts_as_written_at_its_end_and_not_before() {
        let (unwritten, id) = kept();
        drop(Watched::new("{}".into(), unwritten.clone(), id.clone()));
        assert!(unwritten.holds(&id));

        let mut body = Watched::new("{}".into(), unwritten.clone(), id.clone());
        assert_eq!(body.size_hint().exact(), Some(2));
        let waker = noop_waker();
        let mut context = Context::from_waker(&waker);
        assert!(matches!(Pin::new(&mut body).poll_frame(&mut context), Poll::Ready(Some(Ok(_)))));
        assert!(body.is_end_stream());
        assert!(!unwritten.holds(&id));
    }
}
