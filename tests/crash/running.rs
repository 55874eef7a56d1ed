//! Verification of a journal whose daemon writes on while it is read.

use std::sync::Mutex;

use chancery::platform::disk::{DiskFile, Entry, Open};

use super::*;

const ROOMY: Options = Options { segment_bytes: 1 << 20, ahead_bytes: 16_384, reserve_bytes: 4_096, background: false };

/// A disk on which a batch is written at each of the first so many times that a segment is read.
#[derive(Clone)]
struct Busy {
    disk: SimDisk,
    writer: Arc<Mutex<(Journal, u64)>>,
}

struct BusyFile {
    file: Arc<dyn DiskFile>,
    disk: Busy,
}

impl Disk for Busy {
    fn open(&self, path: &str, how: Open) -> std::io::Result<Arc<dyn DiskFile>> {
        let file = self.disk.open(path, how)?;
        if path.ends_with(".jsonl") {
            return Ok(Arc::new(BusyFile { file, disk: self.clone() }));
        }
        Ok(file)
    }

    fn rename(&self, from: &str, to: &str) -> std::io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &str) -> std::io::Result<()> {
        self.disk.remove(path)
    }

    fn create_dir(&self, path: &str) -> std::io::Result<()> {
        self.disk.create_dir(path)
    }

    fn list(&self, path: &str) -> std::io::Result<Vec<Entry>> {
        self.disk.list(path)
    }

    fn sync_dir(&self, path: &str) -> std::io::Result<()> {
        self.disk.sync_dir(path)
    }
}

impl DiskFile for BusyFile {
    fn read_at(&self, offset: u64, out: &mut [u8]) -> std::io::Result<usize> {
        let mut writer = self.disk.writer.lock().unwrap();
        if writer.1 > 0 {
            writer.1 -= 1;
            write(&mut writer.0, 100, 2).unwrap();
        }
        self.file.read_at(offset, out)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
        self.file.write_at(offset, bytes)
    }

    fn sync(&self) -> std::io::Result<()> {
        self.file.sync()
    }

    fn truncate(&self, bytes: u64) -> std::io::Result<()> {
        self.file.truncate(bytes)
    }

    fn bytes(&self) -> std::io::Result<u64> {
        self.file.bytes()
    }
}

/// A running journal of eight batches, and a disk that shows it while further ones are written.
fn busy(batches: u64) -> Busy {
    let disk = SimDisk::new(5);
    let clock = Arc::new(FakeClock::at(1_700_000_000_000, 1_000));
    create::create(&disk, clock.as_ref(), &FakeEntropy::default()).unwrap();
    let recovered = recovery::read(&disk, None, &mut |_| {}).unwrap();
    let (mut journal, _) = open::open(recovered, Arc::new(disk.clone()), clock, ROOMY, context()).unwrap();
    assert_eq!(workload(&mut journal, 8), 8);
    journal.write_acked().unwrap();
    Busy { disk, writer: Arc::new(Mutex::new((journal, batches))) }
}

#[test]
fn a_journal_that_is_written_while_it_is_read_is_valid_up_to_a_seal_of_that_time() {
    for batches in [0, 1, 2, 3, 7, 1_000] {
        let busy = busy(batches);
        let before = busy.writer.lock().unwrap().0.reader().head().next_seq;
        let report = look(&busy, true, &mut |_, _| {});
        assert_eq!(report.verdict, Verdict::Valid, "{batches} batches");
        assert!(report.lines >= before, "{batches} batches: {} lines of {before}", report.lines);
        let (journal, left) = &*busy.writer.lock().unwrap();
        let behind = journal.reader().head().next_seq - report.lines;
        assert_eq!(report.in_flight_bytes > 0, behind > 0, "{batches} batches, {left} left, {behind} behind");
        assert_eq!(behind > 0, batches == 1_000, "what is written by the end of reading is caught up with");
    }
}

#[test]
fn a_changed_byte_of_what_acked_names_is_found_also_while_batches_are_written() {
    for index in [2_000, 2_700, 3_500] {
        let busy = busy(1_000);
        busy.disk.tamper(&layout::segment_path(0), |bytes| bytes[index] ^= 1);
        let verdict = look(&busy, true, &mut |_, _| {}).verdict;
        assert!(matches!(verdict, Verdict::Invalid { .. }), "byte {index}: {verdict:?}");
    }
}

#[test]
fn rot_in_the_padding_of_a_running_journal_is_found() {
    let busy = busy(0);
    busy.disk.tamper(&layout::segment_path(0), |bytes| *bytes.iter_mut().rev().nth(700).unwrap() = b' ');
    let verdict = verify(&busy, true).verdict;
    assert!(matches!(verdict, Verdict::Invalid { .. }), "{verdict:?}");
}

#[test]
fn a_file_in_the_quarantine_that_no_record_names_is_neither_counted_nor_passed_over() {
    let (disk, _) = drained();
    let stray = format!("{}/stray", layout::QUARANTINE);
    let file = disk.open(&stray, Open::Create).unwrap();
    file.write_at(0, b"nobody's").unwrap();
    let report = verify(&disk, false);
    let why = format!("{stray}: no record names this file");
    assert_eq!((report.verdict, report.quarantined), (Verdict::Unverifiable { why }, 0));
    // What a crash left and the next start will name is no stray.
    disk.rename(&stray, &format!("{stray}.bytes{}", layout::PENDING)).unwrap();
    let report = verify(&disk, false);
    assert_eq!((report.verdict, report.quarantined), (Verdict::Valid, 0));
    start(&disk).unwrap().0.close().unwrap();
    let report = verify(&disk, false);
    assert_eq!((report.verdict, report.quarantined), (Verdict::Valid, 1));
    let named = format!("{}/{}", layout::QUARANTINE, disk.list(layout::QUARANTINE).unwrap()[0].name);
    disk.tamper(&named, |bytes| bytes[0] ^= 1);
    let changed = verify(&disk, false).verdict;
    assert!(matches!(&changed, Verdict::Invalid { file, .. } if *file == named), "{changed:?}");
}

#[test]
fn a_start_reads_only_so_many_batches_ahead_of_its_fold() {
    let disk = SimDisk::new(1);
    let (mut journal, _) = start(&disk).unwrap();
    for _ in 0..10 {
        assert_eq!(workload(&mut journal, BATCHES), BATCHES);
    }
    let segments = journal.reader().segments().len() as u64;
    journal.close().unwrap();
    disk.set_fault(Fault::None);
    let mut ahead = None;
    let mut fold = |_| {
        // The first record is folded only when nothing more is being read.
        while ahead.is_none() {
            let opened = disk.openings();
            std::thread::sleep(std::time::Duration::from_millis(200));
            ahead = Some(opened).filter(|opened| *opened == disk.openings());
        }
    };
    recovery::read(&disk, None, &mut fold).unwrap();
    assert!(segments > 60 && ahead.is_some_and(|ahead| ahead < segments / 2), "{ahead:?} of {segments}");
}

#[test]
fn a_start_from_a_snapshot_refuses_a_segment_before_it_that_does_not_end_as_the_next_one_says() {
    let (disk, _) = drained();
    let tree = start(&disk).unwrap().0.tree().clone();
    recovery::read(&disk, Some(&tree), &mut |_| {}).unwrap();
    let first = layout::segment_path(0);
    disk.tamper(&first, |bytes| {
        let end = bytes.iter().rposition(|byte| *byte != b'\n').unwrap();
        bytes[end - 3] ^= 1;
    });
    let refused = recovery::read(&disk, Some(&tree), &mut |_| {}).err();
    assert!(matches!(&refused, Some(OpenError::Corrupt { file, .. }) if *file == first), "{refused:?}");
}
