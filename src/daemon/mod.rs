//! Wiring: open, lock, recover, catch up, start, drain.
