//! What of an archive is read, and what is left out.

use std::io::{self, Cursor, Read, Write};
use std::ops::ControlFlow;

use flate2::Compression;
use flate2::write::GzEncoder;
use split_lock_log::{LeftOut, Source};
use zip::CompressionMethod;
use zip::write::SimpleFileOptions;

/// The names of the logs in an archive, and what was left out.
fn logs(archive: impl Read + Send + 'static) -> io::Result<(Vec<String>, LeftOut)> {
    let mut names = vec![];
    let left_out = Source::for_each(archive, &mut |name, log| {
        let damage = log.read_to_end(&mut vec![]).err();
        let damage = damage.map_or("", |_| " (damaged)");
        names.extend(name.map(|name| format!("{name}{damage}")));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok((names, left_out))
}

#[test]
fn compressed_log_with_a_wrong_checksum_is_damaged_and_the_next_is_read() {
    let mut encoder = GzEncoder::new(vec![], Compression::none());
    encoder
        .write_all(&b"a line of a log\n".repeat(200))
        .unwrap();
    let log = encoder.finish().unwrap();
    let mut archive = zip::ZipWriter::new(Cursor::new(vec![]));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for name in ["kern.log.2.gz", "kern.log.1.gz"] {
        archive.start_file(name, options).unwrap();
        archive.write_all(&log).unwrap();
    }
    let mut archive = archive.finish().unwrap().into_inner();
    archive[2000] ^= 1;
    let (names, left_out) = logs(Cursor::new(archive)).unwrap();
    assert_eq!(names, ["kern.log.2.gz (damaged)", "kern.log.1.gz"]);
    assert_eq!(left_out, LeftOut::default());
}

#[test]
fn what_is_no_text_is_left_out_and_named() {
    let mut archive = tar::Builder::new(vec![]);
    for (name, content) in [
        ("logo.png", &b"\x89PNG\r\n\x1a\n"[..]),
        ("dmesg", b"a line"),
    ] {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, name, content).unwrap();
    }
    let archive = archive.into_inner().unwrap();
    let (names, left_out) = logs(Cursor::new(archive)).unwrap();
    assert_eq!(names, ["dmesg"]);
    assert_eq!(left_out.members, 1);
    let first = left_out.first.unwrap();
    assert!(
        first.starts_with("logo.png: it is a picture (PNG)"),
        "{first}"
    );
}

/// The header of a tar archive's member without content.
fn header(name: &str, kind: tar::EntryType) -> [u8; 512] {
    let mut header = tar::Header::new_ustar();
    header.set_path(name).unwrap();
    header.set_entry_type(kind);
    header.set_size(0);
    header.set_cksum();
    *header.as_bytes()
}

/// The same bytes so many times.
struct Repeated {
    block: [u8; 512],
    left_bytes: usize,
}

impl Repeated {
    fn new(block: [u8; 512], times: usize) -> Self {
        Repeated {
            block,
            left_bytes: times * 512,
        }
    }
}

impl Read for Repeated {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let from = (512 - self.left_bytes % 512) % 512;
        let count = (&self.block[from..])
            .take(self.left_bytes as u64)
            .read(to)?;
        self.left_bytes -= count;
        Ok(count)
    }
}

#[test]
fn folders_and_links_do_not_count_as_files() {
    let times = 100_001;
    let folders = Repeated::new(header("sys/x/", tar::EntryType::Directory), times);
    let links = Repeated::new(header("sys/x/y", tar::EntryType::Symlink), times);
    let log = Cursor::new(header("dmesg", tar::EntryType::Regular));
    let (names, _) = logs(folders.chain(links).chain(log)).unwrap();
    assert_eq!(names, ["dmesg"]);
}

#[test]
fn archive_with_too_many_files_is_refused_with_what_to_do() {
    let files = Repeated::new(header("x", tar::EntryType::Regular), 200_001);
    let error = logs(files).unwrap_err().to_string();
    assert!(error.ends_with("unpack it, and give --root"), "{error}");
}
