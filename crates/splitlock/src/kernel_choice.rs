//! The kernel that runs here, as the model knows it.

use anyhow::{Context, Result, anyhow};
use split_lock_host::Facts;
use split_lock_model::kernel::Profile;

/// What this host's kernel would do in mode `warn`, whether or not its CPU can detect split locks.
pub(crate) fn of_this_host(facts: &Facts) -> Result<Profile> {
    let release = facts.kernel_release.known().ok_or_else(|| {
        anyhow!("cannot see which kernel runs here: name one with --kernel or --host")
    })?;
    let hz = facts.hz.known().ok_or_else(|| {
        anyhow!("cannot see how often this kernel ticks: name one with --kernel or --host, such as {release},hz=250")
    })?;
    format!("{release},hz={hz}")
        .parse()
        .with_context(|| format!("this host's kernel {release} is not one that the model knows"))
}

/// The kernel that was asked for, or this host's, and what is worth knowing about it.
pub(crate) fn asked_or_of_this_host(asked: Option<&Profile>) -> Result<(Profile, Option<String>)> {
    if let Some(kernel) = asked {
        return Ok((kernel.clone(), kernel.note().map(str::to_owned)));
    }
    let kernel = of_this_host(&Facts::live()?)?;
    let mut taken = format!(
        "No kernel was given, so this host's is taken, as if it were booted with \
         split_lock_detect=warn: {kernel}."
    );
    if let Some(note) = kernel.note() {
        taken = format!("{taken} The release is {note}.");
    }
    Ok((kernel, Some(taken)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_has_a_profile() {
        let facts = Facts::live().unwrap();
        let profile = of_this_host(&facts).unwrap();
        assert_eq!(Some(&profile.hz()), facts.hz.known());
    }
}
