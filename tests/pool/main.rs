//! The pool over real sockets: drivers of every kind, and what becomes of the jobs they were given.

#![cfg(unix)]

mod allowed;
mod bad_day;
#[path = "../common/mod.rs"]
mod common;
mod listening;
mod lost;
mod matching;
mod peers;
mod work;
