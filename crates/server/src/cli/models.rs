//! `posthouse models`: which models a running server can ask and who serves them, through the
//! public API alone.

use clap::Args;
use serde_json::Value;

use super::{
    place::PlaceArguments,
    plain::{harmless_json, one_line},
    say_text as say,
};
use crate::{Error, client::Client};

/// `posthouse models …`.
#[derive(Debug, Args)]
pub(super) struct ModelsArguments {
    #[command(flatten)]
    place: PlaceArguments,
    /// Print JSON, one model per line
    #[arg(long)]
    json: bool,
}

/// Runs what was typed.
///
/// # Errors
/// When the server can't be reached or refuses.
pub(super) async fn run(arguments: ModelsArguments) -> Result<(), Error> {
    let client = arguments.place.place()?.client()?;
    let models = all(&client).await?;
    if arguments.json {
        for model in &models {
            say(&format!("{}\n", harmless_json(model)));
        }
    } else if models.is_empty() {
        say("no models: no provider is there, or none lists any\n");
    } else {
        say(&table(&models));
    }
    Ok(())
}

/// The whole list. It may change between two pages; then what was seen is shown.
async fn all(client: &Client) -> Result<Vec<Value>, Error> {
    let mut models: Vec<Value> = Vec::new();
    let mut path = "/v1/models?limit=1000".to_owned();
    loop {
        let mut page = client.get(&path).await?;
        if let Value::Array(data) = page["data"].take() {
            models.extend(data);
        }
        let Some(last) = page["last_id"].as_str().filter(|_| page["has_more"] == true) else {
            return Ok(models);
        };
        path = format!("/v1/models?limit=1000&after_id={}", encoded(last));
    }
}

/// A value of a query.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

/// One model on a line: its name, who serves it over which wire, its window, its prices.
fn table(models: &[Value]) -> String {
    let rows: Vec<[String; 4]> = models.iter().map(row).collect();
    let width = |column: usize| {
        rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default()
    };
    let widths = [width(0), width(1), width(2)];
    let line = |[name, provider, window, prices]: &[String; 4]| {
        let line = format!(
            "{name:<0$}  {provider:<1$}  {window:>2$}  {prices}",
            widths[0], widths[1], widths[2]
        );
        format!("{}\n", line.trim_end())
    };
    rows.iter().map(line).collect()
}

fn row(model: &Value) -> [String; 4] {
    let text = |value: &Value| one_line(value.as_str().unwrap_or("-"));
    let own = &model["posthouse"];
    let window = match model["max_input_tokens"].as_u64() {
        Some(tokens) if tokens % 1000 == 0 => format!("{}k", tokens / 1000),
        Some(tokens) => tokens.to_string(),
        None => "-".to_owned(),
    };
    let prices = match &own["prices"] {
        Value::Null => String::new(),
        prices => format!("${} in, ${} out", text(&prices["input"]), text(&prices["output"])),
    };
    let stage = match model["lifecycle"].as_str() {
        Some("active") | None => String::new(),
        Some(stage) => format!(" ({})", one_line(stage)),
    };
    let provider = format!("{} ({})", text(&own["provider"]), text(&own["wire"]));
    [format!("{}{stage}", text(&model["id"])), provider, window, prices]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_model_is_one_line() {
        let models = [
            json!({
                "id": "claude-opus-5", "lifecycle": "active", "max_input_tokens": 1_000_000,
                "posthouse": {
                    "provider": "anthropic", "wire": "anthropic",
                    "prices": { "input": "5.00", "output": "25.00" },
                },
            }),
            json!({
                "id": "old", "lifecycle": "deprecated", "max_input_tokens": 8_192,
                "posthouse": { "provider": "o\u{1b}[2J", "wire": "openai_chat", "prices": null },
            }),
            json!({}),
        ];
        let expected = "claude-opus-5     anthropic (anthropic)  1000k  $5.00 in, $25.00 out\n\
                        old (deprecated)  o\u{fffd}[2J (openai_chat)     8192\n\
                        -                 - (-)                      -\n";
        assert_eq!(table(&models), expected);
    }

    #[test]
    fn names_are_encoded_for_a_query() {
        assert_eq!(encoded("local/qwen3:8b ü&x"), "local%2Fqwen3%3A8b%20%C3%BC%26x");
    }
}
