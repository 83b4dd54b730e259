//! What a table says of requests, as requests: for each row what is taken and what is refused.
//!
//! Tests send them to the parsers and to a real server. Nothing here knows what a handler does.

use serde_json::{Map, Value, json};

use super::{Absent, Field, Kind, Null, Pairs, Shape, Table, Union};
use crate::metadata::{KEY_LENGTH, PAIRS, VALUE_LENGTH};

/// The longest text that a case has, in characters.
const LONGEST: usize = 200_000;

/// A name that no table has.
const SURPLUS: &str = "surplus";

/// What is to come of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is taken.
    Taken,
    /// It is refused with a message that contains this.
    Refused(String),
    /// The table alone does not tell.
    Open,
}

/// A body or a query, and what is to come of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Case<T = Value> {
    /// What is special about it.
    pub what: String,
    /// What is sent.
    pub sent: T,
    /// What is to come of it.
    pub outcome: Outcome,
}

/// Makes values that are taken. What a test knows better (ids of things that exist) it says in
/// `known`.
pub struct Walk<'a> {
    /// A value for a kind, if the test has one.
    pub known: &'a dyn Fn(&Kind) -> Option<Value>,
}

/// Puts a value where it belongs in a body.
type Place<'a> = &'a dyn Fn(Option<Value>) -> Value;

impl Walk<'_> {
    /// The shortest object of a table that is taken.
    #[must_use]
    pub fn minimal(&self, table: &Table) -> Value {
        let needed = |field: &&Field| matches!(field.absent, Absent::Required | Absent::Depends);
        let fields = table.fields.iter().filter(needed);
        Value::Object(fields.map(|field| (field.name.to_owned(), self.sample(field))).collect())
    }

    fn member(&self, union: &Union, tag: &str, table: &Table) -> Value {
        let mut value = self.minimal(table);
        value[union.tag] = tag.into();
        value
    }

    fn sample(&self, field: &Field) -> Value {
        if let Some(known) = (self.known)(&field.kind) {
            return known;
        }
        match serde_json::from_str(field.example) {
            Ok(example) => example,
            Err(_) => self.of(&field.kind),
        }
    }

    fn of(&self, kind: &Kind) -> Value {
        if let Some(known) = (self.known)(kind) {
            return known;
        }
        match kind {
            Kind::Text { least, .. } => "x".repeat((*least).max(1)).into(),
            Kind::Integer { least, .. } => (*least).into(),
            Kind::Number => 1.5.into(),
            Kind::Flag => true.into(),
            Kind::Choice { taken, .. } => json!(taken.first()),
            Kind::Id(of) => format!("{}_1", of.prefix()).into(),
            Kind::Time | Kind::SentTime | Kind::Times => "2026-01-01T00:00:00Z".into(),
            Kind::List { of, .. } => json!([self.of(of)]),
            Kind::Object(table) => self.minimal(table),
            Kind::Union(union) => union
                .members
                .iter()
                .find_map(|member| match &member.shape {
                    Shape::Taken(table) => Some(self.member(union, member.tag, table)),
                    Shape::Refused { .. } => None,
                })
                .unwrap_or_default(),
            Kind::Forms(forms) => forms.first().map_or(Value::Null, |form| self.of(form)),
            Kind::Schema => json!({ "type": "object" }),
            Kind::Pairs(_) | Kind::Free | Kind::Any | Kind::Named(_) => json!({}),
            Kind::Cursor | Kind::Bytes | Kind::Nothing | Kind::Later => Value::Null,
        }
    }

    /// All cases of a body that `table` describes; `base` is one that is taken.
    #[must_use]
    pub fn bodies(&self, table: &Table, base: &Value) -> Vec<Case> {
        let mut cases = Vec::new();
        self.object(table, base, true, &|value| value.unwrap_or_default(), &mut cases);
        for other in [json!([]), json!("text"), json!(7), json!(true), Value::Null] {
            let says = format!("request body: is {}", crate::fields::kind_of(&other));
            cases.push(Case {
                what: "no object".into(),
                sent: other,
                outcome: Outcome::Refused(says),
            });
        }
        cases
    }

    fn object(
        &self,
        table: &Table,
        base: &Value,
        sure: bool,
        place: Place<'_>,
        cases: &mut Vec<Case>,
    ) {
        for field in table.fields {
            let put = |value: Option<Value>| {
                let mut object = base.as_object().cloned().unwrap_or_default();
                match value {
                    Some(value) => object.insert(field.name.to_owned(), value),
                    None => object.shift_remove(field.name),
                };
                place(Some(Value::Object(object)))
            };
            self.field(table, field, sure, &put, cases);
        }
        let mut object = base.as_object().cloned().unwrap_or_default();
        object.insert(SURPLUS.to_owned(), 1.into());
        cases.push(Case {
            what: format!("{}: a field too many", table.name),
            sent: place(Some(Value::Object(object))),
            outcome: Outcome::Refused(format!("{SURPLUS}\"")),
        });
    }

    fn field(
        &self,
        table: &Table,
        field: &Field,
        sure: bool,
        put: Place<'_>,
        cases: &mut Vec<Case>,
    ) {
        let name = field.name;
        let mut case = |what: &str, value: Option<Value>, outcome: Outcome| {
            let outcome = match (sure, outcome) {
                (false, Outcome::Taken) => Outcome::Open,
                (_, outcome) => outcome,
            };
            let what = format!("{}.{name}: {what}", table.name);
            cases.push(Case { what, sent: put(value), outcome });
        };
        let or_open = |outcome| match field.absent {
            Absent::Depends => Outcome::Open,
            _ => outcome,
        };
        case(
            "absent",
            None,
            match field.absent {
                Absent::Required => refused(name, "is missing"),
                _ => or_open(Outcome::Taken),
            },
        );
        case(
            "null",
            Some(Value::Null),
            match field.null {
                Null::Refused => refused(name, "is null"),
                _ => or_open(Outcome::Taken),
            },
        );
        case(
            "as in its example",
            Some(self.sample(field)),
            match field.rule {
                None => Outcome::Taken,
                Some(_) => Outcome::Open,
            },
        );
        let strange = [json!(true), json!(7), json!("zzz"), json!([7]), json!({ SURPLUS: 7 })];
        for other in strange {
            if !admits(&field.kind, &other) {
                let says = match field.kind {
                    Kind::Later => refused(name, super::LATER),
                    // A field that can't be sent at all, a value that is no choice.
                    Kind::Nothing | Kind::Choice { .. } => refused(name, ""),
                    _ => refused(name, &format!("is {}", crate::fields::kind_of(&other))),
                };
                case("of another kind", Some(other), says);
            }
        }
        let _ = case;
        let sure_inside = sure
            && (field.rule.is_none()
                || !matches!(field.kind, Kind::List { .. } | Kind::Union(_) | Kind::Object(_)));
        let base = self.sample(field);
        self.kind(table, field, &field.kind, &base, sure_inside, put, cases);
    }

    /// The cases of one kind in one field. `base` is a value of it that is taken.
    #[expect(clippy::too_many_arguments, reason = "they are one place in one body")]
    fn kind(
        &self,
        table: &Table,
        field: &Field,
        kind: &Kind,
        base: &Value,
        sure: bool,
        put: Place<'_>,
        cases: &mut Vec<Case>,
    ) {
        let name = field.name;
        let taken = if sure && field.rule.is_none() { Outcome::Taken } else { Outcome::Open };
        let mut case = |what: String, value: Value, outcome: Outcome| {
            let what = format!("{}.{name}: {what}", table.name);
            cases.push(Case { what, sent: put(Some(value)), outcome });
        };
        match kind {
            Kind::Text { least, most } => {
                for (length, outcome) in [
                    (least.checked_sub(1), refused(name, "")),
                    (Some((*least).max(1)), taken.clone()),
                    (Some(*most), taken),
                    (most.checked_add(1), refused(name, "")),
                ] {
                    // Two bytes each, so that characters are what is counted.
                    let length = length.filter(|length| *length <= LONGEST);
                    if let Some(length) = length {
                        let text = if length >= *most { "é" } else { "x" };
                        case(format!("{length} characters"), text.repeat(length).into(), outcome);
                    }
                }
            }
            Kind::Integer { least, most } => {
                for (number, outcome) in [
                    (least.checked_sub(1), refused(name, "")),
                    (Some(*least), taken.clone()),
                    (Some(*most), taken),
                    (most.checked_add(1), refused(name, "")),
                ] {
                    if let Some(number) = number {
                        case(format!("{number}"), number.into(), outcome);
                    }
                }
                case("1.5".into(), json!(1.5), refused(name, ""));
            }
            Kind::Choice { taken: choices, later } => {
                let is_tag = name == "type" || name == "name";
                for choice in *choices {
                    let outcome = if is_tag { Outcome::Open } else { taken.clone() };
                    case((*choice).to_owned(), (*choice).into(), outcome);
                }
                for choice in *later {
                    case((*choice).to_owned(), (*choice).into(), refused(name, super::LATER));
                }
                case("no choice".into(), "zzz".into(), refused(name, "is not a valid value"));
            }
            Kind::Id(_) => {
                for text in ["", "zzz", "other_1"] {
                    case(format!("the id {text:?}"), text.into(), refused(name, "is no such id"));
                }
            }
            Kind::List { of, least, most } => {
                let entry = base.get(0).cloned().unwrap_or_else(|| self.of(of));
                if let Some(fewer) = least.checked_sub(1) {
                    case(format!("{fewer} entries"), json!(vec![&entry; fewer]), refused(name, ""));
                } else {
                    case("no entries".into(), json!([]), taken);
                }
                if let Some(more) = most.checked_add(1) {
                    let says = refused(name, &format!("has {more}"));
                    case(format!("{more} entries"), json!(vec![&entry; more]), says);
                }
                for other in
                    [json!(true), json!(7), json!("zzz"), json!([7]), json!({ SURPLUS: 7 })]
                {
                    if !admits(of, &other) {
                        case("a strange entry".into(), json!([other]), refused(name, ""));
                    }
                }
                case("null as an entry".into(), json!([null]), refused(name, ""));
                let _ = case;
                let inner = |value: Option<Value>| put(value.map(|value| json!([value])));
                self.kind(table, field, of, &entry, sure, &inner, cases);
            }
            Kind::Pairs(pairs) => {
                let many = |count: usize| {
                    let pair = |n: usize| (n.to_string(), json!("v"));
                    Value::Object((0..count).map(pair).collect::<Map<_, _>>())
                };
                let one = |key: usize, value: usize| json!({ "k".repeat(key): "é".repeat(value) });
                // In a change it depends on the pairs that are there.
                let all = if *pairs == Pairs::New { taken.clone() } else { Outcome::Open };
                case("as many pairs as may be".into(), many(PAIRS), all);
                case("a pair too many".into(), many(PAIRS + 1), refused(name, "has "));
                case("the longest pair".into(), one(KEY_LENGTH, VALUE_LENGTH), taken.clone());
                case("a key too long".into(), one(KEY_LENGTH + 1, 1), refused(name, "has a key"));
                case("an empty key".into(), one(0, 1), refused(name, "has a key"));
                case("a value too long".into(), one(1, VALUE_LENGTH + 1), refused(".k", "has 513"));
                case("a number".into(), json!({ "k": 1 }), refused(".k", "is a number"));
                let null = match pairs {
                    Pairs::New => refused(".k", "is null"),
                    Pairs::Patch | Pairs::PatchOrEmpty => taken,
                };
                case("null as a value".into(), json!({ "k": null }), null);
            }
            Kind::Object(inner) => {
                let base = if base.is_object() { base.clone() } else { self.minimal(inner) };
                self.object(inner, &base, sure, put, cases);
            }
            Kind::Union(union) => {
                let unknown = json!({ union.tag: "zzz" });
                case("no member".into(), unknown, refused(union.tag, "is not a valid value"));
                for member in union.members {
                    if let Shape::Refused { what, .. } = &member.shape {
                        let sent = json!({ union.tag: member.tag });
                        let says = refused(union.tag, &format!("{} {what}", member.tag));
                        case(member.tag.to_owned(), sent, says);
                    }
                }
                let _ = case;
                for member in union.members {
                    if let Shape::Taken(inner) = &member.shape {
                        let base = self.member(union, member.tag, inner);
                        self.object(inner, &base, sure, put, cases);
                    }
                }
            }
            Kind::Forms(forms) => {
                for form in *forms {
                    let base = if admits(form, base) { base.clone() } else { self.of(form) };
                    self.kind(table, field, form, &base, sure, put, cases);
                }
            }
            _ => {}
        }
    }
}

/// All cases of a query that `table` describes.
#[must_use]
pub fn queries(table: &Table) -> Vec<Case<String>> {
    let mut cases = Vec::new();
    let mut case = |sent: String, outcome: Outcome| {
        cases.push(Case { what: format!("{}: {sent}", table.name), sent, outcome });
    };
    case(String::new(), Outcome::Taken);
    case("beta=true".into(), Outcome::Taken);
    case(format!("{SURPLUS}=1"), refused(SURPLUS, "is no parameter of this request"));
    for field in table.fields {
        let name = field.name;
        let taken = if field.rule.is_none() { Outcome::Taken } else { Outcome::Open };
        match field.kind {
            Kind::Integer { least, most } => {
                for good in [least, most] {
                    case(format!("{name}={good}"), taken.clone());
                }
                for bad in
                    [least.checked_sub(1), most.checked_add(1), Some(-1)].into_iter().flatten()
                {
                    case(format!("{name}={bad}"), refused(name, ""));
                }
                case(format!("{name}=x"), refused(name, ""));
                case(format!("{name}={least}&{name}={least}"), refused(name, ""));
            }
            Kind::Flag => {
                for good in ["true", "false", ""] {
                    case(format!("{name}={good}"), taken.clone());
                }
                for bad in ["yes", "1", "True"] {
                    case(format!("{name}={bad}"), refused(name, &format!("is {bad}")));
                }
                case(format!("{name}=true&{name}=true"), refused(name, "is sent 2 times"));
            }
            Kind::Choice { taken: choices, .. } => {
                for choice in choices {
                    case(format!("{name}={choice}"), taken.clone());
                }
                case(format!("{name}=zzz"), refused(name, "is zzz"));
            }
            Kind::Times => {
                for bound in ["gt", "gte", "lt", "lte"] {
                    let bounded = format!("{name}[{bound}]");
                    for (open, close) in [("[", "]"), ("%5B", "%5D")] {
                        let key = format!("{name}{open}{bound}{close}");
                        case(format!("{key}=2026-01-01T00:00:00%2B00:00"), taken.clone());
                        case(format!("{key}=yesterday"), refused(&bounded, "is \"yesterday\""));
                    }
                    let twice = format!("{bounded}=2026-01-01T00:00:00Z");
                    case(format!("{twice}&{twice}"), refused(&bounded, "is sent 2 times"));
                }
                case(
                    format!("{name}[eq]=2026-01-01T00:00:00Z"),
                    refused("[eq]", "is no parameter"),
                );
                case(format!("{name}=2026-01-01T00:00:00Z"), refused(name, "is no parameter"));
            }
            Kind::Cursor => {
                let says = || Outcome::Refused("invalid page cursor".into());
                case(format!("{name}=zzz"), says());
                case(format!("{name}=page_e30"), says());
                case(format!("{name}="), taken);
            }
            Kind::List { of, most, .. } => {
                let (good, bad) = match of {
                    Kind::Choice { taken, .. } => (taken.first().copied().unwrap_or(""), "zzz"),
                    _ => ("zzz", ""),
                };
                for key in [format!("{name}[]"), format!("{name}%5B%5D"), name.to_owned()] {
                    case(format!("{key}={good}"), taken.clone());
                    case(format!("{key}={good}&{key}={good}"), taken.clone());
                    if !bad.is_empty() {
                        case(format!("{key}={bad}"), refused(name, "is not a valid value"));
                    }
                }
                let many: Vec<_> = (0..=most).map(|n| format!("{name}[]={good}{n}")).collect();
                case(many.join("&"), refused(name, ""));
            }
            _ => {
                case(format!("{name}=zzz"), taken.clone());
                case(format!("{name}="), taken);
                case(format!("{name}=zzz&{name}=zzz"), refused(name, "is sent 2 times"));
            }
        }
    }
    cases
}

/// A refusal that names the field and says that of it.
fn refused(name: &str, what: &str) -> Outcome {
    Outcome::Refused(match what {
        "" => name.to_owned(),
        // The name does not stand right before these.
        "is not a valid value" | "is no such id" | super::LATER => what.to_owned(),
        what => format!("{name}: {what}"),
    })
}

/// Whether a value is of the sort of JSON that a kind has.
fn admits(kind: &Kind, value: &Value) -> bool {
    match kind {
        Kind::Text { .. }
        | Kind::Choice { .. }
        | Kind::Id(_)
        | Kind::Time
        | Kind::SentTime
        | Kind::Cursor => value.is_string(),
        Kind::Integer { .. } | Kind::Number => value.is_number(),
        Kind::Flag => value.is_boolean(),
        Kind::List { .. } => value.is_array(),
        Kind::Pairs(_) | Kind::Object(_) | Kind::Union(_) | Kind::Schema | Kind::Free => {
            value.is_object()
        }
        Kind::Forms(forms) => forms.iter().any(|form| admits(form, value)),
        Kind::Any | Kind::Named(_) => true,
        Kind::Times | Kind::Bytes | Kind::Nothing | Kind::Later => false,
    }
}

#[cfg(test)]
mod tests;
