//! All there is to say about a machine, for programs. The fields are described in docs/doctor.md.

use anyhow::Result;
use serde::Serialize;
use split_lock_host::{Answer, Checkup};

use super::instruction::Located;

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    schema_version: u32,
    durations_in: &'static str,
    title: String,
    meaning: String,
    answer: Answer,
    #[serde(flatten)]
    checkup: &'a Checkup,
    instructions: &'a [Located],
}

pub(super) fn of(checkup: &Checkup, instructions: &[Located]) -> Result<String> {
    let document = Document {
        schema: "splitlock-doctor",
        schema_version: 1,
        durations_in: "ns",
        title: checkup.verdict.title(),
        meaning: checkup.verdict.condition.meaning(),
        answer: checkup.verdict.answer(),
        checkup,
        instructions,
    };
    Ok(format!("{}\n", serde_json::to_string_pretty(&document)?))
}
