//! Which root keys the vaults of a database need.

use std::{collections::BTreeMap, path::Path};

use rusqlite::{Connection, OpenFlags};

use crate::Error;

/// The names of the root keys that seal vaults, and how many vaults each one seals.
///
/// # Errors
/// [`Error::Database`].
pub fn in_use(connection: &Connection) -> Result<BTreeMap<String, i64>, Error> {
    let counted = connection
        .prepare_cached(
            "SELECT root_key, COUNT(*) FROM vaults WHERE root_key IS NOT NULL GROUP BY root_key",
        )?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    Ok(counted)
}

/// The same of a data folder that nobody has opened here, and in which nothing is changed; `None`
/// where there is no database of this version.
///
/// # Errors
/// [`Error::Database`].
pub fn look(folder: &Path) -> Result<Option<BTreeMap<String, i64>>, Error> {
    let file = folder.join("posthouse.db");
    if !file.exists() {
        return Ok(None);
    }
    // Of a stopped server everything is in the one file. As long as that is so, SQLite is told to
    // make no others beside it.
    let log = folder.join("posthouse.db-wal");
    let all_in_one = std::fs::metadata(log).map_or(true, |log| log.len() == 0);
    let text = file.to_str().filter(|text| !text.contains(['%', '?', '#']));
    let (path, uri) = match text {
        Some(text) if all_in_one => (format!("file:{text}?immutable=1").into(), true),
        _ => (file, false),
    };
    let mut flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    flags.set(OpenFlags::SQLITE_OPEN_URI, uri);
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(std::time::Duration::from_secs(2))?;
    match connection.table_exists(None, "vaults")? {
        true => in_use(&connection).map(Some),
        false => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::params;

    use super::*;
    use crate::{Database, Durability, Faults, Options};

    fn files(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn a_folder_is_looked_at_and_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("da ta");
        assert_eq!(look(&data).unwrap(), None);
        let options = Options {
            folder: data.clone(),
            durability: Durability::Disk,
            faults: Faults::default(),
        };
        let database = Database::open(options).unwrap();
        let insert = |connection: &Connection| {
            for (id, root_key) in
                [("a", Some("k_1")), ("b", Some("k_2")), ("c", Some("k_1")), ("d", None)]
            {
                let text = "INSERT INTO vaults (id, workspace, body, root_key, created_at) \
                            VALUES ($1, 'w', '{}', $2, 1)";
                connection.execute(text, params![id, root_key])?;
            }
            Ok::<_, Error>(())
        };
        database.write(insert).await.unwrap();
        let expected = BTreeMap::from([("k_1".to_owned(), 2), ("k_2".to_owned(), 1)]);
        // Beside a server, whose writes are in its log as yet.
        assert_eq!(look(&data).unwrap(), Some(expected.clone()));
        assert_eq!(database.read(in_use).unwrap(), expected);
        database.close();
        drop(database);
        let before = files(&data);
        assert_eq!(look(&data).unwrap(), Some(expected));
        assert_eq!(files(&data), before);
        // What an older version has left knows of no vaults.
        let old = folder.path().join("old");
        std::fs::create_dir(&old).unwrap();
        Connection::open(old.join("posthouse.db"))
            .unwrap()
            .execute_batch("CREATE TABLE a (b)")
            .unwrap();
        assert_eq!(look(&old).unwrap(), None);
    }
}
