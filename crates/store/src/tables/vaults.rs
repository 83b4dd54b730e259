//! Vaults as rows: what is shown, and the sealed key of what is secret in their credentials.
//! Nothing here seals or opens.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::Error;

const ROW: &str = "id, workspace, body, root_key, data_key, created_at, archived_at";

/// One vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultRow {
    /// `vlt_…`.
    pub id: String,
    /// Whose it is.
    pub workspace: String,
    /// The vault as the wire shows it.
    pub body: String,
    /// The name of the root key that seals `data_key`; none once the vault is archived.
    pub root_key: Option<String>,
    /// The key that seals its credentials, sealed, in base64; none once the vault is archived.
    pub data_key: Option<String>,
    /// When it was made, in microseconds.
    pub created_at: i64,
    /// When it was archived, in microseconds.
    pub archived_at: Option<i64>,
}

/// Stores a new vault.
///
/// # Errors
/// [`Error::Database`].
pub fn insert(connection: &Connection, row: &VaultRow) -> Result<(), Error> {
    connection
        .prepare_cached(&format!("INSERT INTO vaults ({ROW}) VALUES ($1, $2, $3, $4, $5, $6, $7)"))?
        .execute(params![
            row.id,
            row.workspace,
            row.body,
            row.root_key,
            row.data_key,
            row.created_at,
            row.archived_at,
        ])?;
    Ok(())
}

/// Replaces the body.
///
/// # Errors
/// [`Error::Database`].
pub fn replace(connection: &Connection, id: &str, body: &str) -> Result<(), Error> {
    connection
        .prepare_cached("UPDATE vaults SET body = $1 WHERE id = $2")?
        .execute(params![body, id])?;
    Ok(())
}

/// Archives a vault and wipes its key. Its credentials are archived by themselves.
///
/// # Errors
/// [`Error::Database`].
pub fn archive(connection: &Connection, id: &str, body: &str, at: i64) -> Result<(), Error> {
    super::erasing(connection, |connection| {
        connection
            .prepare_cached(
                "UPDATE vaults SET body = $1, archived_at = $2, root_key = NULL, data_key = NULL \
                 WHERE id = $3",
            )?
            .execute(params![body, at, id])?;
        Ok(())
    })
}

/// Deletes a vault with its credentials; says whether it was there. The ledger stays.
///
/// # Errors
/// [`Error::Database`].
pub fn delete(connection: &Connection, workspace: &str, id: &str) -> Result<bool, Error> {
    super::erasing(connection, |connection| {
        let rows = connection
            .prepare_cached("DELETE FROM vaults WHERE id = $1 AND workspace = $2")?
            .execute(params![id, workspace])?;
        if rows > 0 {
            connection.prepare_cached("DELETE FROM credentials WHERE vault = $1")?.execute([id])?;
        }
        Ok(rows > 0)
    })
}

/// One vault.
///
/// # Errors
/// [`Error::Database`].
pub fn find(connection: &Connection, workspace: &str, id: &str) -> Result<Option<VaultRow>, Error> {
    Ok(connection
        .prepare_cached(&format!("SELECT {ROW} FROM vaults WHERE id = $1 AND workspace = $2"))?
        .query_row(params![id, workspace], read)
        .optional()?)
}

/// Vaults, the newest first, after the one given by its time and id.
///
/// # Errors
/// [`Error::Database`].
pub fn list(
    connection: &Connection,
    workspace: &str,
    include_archived: bool,
    after: Option<(i64, &str)>,
    limit: usize,
) -> Result<Vec<VaultRow>, Error> {
    let (before, before_id) = after.unwrap_or((i64::MAX, ""));
    // Two texts, so that each has an index that leaves nothing out.
    let live = if include_archived { "" } else { "AND archived_at IS NULL " };
    let rows = connection
        .prepare_cached(&format!(
            "SELECT {ROW} FROM vaults WHERE workspace = $1 AND (created_at, id) < ($2, $3) {live}\
             ORDER BY created_at DESC, id DESC LIMIT $4"
        ))?
        .query_map(params![workspace, before, before_id, super::rows(limit)], read)?
        .collect::<Result<_, _>>()?;
    Ok(rows)
}

/// Vaults whose keys are sealed by another root key than this one, by their ids, after one of them.
///
/// # Errors
/// [`Error::Database`].
pub fn sealed_by_others(
    connection: &Connection,
    root_key: &str,
    after: &str,
    limit: usize,
) -> Result<Vec<VaultRow>, Error> {
    let rows = connection
        .prepare_cached(&format!(
            "SELECT {ROW} FROM vaults \
             WHERE root_key IS NOT NULL AND root_key <> $1 AND id > $2 ORDER BY id LIMIT $3"
        ))?
        .query_map(params![root_key, after, super::rows(limit)], read)?
        .collect::<Result<_, _>>()?;
    Ok(rows)
}

/// How many vaults have keys that are sealed by another root key than this one.
///
/// # Errors
/// [`Error::Database`].
pub fn count_sealed_by_others(connection: &Connection, root_key: &str) -> Result<usize, Error> {
    let count: i64 = connection
        .prepare_cached(
            "SELECT COUNT(*) FROM vaults WHERE root_key IS NOT NULL AND root_key <> $1",
        )?
        .query_row([root_key], |row| row.get(0))?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// Exchanges the sealed key of a vault, if it is still the one that was read; says whether it was.
///
/// # Errors
/// [`Error::Database`].
pub fn exchange_key(
    connection: &Connection,
    id: &str,
    former: (&str, &str),
    new: (&str, &str),
) -> Result<bool, Error> {
    super::erasing(connection, |connection| {
        let rows = connection
            .prepare_cached(
                "UPDATE vaults SET root_key = $1, data_key = $2 \
                 WHERE id = $3 AND root_key = $4 AND data_key = $5",
            )?
            .execute(params![new.0, new.1, id, former.0, former.1])?;
        Ok(rows > 0)
    })
}

fn read(row: &Row<'_>) -> rusqlite::Result<VaultRow> {
    Ok(VaultRow {
        id: row.get(0)?,
        workspace: row.get(1)?,
        body: row.get(2)?,
        root_key: row.get(3)?,
        data_key: row.get(4)?,
        created_at: row.get(5)?,
        archived_at: row.get(6)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::credentials::{self, CredentialRow};

    fn database() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        let vaults = include_str!("../../../../migrations/0005_vaults.sql");
        connection.execute_batch(vaults).unwrap();
        connection
    }

    fn vault(id: &str, at: i64) -> VaultRow {
        VaultRow {
            id: id.into(),
            workspace: "w".into(),
            body: "{}".into(),
            root_key: Some("k".into()),
            data_key: Some("sealed".into()),
            created_at: at,
            archived_at: None,
        }
    }

    fn credential(id: &str, vault: &str, target: &str) -> CredentialRow {
        CredentialRow {
            id: id.into(),
            vault: vault.into(),
            workspace: "w".into(),
            body: "{}".into(),
            target: target.into(),
            sealed: Some("sealed".into()),
            version: 1,
            created_at: 1,
            archived_at: None,
        }
    }

    #[test]
    fn a_vault_is_its_workspaces_alone_and_goes_with_its_credentials() {
        let store = database();
        for (id, at) in [("vlt_1", 1), ("vlt_2", 2)] {
            insert(&store, &vault(id, at)).unwrap();
            credentials::insert(&store, &credential(&format!("vcrd_{at}"), id, "A")).unwrap();
        }
        assert_eq!(find(&store, "w", "vlt_1").unwrap(), Some(vault("vlt_1", 1)));
        assert_eq!(find(&store, "other", "vlt_1").unwrap(), None);
        assert!(!delete(&store, "other", "vlt_1").unwrap());
        assert!(delete(&store, "w", "vlt_1").unwrap());
        assert_eq!(credentials::live(&store, "w", "vlt_1").unwrap(), []);
        assert_eq!(credentials::live(&store, "w", "vlt_2").unwrap().len(), 1);
    }

    #[test]
    fn archiving_wipes_what_seals() {
        let store = database();
        insert(&store, &vault("vlt_1", 1)).unwrap();
        archive(&store, "vlt_1", "{\"a\":1}", 5).unwrap();
        let row = find(&store, "w", "vlt_1").unwrap().unwrap();
        assert_eq!((row.root_key, row.data_key, row.archived_at), (None, None, Some(5)));
        assert_eq!(list(&store, "w", false, None, 9).unwrap(), []);
        assert_eq!(list(&store, "w", true, None, 9).unwrap().len(), 1);
    }

    #[tokio::test]
    async fn no_byte_of_what_was_secret_stays_in_the_file() {
        use crate::{Database, Durability, Faults, Options};
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().to_owned();
        let open = || {
            let (durability, faults) = (Durability::None, Faults::default());
            Database::open(Options { folder: data.clone(), durability, faults }).unwrap()
        };
        // Longer than a page, and short enough for one.
        let canaries = |letter: &str| [letter.repeat(9_000), letter.repeat(40)];
        let (first, second) = (canaries("\u{1}canary"), canaries("\u{2}canary"));
        let [old, new] = [first.clone(), second.clone()];
        let store = open();
        let write = store.write(move |connection| {
            for (at, (old, new)) in old.into_iter().zip(new).enumerate() {
                let (id, vault_id) = (format!("vcrd_{at}"), format!("vlt_{at}"));
                let row = VaultRow { data_key: Some(old.clone()), ..vault(&vault_id, 1) };
                insert(connection, &row)?;
                exchange_key(connection, &vault_id, ("k", &old), ("l", &new))?;
                for (kept, target) in [(0, "A"), (2, "B")] {
                    let id = format!("{id}_{kept}");
                    let row = credential(&id, &vault_id, target);
                    let row = CredentialRow { sealed: Some(old.clone()), ..row };
                    credentials::insert(connection, &row)?;
                    credentials::exchange_secrets(connection, &id, 1, "{}", &new)?;
                }
            }
            Ok::<_, Error>(())
        });
        write.await.unwrap();
        store.close();
        let file = || std::fs::read(folder.path().join("posthouse.db")).unwrap();
        let held = |canary: &str| {
            let (file, needle) = (file(), canary.as_bytes()[..14].to_vec());
            file.windows(needle.len()).any(|window| window == needle)
        };
        assert!(!held(&first[0]), "what was replaced");
        assert!(held(&second[0]), "the probe finds what is there");
        let store = open();
        let write = store.write(|connection| {
            credentials::archive(connection, "vcrd_0_0", "{}", 5)?;
            credentials::delete(connection, "w", "vlt_0", "vcrd_0_2")?;
            credentials::archive(connection, "vcrd_1_0", "{}", 5)?;
            archive(connection, "vlt_0", "{}", 5)?;
            delete(connection, "w", "vlt_1")
        });
        assert!(write.await.unwrap());
        store.close();
        assert!(!held(&first[0]) && !held(&second[0]), "what was archived and deleted");
    }

    #[test]
    fn a_key_is_exchanged_only_for_the_one_that_was_read() {
        let store = database();
        for (id, at) in [("vlt_1", 1), ("vlt_2", 2), ("vlt_3", 3)] {
            insert(&store, &vault(id, at)).unwrap();
        }
        archive(&store, "vlt_3", "{}", 5).unwrap();
        assert_eq!(count_sealed_by_others(&store, "new").unwrap(), 2);
        let others = |after| sealed_by_others(&store, "new", after, 1).unwrap();
        assert_eq!((others("").len(), others("vlt_2").len()), (1, 0));
        let exchange = |id, former| exchange_key(&store, id, former, ("new", "s2")).unwrap();
        assert!(!exchange("vlt_1", ("k", "another")));
        assert!(exchange("vlt_1", ("k", "sealed")));
        assert!(!exchange("vlt_3", ("k", "sealed")), "what is wiped stays so");
        assert_eq!(count_sealed_by_others(&store, "new").unwrap(), 1);
    }

    #[test]
    fn a_vault_has_one_live_credential_for_a_target() {
        let store = database();
        let first = credential("vcrd_1", "vlt_1", "A");
        credentials::insert(&store, &first).unwrap();
        assert!(credentials::is_taken(&store, "vlt_1", "A").unwrap());
        assert!(!credentials::is_taken(&store, "vlt_1", "B").unwrap());
        assert!(!credentials::is_taken(&store, "vlt_2", "A").unwrap());
        assert!(credentials::insert(&store, &credential("vcrd_2", "vlt_1", "A")).is_err());
        credentials::archive(&store, "vcrd_1", "{}", 5).unwrap();
        let row = credentials::find(&store, "w", "vlt_1", "vcrd_1").unwrap().unwrap();
        assert_eq!((row.sealed, row.archived_at, row.version), (None, Some(5), 2));
        credentials::insert(&store, &credential("vcrd_2", "vlt_1", "A")).unwrap();
        assert_eq!(credentials::count_live(&store, "vlt_1").unwrap(), 1);
    }

    #[test]
    fn a_change_of_an_older_version_changes_nothing() {
        let store = database();
        credentials::insert(&store, &credential("vcrd_1", "vlt_1", "A")).unwrap();
        let exchange =
            |version| credentials::exchange_secrets(&store, "vcrd_1", version, "{}", "o").unwrap();
        assert!(exchange(1));
        assert!(!exchange(1));
        let row = credentials::find(&store, "w", "vlt_1", "vcrd_1").unwrap().unwrap();
        assert_eq!((row.version, row.sealed.as_deref()), (2, Some("o")));
        credentials::archive(&store, "vcrd_1", "{}", 5).unwrap();
        assert!(!exchange(3), "nothing is sealed into what is archived");
    }
}
