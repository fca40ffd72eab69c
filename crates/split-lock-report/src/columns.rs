//! Plain tables for terminals: the first column holds words, the others numbers.

use unicode_width::UnicodeWidthStr;

const GAP: &str = "  ";

/// Lines up the cells of `rows`, of which the first is the heading.
pub fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count)
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.width()).max().unwrap_or(0)
        })
        .collect();
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
        let rows = [["policy", "gain"], ["up", "1"], ["debt", "22.5"]]
            .map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(columns(&rows), "policy  gain\nup         1\ndebt    22.5\n");
    }
}
