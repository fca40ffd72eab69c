//! What a machine has sent, by name.

use anyhow::{Context, Result};
use split_lock_lab::bundle::Bundles;

/// One of the bundles that a machine has sent.
pub(crate) fn bytes<'a>(bundles: &'a Bundles, name: &str) -> Result<&'a [u8]> {
    let bytes = bundles.get(name).map(Vec::as_slice);
    bytes.with_context(|| format!("the machine did not send {name}"))
}

/// What a program in the machine printed, what it complained about, and its exit code.
pub(crate) fn output_of(bundles: &Bundles, name: &str) -> Result<[String; 3]> {
    let text = |part| {
        let bytes = bytes(bundles, &format!("{name}.{part}"))?;
        Ok::<_, anyhow::Error>(String::from_utf8_lossy(bytes).into_owned())
    };
    Ok([text("out")?, text("err")?, text("code")?])
}
