//! The program that runs: its digest, so that records and status can name the very binary.

#![allow(clippy::disallowed_methods, reason = "file work lives in platform")]

use std::io::Read as _;

/// The running program, whatever became of the file it was started from.
const SELF: &str = "/proc/self/exe";
/// Bytes read at a time.
const CHUNK_BYTES: usize = 256 << 10;

/// SHA-256 of the running program, hex. Blocks for as long as it takes to read it.
pub fn digest() -> std::io::Result<String> {
    let mut file = std::fs::File::open(SELF)?;
    // This implementation is assembly in every profile: a start must not wait for an unoptimised one.
    let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            count => digest.update(buffer.get(..count).unwrap_or_default()),
        }
    }
    Ok(data_encoding::HEXLOWER.encode(digest.finish().as_ref()))
}

#[cfg(test)]
mod tests {
    use sha2::Digest as _;

    #[test]
    fn the_digest_is_that_of_the_file_that_was_started() {
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let wanted = data_encoding::HEXLOWER.encode(&sha2::Sha256::digest(bytes));
        assert_eq!(super::digest().unwrap(), wanted);
    }
}
