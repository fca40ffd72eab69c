//! All there is to say about a machine, for programs. The fields are described in docs/doctor.md.

use anyhow::Result;
use serde_json::json;

use super::Checkup;

impl Checkup {
    pub(super) fn json(&self) -> Result<String> {
        let value = json!({
            "schema": "splitlock-doctor",
            "schema_version": 1,
            "durations_in": "ns",
            "title": self.verdict.title(),
            "meaning": self.verdict.condition.meaning(),
            "answer": self.verdict.answer(),
            "verdict": self.verdict,
            "facts": self.facts,
            "history": self.history,
        });
        Ok(format!("{}\n", serde_json::to_string_pretty(&value)?))
    }
}
