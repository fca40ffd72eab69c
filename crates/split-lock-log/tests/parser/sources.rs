//! Files, compressed ones among them, and the kernel.

use std::io::{self, Read, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use lzma_rust2::{XzOptions, XzWriter};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use split_lock_log::{Message, Records, Source};

const LOG: &[u8] =
    b"[    1.500000] x86/split lock detection: #AC: a/1 took a split_lock trap at address: 0x10\n";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(vec![], Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    xz_with(bytes, 6)
}

fn xz_with(bytes: &[u8], preset: u32) -> Vec<u8> {
    let mut writer = XzWriter::new(vec![], XzOptions::with_preset(preset)).unwrap();
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    compress_to_vec(bytes, CompressionLevel::Fastest)
}

type Compress = fn(&[u8]) -> Vec<u8>;

const FORMS: [Compress; 4] = [<[u8]>::to_vec, gzip, xz, zstd];

fn traps(source: impl Read + Send + 'static) -> io::Result<usize> {
    let mut count = 0;
    for record in Records::new(Source::from_reader(source)?) {
        count += usize::from(matches!(record?.message, Message::Trap(_)));
    }
    Ok(count)
}

#[test]
fn what_is_compressed_is_read_like_everything_else() {
    for compress in FORMS {
        let log = compress(&LOG.repeat(20_000));
        assert_eq!(traps(io::Cursor::new(log)).unwrap(), 20_000);
    }
}

#[test]
fn parts_that_were_compressed_one_by_one_are_one_log() {
    for compress in FORMS {
        let log = [compress(LOG), compress(&LOG[..20]), compress(&LOG[20..])].concat();
        assert_eq!(traps(io::Cursor::new(log)).unwrap(), 2);
    }
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
    let log = [zstd(LOG), skippable, zstd(LOG)].concat();
    assert_eq!(traps(io::Cursor::new(log)).unwrap(), 2);
}

#[test]
fn a_compressed_file_that_is_cut_short_or_wrong_is_an_error() {
    for compress in &FORMS[1..] {
        let log = compress(&LOG.repeat(100));
        traps(io::Cursor::new(log[..log.len() - 9].to_vec())).unwrap_err();
        let mut wrong = log.clone();
        let middle = wrong.len() / 2;
        wrong[middle] ^= 0x55;
        traps(io::Cursor::new(wrong)).unwrap_err();
    }
}

#[test]
fn first_bytes_alone_are_no_compressed_file() {
    for log in [&b""[..], b"\x1f", b"\xfd7zX", b"\x28\xb5\x2f"] {
        assert_eq!(traps(io::Cursor::new(log.to_vec())).unwrap(), 0);
    }
}

/// 400 MB of nothing in 400 kB.
#[test]
fn a_bomb_is_given_up_and_a_flood_is_read() {
    let zeros = gzip(&vec![0; 4 << 20]);
    let with_log = |times| [zeros.repeat(times), gzip(&[b"\n", LOG].concat())].concat();
    assert_eq!(traps(io::Cursor::new(with_log(10))).unwrap(), 1);
    let error = traps(io::Cursor::new(with_log(100))).unwrap_err();
    assert!(error.to_string().contains("as no log does"), "{error}");
}

#[test]
fn a_dictionary_that_needs_too_much_memory_is_refused() {
    assert_eq!(traps(io::Cursor::new(xz_with(LOG, 9))).unwrap(), 1);
    // Two bytes of the block's header say how large the dictionary is; then its checksum.
    let mut huge = xz(LOG);
    let at = 12
        + huge[12..]
            .windows(2)
            .position(|two| two == [0x21, 0x01])
            .unwrap()
        + 2;
    huge[at] = 40;
    let end = 12 + (usize::from(huge[12]) + 1) * 4 - 4;
    let mut sum = flate2::Crc::new();
    sum.update(&huge[12..end]);
    huge[end..end + 4].copy_from_slice(&sum.sum().to_le_bytes());
    let error = traps(io::Cursor::new(huge)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::OutOfMemory, "{error}");
    // A frame of 2 GiB that is one segment: its window is its size.
    let frame = [
        &[0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0, 0, 0, 0x80][..],
        &[1, 0, 0],
    ]
    .concat();
    let error = traps(io::Cursor::new(frame)).unwrap_err();
    assert!(
        error.to_string().contains("cannot be decompressed"),
        "{error}"
    );
}

#[test]
fn what_is_no_file_is_an_error() {
    for path in ["/", "/nonexistent"] {
        let read = Source::open(Path::new(path)).and_then(|mut source| source.read(&mut [0; 9]));
        read.unwrap_err();
    }
}

/// Only that it ends, and is the kernel's: what it says is this machine's business.
#[test]
fn the_kernels_own_buffer_has_an_end() {
    let mut source = match Source::open(Path::new("/dev/kmsg")) {
        Ok(source) => source,
        Err(error) => return eprintln!("skipped: /dev/kmsg cannot be read here: {error}"),
    };
    let mut text = vec![0; 8192];
    match source.read(&mut text) {
        Ok(0) => {}
        Ok(count) => assert!(
            text[..count].contains(&b';'),
            "{}",
            text[..count].escape_ascii()
        ),
        Err(error) => return eprintln!("skipped: /dev/kmsg cannot be read here: {error}"),
    }
    for record in Records::new(source) {
        record.unwrap();
    }
}
