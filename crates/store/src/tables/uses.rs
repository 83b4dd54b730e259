//! The ledger of credentials as rows. They are only ever inserted, and outlive what they tell of.

use rusqlite::{Connection, Row, params};

use crate::Error;

const ROW: &str = "id, workspace, vault, credential, session, body, at";

/// One use of a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UseRow {
    /// `vcuse_…`.
    pub id: String,
    /// Whose it is.
    pub workspace: String,
    /// The credential's vault.
    pub vault: String,
    /// The credential.
    pub credential: String,
    /// The session that has used it.
    pub session: Option<String>,
    /// The use as the wire shows it.
    pub body: String,
    /// When, in microseconds.
    pub at: i64,
}

/// Which uses, the newest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UseFilter {
    /// Whose.
    pub workspace: String,
    /// Those of this vault.
    pub vault: Option<String>,
    /// Those of this credential.
    pub credential: Option<String>,
    /// Those by this session.
    pub session: Option<String>,
    /// Not before this time, in microseconds.
    pub first: Option<i64>,
    /// Not after this time, in microseconds.
    pub last: Option<i64>,
    /// Behind the one of this time and id.
    pub after: Option<(i64, String)>,
    /// At most so many.
    pub limit: usize,
}

/// Stores uses.
///
/// # Errors
/// [`Error::Database`].
pub fn insert(connection: &Connection, rows: &[UseRow]) -> Result<(), Error> {
    let mut insert = connection.prepare_cached(&format!(
        "INSERT INTO credential_uses ({ROW}) VALUES ($1, $2, $3, $4, $5, $6, $7)"
    ))?;
    for row in rows {
        insert.execute(params![
            row.id,
            row.workspace,
            row.vault,
            row.credential,
            row.session,
            row.body,
            row.at,
        ])?;
    }
    Ok(())
}

/// Uses that a filter lets through, the newest first.
///
/// # Errors
/// [`Error::Database`].
pub fn list(connection: &Connection, filter: &UseFilter) -> Result<Vec<UseRow>, Error> {
    // A text for each choice of filters, because a plan must not depend on what is bound.
    let given = |value: &Option<String>, name: &str, number: u8| match value {
        Some(_) => format!("{name} = ${number} AND "),
        None => format!("${number} IS NULL AND "),
    };
    let vault = given(&filter.vault, "vault", 2);
    let credential = given(&filter.credential, "credential", 3);
    let session = given(&filter.session, "session", 4);
    let (before, before_id) =
        filter.after.as_ref().map_or((i64::MAX, ""), |(at, id)| (*at, id.as_str()));
    let rows = connection
        .prepare_cached(&format!(
            "SELECT {ROW} FROM credential_uses WHERE workspace = $1 AND {vault}{credential}{session}\
             at >= $5 AND at <= $6 AND (at, id) < ($7, $8) ORDER BY at DESC, id DESC LIMIT $9"
        ))?
        .query_map(
            params![
                filter.workspace,
                filter.vault,
                filter.credential,
                filter.session,
                filter.first.unwrap_or(i64::MIN),
                filter.last.unwrap_or(i64::MAX),
                before,
                before_id,
                super::rows(filter.limit),
            ],
            read,
        )?
        .collect::<Result<_, _>>()?;
    Ok(rows)
}

fn read(row: &Row<'_>) -> rusqlite::Result<UseRow> {
    Ok(UseRow {
        id: row.get(0)?,
        workspace: row.get(1)?,
        vault: row.get(2)?,
        credential: row.get(3)?,
        session: row.get(4)?,
        body: row.get(5)?,
        at: row.get(6)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_are_found_by_each_filter_and_page_by_page() {
        let store = Connection::open_in_memory().unwrap();
        store.execute_batch(include_str!("../../../../migrations/0005_vaults.sql")).unwrap();
        let row = |number: i64, vault: &str, credential: &str, session: Option<&str>| UseRow {
            id: format!("vcuse_{number}"),
            workspace: "w".into(),
            vault: vault.into(),
            credential: credential.into(),
            session: session.map(str::to_owned),
            body: "{}".into(),
            at: number / 2,
        };
        let rows = [
            row(2, "v1", "c1", Some("s1")),
            row(3, "v1", "c2", Some("s2")),
            row(4, "v2", "c3", None),
            row(5, "v2", "c3", Some("s1")),
            UseRow { workspace: "other".into(), ..row(6, "v1", "c1", Some("s1")) },
        ];
        insert(&store, &rows).unwrap();
        let found = |filter: UseFilter| -> Vec<i64> {
            let filter = UseFilter { workspace: "w".into(), ..filter };
            let filter = if filter.limit == 0 { UseFilter { limit: 9, ..filter } } else { filter };
            let rows = list(&store, &filter).unwrap();
            rows.iter().map(|row| row.id[6..].parse().unwrap()).collect()
        };
        let none = UseFilter::default;
        assert_eq!(found(none()), [5, 4, 3, 2]);
        assert_eq!(found(UseFilter { vault: Some("v1".into()), ..none() }), [3, 2]);
        assert_eq!(found(UseFilter { credential: Some("c3".into()), ..none() }), [5, 4]);
        assert_eq!(found(UseFilter { session: Some("s1".into()), ..none() }), [5, 2]);
        let both = UseFilter { vault: Some("v2".into()), session: Some("s1".into()), ..none() };
        assert_eq!(found(both), [5]);
        assert_eq!(found(UseFilter { first: Some(2), ..none() }), [5, 4]);
        assert_eq!(found(UseFilter { last: Some(1), ..none() }), [3, 2]);
        assert_eq!(found(UseFilter { limit: 2, ..none() }), [5, 4]);
        let after = Some((2, "vcuse_4".to_owned()));
        assert_eq!(found(UseFilter { after, ..none() }), [3, 2]);
    }
}
