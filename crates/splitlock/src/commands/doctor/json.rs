//! All there is to say about a machine, for programs. The fields are described in docs/doctor.md.

use anyhow::Result;
use serde::Serialize;
use split_lock_host::{Answer, Diagnosis};

use super::instruction::Located;
use crate::stdout;

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    schema_version: u32,
    durations_in: &'static str,
    title: String,
    meaning: String,
    answer: Answer,
    #[serde(flatten)]
    diagnosis: &'a Diagnosis,
    instructions: &'a [Located],
}

pub(super) fn of(diagnosis: &Diagnosis, instructions: &[Located]) -> Result<String> {
    stdout::json(&Document {
        schema: "splitlock-doctor",
        schema_version: 1,
        durations_in: "ns",
        title: diagnosis.verdict.title(),
        meaning: diagnosis.verdict.condition.meaning(),
        answer: diagnosis.verdict.answer(),
        diagnosis,
        instructions,
    })
}
