//! Findings, as text and as JSON.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value, json};

use super::situation::{About, CONTROL};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Handled,
    Hung,
    Crashed,
    SilentlyWrong,
    /// The program ended although its peer did nothing wrong.
    GaveUp,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Handled => "handled",
            Self::Hung => "hung",
            Self::Crashed => "crashed",
            Self::SilentlyWrong => "silently wrong",
            Self::GaveUp => "gave up",
        })
    }
}

/// What the program under test did, and how the kit knows.
#[derive(Clone, Debug)]
pub struct Finding {
    pub verdict: Verdict,
    /// A word or two: "carried on", "refused", "exception".
    pub how: &'static str,
    pub because: String,
    /// Whether a time limit took part in it: on a less busy machine the finding might be another
    /// one.
    pub timed: bool,
}

impl Finding {
    pub fn handled(how: &'static str, because: impl Into<String>) -> Self {
        Self::new(Verdict::Handled, how, because)
    }

    pub fn hung(because: impl Into<String>) -> Self {
        Self {
            timed: true,
            ..Self::new(Verdict::Hung, "silent", because)
        }
    }

    pub fn crashed(how: &'static str, because: impl Into<String>) -> Self {
        Self::new(Verdict::Crashed, how, because)
    }

    pub fn wrong(because: impl Into<String>) -> Self {
        Self::new(Verdict::SilentlyWrong, "went on", because)
    }

    /// The finding for faults in a program's messages; the first one gives the name.
    pub fn faulty(faults: &[Fault]) -> Option<Self> {
        let first = faults.first()?;
        let sentences: Vec<_> = faults.iter().map(|fault| &*fault.sentence).collect();
        Some(Self::new(
            Verdict::SilentlyWrong,
            first.name,
            sentences.join("; "),
        ))
    }

    fn new(verdict: Verdict, how: &'static str, because: impl Into<String>) -> Self {
        let because = because.into();
        Self {
            verdict,
            how,
            because,
            timed: false,
        }
    }
}

/// A fault, and how to correct it.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// A short name, of one or two words.
    pub name: &'static str,
    pub sentence: String,
}

impl Fault {
    pub fn new(name: &'static str, sentence: impl Into<String>) -> Self {
        let sentence = sentence.into();
        Self { name, sentence }
    }
}

pub struct Row {
    pub about: &'static About,
    pub finding: Finding,
    pub seconds: f64,
}

impl Row {
    pub fn line(&self, width: usize) -> String {
        let Finding {
            verdict,
            how,
            because,
            ..
        } = &self.finding;
        let name = self.about.name;
        format!("{name:width$}  {verdict:14}  {how:19}  {because}")
    }

    pub fn json(&self, title: &str, role: &str) -> Value {
        json!({
            "subject": title,
            "role": role,
            "situation": self.about.name,
            "does": self.about.does,
            "verdict": self.finding.verdict.to_string(),
            "how": self.finding.how,
            "because": self.finding.because,
            "seconds": (self.seconds * 10.0).round() / 10.0,
        })
    }
}

/// Tables in Markdown, one for drivers and one for servers, from the `--json` output of several
/// programs.
pub fn tables(texts: &[String]) -> Result<String, String> {
    let mut tables = String::new();
    for role in ["driver", "server"] {
        let (mut subjects, mut order, mut cells) = (Vec::new(), Vec::new(), BTreeMap::new());
        for line in texts.iter().flat_map(|text| text.lines()) {
            let row: Value =
                serde_json::from_str(line).map_err(|error| format!("{error} in {line:?}"))?;
            let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
            if text("role") != role {
                continue;
            }
            let (subject, situation) = (text("subject"), (text("situation"), text("does")));
            if !subjects.contains(&subject) {
                subjects.push(subject.clone());
            }
            if !order.contains(&situation) {
                order.push(situation.clone());
            }
            let (verdict, how) = (text("verdict"), text("how"));
            let cell = match (verdict.as_str(), how.as_str()) {
                ("handled", how) => how.to_owned(),
                (verdict @ "gave up", _) | (verdict, "silent" | "went on") => {
                    format!("**{verdict}**")
                }
                (verdict, how) => format!("**{verdict}** ({how})"),
            };
            cells.insert((situation.0, subject), (verdict, cell));
        }
        if subjects.is_empty() {
            continue;
        }
        let counted = |subject: &String| {
            let mine = || {
                let cells = cells.iter();
                cells.filter(|((situation, whose), _)| whose == subject && situation != CONTROL)
            };
            let handled = mine()
                .filter(|(_, (verdict, _))| verdict == "handled")
                .count();
            format!("{handled} of {}", mine().count())
        };
        let heads: Vec<_> = subjects.iter().map(String::as_str).collect();
        let handled: Vec<_> = subjects.iter().map(counted).collect();
        let peer = if role == "driver" { "server" } else { "driver" };
        tables += &format!("| the {peer} | {} |\n", heads.join(" | "));
        tables += &format!("|---|{}\n", "---|".repeat(subjects.len()));
        for (situation, does) in order {
            let row = subjects.iter().map(|subject| {
                let cell = cells.get(&(situation.clone(), subject.clone()));
                cell.map_or("", |(_, cell)| cell)
            });
            let row: Vec<_> = row.collect();
            tables += &format!("| {does} | {} |\n", row.join(" | "));
        }
        tables += &format!("| **handled** | {} |\n\n", handled.join(" | "));
    }
    Ok(tables.trim_end().to_owned() + "\n")
}
