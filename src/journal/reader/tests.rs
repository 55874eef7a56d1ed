//! What readers know, and for whom they wait.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use super::*;
use crate::domain::ids::{EpochId, RootId};
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
