//! Patches for Linux, as `git am` takes them: a change of the kernel, and the test of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use split_lock_model::time::Hz;

use crate::host::args::PatchArgs;
use crate::host::cache::Cache;
use crate::host::kernel::built::BuiltKernel;
use crate::host::kernel::edit::{Edited, Edits};
use crate::host::kernel::variant::Variant;
use crate::host::output;
use crate::host::programs;
use crate::host::step::step;

const SELFTEST_EDIT: &str = concat!(
    include_str!("../../../patch/selftest.edit"),
    include_str!("../../../patch/split_lock.c")
);
const SELFTEST_MESSAGE: &str = include_str!("../../../patch/selftest.message");

struct Patch {
    message: &'static str,
    edits: &'static str,
}

/// The change first: each commit builds, and the test passes where it is.
fn series(policy: Variant) -> Result<[Patch; 2]> {
    let message = policy.message();
    Ok([
        Patch {
            message: message.with_context(|| format!("{policy} is no patch for Linux"))?,
            edits: policy.text(),
        },
        Patch {
            message: SELFTEST_MESSAGE,
            edits: SELFTEST_EDIT,
        },
    ])
}

/// Writes them, and prints where they are.
pub(crate) fn run(args: &PatchArgs) -> Result<bool> {
    let patches = series(args.policy)?;
    let cache = Cache::new();
    let _alone = cache.lock()?;
    let kernel = BuiltKernel {
        series: args.source.clone(),
        hz: Hz::HZ_1000,
        variant: None,
    };
    let (source, tools) = kernel.fetch(&cache)?;
    let what = format!("unpacking Linux {}, unless it is there", source.version);
    let tree = step(&what, || kernel.tree(&source, &tools, &cache))?;
    let name = format!("{}-{}", args.source, args.policy);
    let out = args.out.clone();
    let out = out.unwrap_or_else(|| cache.folder("patches").join(name));
    ensure!(
        !out.exists() || holds_only_patches(&out)?,
        "{} holds something else than patches: name another folder with --out",
        out.display()
    );
    let scratch = tempfile::tempdir().context("no temporary folder")?;
    let written = step("making the series", || {
        let repository = Repository::of(&scratch.path().join("linux"), tree.path(), &patches)?;
        repository.commit_all(tree.path(), &patches, args.author.as_deref())
    })?;
    step("git am, in a repository of the unmodified files", || {
        written.apply(&scratch.path().join("fresh"))
    })?;
    step("the source's own checkpatch", || {
        check_style(tree.path(), &written.files)
    })?;
    fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    let old = patches_in(&out)?;
    let mut new = Vec::new();
    for file in &written.files {
        let target = out.join(file.file_name().context("a patch has a name")?);
        output::write(&target, &fs::read(file)?)?;
        println!("{}", target.display());
        new.push(target);
    }
    for old in old.iter().filter(|old| !new.contains(old)) {
        fs::remove_file(old).with_context(|| format!("cannot remove {}", old.display()))?;
    }
    Ok(true)
}

fn patches_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let place = || format!("cannot read {}", folder.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(place)? {
        files.push(entry.with_context(place)?.path());
    }
    files.retain(|path| path.extension().is_some_and(|it| it == "patch"));
    files.sort();
    Ok(files)
}

fn holds_only_patches(folder: &Path) -> Result<bool> {
    let place = || format!("cannot read {}", folder.display());
    let all = fs::read_dir(folder).with_context(place)?.count();
    Ok(all == patches_in(folder)?.len())
}

/// A repository of only those files of a source that patches touch.
struct Repository {
    folder: PathBuf,
    /// The commit of the unmodified files.
    base: String,
}

/// Who makes the commits that nobody sees.
const NOBODY: [&str; 4] = ["-c", "user.name=lab", "-c", "user.email=lab@localhost"];

/// A series, and what it makes of the source.
struct Written {
    repository: Repository,
    files: Vec<PathBuf>,
}

impl Repository {
    /// # Errors
    /// Where an edit does not fit the source.
    fn of(folder: &Path, tree: &Path, patches: &[Patch]) -> Result<Self> {
        let mut edited = Edited::new();
        for patch in patches {
            Edits::parse(patch.edits)?.apply(tree, &mut edited)?;
        }
        fs::create_dir_all(folder)?;
        for path in edited.keys().filter(|path| tree.join(path).exists()) {
            output::write(&folder.join(path), &fs::read(tree.join(path))?)?;
        }
        let mut repository = Self {
            folder: folder.to_owned(),
            base: String::new(),
        };
        repository.git(&["init", "--quiet"])?;
        repository.git(&["add", "."])?;
        let commit = ["commit", "--quiet", "--message", "the unmodified files"];
        repository.git(&[&NOBODY[..], &commit].concat())?;
        repository.base = repository.git(&["rev-parse", "HEAD"])?.trim().to_owned();
        Ok(repository)
    }

    fn commit_all(self, tree: &Path, patches: &[Patch], author: Option<&str>) -> Result<Written> {
        let mut identity = Vec::new();
        if let Some(author) = author {
            let (name, mail) = author
                .strip_suffix('>')
                .and_then(|author| author.split_once(" <"))
                .with_context(|| format!("{author:?} is not of the form NAME <MAIL>"))?;
            identity.extend(["-c".to_owned(), format!("user.name={name}")]);
            identity.extend(["-c".to_owned(), format!("user.email={mail}")]);
        }
        let identity: Vec<&str> = identity.iter().map(String::as_str).collect();
        let mut edited = Edited::new();
        for patch in patches {
            Edits::parse(patch.edits)?.apply(tree, &mut edited)?;
            for (path, text) in &edited {
                output::write(&self.folder.join(path), text.as_bytes())?;
            }
            self.git(&["add", "."])?;
            let commit = ["commit", "--quiet", "--signoff", "--message", patch.message];
            self.git(&[&identity[..], &commit].concat())
                .context("a patch needs an author: name one with --author 'NAME <MAIL>'")?;
        }
        let folder = self.folder.with_file_name("patches");
        let folder = folder
            .to_str()
            .context("a temporary folder has a plain name")?;
        let files = self.git(&["format-patch", "--output-directory", folder, &self.base])?;
        Ok(Written {
            files: files.lines().map(PathBuf::from).collect(),
            repository: self,
        })
    }

    fn git(&self, arguments: &[&str]) -> Result<String> {
        let mut git = Command::new("git");
        git.current_dir(&self.folder)
            .env("GIT_CEILING_DIRECTORIES", "/")
            // It would wait for somebody.
            .args([
                "-c",
                "commit.gpgsign=false",
                "-c",
                "core.hooksPath=/dev/null",
            ])
            .args(arguments);
        programs::run(&mut git)
    }
}

impl Written {
    /// # Errors
    /// Where they do not apply, or lead to something else.
    fn apply(&self, folder: &Path) -> Result<()> {
        let own = self.repository.folder.to_str().context("a plain name")?;
        let fresh = Repository {
            folder: folder.to_owned(),
            base: self.repository.base.clone(),
        };
        fs::create_dir_all(folder)?;
        fresh.git(&["clone", "--quiet", own, "."])?;
        fresh.git(&["checkout", "--quiet", &fresh.base])?;
        let files: Vec<&str> = self.files.iter().filter_map(|file| file.to_str()).collect();
        fresh.git(&[&NOBODY[..], &["am", "--quiet"], &files].concat())?;
        let tree = |repository: &Self| repository.repository.git(&["rev-parse", "HEAD^{tree}"]);
        let applied = fresh.git(&["rev-parse", "HEAD^{tree}"])?;
        ensure!(
            applied == tree(self)?,
            "git am makes something else of the patches than what they were made from"
        );
        Ok(())
    }
}

/// # Errors
/// With its complaints.
fn check_style(tree: &Path, files: &[PathBuf]) -> Result<()> {
    let script = tree.join("scripts/checkpatch.pl");
    ensure!(
        script.exists(),
        "{} has no scripts/checkpatch.pl",
        tree.display()
    );
    for file in files {
        let mut perl = Command::new("perl");
        perl.current_dir(tree)
            .arg(&script)
            // MAINTAINERS names folders, and the new file's is among them.
            .args(["--terse", "--no-summary", "--ignore", "FILE_PATH_CHANGES"])
            // The commit that is fixed is in no repository here.
            .args(["--ignore", "UNKNOWN_COMMIT_ID"])
            .arg(file);
        programs::run(&mut perl).context("checkpatch complains")?;
    }
    Ok(())
}
