use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use proptest::prelude::*;

use super::*;

fn words() -> Vec<AtomicU64> {
    (0..FileWords::COUNT).map(|_| AtomicU64::new(0)).collect()
}

fn bytes(words: &[AtomicU64]) -> Vec<u8> {
    let value = |word: &AtomicU64| word.load(Relaxed).to_le_bytes();
    words.iter().flat_map(value).collect()
}

fn read(words: &[AtomicU64]) -> Recording {
    Recording::read(&bytes(words)).unwrap()
}

fn code(pc: u64) -> Code {
    Code::new(pc, &[0xf0, 0xff, 0x07], Some(64))
}

#[test]
fn what_is_written_is_read() {
    let words = words();
    let recorder = Recorder::create(&words, 7, Target::I386, b"/bin/a b").unwrap();
    let (site, is_new) = recorder.site(&code(0x1000)).unwrap();
    assert!(is_new);
    site.add(0x203e, 4, 3);
    site.add(0x2ffe, 4, 70);
    site.set_module(b"/lib/x.so", 0x7000);
    site.set_thread(99, b"a name that is too long");
    site.set_place(&Place::Heap { start: 0x2000 });
    let callers = [0x7100, 0x40_1000, 0x40_1100, 0, 0, 0, 0, 0, 0];
    let module = |address| match address {
        0x7100 => Some((&b"/lib/x.so"[..], 0x7000)),
        _ => Some((&b"/bin/a b"[..], 0x40_0000)),
    };
    site.set_callers(&callers, module);
    site.compare_callers(&callers);
    let recording = read(&words);
    assert_eq!((recording.pid, recording.target), (7, Target::I386));
    assert_eq!(recording.program, b"/bin/a b");
    let [site] = &recording.sites[..] else {
        panic!("{recording:?}")
    };
    assert_eq!((site.count, site.pages, site.threads), (2, 1, 2));
    assert_eq!((site.first_operand, site.last_operand), (0x203e, 0x2ffe));
    assert_eq!(
        (&site.bytes[..], &site.modes[..]),
        (&[0xf0, 0xff, 0x07][..], &[64][..])
    );
    assert_eq!(site.module, Some((b"/lib/x.so".to_vec(), 0x7000)));
    assert_eq!(site.thread, (99, b"a name that is t".to_vec()));
    assert_eq!(site.place, Place::Heap { start: 0x2000 });
    let expected = callers[..3].iter().map(|&return_address| Caller {
        return_address,
        module: module(return_address).map(|(path, start)| (path.to_vec(), start)),
    });
    assert_eq!(site.callers, expected.collect::<Vec<_>>());
    assert!(!site.has_more_callers);
}

#[test]
fn other_calls_than_the_first_are_noted() {
    let words = words();
    let recorder = Recorder::create(&words, 7, Target::X86_64, b"x").unwrap();
    let (site, _) = recorder.site(&code(1)).unwrap();
    site.add(60, 8, 0);
    let mut callers = [1, 2, 0, 0, 0, 0, 0, 0, 0];
    site.compare_callers(&callers);
    assert!(!read(&words).sites[0].has_more_callers, "none was noted");
    site.set_callers(&callers, |_| None);
    callers[1] = 3;
    site.compare_callers(&callers);
    let read = read(&words);
    assert!(read.sites[0].has_more_callers);
    assert_eq!(read.sites[0].callers[1].return_address, 2);
}

#[test]
fn threads_that_count_at_once_lose_nothing() {
    let words = words();
    let recorder = Recorder::create(&words, 7, Target::X86_64, b"x").unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            scope.spawn(move || {
                for n in 0..10_000 {
                    let (site, _) = recorder.site(&code(n % 50)).unwrap();
                    site.add(60, 8, thread);
                }
            });
        }
    });
    let recording = read(&words);
    assert_eq!(recording.sites.len(), 50);
    assert!(
        recording
            .sites
            .iter()
            .all(|site| (site.count, site.threads) == (1600, 8))
    );
}

#[test]
fn a_program_that_makes_code_for_ever_fills_the_table_and_no_more() {
    let words = words();
    let recorder = Recorder::create(&words, 7, Target::X86_64, b"x").unwrap();
    let made = (0..3000).filter(|&pc| {
        recorder.site(&code(pc)).is_some_and(|(site, _)| {
            site.add(60, 8, 0);
            true
        })
    });
    assert_eq!(made.count(), MOST_SITES);
    recorder.count_without_site();
    let recording = read(&words);
    assert_eq!(
        (recording.sites.len(), recording.without_site),
        (MOST_SITES, 1)
    );
}

#[test]
fn other_bytes_at_the_same_address_are_another_site() {
    let words = words();
    let recorder = Recorder::create(&words, 7, Target::X86_64, b"x").unwrap();
    for bytes in [&[0xf0, 0xff, 0x07][..], &[0x87, 0x07]] {
        let (site, is_new) = recorder.site(&Code::new(1, bytes, Some(64))).unwrap();
        assert!(is_new);
        site.add(60, 8, 0);
    }
    assert_eq!(read(&words).sites.len(), 2);
}

#[test]
fn guests_have_address_spaces_and_the_same_address_in_several() {
    let words = words();
    let recorder = Recorder::create(&words, 7, Target::System, b"").unwrap();
    let site = |page| recorder.site(&code(1).in_page(page)).unwrap();
    for (page, page_table, program) in [
        (0x1000, 0x5000, "/bin/a"),
        (0x1000, 0x6000, ""),
        (0x1000, 0x5000, "asked twice"),
        (0x2000, 0x5000, "/bin/a"),
    ] {
        let (site, _) = site(page);
        site.add(60, 8, 0);
        site.add_in_space(page_table, || program.into());
    }
    for page_table in 1..20 {
        site(0x2000).0.add_in_space(page_table, Vec::new);
    }
    assert!(!read(&words).tells_spaces);
    recorder.set_tells_spaces();
    let recording = read(&words);
    assert!(recording.tells_spaces);
    let mut sites = recording.sites;
    sites.sort_by_key(|site| site.code_page);
    let space = |page_table, program: &str, count| AddressSpace {
        page_table,
        program: program.into(),
        count,
    };
    let [first, second] = &sites[..] else {
        panic!("{sites:?}")
    };
    let expected = [space(0x5000, "/bin/a", 2), space(0x6000, "", 1)];
    assert_eq!((&first.spaces[..], first.count), (&expected[..], 3));
    assert!(!first.has_more_spaces && first.callers.is_empty());
    assert_eq!(second.spaces.len(), MOST_SPACES);
    assert!(second.has_more_spaces && !second.has_more_callers);
}

#[test]
fn a_writer_that_was_killed_blocks_nobody() {
    let words = words();
    let recorder = Recorder::create(&words, 7, Target::X86_64, b"x").unwrap();
    let (first, _) = recorder.site(&code(1)).unwrap();
    words[SITES + first.number() * SITE_WORDS].store(CLAIMED, Relaxed);
    let (second, is_new) = recorder.site(&code(1)).unwrap();
    assert!(is_new && second.number() != first.number());
    second.add(60, 8, 0);
    // The killed one turns out to have been slow.
    words[SITES + first.number() * SITE_WORDS].store(READY, Relaxed);
    first.add(60, 8, 0);
    let recording = read(&words);
    assert_eq!((recording.sites.len(), recording.sites[0].count), (1, 2));
}

#[test]
fn an_execve_that_failed_is_withdrawn() {
    let words = words();
    let recorder = Recorder::create(&words, 7, Target::X86_64, b"x").unwrap();
    let first = recorder.unwatched(b"/sbin/a", "it is for aarch64").unwrap();
    recorder.unwatched(b"/sbin/b", "because").unwrap();
    first.withdraw();
    let recording = read(&words);
    assert_eq!(recording.unwatched.len(), 1);
    assert_eq!(recording.unwatched[0].path, b"/sbin/b");
    for _ in 0..MOST_UNWATCHED {
        let _ = recorder.unwatched(b"/sbin/c", "because");
    }
    assert_eq!(read(&words).unwatched_without_room, 1);
}

#[test]
fn texts_without_room_are_left_out() {
    let words = words();
    let recorder = Recorder::create(&words, 7, Target::X86_64, b"x").unwrap();
    let long = vec![b'a'; 60_000];
    for pc in 0..10 {
        let (site, _) = recorder.site(&code(pc)).unwrap();
        site.set_module(&long, 1);
        site.add(60, 8, 0);
    }
    let with_module = |it: &&Site| it.module.is_some();
    assert_eq!(read(&words).sites.iter().filter(with_module).count(), 2);
}

#[test]
fn what_is_no_file_of_records_is_refused() {
    let whole = bytes(&words());
    assert_eq!(Recording::read(&whole), Err(Damaged));
    assert_eq!(Recording::read(b""), Err(Damaged));
    let words = words();
    let _ = Recorder::create(&words, 7, Target::System, b"x").unwrap();
    let whole = bytes(&words);
    assert_eq!(Recording::read(&whole[..whole.len() - 1]), Err(Damaged));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(50))]

    #[test]
    fn no_file_is_a_panic(changes in proptest::collection::vec((0..FileWords::COUNT, any::<u64>()), 1..500)) {
        let words = words();
        let _ = Recorder::create(&words, 7, Target::System, b"x").unwrap();
        for (word, value) in changes {
            if word != header::MAGIC {
                words[word].store(value, Relaxed);
            }
        }
        let _ = Recording::read(&bytes(&words));
    }
}
