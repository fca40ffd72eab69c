//! The result for programs. The fields are described in docs/find.md.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use split_lock_find::records::AddressSpace;
use split_lock_symbols::{FunctionName, SourceLine};

use super::Found;
use super::place::Kind;
use super::site::Site;
use super::symbols::Caller;

pub(super) fn text(found: &Found) -> Result<String> {
    let recordings = &found.recordings;
    let unwatched = recordings.unwatched.iter().map(
        |((program, reason), count)| json!({"program": program, "reason": reason, "count": count}),
    );
    let value = json!({
        "schema": "splitlock-find",
        "schema_version": 1,
        "command": found.command,
        "emulator": found.emulator,
        "plugin_interface_version": recordings.api_version,
        "system": found.is_system,
        "programs": recordings.files,
        "split_locks": found.sites.all().iter().map(|site| site.count).sum::<u64>(),
        "sites": found.sites.all().iter().map(|it| site(found, it)).collect::<Vec<_>>(),
        "complete": !recordings.is_incomplete(),
        "not_watched": unwatched.collect::<Vec<_>>(),
        "more_not_watched": recordings.unwatched_without_room,
        "programs_without_record": recordings.without_record(),
        "damaged_records": recordings.damaged,
        "locked_instructions_translated": recordings.translated,
        "locked_instructions_left_out": recordings.left_out,
        "split_locks_without_site": recordings.without_site,
        "still_running": recordings.still_running,
        "unused_suppressions": found.unused_suppressions,
    });
    let text = serde_json::to_string_pretty(&value).context("cannot write the result")?;
    Ok(text + "\n")
}

fn site(found: &Found, site: &Site) -> Value {
    let code = &site.code;
    let spaces = || site.spaces.iter().map(space).collect::<Vec<_>>();
    json!({
        "count": site.count,
        "across_pages": site.pages,
        "instruction": {
            "text": code.text,
            "bytes": hexadecimal(&code.bytes),
            "address": address(code.pc),
            "bits": code.bits,
            "or_bits": code.other_bits,
        },
        "module": code.module,
        "address_in_module": code.offset.map(address),
        "function": function(code.function.as_ref()),
        "source": source(&code.source),
        "callers": code.callers.iter().map(caller).collect::<Vec<_>>(),
        "other_callers": site.has_more_callers,
        "operand": operand(site),
        "thread": site.thread,
        "threads": site.threads,
        "more_threads": site.has_more_threads,
        "programs": site.programs,
        "address_spaces": found.recordings.tells_spaces.then(spaces),
        "more_address_spaces": site.has_more_spaces,
        "processes": site.processes,
        "suppressed_by": site.suppressed_by,
    })
}

fn space(space: &AddressSpace) -> Value {
    let program = String::from_utf8_lossy(&space.program);
    json!({
        "page_table": address(space.page_table),
        "program": Some(program).filter(|it| !it.is_empty()),
        "count": space.count,
    })
}

fn caller(caller: &Caller) -> Value {
    json!({
        "module": caller.module,
        "return_address": address(caller.return_address),
        "function": function(caller.function.as_ref()),
        "source": source(&caller.source),
    })
}

fn function(symbol: Option<&(FunctionName, u64)>) -> Option<Value> {
    let (name, offset) = symbol?;
    Some(json!({"name": name.demangled, "mangled": name.mangled, "offset": offset}))
}

fn source(lines: &[SourceLine]) -> Value {
    let lines = lines.iter();
    lines
        .map(|it| json!({"file": it.file, "line": it.line}))
        .collect()
}

fn operand(site: &Site) -> Value {
    let operand = &site.operand;
    let (variable, file, offset) = match &operand.kind {
        Kind::Variable { name, offset, file } => (Some(&name.demangled), Some(file), Some(*offset)),
        Kind::Data { file, offset } => (None, Some(file), Some(*offset)),
        Kind::Heap { offset } | Kind::Anonymous { offset } => (None, None, Some(*offset)),
        Kind::Stack | Kind::ThreadStack | Kind::Unknown => (None, None, None),
    };
    json!({
        "bytes": operand.bytes,
        "offset_in_line": operand.line_offset(),
        "kind": operand.kind(),
        "variable": variable,
        "file": file,
        "offset": offset,
        "first": address(operand.first),
        "last": address(operand.last),
    })
}

pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Programs do not agree on how large a number can be.
fn address(address: u64) -> String {
    format!("{address:#x}")
}
