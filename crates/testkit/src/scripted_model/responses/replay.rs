//! Whether output items come back as they were sent, and beside those they belong to.
//!
//! Never looks at a request by itself; that is `checks`.

use serde_json::Value;

use super::checks::is_known;
use crate::scripted_model::conversations::Memory;
use crate::scripted_model::outline::list;
use crate::scripted_model::wire::Keepsakes;

pub(super) fn check(memory: &Memory, model: &str, body: &Value, found: &mut Vec<String>) {
    let items = list(&body["input"]);
    for (index, item) in items.iter().enumerate() {
        let place = format!("input[{index}]");
        let claims: Vec<String> = claims(item).collect();
        let was_sent = claims.iter().any(|claim| memory.knows(claim));
        if let Some(kind) = item["type"].as_str()
            && !is_known(kind)
            && !was_sent
        {
            found.push(format!("{place} has the unknown type {kind:?}"));
        }
        memory.compare(&place, claims, item, found);

        let bonds = item["id"].as_str().map(|id| memory.bonds(id, model)).unwrap_or_default();
        let neighbour = match item["type"] == "reasoning" {
            true => items.get(index + 1),
            false => index.checked_sub(1).and_then(|before| items.get(before)),
        };
        let present: Vec<String> = neighbour.into_iter().flat_map(self::claims).collect();
        if let Some(missing) = bonds.iter().find(|claim| !present.contains(claim)) {
            let side = if item["type"] == "reasoning" { "following" } else { "reasoning" };
            found.push(format!(
                "{place} ({}) is without its required {side} item, which has {missing}",
                item["type"].as_str().unwrap_or_default()
            ));
        }
    }
}

/// What to know of an answer's items. A reasoning item and what comes right behind it belong together.
pub(super) fn keepsakes(items: Vec<Value>) -> Keepsakes {
    let mut keepsakes = Keepsakes::default();
    for pair in items.windows(2).filter(|pair| pair[0]["type"] == "reasoning") {
        let first = |item: &Value| claims(item).next();
        let name = |item: &Value| item["id"].as_str().unwrap_or_default().to_owned();
        if let (Some(before), Some(after)) = (first(&pair[0]), first(&pair[1])) {
            keepsakes.bonds.push((name(&pair[0]), vec![after]));
            if pair[1]["type"] != "reasoning" {
                keepsakes.bonds.push((name(&pair[1]), vec![before]));
            }
        }
    }
    for item in items {
        keepsakes.blocks.extend(claims(&item).map(|claim| (claim, item.clone())));
    }
    keepsakes
}

/// By what an item says that it comes from the model.
fn claims(item: &Value) -> impl Iterator<Item = String> {
    let is_answer = item["type"] == "function_call_output";
    let claim = move |name: &str| {
        let value = item[name].as_str().filter(|_| !is_answer)?;
        Some(format!("the {name} {value:?}"))
    };
    ["id", "call_id", "encrypted_content"].into_iter().filter_map(claim)
}
