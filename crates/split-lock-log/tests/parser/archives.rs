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
        log.read_to_end(&mut vec![])?;
        names.extend(name.map(str::to_owned));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok((names, left_out))
}

#[test]
fn compressed_log_with_a_wrong_checksum_is_left_out() {
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
    assert_eq!(names, ["kern.log.1.gz"]);
    assert_eq!(left_out.members, 1);
    let first = left_out.first.unwrap();
    assert!(first.starts_with("kern.log.2.gz: "), "{first}");
}
