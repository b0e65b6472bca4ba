//! The end of each connection of a program: it prints a line with the number of evaluations, the
//! status and the text.

/// The values of `forcewire_status_t`.
pub const OK: i32 = 0;
pub const CLOSED: i32 = 3;
pub const BROKEN: i32 = 4;
pub const CONNECTION: i32 = 6;
pub const OUT_OF_TURN: i32 = 8;
pub const NO_ROOM: i32 = 9;
pub const NOT_FINITE: i32 = 10;
pub const POTENTIAL: i32 = 11;

/// Evaluations, status, text.
pub fn ends(said: &str) -> Vec<(usize, i32, String)> {
    said.lines()
        .map(|line| {
            let mut words = line.splitn(3, ' ');
            let mut next = || words.next().unwrap_or_else(|| panic!("{said}"));
            (
                next().parse().unwrap(),
                next().parse().unwrap(),
                next().into(),
            )
        })
        .collect()
}
