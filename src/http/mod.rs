//! The door: routes, authentication, extraction, replies, problems and streams.
