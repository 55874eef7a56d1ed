//! What readers know, and for whom they wait.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use super::*;
use crate::domain::ids::{EpochId, RootId};
use crate::journal::batch::push_leaf;
use crate::journal::note::Origin;

const HEADER: &[u8] = b"header\n";

/// A file whose reads from behind the first lines say that they have begun, and then wait until they may go on.
struct Gated {
    bytes: Vec<u8>,
    begun: SyncSender<()>,
    go: Mutex<Receiver<()>>,
}

impl DiskFile for Gated {
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        if offset > HEADER.len() as u64 && offset < self.bytes.len() as u64 {
            self.begun.send(()).unwrap();
            self.go.lock().unwrap().recv().unwrap();
        }
        let rest = self.bytes.get(usize::try_from(offset).unwrap()..).unwrap_or_default();
        let n = rest.len().min(out.len());
        out[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }

    fn write_at(&self, _: u64, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(self.bytes.len() as u64)
    }
}

/// Lines of a journal, who counts how often they are read, and who knows the roots of its subtrees and counts the asks.
#[derive(Default)]
struct Counted {
    bytes: Vec<u8>,
    reads: AtomicUsize,
    tiles: BTreeMap<Place, Hash>,
    asks: AtomicUsize,
}

impl DiskFile for Counted {
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let rest = self.bytes.get(usize::try_from(offset).unwrap()..).unwrap_or_default();
        let n = rest.len().min(out.len());
        out[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }

    fn write_at(&self, _: u64, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(self.bytes.len() as u64)
    }
}

impl Hints for Counted {
    fn offset(&self, _: u64, _: u64) -> Option<u64> {
        None
    }

    fn tile(&self, place: Place) -> Option<Hash> {
        self.asks.fetch_add(1, Ordering::Relaxed);
        self.tiles.get(&place).copied()
    }
}

#[test]
fn a_proof_asks_for_as_many_hashes_as_the_tree_is_high_and_reads_only_around_the_line_and_at_the_end() {
    const LINES: u64 = 40_000;
    let (mut tree, mut tiles, mut starts) = (Frontier::default(), Vec::new(), Vec::new());
    let mut counted = Counted { bytes: HEADER.to_vec(), ..Counted::default() };
    for seq in 0..LINES {
        let line = format!("{{\"seq\":{seq},\"at_ms\":1}}");
        push_leaf(&mut tree, &mut tiles, leaf_hash(line.as_bytes()));
        starts.push(counted.bytes.len() - HEADER.len());
        counted.bytes.extend_from_slice(line.as_bytes());
        counted.bytes.push(b'\n');
    }
    counted.tiles = tiles.into_iter().collect();
    let (end, counted) = (counted.bytes.len() as u64, Arc::new(counted));
    let reader = Reader::new(Head { next_seq: 0, note: note(0) });
    reader.began_segment(0, counted.clone(), HEADER.len() as u64);
    reader.published(0, &starts, HEADER.len() as u64, end, &note(LINES));
    reader.set_hints(Some(counted.clone()));
    let height = usize::try_from(LINES.ilog2()).unwrap() + 1;
    for seq in [0, 255, 256, 12_345, LINES / 2, LINES - 300, LINES - 1] {
        counted.asks.store(0, Ordering::Relaxed);
        counted.reads.store(0, Ordering::Relaxed);
        let proof = reader.inclusion(seq, LINES).unwrap();
        let line = reader.line(seq).unwrap().unwrap();
        assert_eq!(merkle::root_from_inclusion(seq, LINES, leaf_hash(&line), &proof), Some(tree.root()));
        let (asks, reads) = (counted.asks.load(Ordering::Relaxed), counted.reads.load(Ordering::Relaxed));
        assert!(asks <= height && reads <= height * 2, "{seq}: {asks} hashes, {reads} reads");
    }
    counted.asks.store(0, Ordering::Relaxed);
    let proof = reader.consistency(LINES / 3, LINES).unwrap();
    assert!(counted.asks.load(Ordering::Relaxed) <= height * 2 && proof.len() <= height + 1);
}

fn note(size: u64) -> Note {
    let ulid = ulid::Ulid(1);
    let origin = Origin { root_id: RootId::from_ulid(ulid), epoch: EpochId::from_ulid(ulid) };
    Note { origin, size, root: [0; 32], signatures: Vec::new() }
}

#[test]
fn who_reads_a_cold_segment_through_holds_up_neither_other_readers_nor_the_writer() {
    let mut bytes = HEADER.to_vec();
    for line in 0..200 {
        bytes.extend_from_slice(format!("line {line}\n").as_bytes());
    }
    let end = bytes.len() as u64;
    let (begun, has_begun) = sync_channel(9);
    let (let_go, go) = sync_channel(9);
    let reader = Reader::new(Head { next_seq: 200, note: note(200) });
    reader.began_segment(0, Arc::new(Gated { bytes, begun, go: Mutex::new(go) }), HEADER.len() as u64);
    assert_eq!(reader.line(10).unwrap().as_deref(), Some(&b"line 10"[..]));

    let learner = std::thread::spawn({
        let reader = reader.clone();
        move || reader.line(64 + 5)
    });
    has_begun.recv_timeout(Duration::from_secs(9)).expect("the segment is read on");
    let (done, is_done) = sync_channel(1);
    std::thread::spawn({
        let reader = reader.clone();
        move || {
            let line = reader.line(3);
            reader.published(200, &[0], end, end + 9, &note(201));
            done.send(line).unwrap();
        }
    });
    let meanwhile = is_done.recv_timeout(Duration::from_secs(3));
    for _ in 0..2 {
        let_go.send(()).unwrap();
    }
    assert_eq!(meanwhile.expect("nobody waits").unwrap().as_deref(), Some(&b"line 3"[..]));
    assert_eq!(learner.join().unwrap().unwrap().as_deref(), Some(&b"line 69"[..]));
    assert_eq!(read(&reader.segment(0).unwrap().known).lines, 70, "what was learned is kept");
}
