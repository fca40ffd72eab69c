//! What a guest writes to its console, without what would act on the terminal that shows it.

/// Takes bytes as they come, and leaves text of lines.
#[derive(Debug, Default)]
pub struct PlainText {
    state: State,
    /// The beginning of a character whose rest is still to come.
    partial: Vec<u8>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    /// Behind ESC.
    Escape,
    /// Parameters of a control sequence, up to a letter.
    Sequence,
    /// A text for the terminal itself, such as its title, up to BEL or ESC \.
    Message,
    MessageEscape,
}

const LONGEST_CHARACTER: usize = 4;

impl PlainText {
    /// The text in these bytes: printable characters, tabs and line feeds. Escape sequences are left
    /// out, whole or in pieces, and so is every other control character. What is not UTF-8 becomes U+FFFD.
    ///
    /// ```
    /// use split_lock_repro::linux::PlainText;
    ///
    /// let mut plain = PlainText::default();
    /// assert_eq!(plain.add(b"\x1b[1;31mred\x1b["), "red");
    /// assert_eq!(plain.add(b"0m\r\n"), "\n");
    /// ```
    pub fn add(&mut self, bytes: &[u8]) -> String {
        let mut text = String::new();
        self.partial.extend(bytes);
        let waiting = std::mem::take(&mut self.partial);
        let mut chunks = waiting.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            text.extend(chunk.valid().chars().filter(|&c| self.shows(c)));
            let invalid = chunk.invalid();
            if invalid.is_empty() {
                continue;
            }
            if chunks.peek().is_none() && is_beginning(invalid) {
                self.partial = invalid.to_vec();
            } else if self.shows(char::REPLACEMENT_CHARACTER) {
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        text
    }

    fn shows(&mut self, c: char) -> bool {
        const ESCAPE: char = '\x1b';
        const BELL: char = '\x07';
        self.state = match (self.state, c) {
            // Nobody's sequence goes over a line's end; what was torn apart does not hide what follows.
            (_, '\n') => {
                self.state = State::Text;
                return true;
            }
            (State::Message, BELL) | (State::MessageEscape, '\\') => State::Text,
            (State::Message, ESCAPE) => State::MessageEscape,
            (State::Message | State::MessageEscape, _) => State::Message,
            (_, ESCAPE) => State::Escape,
            (State::Escape, '[') => State::Sequence,
            (State::Escape, ']' | 'P' | 'X' | '^' | '_') => State::Message,
            // Two bytes, or three: the middle ones are these.
            (State::Escape, ' '..='/') => State::Escape,
            (State::Sequence, ' '..='?') => State::Sequence,
            (State::Escape | State::Sequence, _) => State::Text,
            (State::Text, '\t') => return true,
            (State::Text, c) => return !c.is_control() && !turns_text_around(c),
        };
        false
    }
}

/// Whether it changes the order in which a terminal shows what follows.
fn turns_text_around(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether more bytes could make a character of it.
fn is_beginning(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
        && bytes.len() < LONGEST_CHARACTER
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn whole(bytes: &[u8]) -> String {
        PlainText::default().add(bytes)
    }

    #[test]
    fn escape_sequences_are_left_out() {
        assert_eq!(whole(b"/ # \x1b[6nls\r\n"), "/ # ls\n");
        assert_eq!(whole(b"\x1b]0;title\x07a\x1b]2;title\x1b\\b"), "ab");
        assert_eq!(whole(b"a\x1b(Bb\x1b7c\x1bMd"), "abcd");
        assert_eq!(whole(b"a\x08\x07\x00b\xc2\x9bc"), "abc");
    }

    #[test]
    fn a_sequence_that_never_ends_hides_no_other_line() {
        let mut plain = PlainText::default();
        assert_eq!(plain.add(b"a\x1b]0;title"), "a");
        assert_eq!(
            plain.add(b"more of it\nKernel panic\x1b["),
            "\nKernel panic"
        );
        assert_eq!(plain.add(b"\nb"), "\nb");
    }

    #[test]
    fn text_is_not_turned_around() {
        assert_eq!(whole("a\u{202e}b\u{2066}c".as_bytes()), "abc");
    }

    #[test]
    fn characters_may_come_in_pieces() {
        let mut plain = PlainText::default();
        assert_eq!(plain.add(b"\xe2\x82"), "");
        assert_eq!(plain.add(b"\xac!"), "\u{20ac}!");
        assert_eq!(plain.add(b"\xff\xe2("), "\u{fffd}\u{fffd}(");
    }

    proptest! {
        #[test]
        fn however_it_is_cut_it_is_the_same(bytes in proptest::collection::vec(any::<u8>(), 0..60), at in 0usize..60) {
            let at = at.min(bytes.len());
            let mut plain = PlainText::default();
            let pieces = plain.add(&bytes[..at]) + &plain.add(&bytes[at..]);
            prop_assert_eq!(&pieces, &whole(&bytes));
            prop_assert!(pieces.chars().all(|c| !c.is_control() || c == '\n' || c == '\t'));
        }
    }
}
