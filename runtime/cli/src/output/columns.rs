//! Lists and facts for people: columns that stand under each other.

/// Where a cell's text stands in its column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// A table with headings.
#[derive(Debug)]
pub(crate) struct Columns<const N: usize> {
    align: [Align; N],
    /// The headings are the first.
    rows: Vec<[String; N]>,
}

impl<const N: usize> Columns<N> {
    pub(crate) fn new(heads: [(&str, Align); N]) -> Self {
        let (align, heads) =
            (heads.map(|(_, align)| align), heads.map(|(head, _)| head.to_owned()));
        Self { align, rows: vec![heads] }
    }

    pub(crate) fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells);
    }

    pub(crate) fn text(&self) -> String {
        let width = |column: usize| {
            self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)
        };
        let widths: [usize; N] = std::array::from_fn(width);
        let line = |row: &[String; N]| {
            let cells =
                row.iter().zip(self.align).zip(widths).map(|((cell, align), width)| match align {
                    Align::Left => format!("{cell:width$}"),
                    Align::Right => format!("{cell:>width$}"),
                });
            let line = cells.collect::<Vec<_>>().join("  ");
            format!("{}\n", line.trim_end())
        };
        self.rows.iter().map(line).collect()
    }
}

/// One fact a line, behind names that are padded to the same width.
pub(crate) fn facts(facts: &[(&str, String)]) -> String {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let line = |(name, value): &(&str, String)| {
        format!("{}\n", format!("{name:width$}  {value}").trim_end())
    };
    facts.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut columns = Columns::new([("name", Align::Left), ("credits", Align::Right)]);
        columns.row(["a".into(), "0.000001".into()]);
        columns.row(["äöüäö".into(), "12".into()]);
        let expected = "name    credits\na      0.000001\näöüäö        12\n";
        assert_eq!(columns.text(), expected);
        assert_eq!(facts(&[("a", "1".into()), ("bcd", "2".into())]), "a    1\nbcd  2\n");
    }
}
