//! Segments that are removed, emptied or cut: while a journal writes them, and before a start, which names what is missing
//! and blames no file that is whole.

use chancery::journal::merkle::{Frontier, leaf_hash};

use super::*;

fn segments(disk: &SimDisk) -> Vec<String> {
    let entries = disk.list(layout::FOLDER).unwrap().into_iter();
    entries.map(|entry| format!("{}/{}", layout::FOLDER, entry.name)).filter(|path| path.ends_with(".jsonl")).collect()
}

fn first_seq(path: &str) -> u64 {
    layout::parse_segment_name(path.rsplit_once('/').unwrap().1).unwrap()
}

/// A start, over everything or from a snapshot that holds all but the last lines.
fn read(disk: &SimDisk, snapshot: bool) -> Result<(), OpenError> {
    let base = snapshot.then(|| begun(segments(disk).last().unwrap()));
    recovery::read(disk, base.as_ref(), &mut |_| {}).map(drop)
}

/// A tree of as many lines as there are behind the second line of a segment; which lines, nobody asks here.
fn begun(path: &str) -> Frontier {
    let mut tree = Frontier::default();
    (0..first_seq(path) + 2).for_each(|_| tree.push(leaf_hash(b"a line")));
    tree
}

#[test]
fn a_segment_that_is_removed_emptied_or_cut_while_it_is_written_takes_no_more_batches() {
    type Harm = fn(&SimDisk, &str);
    let harms: [Harm; 4] = [
        |disk, path| {
            disk.tamper_names(|names| {
                names.remove(path);
            });
        },
        |disk, path| disk.tamper(path, Vec::clear),
        |disk, path| disk.tamper(path, |bytes| bytes.truncate(bytes.len() / 2)),
        |disk, path| {
            disk.tamper(path, |bytes| {
                bytes.pop();
            });
        },
    ];
    for (number, harm) in harms.iter().enumerate() {
        // Also where the next thing to be done is more space, or a rotation.
        for batches in 1..20 {
            let disk = SimDisk::new(1);
            let (mut journal, _) = start(&disk).unwrap();
            assert_eq!(workload(&mut journal, batches), batches);
            harm(&disk, segments(&disk).last().unwrap());
            for _ in 0..2 {
                let refused = write(&mut journal, batches + 1, 1);
                assert!(matches!(refused, Err(WriteError::Poisoned(_))), "harm {number} after {batches}: {refused:?}");
            }
            let why = journal.poison().unwrap();
            assert!(why.contains("removed") || why.contains("cut"), "harm {number} after {batches}: {why}");
        }
    }
}

#[test]
fn a_missing_segment_is_named_with_its_range_and_no_whole_file_is_blamed() {
    let (disk, _) = drained_after(BATCHES);
    let paths = segments(&disk);
    assert!(paths.len() > 3);
    for snapshot in [false, true] {
        for missing in 1..paths.len() - 1 {
            let changed = disk.copy();
            changed.tamper_names(|names| {
                names.remove(&paths[missing]);
            });
            match read(&changed, snapshot).unwrap_err() {
                OpenError::Rollback { file, from_seq, to_seq, .. } => {
                    let (from, to) = (first_seq(&paths[missing]), first_seq(&paths[missing + 1]) - 1);
                    assert_eq!((file.as_str(), from_seq, to_seq), (paths[missing + 1].as_str(), from, to));
                }
                error => panic!("{missing} with a snapshot: {snapshot}: {error}"),
            }
        }
        let blamed = |changed: &SimDisk| match read(changed, snapshot).unwrap_err() {
            OpenError::Corrupt { file, seq, .. } => {
                assert_eq!(seq, first_seq(&file));
                file
            }
            error => panic!("with a snapshot: {snapshot}: {error}"),
        };
        let swapped = disk.copy();
        swapped.tamper_names(|names| {
            let (one, two) = (names[&paths[1]], names[&paths[2]]);
            names.extend([(paths[1].clone(), two), (paths[2].clone(), one)]);
        });
        assert_eq!(blamed(&swapped), paths[1]);
        let twice = disk.copy();
        let twin = layout::segment_path(first_seq(&paths[1]) + 1);
        twice.tamper_names(|names| {
            names.insert(twin.clone(), names[&paths[1]]);
        });
        assert_eq!(blamed(&twice), twin);
        let headless = disk.copy();
        headless.tamper(&paths[2], |bytes| bytes[0] = b'x');
        assert_eq!(blamed(&headless), paths[2]);
    }
}

#[test]
fn a_segment_that_was_cut_anywhere_is_named_with_what_is_missing_up_to_the_acknowledged_end() {
    let (disk, _) = drained_after(BATCHES);
    let paths = segments(&disk);
    let acked = first_seq(paths.last().unwrap());
    for path in [&paths[1], paths.last().unwrap()] {
        let content = disk.content(path).unwrap();
        let data_end = content.iter().rposition(|byte| *byte != b'\n').unwrap() + 1;
        for length in (1..data_end).step_by(5) {
            let cut = disk.copy();
            cut.tamper(path, |bytes| bytes.truncate(length));
            match read(&cut, false).unwrap_err() {
                OpenError::Rollback { file, from_seq, to_seq, .. } => {
                    assert_eq!(&file, if file == *path { path } else { &paths[2] }, "{length} bytes of {path}");
                    assert!(from_seq >= first_seq(path) && from_seq <= to_seq, "{length} bytes of {path}");
                    let end = if *path == paths[1] { first_seq(&paths[2]) - 1 } else { to_seq.max(acked) };
                    assert_eq!(to_seq, end, "{length} bytes of {path}");
                }
                error => panic!("{length} bytes of {path}: {error}"),
            }
        }
    }
}

#[test]
fn newlines_behind_the_last_seal_of_a_closed_segment_are_cut_at_the_next_start() {
    let (disk, found) = drained_after(BATCHES);
    let paths = segments(&disk);
    let whole: Vec<_> = paths[..paths.len() - 1].iter().map(|path| disk.content(path).unwrap()).collect();
    for snapshot in [false, true] {
        let padded = disk.copy();
        for path in &paths[..whole.len()] {
            padded.tamper(path, |bytes| bytes.extend([b'\n'; 700]));
        }
        let base = snapshot.then(|| begun(paths.last().unwrap()));
        let recovered = recovery::read(&padded, base.as_ref(), &mut |_| {}).unwrap();
        let clock = Arc::new(FakeClock::at(1_700_000_000_000, 1_000));
        open::open(recovered, Arc::new(padded.clone()), clock, OPTIONS, context()).unwrap();
        let after: Vec<_> = paths[..whole.len()].iter().map(|path| padded.content(path).unwrap()).collect();
        assert_eq!(after, whole, "with a snapshot: {snapshot}");
        assert_eq!(start(&padded.after_power_cut()).unwrap().1, found);
    }
}

#[test]
fn a_rotation_that_the_full_disk_breaks_off_after_the_cut_is_made_once_there_is_room() {
    let disk = SimDisk::new(1);
    let (mut journal, _) = start(&disk).unwrap();
    let before = segments(&disk).len();
    disk.set_fault(Fault::NamesFull);
    let mut written = 0;
    let refused = loop {
        match write(&mut journal, written + 1, 1) {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
    };
    assert!(written > 0 && matches!(refused, WriteError::Full(_)), "{refused:?}");
    for _ in 0..3 {
        assert!(journal.look().is_ok(), "the journal itself has cut the segment: {:?}", journal.poison());
        assert!(matches!(write(&mut journal, written + 1, 1), Err(WriteError::Full(_))));
    }
    disk.set_fault(Fault::None);
    write(&mut journal, written + 1, 1).unwrap();
    assert_eq!(segments(&disk).len(), before + 1);
    journal.close().unwrap();
    assert_eq!(start(&disk.after_power_cut()).unwrap().0.poison(), None);
}
