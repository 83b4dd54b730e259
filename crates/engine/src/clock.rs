//! Time and chance, handed in from outside so that a simulation can replace them.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use posthouse_protocol::Micros;

/// Where the time comes from.
#[derive(Clone)]
pub enum Clock {
    /// The system's clock.
    System,
    /// tokio's clock, counted from a fixed time: stands still where a test stops it.
    Simulated {
        /// The time at `origin`.
        start: Micros,
        /// The moment from which is counted.
        origin: tokio::time::Instant,
    },
}

impl Clock {
    /// The time.
    #[must_use]
    pub fn now(&self) -> Micros {
        match self {
            Self::System => {
                let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
                Micros(since.map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(0)))
            }
            Self::Simulated { start, origin } => {
                let passed = origin.elapsed().as_micros();
                start.plus(i64::try_from(passed).unwrap_or(i64::MAX))
            }
        }
    }
}

/// Where chance comes from.
#[derive(Clone)]
pub struct Chance(Arc<dyn Fn() -> [u8; 16] + Send + Sync>);

impl Chance {
    /// The system's randomness.
    #[must_use]
    pub fn system() -> Self {
        // Asking the kernel costs as much for many bytes as for few.
        let store = Mutex::new((Vec::new(), [0; 1024]));
        Self::new(move || {
            let mut guard = store.lock().unwrap_or_else(PoisonError::into_inner);
            let (offsets, pool): &mut (Vec<usize>, [u8; 1024]) = &mut guard;
            if offsets.is_empty() {
                // A system without randomness can't even start; ids stay unique by their time.
                let _ = getrandom::fill(pool);
                offsets.extend((0..pool.len()).step_by(16));
            }
            let start = offsets.pop().unwrap_or_default();
            let mut bytes = [0; 16];
            bytes.copy_from_slice(&pool[start..start + 16]);
            bytes
        })
    }

    /// Chance from a function.
    pub fn new(bytes: impl Fn() -> [u8; 16] + Send + Sync + 'static) -> Self {
        Self(Arc::new(bytes))
    }

    /// Sixteen random bytes.
    #[must_use]
    pub fn bytes(&self) -> [u8; 16] {
        (self.0)()
    }

    /// A number from 0 up to, but not including, 1.
    #[must_use]
    pub fn fraction(&self) -> f64 {
        let bytes = self.bytes();
        f64::from(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
            / (f64::from(u32::MAX) + 1.0)
    }
}
