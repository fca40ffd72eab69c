//! Text that comes from elsewhere, made fit to be shown: free of control characters, and wrapped.

use unicode_width::UnicodeWidthStr;

/// Replaces what no picture, page or terminal should be made to interpret: control characters
/// (a guest's name could carry escape sequences) and what XML cannot hold even escaped.
pub fn plain(text: &str) -> String {
    let hostile = |c: char| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}');
    text.chars()
        .map(|c| if hostile(c) { '\u{fffd}' } else { c })
        .collect()
}

/// The same for each line of a text.
pub fn plain_lines(lines: &str) -> String {
    let plain: Vec<String> = lines.split('\n').map(plain).collect();
    plain.join("\n")
}

/// `1 trap`, `2 traps`
pub fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// Running text in lines no wider than `width` columns of a terminal; each line of `text` is a paragraph.
pub fn paragraphs(text: &str, width: usize) -> String {
    let wrapped = |line: &str| wrap(line, width as f64, |part| part.width() as f64);
    let lines = text.lines().flat_map(wrapped);
    lines.map(|line| format!("{line}\n")).collect()
}

/// Breaks `text` into lines that `measure` finds no wider than `width`: between words where that
/// is possible, inside them where it is not. A line holds at least one character.
pub fn wrap(text: &str, width: f64, measure: impl Fn(&str) -> f64) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_inclusive(' ') {
        let line = lines.last_mut().expect("starts with one line");
        if measure(format!("{line}{word}").trim_end()) <= width {
            line.push_str(word);
            continue;
        }
        if !line.is_empty() {
            lines.push(String::new());
        }
        break_word(word, width, &measure, &mut lines);
    }
    for line in &mut lines {
        line.truncate(line.trim_end().len());
    }
    lines
}

fn break_word(word: &str, width: f64, measure: impl Fn(&str) -> f64, lines: &mut Vec<String>) {
    for c in word.chars() {
        let line = lines.last_mut().expect("the caller has begun a line");
        let longer = format!("{line}{c}");
        if line.is_empty() || measure(longer.trim_end()) <= width {
            *line = longer;
        } else {
            lines.push(c.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn by_chars(text: &str, width: usize) -> Vec<String> {
        wrap(text, width as f64, |line| line.chars().count() as f64)
    }

    #[test]
    fn breaks_between_words_and_inside_long_ones() {
        assert_eq!(by_chars("one two three", 7), ["one two", "three"]);
        assert_eq!(by_chars("a abcdefgh b", 4), ["a", "abcd", "efgh", "b"]);
        assert_eq!(by_chars("", 4), [""]);
    }

    #[test]
    fn control_characters_are_replaced() {
        assert_eq!(plain("a\u{1b}[31m\u{ffff}é"), "a\u{fffd}[31m\u{fffd}é");
    }

    proptest! {
        #[test]
        fn wrapping_keeps_the_width_and_every_letter(text in "[a-z ]{0,60}", width in 1usize..20) {
            let lines = by_chars(&text, width);
            prop_assert!(lines.iter().all(|line| line.chars().count() <= width), "{lines:?}");
            let letters = |s: &str| s.replace(' ', "");
            prop_assert_eq!(letters(&lines.concat()), letters(&text));
        }
    }
}
