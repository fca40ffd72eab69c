//! A folder of results, which takes the place of nothing but an older one.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::draft::{self, Draft};
use super::{buffered, folder_of, resolve};

/// The file by which a report is known: it carries the data of all sweeps, and is put in place last.
const PAGE: &str = "report.html";
/// What makes it one of ours; the page's template writes it near its beginning.
const MARK: &str = r#"<meta name="generator" content="splitlock "#;
const BEGINNING_BYTES: u64 = 4096;
const ADVICE: &str = "choose another folder with --out, or move it away";

/// A folder of results, of which every file appears whole.
#[derive(Debug)]
pub(crate) struct OutputFolder {
    path: PathBuf,
    /// The names that may be in a folder that this one replaces.
    names: &'static [&'static str],
    /// Inside a folder that exists, which may be a mount point or where somebody stands, and
    /// otherwise beside it.
    draft: Draft,
}

impl OutputFolder {
    /// A folder at `path` that will hold files of these `names`, one of which is the page.
    ///
    /// # Errors
    /// If there is something that is not a report, or nothing can be written there.
    pub(crate) fn prepare(path: &Path, names: &'static [&'static str]) -> Result<Self> {
        debug_assert!(names.contains(&PAGE));
        let path = resolve(path);
        let exists = refuse_to_lose(&path, names)?;
        let draft = Draft::folder_in(if exists { &path } else { folder_of(&path) })
            .with_context(|| format!("cannot write to the folder {}", path.display()))?;
        Ok(OutputFolder { path, names, draft })
    }

    /// Writes one of its files.
    ///
    /// # Errors
    /// If that is not possible. The folder stays as it was then.
    pub(crate) fn write(
        &self,
        name: &str,
        content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<()> {
        debug_assert!(self.names.contains(&name), "{name} is not announced");
        self.draft
            .file(name)
            .and_then(|mut file| {
                buffered(&mut file, content)?;
                file.sync_all()
            })
            // The folder that the user knows, not the draft.
            .with_context(|| format!("cannot write {}", self.path.join(name).display()))
    }

    /// Lets the files appear, each of them whole, and the page last.
    ///
    /// # Errors
    /// If something else has been put there meanwhile, or they cannot be put there. The draft stays
    /// then, so that nothing that was measured is lost.
    pub(crate) fn finish(self) -> Result<PathBuf> {
        let OutputFolder { path, names, draft } = self;
        let drafted = draft.path().to_owned();
        draft
            .place_folder(|draft| match refuse_to_lose(&path, names)? {
                true => Ok(replace(draft, &path, names)?),
                false => Ok(fs::rename(draft, &path)?),
            })
            .with_context(|| {
                let (to, from) = (path.display(), drafted.display());
                format!("cannot put the report at {to}, so it stays in {from}")
            })?;
        Ok(path)
    }
}

/// Whether there is a folder, which may be replaced if it is empty or a report and nothing else.
fn refuse_to_lose(path: &Path, names: &[&str]) -> Result<bool> {
    let folder = path.display();
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        entries => entries.with_context(|| format!("cannot use {folder} as a folder"))?,
    };
    let cannot_look = || format!("cannot look into {folder}");
    let mut found = None;
    for entry in entries {
        let entry = entry.with_context(cannot_look)?;
        let name = entry.file_name();
        let shown = Path::new(&name).display();
        let is_draft = name
            .as_encoded_bytes()
            .starts_with(draft::PREFIX.as_bytes());
        if is_draft {
            continue;
        }
        if !names.iter().any(|ours| OsStr::new(ours) == name) {
            bail!("{folder} holds {shown}, which is not part of a report: {ADVICE}");
        }
        if !entry.file_type().with_context(cannot_look)?.is_file() {
            bail!("{folder} holds {shown}, which is no ordinary file: {ADVICE}");
        }
        found = Some(name);
    }
    if let Some(name) = found
        && !is_page_of_ours(&path.join(PAGE)).with_context(cannot_look)?
    {
        let shown = Path::new(&name).display();
        bail!("{folder} holds {shown}, and no {PAGE} that splitlock has written: {ADVICE}");
    }
    Ok(true)
}

fn is_page_of_ours(page: &Path) -> io::Result<bool> {
    let file = match File::open(page) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        file => file?,
    };
    let mut beginning = vec![];
    file.take(BEGINNING_BYTES).read_to_end(&mut beginning)?;
    Ok(String::from_utf8_lossy(&beginning).contains(MARK))
}

/// File by file, because the folder itself has to stay what it is. Those of the report before that
/// have no successor go.
fn replace(draft: &Path, path: &Path, names: &[&str]) -> io::Result<()> {
    let data = names.iter().filter(|&&name| name != PAGE);
    for name in data.chain([&PAGE]) {
        match fs::rename(draft.join(name), path.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                remove_if_there(&path.join(name))?;
            }
            result => result?,
        }
    }
    fs::remove_dir(draft)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::super::tests::{names_in, put, text};
    use super::*;

    const NAMES: &[&str] = &["report.html", "data.csv", "more.csv"];

    fn page(content: &str) -> String {
        format!("<!DOCTYPE html>\n{MARK}1.2.3\"/>{content}")
    }

    fn drafted(path: &Path, files: &[(&str, &str)]) -> Result<OutputFolder> {
        let folder = OutputFolder::prepare(path, NAMES)?;
        for (name, content) in files {
            folder.write(name, |out| out.write_all(content.as_bytes()))?;
        }
        Ok(folder)
    }

    fn report(path: &Path, content: &'static str) -> Result<PathBuf> {
        let page = page(content);
        drafted(path, &[("data.csv", content), (PAGE, &page)])?.finish()
    }

    #[test]
    fn a_report_replaces_a_report_and_an_empty_folder() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("report");
        fs::create_dir(&path).unwrap();
        report(&path, "first").unwrap();
        report(&path, "second").unwrap();
        assert_eq!(text(&path.join(PAGE)), page("second"));
        assert_eq!(names_in(&path), ["data.csv", PAGE]);
        assert_eq!(names_in(parent.path()), ["report"]);
    }

    #[test]
    fn a_folder_stays_what_it_is_also_behind_a_link() {
        let parent = tempfile::tempdir().unwrap();
        let (path, link) = (parent.path().join("report"), parent.path().join("link"));
        symlink("report", &link).unwrap();
        // The link leads nowhere yet: the folder appears where it leads to.
        report(&link, "first").unwrap();
        let inode = fs::metadata(&path).unwrap().ino();
        report(&link, "second").unwrap();
        assert_eq!(text(&path.join("data.csv")), "second");
        assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
        assert!(link.is_symlink());
        symlink("missing/report", parent.path().join("bad")).unwrap();
        OutputFolder::prepare(&parent.path().join("bad"), NAMES).unwrap_err();
    }

    #[test]
    fn what_the_new_report_does_not_have_goes() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("report");
        let files = [("more.csv", "old"), (PAGE, &page("old"))];
        drafted(&path, &files).unwrap().finish().unwrap();
        report(&path, "new").unwrap();
        assert_eq!(names_in(&path), ["data.csv", PAGE]);
    }

    /// Refused before anything is measured, and everything stays as it was.
    fn assert_refused(path: &Path, reason: &str) {
        let before = names_in(path);
        let error = report(path, "new").unwrap_err().to_string();
        assert!(error.contains(reason) && error.contains("--out"), "{error}");
        assert_eq!(names_in(path), before);
    }

    #[test]
    fn what_is_not_a_report_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        put(&path.join("data.csv"), "somebody's").unwrap();
        assert_refused(path, "no report.html");
        put(&path.join(PAGE), "<html>somebody's</html>").unwrap();
        assert_refused(path, "no report.html");
        fs::remove_file(path.join(PAGE)).unwrap();
        fs::create_dir(path.join(PAGE)).unwrap();
        assert_refused(path, "no ordinary file");
        fs::remove_dir(path.join(PAGE)).unwrap();
        symlink("elsewhere", path.join(PAGE)).unwrap();
        assert_refused(path, "no ordinary file");
        assert_eq!(text(&path.join("data.csv")), "somebody's");
    }

    #[test]
    fn a_report_with_something_else_in_it_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        report(folder.path(), "first").unwrap();
        put(&folder.path().join("notes.txt"), "mine").unwrap();
        assert_refused(folder.path(), "notes.txt");
        assert_eq!(text(&folder.path().join(PAGE)), page("first"));
    }

    #[test]
    fn what_appears_meanwhile_is_left_alone_and_the_draft_is_named() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("report");
        for exists in [false, true] {
            if exists {
                fs::remove_file(path.join("notes.txt")).unwrap();
            }
            let page = page("new");
            let folder = drafted(&path, &[(PAGE, &page)]).unwrap();
            fs::create_dir_all(&path).unwrap();
            put(&path.join("notes.txt"), "mine").unwrap();
            let error = format!("{:#}", folder.finish().unwrap_err());
            assert!(error.contains("notes.txt"), "{error}");
            let draft = error.split("stays in ").nth(1).unwrap();
            let draft = Path::new(draft.split(": ").next().unwrap());
            assert_eq!(text(&draft.join(PAGE)), page);
            assert_eq!(text(&path.join("notes.txt")), "mine");
        }
    }

    #[test]
    fn a_report_that_is_not_finished_does_not_appear() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("report");
        report(&path, "first").unwrap();
        drop(drafted(&path, &[("data.csv", "half")]).unwrap());
        assert_eq!(text(&path.join("data.csv")), "first");
        assert_eq!(names_in(&path), ["data.csv", PAGE]);
        assert_eq!(names_in(parent.path()), ["report"]);
    }

    #[test]
    fn errors_name_the_folder_and_not_the_draft() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("missing/report");
        let error = format!("{:#}", OutputFolder::prepare(&path, NAMES).unwrap_err());
        assert!(error.contains("missing/report"), "{error}");
        assert!(!error.contains(draft::PREFIX), "{error}");
        let folder = OutputFolder::prepare(&parent.path().join("report"), NAMES).unwrap();
        let full = |_: &mut dyn Write| Err(io::ErrorKind::StorageFull.into());
        let error = format!("{:#}", folder.write("data.csv", full).unwrap_err());
        assert!(error.contains("report/data.csv"), "{error}");
        assert!(!error.contains(draft::PREFIX), "{error}");
    }
}
