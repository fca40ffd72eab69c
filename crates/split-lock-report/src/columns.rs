//! Plain tables for terminals: the first column holds words, the others numbers.

use std::iter;

use unicode_width::UnicodeWidthStr;

const GAP: &str = "  ";

/// Lines up the cells of `rows` below `headings`; a row may end early.
pub fn columns(
    headings: impl IntoIterator<Item = impl ToString>,
    rows: impl IntoIterator<Item = Vec<String>>,
) -> String {
    let headings = headings.into_iter().map(|heading| heading.to_string());
    let rows: Vec<Vec<String>> = iter::once(headings.collect()).chain(rows).collect();
    debug_assert!(
        rows.iter().all(|row| row.len() <= rows[0].len()),
        "a cell has no heading"
    );
    let widest = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.width()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..rows[0].len()).map(widest).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate();
        let padded = cells.map(|(column, (cell, width))| {
            let room = " ".repeat(width - cell.width());
            match column {
                0 => format!("{cell}{room}"),
                _ => format!("{room}{cell}"),
            }
        });
        let line = padded.collect::<Vec<_>>().join(GAP);
        format!("{}\n", line.trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::columns;

    #[test]
    fn words_are_on_the_left_and_numbers_on_the_right() {
        let rows = [["up", "1"], ["debt", "22.5"]];
        let rows = rows.map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(
            columns(["policy", "gain"], rows),
            "policy  gain\nup         1\ndebt    22.5\n"
        );
    }

    #[test]
    fn a_row_may_end_early() {
        let rows = [vec!["a group".to_owned()], vec![]];
        assert_eq!(columns(["who", "gain"], rows), "who      gain\na group\n\n");
    }
}
