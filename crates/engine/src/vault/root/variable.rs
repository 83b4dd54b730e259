//! Root keys from a variable of the environment: base64, by comma, the one that seals first.
//!
//! The text is handed in; nothing here reads the environment.

use std::sync::Arc;

use super::{
    RootKey,
    local::{self, WrongKeys},
};

/// Reads the keys of a variable's value.
///
/// # Errors
/// [`WrongKeys`].
pub fn read(value: &str) -> Result<Vec<Arc<dyn RootKey>>, WrongKeys> {
    let keys = local::read(value.split(','))?;
    Ok(keys.into_iter().map(|key| key as Arc<dyn RootKey>).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_parted_by_commas() {
        let (one, two) = (local::make().unwrap(), local::make().unwrap());
        let keys = read(&format!(" {},{}\n", *one, *two)).unwrap();
        assert_eq!(keys.len(), 2);
        assert_eq!(keys[0].name(), read(&one).unwrap()[0].name());
        assert_eq!(read(",").err(), Some(WrongKeys::None));
        assert_eq!(read(&format!("{};{}", *one, *two)).err(), Some(WrongKeys::Key(1)));
    }
}
