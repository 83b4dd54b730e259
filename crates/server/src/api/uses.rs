//! `/posthouse/v1/credential_uses`: the ledger. It is only read here.

use posthouse_protocol::{
    Micros,
    page::{Cursor, Order, Page, Position},
    schema::{lists, vaults as schema},
};
use posthouse_store::tables::uses::{self, UseFilter, UseRow};

use super::{Answer, Call, Refusal};

const LIST: &str = "credential_uses";

/// `GET /posthouse/v1/credential_uses`: the newest first.
///
/// # Errors
/// 400 about the query.
pub async fn list(call: Call) -> Result<Answer, Refusal> {
    let mut query = call.query()?;
    let limit = query.limit(&lists::LIMIT_MANY)?;
    let cursor = query.page(&lists::PAGE, LIST, Order::Desc)?;
    let times = query.times(&lists::CREATED)?;
    let vault = query.one(&schema::VAULT_ID)?;
    let credential = query.one(&schema::CREDENTIAL_ID)?;
    let session = query.one(&schema::SESSION_ID)?;
    query.finish(&schema::USES)?;
    times.admit(cursor.as_ref(), lists::CREATED.name)?;
    let micros = |at: Micros| at.0;
    let filter = UseFilter {
        workspace: call.principal.workspace.to_string(),
        vault,
        credential,
        session,
        first: times.first().map(micros),
        last: times.last().map(micros),
        after: cursor.map(|cursor| (cursor.position.number, cursor.position.id)),
        limit: limit + 1,
    };
    let rows =
        call.app.database.read_many(move |connection| uses::list(connection, &filter)).await?;
    let cursor = |row: &UseRow| {
        let position = Position { number: row.at, id: row.id.clone() };
        Cursor::after(LIST, Order::Desc, position)
    };
    Ok(Answer::new(Page::cut(rows, limit, cursor, |row| row.body).to_json()))
}
