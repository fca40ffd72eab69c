//! Any bytes as a file: what always has to hold of compression, archives and encodings. The fuzz target runs the same.

use std::io::{self, Cursor, Read, Write};
use std::ops::ControlFlow;

use flate2::Compression;
use flate2::write::GzEncoder;
use lzma_rust2::{XzOptions, XzWriter};
use split_lock_log::{Record, Records, Source};

/// Reads the file as it is, and packed as its last byte says, and panics if something does not hold.
pub(crate) fn check(file: &[u8]) {
    let plain = read(file);
    let Some(&last) = file.last() else { return };
    let packed = PACKED[usize::from(last) % PACKED.len()](file);
    let unpacked = read(&packed);
    if is_read_as_it_is(file) {
        assert_eq!(unpacked.expect("a text can be unpacked"), plain.unwrap());
    }
}

type Pack = fn(&[u8]) -> Vec<u8>;

/// How a file may be packed.
const PACKED: [Pack; 8] = [
    gzip,
    bzip2,
    xz,
    utf16,
    in_tar,
    in_zip,
    |file| in_tar(&gzip(file)),
    |file| in_zip(&bzip2(file)),
];

fn gzip(file: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(vec![], Compression::fast());
    encoder.write_all(file).unwrap();
    encoder.finish().unwrap()
}

fn bzip2(file: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(vec![], bzip2::Compression::fast());
    encoder.write_all(file).unwrap();
    encoder.finish().unwrap()
}

fn xz(file: &[u8]) -> Vec<u8> {
    let mut writer = XzWriter::new(vec![], XzOptions::with_preset(0)).unwrap();
    writer.write_all(file).unwrap();
    writer.finish().unwrap()
}

/// What is no text stays as it is.
fn utf16(file: &[u8]) -> Vec<u8> {
    let Ok(text) = std::str::from_utf8(file) else {
        return file.to_vec();
    };
    let units = "\u{feff}".encode_utf16().chain(text.encode_utf16());
    units.flat_map(u16::to_le_bytes).collect()
}

fn in_tar(file: &[u8]) -> Vec<u8> {
    let mut archive = tar::Builder::new(vec![]);
    let mut header = tar::Header::new_gnu();
    header.set_size(file.len() as u64);
    archive
        .append_data(&mut header, "var/log/messages", file)
        .unwrap();
    archive.into_inner().unwrap()
}

fn in_zip(file: &[u8]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(Cursor::new(vec![]));
    let options = zip::write::SimpleFileOptions::default();
    archive.start_file("logs/syslog.txt", options).unwrap();
    archive.write_all(file).unwrap();
    archive.finish().unwrap().into_inner()
}

/// Whether a file is a text that nothing has to be done to.
fn is_read_as_it_is(file: &[u8]) -> bool {
    let mut text = vec![];
    let read = Source::from_reader(Cursor::new(file.to_vec()))
        .and_then(|mut source| source.read_to_end(&mut text));
    read.is_ok() && text == file && !file.starts_with("\u{feff}".as_bytes())
}

/// All that is found in all logs of a file.
fn read(file: &[u8]) -> io::Result<Vec<Record>> {
    let mut records = vec![];
    let mut bytes = 0;
    Source::for_each(Cursor::new(file.to_vec()), &mut |_, log| {
        let counted = Counted {
            log,
            bytes: &mut bytes,
        };
        for record in Records::new(counted) {
            records.push(record?);
        }
        Ok(ControlFlow::Continue(()))
    })?;
    let most = (64 << 20) + 250 * file.len() as u64;
    assert!(bytes <= most, "{} bytes became {bytes}", file.len());
    Ok(records)
}

struct Counted<'a> {
    log: &'a mut dyn Read,
    bytes: &'a mut u64,
}

impl Read for Counted<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let count = self.log.read(to)?;
        *self.bytes += count as u64;
        Ok(count)
    }
}
