//! The pool over real sockets: drivers of every kind, and what happens to their jobs.

#![cfg(unix)]

mod allowed;
mod away;
mod bad_day;
mod bounds;
mod ends;
mod fair;
mod listening;
mod lost;
mod matching;
mod peers;
mod proved;
mod work;
