//! What the Gemini API refuses, looked for in one request by itself.
//!
//! Never compares with what was sent; that is `replay`.

use serde_json::Value;

use crate::scripted_model::checks::Tools;
use crate::scripted_model::outline::list;

/// What a part can be, of which it is exactly one.
const DATA: [&str; 9] = [
    "text",
    "inlineData",
    "fileData",
    "functionCall",
    "functionResponse",
    "executableCode",
    "codeExecutionResult",
    "toolCall",
    "toolResponse",
];

/// What a part can have beside.
const BESIDE: [&str; 5] =
    ["thought", "thoughtSignature", "videoMetadata", "mediaResolution", "partMetadata"];

/// Of the API's `Schema`; any other member is refused as unknown. `parametersJsonSchema` takes more.
const SCHEMA: [&str; 22] = [
    "anyOf",
    "default",
    "description",
    "enum",
    "example",
    "format",
    "items",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "nullable",
    "pattern",
    "properties",
    "propertyOrdering",
    "required",
    "title",
    "type",
];

pub(super) fn check(model: &str, body: &Value, found: &mut Vec<String>) {
    check_tools(body, found);
    let thinking = &body["generationConfig"]["thinkingConfig"];
    let has = |names: [&str; 2]| names.iter().any(|name| !thinking[*name].is_null());
    if has(["thinkingBudget", "thinking_budget"]) && has(["thinkingLevel", "thinking_level"]) {
        found.push("thinkingBudget and thinkingLevel exclude each other".to_owned());
    }
    for (index, part) in list(&body["systemInstruction"]["parts"]).iter().enumerate() {
        if !part["text"].is_string() {
            found.push(format!("systemInstruction.parts[{index}] is not a text"));
        }
    }
    let contents = list(&body["contents"]);
    if contents.is_empty() {
        found.push("contents is empty".to_owned());
    }
    for (index, content) in contents.iter().enumerate() {
        check_content(&format!("contents[{index}]"), content, found);
    }
    check_turns(contents, found);
    if thinks_by_signature(model) {
        check_signatures(contents, found);
    }
}

fn check_tools(body: &Value, found: &mut Vec<String>) {
    let mut tools = Tools::default();
    for (index, tool) in list(&body["tools"]).iter().enumerate() {
        for (position, function) in list(&tool["functionDeclarations"]).iter().enumerate() {
            let place = format!("tools[{index}].functionDeclarations[{position}]");
            let (plain, json) = (&function["parameters"], &function["parametersJsonSchema"]);
            if !plain.is_null() && !json.is_null() {
                found.push(format!("{place} has both parameters and parametersJsonSchema"));
            }
            let schema = if plain.is_null() { json } else { plain };
            tools.check(&place, &function["name"], schema, found);
            let begins =
                |name: &str| name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
            if !function["name"].as_str().is_none_or(begins) {
                found.push(format!("{place}.name does not begin with a letter or an underscore"));
            }
            check_schema(&format!("{place}.parameters"), plain, found);
        }
    }
}

fn check_schema(place: &str, schema: &Value, found: &mut Vec<String>) {
    let Some(members) = schema.as_object() else { return };
    for (name, value) in members {
        if !SCHEMA.contains(&name.as_str()) {
            found.push(format!("{place}.{name} is not a member of a Schema"));
        }
        match name.as_str() {
            "items" => check_schema(&format!("{place}.items"), value, found),
            "anyOf" => {
                for (index, inner) in list(value).iter().enumerate() {
                    check_schema(&format!("{place}.anyOf[{index}]"), inner, found);
                }
            }
            "properties" => {
                for (property, inner) in value.as_object().into_iter().flatten() {
                    check_schema(&format!("{place}.properties.{property}"), inner, found);
                }
            }
            "type" if !value.is_string() => {
                found.push(format!("{place}.type is not a string"));
            }
            _ => {}
        }
    }
}

fn check_content(place: &str, content: &Value, found: &mut Vec<String>) {
    let role = content["role"].as_str().unwrap_or_default();
    if !matches!(role, "user" | "model") {
        found.push(format!("{place} has the unknown role {role:?}"));
    }
    if list(&content["parts"]).is_empty() {
        found.push(format!("{place}.parts is empty"));
    }
    for (index, part) in list(&content["parts"]).iter().enumerate() {
        let place = format!("{place}.parts[{index}]");
        let names = part.as_object().into_iter().flat_map(|part| part.keys());
        for name in names.filter(|name| !DATA.contains(&name.as_str())) {
            if !BESIDE.contains(&name.as_str()) {
                found.push(format!("{place}.{name} is not a member of a part"));
            }
        }
        let data = DATA.iter().filter(|name| !part[**name].is_null()).count();
        if data != 1 {
            found.push(format!("{place} is {data} kinds of data; it has to be one"));
        }
        check_part(&place, role, part, found);
    }
}

fn check_part(place: &str, role: &str, part: &Value, found: &mut Vec<String>) {
    if let Some(call) = part.get("functionCall") {
        if role != "model" {
            found.push(format!("{place}: a functionCall is the model's"));
        }
        if !call["name"].is_string() || !(call["args"].is_object() || call["args"].is_null()) {
            found.push(format!("{place}.functionCall needs a name, and args that are an object"));
        }
    }
    if let Some(answer) = part.get("functionResponse") {
        if role != "user" {
            found.push(format!("{place}: a functionResponse is the user's"));
        }
        if !answer["name"].is_string() || !answer["response"].is_object() {
            found.push(format!(
                "{place}.functionResponse needs a name, and a response that is an object"
            ));
        }
        for (index, inner) in list(&answer["parts"]).iter().enumerate() {
            check_blob(&format!("{place}.functionResponse.parts[{index}]"), inner, found);
        }
    }
    if part.get("inlineData").is_some() {
        check_blob(place, part, found);
    }
}

fn check_blob(place: &str, part: &Value, found: &mut Vec<String>) {
    let blob = &part["inlineData"];
    if !blob["mimeType"].is_string() || !blob["data"].is_string() {
        found.push(format!("{place}.inlineData needs mimeType and data"));
    }
}

// "Please ensure that the number of function response parts is equal to the number of function call parts of the
// function call turn", and that each turn stands where it may.
fn check_turns(contents: &[Value], found: &mut Vec<String>) {
    let mut turns: Vec<(&str, Vec<&Value>)> = Vec::new();
    for content in contents {
        let role = content["role"].as_str().unwrap_or_default();
        let parts = list(&content["parts"]);
        match turns.last_mut() {
            Some((last, known)) if *last == role => known.extend(parts),
            _ => turns.push((role, parts.iter().collect())),
        }
    }
    if turns.last().is_some_and(|(role, _)| *role == "model") {
        found.push("the last content is the model's".to_owned());
    }
    let mut asked: Vec<&Value> = Vec::new();
    for (index, (role, parts)) in turns.iter().enumerate() {
        let inside = |name: &'static str| parts.iter().filter_map(move |part| part.get(name));
        if *role == "model" {
            asked = inside("functionCall").collect();
            if index == 0 && !asked.is_empty() {
                found.push("a function call turn stands at the beginning".to_owned());
            }
            continue;
        }
        let answers: Vec<&Value> = inside("functionResponse").collect();
        check_answers(&std::mem::take(&mut asked), &answers, found);
    }
}

fn check_answers(asked: &[&Value], answers: &[&Value], found: &mut Vec<String>) {
    if asked.len() != answers.len() {
        found.push(format!(
            "{} functionResponse parts stand behind {} functionCall parts",
            answers.len(),
            asked.len()
        ));
    }
    let mut open = asked.to_vec();
    for answer in answers {
        let fits = |call: &&Value| {
            let same_id = call["id"].is_null() || call["id"] == answer["id"];
            call["name"] == answer["name"] && same_id
        };
        match open.iter().position(fits) {
            Some(position) => drop(open.remove(position)),
            None if asked.is_empty() => {}
            None => found.push(format!(
                "the functionResponse for {} (id {}) has no functionCall of its own in the turn before",
                answer["name"], answer["id"]
            )),
        }
    }
}

// Since Gemini 3 ("Thought signatures").
fn thinks_by_signature(model: &str) -> bool {
    let version = model.strip_prefix("gemini-").unwrap_or_default();
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    digits.parse::<u32>().is_ok_and(|generation| generation >= 3)
}

// The API looks at the current turn alone: everything behind the user's last words.
fn check_signatures(contents: &[Value], found: &mut Vec<String>) {
    let is_word = |part: &Value| part.get("functionResponse").is_none();
    let speaks =
        |content: &Value| content["role"] != "model" && list(&content["parts"]).iter().any(is_word);
    let begin = contents.iter().rposition(speaks).unwrap_or_default();
    for (index, content) in contents.iter().enumerate().skip(begin) {
        let first = list(&content["parts"]).iter().find(|part| part.get("functionCall").is_some());
        if first.is_some_and(|part| !part["thoughtSignature"].is_string()) {
            found.push(format!(
                "contents[{index}]: the first functionCall of a step has no thoughtSignature"
            ));
        }
    }
}
