//! argv → configuration → logger → command → exit code. No logic.

fn main() {}
