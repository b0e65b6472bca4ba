//! Processes and their children, as Linux lists them. On other systems the list is empty.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

/// A process that has not ended.
#[derive(Clone, Copy, Debug)]
pub struct Process {
    pub id: u32,
    parent: u32,
    /// The CPU time that it has used, including that of ended children.
    pub cpu: Duration,
}

/// All processes that this process has started, directly or indirectly.
pub fn descendants(of: u32) -> Vec<Process> {
    let mut children = HashMap::<u32, Vec<Process>>::new();
    for process in all() {
        children.entry(process.parent).or_default().push(process);
    }
    let (mut found, mut next) = (Vec::new(), vec![of]);
    while let Some(parent) = next.pop() {
        let mine = children.remove(&parent).unwrap_or_default();
        next.extend(mine.iter().map(|process| process.id));
        found.extend(mine);
    }
    found
}

fn all() -> impl Iterator<Item = Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let id = entry.file_name().to_str()?.parse().ok()?;
        let text = fs::read_to_string(entry.path().join("stat")).ok()?;
        read(id, &text)
    })
}

/// Linux, `man 5 proc_pid_stat`: the name is in brackets and may itself contain brackets.
fn read(id: u32, text: &str) -> Option<Process> {
    let fields: Vec<_> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    // A zombie has ended.
    if matches!(*fields.first()?, "Z" | "X") {
        return None;
    }
    let ticks = (11..15).filter_map(number).sum::<u64>();
    Some(Process {
        id,
        parent: number(1)? as u32,
        cpu: Duration::from_millis(ticks * 1000 / TICKS),
    })
}

/// `USER_HZ`, which is 100 on all architectures that Rust runs on.
const TICKS: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_have_brackets_and_blanks() {
        let text = "7 (a) b) c) S 3 7 7 0 -1 0 0 0 0 0 150 50 0 0 20 0 1 0 5 0 0";
        let process = read(7, text).unwrap();
        assert_eq!((process.id, process.parent), (7, 3));
        assert_eq!(process.cpu, Duration::from_secs(2));
        assert!(read(7, &text.replace(") S", ") Z")).is_none());
    }
}
