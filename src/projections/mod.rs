//! Read models, snapshots, the index and the feed.
