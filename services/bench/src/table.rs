//! Tables for people: aligned columns on stdout.

use std::fmt;
use std::time::Duration;

/// Rows of cells, the first row being the heading.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table(Vec<Vec<String>>);

impl Table {
    pub(crate) fn new(heading: &[&str]) -> Table {
        let mut table = Table::default();
        table.row(heading);
        table
    }

    pub(crate) fn row<T: ToString>(&mut self, cells: &[T]) {
        self.0.push(cells.iter().map(T::to_string).collect());
    }
}

impl fmt::Display for Table {
    /// The first column to the left, the others to the right.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.0.iter().map(Vec::len).max().unwrap_or_default();
        let width = |column: usize| {
            let cells = self.0.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.0 {
            let mut line = String::new();
            for (index, (cell, width)) in row.iter().zip(&widths).enumerate() {
                if index == 0 {
                    line.push_str(&format!("{cell:<width$}"));
                } else {
                    line.push_str(&format!("  {cell:>width$}"));
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Milliseconds, in three digits.
pub(crate) fn millis(time: Duration) -> String {
    let millis = time.as_secs_f64() * 1_000.0;
    format!("{} ms", digits(millis))
}

/// Mebibytes.
pub(crate) fn mebibytes(bytes: u64) -> String {
    #[allow(clippy::cast_precision_loss, reason = "for people")]
    let mebibytes = bytes as f64 / f64::from(1 << 20);
    format!("{} MiB", digits(mebibytes))
}

/// Megabytes, of 1,000,000 bytes.
pub(crate) fn megabytes(bytes: u64) -> String {
    #[allow(clippy::cast_precision_loss, reason = "for people")]
    let megabytes = bytes as f64 / 1e6;
    format!("{} MB", digits(megabytes))
}

/// How many times `time` is as long as `than`.
pub(crate) fn times(time: Duration, than: Duration) -> f64 {
    time.as_secs_f64() / than.as_secs_f64().max(f64::MIN_POSITIVE)
}

/// About three digits, since no more can be told.
pub(crate) fn digits(number: f64) -> String {
    match number {
        number if number >= 100.0 => format!("{number:.0}"),
        number if number >= 10.0 => format!("{number:.1}"),
        number => format!("{number:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(&["", "CPU"]);
        table.row(&["Node", "300 ms"]);
        table.row(&["us", "5 ms"]);
        assert_eq!(table.to_string(), "         CPU\nNode  300 ms\nus      5 ms\n");
    }

    #[test]
    fn three_digits_are_told() {
        assert_eq!(millis(Duration::from_micros(5_234)), "5.23 ms");
        assert_eq!(millis(Duration::from_micros(52_340)), "52.3 ms");
        assert_eq!(millis(Duration::from_micros(523_400)), "523 ms");
        assert_eq!(mebibytes(7 << 20), "7.00 MiB");
        assert_eq!(megabytes(7_340_032), "7.34 MB");
    }
}
