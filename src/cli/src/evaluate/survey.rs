//! Reads the whole file once, before anything waits for a driver.

use std::collections::HashMap;

use crate::elements;
use crate::xyz::{Frame, Frames};

/// The contents of a file in short.
#[derive(Default)]
pub struct Survey {
    pub frames: usize,
    /// Compositions in the order of their first frames: the species, and the number of frames.
    pub groups: Vec<(Vec<String>, usize)>,
    /// The number of frames that are not periodic in all directions.
    pub open: usize,
    places: HashMap<Vec<String>, usize>,
}

impl Survey {
    /// Reads the whole file and reports its first error.
    pub fn of(path: &str) -> Result<Self, String> {
        let mut survey = Self::default();
        for frame in Frames::open(path)? {
            survey.add(&frame?);
        }
        match survey.frames {
            0 => Err(format!("{path}: there is no frame in it")),
            _ => Ok(survey),
        }
    }

    /// Surveys one frame only: standard input can't be read ahead.
    pub fn of_first(frame: &Frame) -> Self {
        let mut survey = Self::default();
        survey.add(frame);
        survey
    }

    fn add(&mut self, frame: &Frame) {
        self.frames += 1;
        self.open += usize::from(frame.pbc != [true; 3]);
        match self.places.get(&frame.species) {
            Some(place) => self.groups[*place].1 += 1,
            None => {
                self.places.insert(frame.species.clone(), self.groups.len());
                self.groups.push((frame.species.clone(), 1));
            }
        }
    }
}

/// A formula: `Ar2`, `H2O`, with the elements in order of appearance.
pub fn formula(species: &[String]) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for species in species {
        let element = elements::element(species);
        match counts.iter_mut().find(|(name, _)| *name == element) {
            Some((_, count)) => *count += 1,
            None => counts.push((element, 1)),
        }
    }
    let parts = counts.iter().map(|(name, count)| match count {
        1 => (*name).to_owned(),
        count => format!("{name}{count}"),
    });
    parts.collect()
}
