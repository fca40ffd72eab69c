//! The files that processes have written, read when they have ended.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use split_lock_find::records::{FileWords, Recording};

/// With so many files it is worth finding out which processes have ended: a test suite may execute 10,000 programs.
const MANY: usize = 256;
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What all processes have done.
#[derive(Debug, Clone, Default)]
pub(super) struct Recordings {
    /// Files that were read: programs that ran in the emulator.
    pub(super) files: u64,
    /// Those of processes that split locks.
    pub(super) of_splitters: Vec<Recording>,
    /// Programs that ran outside, with the reason and how often.
    pub(super) unwatched: BTreeMap<(String, String), u64>,
    pub(super) unwatched_without_room: u64,
    /// Files that cannot be read, or were not written to the end.
    pub(super) damaged: u64,
    pub(super) translated: u64,
    pub(super) left_out: u64,
    pub(super) without_site: u64,
    pub(super) api_version: u32,
    /// The emulator tells address spaces of a guest.
    pub(super) tells_spaces: bool,
    executed: u64,
    /// Processes that still ran at the end, if it was looked.
    pub(super) still_running: Vec<u32>,
}

impl Recordings {
    fn add(&mut self, recording: Recording) {
        self.files += 1;
        self.executed += recording.executed;
        self.translated += recording.translated;
        self.left_out += recording.left_out;
        self.without_site += recording.without_site;
        self.unwatched_without_room += recording.unwatched_without_room;
        self.api_version = recording.api_version;
        self.tells_spaces |= recording.tells_spaces;
        for unwatched in &recording.unwatched {
            let path = String::from_utf8_lossy(&unwatched.path).into_owned();
            let reason = unwatched.reason.clone();
            *self.unwatched.entry((path, reason)).or_default() += 1;
        }
        if !recording.sites.is_empty() {
            self.of_splitters.push(recording);
        }
    }

    fn read(&mut self, path: &Path) {
        match read_file(path).and_then(|bytes| Recording::read(&bytes).ok()) {
            Some(recording) => self.add(recording),
            None => self.damaged += 1,
        }
    }

    /// Programs that were started in the emulator and have left nothing: it could not run them, or there was no room.
    pub(super) fn without_record(&self) -> u64 {
        (self.executed + 1).saturating_sub(self.files + self.damaged)
    }

    /// Something was not watched.
    pub(super) fn is_incomplete(&self) -> bool {
        let unseen = self.unwatched_without_room + self.damaged + self.left_out + self.without_site;
        !self.unwatched.is_empty() || unseen + self.without_record() > 0
    }
}

/// Only ordinary files of the right size: others than we may make some here.
fn read_file(path: &Path) -> Option<Vec<u8>> {
    let metadata = fs::symlink_metadata(path).ok()?;
    if !metadata.is_file() || metadata.size() != FileWords::BYTES as u64 {
        return None;
    }
    let mut bytes = vec![];
    let limit = FileWords::BYTES as u64;
    fs::File::open(path)
        .ok()?
        .take(limit)
        .read_to_end(&mut bytes)
        .ok()?;
    Some(bytes)
}

/// Reads files when nobody writes to them any more, so that there are never too many.
pub(super) struct Collector {
    reader: Reader,
    thread: JoinHandle<()>,
    stop: mpsc::Sender<()>,
}

/// What was read, and what is still being written.
#[derive(Clone)]
pub(super) struct Reader {
    folder: PathBuf,
    done: Arc<Mutex<Recordings>>,
}

impl Collector {
    pub(super) fn start(folder: &Path) -> Result<Self> {
        let reader = Reader {
            folder: folder.to_owned(),
            done: Arc::default(),
        };
        let (stop, stopped) = mpsc::channel();
        let own = reader.clone();
        let work = move || {
            while stopped.recv_timeout(LOOK_EVERY) == Err(mpsc::RecvTimeoutError::Timeout) {
                own.collect_ended();
            }
        };
        let thread = thread::Builder::new()
            .name("records".into())
            .spawn(work)
            .context("cannot start a thread to read records")?;
        Ok(Self {
            reader,
            thread,
            stop,
        })
    }

    pub(super) fn reader(&self) -> Reader {
        self.reader.clone()
    }

    pub(super) fn finish(self) -> Recordings {
        drop(self.stop);
        let _panicked = self.thread.join();
        let mut all = self.reader.read();
        all.still_running = self.reader.writers().into_iter().collect();
        all.still_running.sort_unstable();
        all
    }
}

impl Reader {
    /// All that there is at this moment.
    pub(super) fn read(&self) -> Recordings {
        let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = done.clone();
        for path in self.files() {
            all.read(&path);
        }
        drop(done);
        all
    }

    fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let paths = entries.map(|entry| entry.path());
        let mut paths: Vec<_> = paths
            .filter(|path| path.extension().is_some_and(|it| it == "sites"))
            .collect();
        paths.sort();
        paths
    }

    fn collect_ended(&self) {
        // Those that are mapped later are not among them.
        let files = self.files();
        if files.len() < MANY {
            return;
        }
        let in_use = self.files_in_use();
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        for path in files {
            // One that is not whole yet is about to be mapped.
            let is_whole = || read_file(&path).is_some_and(|it| Recording::read(&it).is_ok());
            if !in_use.contains(path.as_os_str().as_bytes()) && is_whole() {
                done.read(&path);
                let _stays = fs::remove_file(&path);
            }
        }
    }

    fn files_in_use(&self) -> HashSet<Vec<u8>> {
        let mut all = HashSet::new();
        for (_, maps) in self.maps() {
            let lines = maps.split(|&byte| byte == b'\n');
            let folder = self.folder.as_os_str().as_bytes();
            let names = lines.filter_map(|line| {
                let at = line.windows(folder.len()).position(|part| part == folder)?;
                Some(line[at..].to_vec())
            });
            all.extend(names);
        }
        all
    }

    /// Processes that have a file of ours mapped.
    fn writers(&self) -> HashSet<u32> {
        let folder = self.folder.as_os_str().as_bytes();
        let has = |maps: &[u8]| maps.windows(folder.len()).any(|part| part == folder);
        let writers = self.maps().filter(|(_, maps)| has(maps));
        writers.map(|(pid, _)| pid).collect()
    }

    /// Of all processes that may be looked at.
    fn maps(&self) -> impl Iterator<Item = (u32, Vec<u8>)> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter_map(|pid: u32| Some((pid, fs::read(format!("/proc/{pid}/maps")).ok()?)))
    }
}
