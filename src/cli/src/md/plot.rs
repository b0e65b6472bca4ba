//! Energies as a curve: in a file, and as a line of text.

use std::error::Error;
use std::fs;

use plotters::prelude::*;

/// A row of the table: fs and hartree.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    pub time: f64,
    pub conserved: f64,
    pub potential: f64,
    pub kinetic: f64,
}

impl Row {
    /// Reads the rows of a finished table.
    pub fn read(path: &str) -> Result<Vec<Self>, String> {
        let text = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
        let rows = text.lines().filter(|line| !line.starts_with('#'));
        let rows = rows.filter_map(|line| {
            let numbers: Vec<f64> = line
                .split_whitespace()
                .skip(1)
                .map_while(|number| number.parse().ok())
                .collect();
            match numbers[..] {
                [time, conserved, potential, kinetic, ..] => Some(Self {
                    time,
                    conserved,
                    potential,
                    kinetic,
                }),
                _ => None,
            }
        });
        Ok(rows.collect())
    }
}

/// A function that picks one energy of a row.
type Energy = fn(&Row) -> f64;

/// Draws how the energies differ from the first row's, in meV per atom.
pub fn svg(path: &str, rows: &[Row], natoms: usize) -> Result<(), Box<dyn Error>> {
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else {
        return Ok(());
    };
    let scale = 27_211.386245981 / natoms as f64;
    let curves: [(&str, RGBColor, Energy); 3] = [
        ("potential", RGBColor(31, 119, 180), |row| row.potential),
        ("kinetic", RGBColor(214, 39, 40), |row| row.kinetic),
        ("conserved", RGBColor(0, 0, 0), |row| row.conserved),
    ];
    let difference = |of: Energy, row: &Row| (of(row) - of(first)) * scale;
    let all = curves
        .iter()
        .flat_map(|(.., of)| rows.iter().map(|row| difference(*of, row)));
    let (low, high) = range(all);
    let margin = if high > low { 0.05 * (high - low) } else { 1.0 };
    let right = if last.time > first.time {
        last.time
    } else {
        first.time + 1.0
    };

    let area = SVGBackend::new(path, (800, 480)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .margin(16)
        .x_label_area_size(40)
        .y_label_area_size(64)
        .build_cartesian_2d(first.time..right, low - margin..high + margin)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc("time / fs")
        .y_desc("energy - first / (meV an atom)")
        .draw()?;
    for (name, color, of) in &curves {
        let points = rows.iter().map(|row| (row.time, difference(*of, row)));
        let color = *color;
        chart
            .draw_series(LineSeries::new(points, &color))?
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], color));
    }
    chart
        .configure_series_labels()
        .border_style(BLACK)
        .background_style(WHITE)
        .draw()?;
    area.present()?;
    Ok(())
}

/// The width of the longest sparkline.
const COLUMNS: usize = 60;

/// A line of block characters, scaled from the lowest number to the highest.
pub fn sparkline(numbers: &[f64]) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let columns = numbers.len().min(COLUMNS);
    let means: Vec<f64> = (0..columns)
        .map(|column| {
            let of_column =
                &numbers[column * numbers.len() / columns..(column + 1) * numbers.len() / columns];
            of_column.iter().sum::<f64>() / of_column.len() as f64
        })
        .collect();
    let (low, high) = range(means.iter().copied());
    let block = |mean: &f64| {
        let height = if high > low {
            (mean - low) / (high - low)
        } else {
            0.0
        };
        BLOCKS[((height * 8.0) as usize).min(7)]
    };
    means.iter().map(block).collect()
}

pub fn range(numbers: impl Iterator<Item = f64>) -> (f64, f64) {
    numbers.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| {
        (low.min(x), high.max(x))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sparkline_is_as_long_as_there_are_numbers_up_to_its_width() {
        assert_eq!(sparkline(&[0.0, 1.0, 0.5, 0.25]), "▁█▅▃");
        assert_eq!(sparkline(&[2.0, 2.0]), "▁▁");
        assert_eq!(sparkline(&[]), "");
        let many: Vec<_> = (0..1000).map(f64::from).collect();
        let line: Vec<_> = sparkline(&many).chars().collect();
        assert_eq!(line.len(), COLUMNS);
        assert!(line.is_sorted());
    }
}
