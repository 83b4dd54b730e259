//! Tables as JSON Schema (2020-12, as OpenAPI 3.1 has it).

use serde_json::{Map, Value, json};

use super::{Absent, Field, Kind, Null, Pairs, Shape, Table, Union};
use crate::metadata::{KEY_LENGTH, PAIRS, VALUE_LENGTH};

/// The schemas that others refer to, by their names.
#[derive(Debug, Default)]
pub struct Components {
    schemas: Map<String, Value>,
}

/// Where components stand.
const PLACE: &str = "#/components/schemas/";

/// What a cursor looks like.
const CURSOR: &str = "^page_";

/// What a time in an answer looks like.
const TIME: &str = r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z$";

impl Components {
    /// All schemas that were referred to, by their names.
    #[must_use]
    pub fn into_schemas(self) -> Map<String, Value> {
        let mut schemas: Vec<_> = self.schemas.into_iter().collect();
        schemas.sort_by(|(one, _), (other, _)| one.cmp(other));
        schemas.into_iter().collect()
    }

    /// Adds a schema that is written by hand.
    pub fn add(&mut self, name: &str, schema: Value) {
        self.schemas.insert(name.to_owned(), schema);
    }

    /// A reference to a table's schema.
    pub fn table(&mut self, table: &'static Table) -> Value {
        if !self.schemas.contains_key(table.name) {
            // Before its fields, which may refer to it.
            self.schemas.insert(table.name.to_owned(), Value::Null);
            let schema = self.describe(table);
            self.schemas.insert(table.name.to_owned(), schema);
        }
        refer(table.name)
    }

    fn describe(&mut self, table: &Table) -> Value {
        let required: Vec<_> = table
            .fields
            .iter()
            .filter(|field| field.absent == Absent::Required)
            .map(|field| field.name)
            .collect();
        let properties: Map<_, _> =
            table.fields.iter().map(|field| (field.name.to_owned(), self.field(field))).collect();
        let mut schema = json!({
            "type": "object",
            "description": table.about,
            "properties": properties,
            "additionalProperties": false,
        });
        if !required.is_empty() {
            schema["required"] = json!(required);
        }
        schema
    }

    /// The schema of one field.
    pub fn field(&mut self, field: &Field) -> Value {
        let mut schema = self.kind(&field.kind);
        let may_be_null = field.null != Null::Refused;
        if may_be_null && !matches!(field.kind, Kind::Later | Kind::Nothing) {
            schema = json!({ "anyOf": [schema, { "type": "null" }] });
        }
        let mut about = field.about.to_owned();
        if let Some(rule) = field.rule {
            about = format!("{about} {rule}");
        }
        if matches!(field.kind, Kind::Later) {
            about = format!("{about} Not supported by this version: leave it out.");
        }
        schema["description"] = about.into();
        if let Absent::Means(means) = field.absent
            && let Ok(default) = serde_json::from_str::<Value>(means)
            && !default.is_null()
        {
            schema["default"] = default;
        }
        if let Ok(example) = serde_json::from_str::<Value>(field.example) {
            schema["examples"] = json!([example]);
        }
        schema
    }

    /// The schema of a kind.
    pub fn kind(&mut self, kind: &Kind) -> Value {
        match kind {
            Kind::Text { least, most } => {
                let mut schema = json!({ "type": "string" });
                if *least > 0 {
                    schema["minLength"] = (*least).into();
                }
                if *most < usize::MAX {
                    schema["maxLength"] = (*most).into();
                }
                schema
            }
            Kind::Integer { least, most } => {
                let mut schema = json!({ "type": "integer", "minimum": least });
                if *most < i64::MAX {
                    schema["maximum"] = (*most).into();
                }
                schema
            }
            Kind::Number => json!({ "type": "number" }),
            Kind::Flag => json!({ "type": "boolean" }),
            Kind::Choice { taken, .. } => json!({ "type": "string", "enum": taken }),
            Kind::Id(of) => {
                json!({ "type": "string", "pattern": format!("^{}_[0-9A-Za-z]{{1,64}}$", of.prefix()) })
            }
            Kind::Time => json!({ "type": "string", "format": "date-time", "pattern": TIME }),
            Kind::SentTime | Kind::Times => json!({ "type": "string", "format": "date-time" }),
            Kind::Cursor => json!({ "type": "string", "pattern": CURSOR }),
            Kind::List { of, least, most } => {
                let mut schema = json!({ "type": "array", "items": self.kind(of) });
                if *least > 0 {
                    schema["minItems"] = (*least).into();
                }
                if *most < usize::MAX {
                    schema["maxItems"] = (*most).into();
                }
                schema
            }
            Kind::Pairs(pairs) => {
                let value = json!({ "type": "string", "maxLength": VALUE_LENGTH });
                let value = match pairs {
                    Pairs::New => value,
                    Pairs::Patch | Pairs::PatchOrEmpty => {
                        json!({ "anyOf": [value, { "type": "null" }] })
                    }
                };
                let mut schema = json!({
                    "type": "object",
                    "additionalProperties": value,
                    "propertyNames": { "minLength": 1, "maxLength": KEY_LENGTH },
                });
                if *pairs == Pairs::New {
                    schema["maxProperties"] = PAIRS.into();
                }
                schema
            }
            Kind::Object(table) => self.table(table),
            Kind::Union(union) => self.union(union),
            Kind::Forms(forms) => {
                let forms: Vec<_> = forms.iter().map(|form| self.kind(form)).collect();
                json!({ "anyOf": forms })
            }
            Kind::Schema => json!({
                "type": "object",
                "properties": { "type": { "const": "object" } },
                "required": ["type"],
            }),
            Kind::Free => json!({ "type": "object" }),
            Kind::Named(name) => refer(name),
            Kind::Bytes => {
                json!({ "type": "string", "contentMediaType": "application/octet-stream" })
            }
            Kind::Any => json!({}),
            Kind::Nothing => json!({ "type": "null" }),
            Kind::Later => json!({ "enum": [null, [], {}] }),
        }
    }

    fn union(&mut self, union: &'static Union) -> Value {
        if self.schemas.contains_key(union.name) {
            return refer(union.name);
        }
        self.schemas.insert(union.name.to_owned(), Value::Null);
        let mut mapping = Map::new();
        let mut members: Vec<Value> = Vec::new();
        for member in union.members {
            if let Shape::Taken(table) = &member.shape {
                let reference = self.table(table);
                mapping.insert(member.tag.to_owned(), reference["$ref"].clone());
                if !members.contains(&reference) {
                    members.push(reference);
                }
            }
        }
        let schema = json!({
            "oneOf": members,
            "discriminator": { "propertyName": union.tag, "mapping": mapping },
        });
        self.schemas.insert(union.name.to_owned(), schema);
        refer(union.name)
    }
}

fn refer(name: &str) -> Value {
    json!({ "$ref": format!("{PLACE}{name}") })
}

/// An object of a table as one may look, with the fields that are always there.
#[must_use]
pub fn example(table: &Table) -> Value {
    let shown = |field: &&Field| field.absent == Absent::Required;
    let fields = table.fields.iter().filter(shown);
    Value::Object(fields.map(|field| (field.name.to_owned(), example_of(field))).collect())
}

fn example_of(field: &Field) -> Value {
    match serde_json::from_str(field.example) {
        Ok(example) => example,
        Err(_) if field.null != Null::Refused => Value::Null,
        Err(_) => example_of_kind(&field.kind),
    }
}

fn example_of_kind(kind: &Kind) -> Value {
    match kind {
        Kind::Text { .. } => "text".into(),
        Kind::Integer { least, .. } => (*least).into(),
        Kind::Number => json!(0.0),
        Kind::Flag => false.into(),
        Kind::Choice { taken, .. } => json!(taken.first()),
        Kind::Id(of) => format!("{}_000000000000000000000001", of.prefix()).into(),
        Kind::Time | Kind::SentTime | Kind::Times => "2026-01-01T00:00:00.000000Z".into(),
        Kind::List { least: 0, .. } => json!([]),
        Kind::List { of, .. } => json!([example_of_kind(of)]),
        Kind::Object(table) => example(table),
        Kind::Union(union) => {
            let taken = |member: &super::Member| match &member.shape {
                Shape::Taken(table) => Some((member.tag, *table)),
                Shape::Refused { .. } => None,
            };
            let Some((tag, table)) = union.members.iter().find_map(taken) else { return json!({}) };
            let mut value = example(table);
            value[union.tag] = tag.into();
            value
        }
        Kind::Forms(forms) => forms.first().map_or(Value::Null, example_of_kind),
        Kind::Schema => json!({ "type": "object" }),
        Kind::Pairs(_) | Kind::Free | Kind::Any | Kind::Named(_) => json!({}),
        Kind::Cursor | Kind::Bytes | Kind::Nothing | Kind::Later => Value::Null,
    }
}
