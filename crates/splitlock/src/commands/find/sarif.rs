//! SARIF 2.1.0: what code hosts show at the lines of a change.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::Found;
use super::json::hexadecimal;
use super::site::Site;
use super::text::gaps;

const RULE: &str = "split-lock";

/// Files below `folder` are named as they are there.
pub(super) fn text(found: &Found, folder: &Path) -> Result<String> {
    let gaps = gaps(&found.recordings);
    let notifications = gaps
        .iter()
        .map(|gap| json!({"level": "warning", "message": {"text": gap}}));
    let results = found.sites.all().iter().map(|site| result(site, folder));
    let value = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "splitlock find",
                "version": env!("CARGO_PKG_VERSION"),
                "informationUri": env!("CARGO_PKG_REPOSITORY"),
                "rules": [{
                    "id": RULE,
                    "name": "SplitLock",
                    "shortDescription": {"text": "A locked access crosses a cache line"},
                    "fullDescription": {"text": "The CPU locks the whole bus for it, which takes a thousand times as \
                        long and slows every core. Linux can make the thread sleep for it, or end the program."},
                    "help": {"text": "Align the object to its size: remove `packed`, or use alignas."},
                    "defaultConfiguration": {"level": "warning"},
                }],
            }},
            "invocations": [{
                "executionSuccessful": true,
                "toolExecutionNotifications": notifications.collect::<Vec<_>>(),
            }],
            "results": results.collect::<Vec<_>>(),
        }],
    });
    let text = serde_json::to_string_pretty(&value).context("cannot write the result")?;
    Ok(text + "\n")
}

fn result(site: &Site, folder: &Path) -> Value {
    let code = &site.code;
    let function = site.function();
    let inside = function
        .as_ref()
        .map(|name| format!(" in {name}"))
        .unwrap_or_default();
    let times = if site.count == 1 { "time" } else { "times" };
    let message = format!(
        "`{}`{inside} split a lock {} {times}: {} bytes at offset {} of a cache line, {}",
        code.text,
        site.count,
        site.operand.bytes,
        site.operand.line_offset(),
        site.operand.in_words()
    );
    let place = code.module.as_deref().zip(code.offset);
    let identity = place.map_or_else(String::new, |(module, _)| file_name(module));
    let name = code.function.as_ref().map_or("", |(name, _)| &name.mangled);
    let mut result = json!({
        "ruleId": RULE,
        "ruleIndex": 0,
        "level": "warning",
        "message": {"text": message},
        "locations": [location(site, folder)],
        "partialFingerprints": {
            "splitlockSite/v1": format!("{identity}:{name}:{}", hexadecimal(&code.bytes)),
        },
        "properties": {
            "count": site.count,
            "module": code.module,
            "addressInModule": code.offset.map(|it| format!("{it:#x}")),
        },
    });
    if let Some(name) = &site.suppressed_by {
        result["suppressions"] = json!([{"kind": "external", "justification": name}]);
    }
    result
}

fn location(site: &Site, folder: &Path) -> Value {
    let logical: Vec<_> = site
        .code
        .function
        .iter()
        .map(|(name, _)| json!({"fullyQualifiedName": name.demangled, "kind": "function"}))
        .collect();
    let physical = match (site.line(folder), &site.code.module) {
        (Some(line), _) => Some(json!({
            "artifactLocation": artifact(&line.file, folder),
            "region": {"startLine": line.line},
        })),
        (None, Some(module)) => Some(json!({"artifactLocation": artifact(module, folder)})),
        (None, None) => None,
    };
    let mut location = json!({"logicalLocations": logical});
    if let Some(physical) = physical {
        location["physicalLocation"] = physical;
    }
    location
}

fn artifact(file: &str, folder: &Path) -> Value {
    match Path::new(file).strip_prefix(folder) {
        Ok(inside) => json!({"uri": escaped(&inside.to_string_lossy()), "uriBaseId": "%SRCROOT%"}),
        Err(_) if file.starts_with('/') => json!({"uri": format!("file://{}", escaped(file))}),
        Err(_) => json!({"uri": escaped(file), "uriBaseId": "%SRCROOT%"}),
    }
}

fn file_name(path: &str) -> String {
    let name = Path::new(path).file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// As a path in a URI has to be.
fn escaped(path: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-~+".contains(&byte);
    path.bytes()
        .map(|byte| match is_plain(byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_project_are_named_from_its_folder() {
        let folder = Path::new("/home/me/project");
        let inside = artifact("/home/me/project/src/a b.cpp", folder);
        assert_eq!(inside["uri"], "src/a%20b.cpp");
        assert_eq!(
            artifact("/usr/include/c++/atomic", folder)["uri"],
            "file:///usr/include/c%2B%2B/atomic".replace("%2B", "+")
        );
        assert_eq!(artifact("src/a.cpp", folder)["uri"], "src/a.cpp");
    }
}
