//! API keys as rows. A secret itself is never stored, only its SHA-256 in hexadecimal. What a
//! scope means is not known here.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::Error;

const ROW: &str = "id, workspace, name, secret_hash, hint, admin, scopes, created_at, expires_at, \
    revoked_at";

/// One API key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRow {
    /// `key_…`.
    pub id: String,
    /// Whose things it opens.
    pub workspace: String,
    /// For people.
    pub name: String,
    /// SHA-256 of the secret, 64 hexadecimal digits.
    pub secret_hash: String,
    /// The beginning and the end of the secret; none for keys of the first versions.
    pub hint: Option<String>,
    /// Whether it opens what only operators may see.
    pub admin: bool,
    /// What it opens, a JSON list of texts.
    pub scopes: String,
    /// When it was made, in microseconds.
    pub created_at: i64,
    /// From when on it opens nothing, in microseconds.
    pub expires_at: Option<i64>,
    /// When it was revoked, in microseconds.
    pub revoked_at: Option<i64>,
}

/// Stores a new key.
///
/// # Errors
/// [`Error::Database`].
pub fn insert(connection: &Connection, row: &KeyRow) -> Result<(), Error> {
    let sql =
        format!("INSERT INTO api_keys ({ROW}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)");
    connection.prepare_cached(&sql)?.execute(params![
        row.id,
        row.workspace,
        row.name,
        row.secret_hash,
        row.hint,
        i64::from(row.admin),
        row.scopes,
        row.created_at,
        row.expires_at,
        row.revoked_at,
    ])?;
    Ok(())
}

/// Marks a key as revoked. Does nothing to one that is revoked already.
///
/// # Errors
/// [`Error::Database`].
pub fn revoke(connection: &Connection, id: &str, at: i64) -> Result<(), Error> {
    connection
        .prepare_cached("UPDATE api_keys SET revoked_at = $1 WHERE id = $2 AND revoked_at IS NULL")?
        .execute(params![at, id])?;
    Ok(())
}

/// One key, of that workspace or, where none is named, of any.
///
/// # Errors
/// [`Error::Database`].
pub fn find(
    connection: &Connection,
    workspace: Option<&str>,
    id: &str,
) -> Result<Option<KeyRow>, Error> {
    let sql = format!("SELECT {ROW} FROM api_keys WHERE id = $1");
    let row = connection.prepare_cached(&sql)?.query_row([id], read).optional()?;
    Ok(row.filter(|row| workspace.is_none_or(|workspace| row.workspace == workspace)))
}

/// Keys of that workspace or, where none is named, of all, the newest first, after the one given
/// by its time and id. Also those that are revoked.
///
/// # Errors
/// [`Error::Database`].
pub fn list(
    connection: &Connection,
    workspace: Option<&str>,
    after: Option<(i64, &str)>,
    limit: usize,
) -> Result<Vec<KeyRow>, Error> {
    // Two texts, because a plan must not depend on what is bound.
    let whose = if workspace.is_some() { "workspace = $1" } else { "$1 = ''" };
    let (before, before_id) = after.unwrap_or((i64::MAX, ""));
    let sql = format!(
        "SELECT {ROW} FROM api_keys WHERE {whose} AND (created_at, id) < ($2, $3) \
         ORDER BY created_at DESC, id DESC LIMIT $4"
    );
    let rows = connection
        .prepare_cached(&sql)?
        .query_map(
            params![workspace.unwrap_or_default(), before, before_id, super::rows(limit)],
            read,
        )?
        .collect::<Result<_, _>>()?;
    Ok(rows)
}

/// All keys that are not revoked.
///
/// # Errors
/// [`Error::Database`].
pub fn live(connection: &Connection) -> Result<Vec<KeyRow>, Error> {
    let sql =
        format!("SELECT {ROW} FROM api_keys WHERE revoked_at IS NULL ORDER BY created_at, id");
    let rows = connection.prepare_cached(&sql)?.query_map([], read)?.collect::<Result<_, _>>()?;
    Ok(rows)
}

/// Whether a key was ever stored, revoked ones included.
///
/// # Errors
/// [`Error::Database`].
pub fn any(connection: &Connection) -> Result<bool, Error> {
    Ok(connection.prepare_cached("SELECT 1 FROM api_keys LIMIT 1")?.exists([])?)
}

fn read(row: &Row<'_>) -> rusqlite::Result<KeyRow> {
    Ok(KeyRow {
        id: row.get(0)?,
        workspace: row.get(1)?,
        name: row.get(2)?,
        secret_hash: row.get(3)?,
        hint: row.get(4)?,
        admin: row.get::<_, i64>(5)? != 0,
        scopes: row.get(6)?,
        created_at: row.get(7)?,
        expires_at: row.get(8)?,
        revoked_at: row.get(9)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_before_open_everything_and_a_key_without_scopes_nothing() {
        let connection = Connection::open_in_memory().unwrap();
        let old = "INSERT INTO api_keys (id, workspace, name, secret_hash, admin, created_at) \
                   VALUES ('key_1', 'wrkspc_default', 'first', 'a', 1, 7)";
        connection.execute_batch(include_str!("../../../../migrations/0001_spine.sql")).unwrap();
        connection.execute_batch(old).unwrap();
        connection.execute_batch(include_str!("../../../../migrations/0003_keys.sql")).unwrap();
        let bare = old.replace("key_1", "key_2").replace("'a'", "'b'");
        connection.execute_batch(&bare).unwrap();
        let [first, second] = &live(&connection).unwrap()[..] else { panic!("not two keys") };
        assert_eq!((first.scopes.as_str(), second.scopes.as_str()), ("[\"*:*\"]", "[]"));
        assert_eq!((&first.hint, first.expires_at, first.admin), (&None, None, true));
    }

    #[test]
    fn keys_are_listed_by_workspace_and_page() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(include_str!("../../../../migrations/0001_spine.sql")).unwrap();
        connection.execute_batch(include_str!("../../../../migrations/0003_keys.sql")).unwrap();
        for (id, workspace) in [("key_1", "a"), ("key_2", "b"), ("key_3", "a"), ("key_4", "a")] {
            let row = KeyRow {
                id: id.into(),
                workspace: workspace.into(),
                name: "n".into(),
                secret_hash: id.into(),
                hint: None,
                admin: false,
                scopes: "[]".into(),
                created_at: 1,
                expires_at: None,
                revoked_at: None,
            };
            insert(&connection, &row).unwrap();
        }
        let ids = |workspace, after, limit| -> Vec<String> {
            let rows = list(&connection, workspace, after, limit).unwrap();
            rows.into_iter().map(|row| row.id).collect()
        };
        assert_eq!(ids(None, None, 9), ["key_4", "key_3", "key_2", "key_1"]);
        assert_eq!(ids(Some("a"), None, 2), ["key_4", "key_3"]);
        assert_eq!(ids(Some("a"), Some((1, "key_3")), 2), ["key_1"]);
        assert_eq!(ids(Some("c"), None, 9), Vec::<String>::new());
        revoke(&connection, "key_4", 5).unwrap();
        revoke(&connection, "key_4", 6).unwrap();
        let revoked = |workspace| find(&connection, workspace, "key_4").unwrap();
        assert_eq!(revoked(Some("a")).unwrap().revoked_at, Some(5));
        assert_eq!((revoked(None).is_some(), revoked(Some("b"))), (true, None));
        assert_eq!(live(&connection).unwrap().len(), 3);
    }
}
