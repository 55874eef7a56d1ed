//! Where facts are kept: lines, seals, segments, one writer, readers, recovery, verification and receipts.
//!
//! A journal is read first ([`recovery::read`]), then opened for writing ([`open::open`]); [`create::create`] makes a
//! new one. [`writer::Journal`] belongs to one thread; [`reader::Reader`] is for everyone.

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::wildcard_enum_match_arm))]

pub mod acked;
mod acker;
pub mod batch;
pub mod cold;
pub mod create;
pub mod error;
mod fold;
pub mod handover;
pub mod keys;
pub mod layout;
pub mod line;
pub mod merkle;
pub mod note;
pub mod open;
pub mod proof;
pub mod reader;
pub mod recovery;
pub mod repair;
pub mod report;
pub mod segments;
mod space;
mod survey;
pub mod tail;
pub mod verify;
pub mod walk;
pub mod writer;
