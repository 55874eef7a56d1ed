//! One file of handlers a noun.
