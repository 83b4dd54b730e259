//! What is mounted into a session: the resource, and where its mount path leads.
//!
//! In this version that is files. Repositories and memory stores are refused by name.

use serde::Serialize;
use serde_json::Value;

use crate::{ApiError, Fields, Timestamp, fields::wrong, schema::resources as schema};

/// Below this all files appear.
pub const UPLOADS: &str = "/mnt/session/uploads";

/// What belongs to the session itself: no file appears here under a second name.
const OWN: &str = "/mnt/session";

/// How many resources a session may have.
pub const MOST: usize = 500;

/// The longest name that Linux takes, in bytes.
const LONGEST_COMPONENT: usize = 255;

/// A file in a session, as the wire shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename = "file")]
pub struct FileResource {
    /// `sesrsc_…`.
    pub id: String,
    /// The session's own copy of the file.
    pub file_id: String,
    /// Where it is, below [`UPLOADS`].
    pub mount_path: String,
    /// When it was added.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// A file that is to be mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewFileResource {
    /// Where in the body it stands, for errors about it; empty for the body itself.
    pub path: String,
    /// The file that was uploaded.
    pub file_id: String,
    /// Where it is to appear.
    pub mount: Mount,
}

/// Where a file appears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The absolute path below [`UPLOADS`]; no component is empty, `.` or `..`.
    pub path: String,
    /// The absolute path that the caller has named, when it does not lie in the session's own
    /// folders: the file appears there as well.
    pub literal: Option<String>,
}

impl NewFileResource {
    /// The place of one of its fields in the body.
    #[must_use]
    pub fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }
}

/// Reads the `resources` of a new session.
///
/// # Errors
/// 400 that names the field, or the path in the hosted wording when two overlap.
pub fn parse_list(values: Vec<Value>) -> Result<Vec<NewFileResource>, ApiError> {
    let mut resources: Vec<NewFileResource> = Vec::with_capacity(values.len());
    for (index, value) in values.into_iter().enumerate() {
        let path = format!("resources[{index}]");
        let resource = parse(Fields::open(value, path.clone())?, path)?;
        check_overlap(&resource.mount, resources.iter().map(|other| other.mount.path.as_str()))?;
        resources.push(resource);
    }
    Ok(resources)
}

/// Reads one resource that is to be mounted; it stands at `path`, empty for the body itself.
///
/// # Errors
/// 400 that names the field, or the path in the hosted wording.
pub fn parse(mut fields: Fields, path: String) -> Result<NewFileResource, ApiError> {
    fields.tag(&schema::RESOURCE)?;
    let file_id = fields.id(&schema::FILE_ID)?;
    let mount = match fields.text(&schema::MOUNT_PATH)?.value() {
        Some(text) => mount(&text, &fields.path_of(&schema::MOUNT_PATH))?,
        None => Mount { path: format!("{UPLOADS}/{file_id}"), literal: None },
    };
    fields.finish(&schema::FILE)?;
    Ok(NewFileResource { path, file_id, mount })
}

/// Refuses a mount that lies at, above or below one of those that are there.
///
/// # Errors
/// 400 in the hosted wording.
pub fn check_overlap<'a>(
    mount: &Mount,
    others: impl IntoIterator<Item = &'a str>,
) -> Result<(), ApiError> {
    let lies_below =
        |one: &str, other: &str| one.strip_prefix(other).is_some_and(|rest| rest.starts_with('/'));
    let clash = others.into_iter().any(|other| {
        mount.path == other || lies_below(&mount.path, other) || lies_below(other, &mount.path)
    });
    if !clash {
        return Ok(());
    }
    let shown = mount.path.strip_prefix(OWN).unwrap_or(&mount.path);
    Err(ApiError::invalid(format!(
        "Invalid file resource: `mount_path` overlaps another resource: {shown}"
    )))
}

/// Where a path leads that a caller has sent.
fn mount(text: &str, place: &str) -> Result<Mount, ApiError> {
    let right = "send a path such as data/input.csv";
    if text.chars().any(char::is_control) {
        return Err(wrong(place, "contains a control character", right));
    }
    if text.ends_with('/') {
        return Err(wrong(place, "ends with a slash", right));
    }
    let mut components = Vec::new();
    let mut rest = text.split('/').filter(|one| !one.is_empty() && *one != ".").peekable();
    let mut is_foreign = false;
    if text.starts_with('/') {
        // What is there already is not put below itself.
        let root: Vec<&str> = UPLOADS.split('/').filter(|one| !one.is_empty()).collect();
        let all: Vec<&str> = rest.clone().collect();
        match all.starts_with(&root) {
            true => rest.by_ref().take(root.len()).for_each(drop),
            false => is_foreign = true,
        }
    }
    for component in rest {
        if component == ".." {
            if components.pop().is_none() {
                return Err(ApiError::invalid(format!(
                    "Invalid file resource: mount path {text:?} escapes /uploads/"
                )));
            }
        } else if component.len() > LONGEST_COMPONENT {
            let what = format!("has a component of {} bytes", component.len());
            return Err(wrong(place, &what, "send components of at most 255 bytes"));
        } else {
            components.push(component);
        }
    }
    if components.is_empty() {
        return Err(wrong(place, "names no file", right));
    }
    let relative = components.join("/");
    let literal = format!("/{relative}");
    let is_own = literal == OWN || literal.starts_with(&format!("{OWN}/"));
    Ok(Mount {
        path: format!("{UPLOADS}/{relative}"),
        literal: (is_foreign && !is_own).then_some(literal),
    })
}

/// The answer to a delete.
#[must_use]
pub fn deleted(id: &str) -> Value {
    serde_json::json!({ "id": id, "type": "session_resource_deleted" })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(path: &str) -> Result<Mount, String> {
        let body = json!({ "type": "file", "file_id": "file_1", "mount_path": path });
        let parsed = parse(Fields::open(body, "").unwrap(), String::new());
        parsed.map(|resource| resource.mount).map_err(|error| error.message)
    }

    #[test]
    fn paths_lead_below_the_uploads() {
        for (path, below, literal) in [
            ("probe.txt", "probe.txt", None),
            ("data/probe.txt", "data/probe.txt", None),
            ("./data//probe.txt", "data/probe.txt", None),
            ("a/../b", "b", None),
            ("/tmp/probe.txt", "tmp/probe.txt", Some("/tmp/probe.txt")),
            ("/data.csv", "data.csv", Some("/data.csv")),
            ("/mnt/user-data/x.csv", "mnt/user-data/x.csv", Some("/mnt/user-data/x.csv")),
            ("/mnt/session/uploads/x.csv", "x.csv", None),
            ("//mnt/session/./uploads/a/x.csv", "a/x.csv", None),
            ("/mnt/session/uploadsx", "mnt/session/uploadsx", None),
            ("/mnt/session/outputs/x", "mnt/session/outputs/x", None),
            ("mnt/session/uploads/x.csv", "mnt/session/uploads/x.csv", None),
            ("ä b/\u{1f600}", "ä b/\u{1f600}", None),
        ] {
            let mount = read(path).unwrap();
            assert_eq!(mount.path, format!("{UPLOADS}/{below}"), "{path}");
            assert_eq!(mount.literal.as_deref(), literal, "{path}");
        }
        let body = json!({ "type": "file", "file_id": "file_1", "mount_path": null });
        let resource = parse(Fields::open(body, "").unwrap(), String::new()).unwrap();
        assert_eq!(resource.mount.path, "/mnt/session/uploads/file_1");
    }

    #[test]
    fn paths_that_lead_out_are_refused_in_the_hosted_wording() {
        for path in ["../x", "a/../../x", "/..", "/mnt/session/uploads/../x", "..", "/../etc/x"] {
            let message = read(path).unwrap_err();
            let wording = format!("Invalid file resource: mount path \"{path}\" escapes /uploads/");
            assert_eq!(message, wording);
        }
        for path in ["", ".", "/", "a/", "/mnt/session/uploads", "a\0b", "a\nb", "a/..", "./."] {
            let message = read(path).unwrap_err();
            assert!(message.starts_with("mount_path: "), "{message}");
        }
        assert!(read(&"x".repeat(256)).unwrap_err().contains("component of 256 bytes"));
        assert!(read(&"x/".repeat(3000)).unwrap_err().contains("has 6000 characters"));
    }

    #[test]
    fn overlaps_are_refused_in_the_hosted_wording() {
        let list = |paths: &[&str]| {
            let file =
                |path: &&str| json!({ "type": "file", "file_id": "file_1", "mount_path": path });
            parse_list(paths.iter().map(file).collect()).map_err(|error| error.message)
        };
        assert!(list(&["a", "b", "ab", "a.b", "c/d", "c/e"]).is_ok());
        for (paths, shown) in [
            (&["dupe.txt", "dupe.txt"][..], "dupe.txt"),
            (&["dupe.txt", "/dupe.txt"], "dupe.txt"),
            (&["x", "a/b", "a/b/c"], "a/b/c"),
            (&["a/b/c", "a/b"], "a/b"),
            (&["a", "/mnt/session/uploads/a"], "a"),
        ] {
            let wording = "Invalid file resource: `mount_path` overlaps another resource: /uploads";
            assert_eq!(list(paths).unwrap_err(), format!("{wording}/{shown}"));
        }
    }

    #[test]
    fn each_refusal_names_its_place() {
        for (body, start) in [
            (json!({}), "resources[0].type: is missing"),
            (json!({ "type": "moon" }), "Failed to parse request: resources[0].type: \"moon\""),
            (
                json!({ "type": "github_repository", "url": "https://github.com/a/b" }),
                "resources[0].type: github_repository is not supported",
            ),
            (
                json!({ "type": "memory_store", "memory_store_id": "memstore_1" }),
                "resources[0].type: memory_store is not supported",
            ),
            (json!({ "type": "file" }), "resources[0].file_id: is missing"),
            (json!({ "type": "file", "file_id": "f" }), "resources[0].file_id: \"f\" is no such"),
            (
                json!({ "type": "file", "file_id": "file_1", "mount_path": 1 }),
                "resources[0].mount_path: is a number",
            ),
            (
                json!({ "type": "file", "file_id": "file_1", "mode": 1 }),
                "Failed to parse request body: unknown field \"resources[0].mode\"",
            ),
            (json!("file_1"), "resources[0]: is a text"),
        ] {
            let message = parse_list(vec![body]).unwrap_err().message;
            assert!(message.starts_with(start), "{message}");
        }
        let body = json!({ "type": "file", "file_id": "file_1" });
        let resources = parse_list(vec![body.clone()]).unwrap();
        assert_eq!(resources[0].path_of("file_id"), "resources[0].file_id");
        let alone = parse(Fields::open(body, "").unwrap(), String::new()).unwrap();
        assert_eq!(alone.path_of("file_id"), "file_id");
    }
}
