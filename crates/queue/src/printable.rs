//! Text that may hold anybody's words, for a terminal or a log: what could move the cursor, forge a line or is no text
//! at all is written as an escape.

use std::error::Error;
use std::fmt::Display;

/// The text on one line, without control characters. Bytes that are no UTF-8 become U+FFFD: libraries that wrap C hand
/// out what they read from a damaged file as if it were text.
pub fn printable(text: impl Display) -> String {
    escaped(&text.to_string(), false)
}

/// The same for text that may have several lines of its own.
pub fn printable_lines(text: impl Display) -> String {
    escaped(&text.to_string(), true)
}

/// An error with its causes, each said once: what a message quotes of its cause is not said again.
pub fn printable_chain(error: &(dyn Error + 'static)) -> String {
    std::iter::successors(Some(error), |error: &&(dyn Error + 'static)| (*error).source()).fold(
        String::new(),
        |said, cause| {
            let (line, lines) = (printable(cause), printable_lines(cause));
            match said.as_str() {
                "" => lines,
                known if known.contains(&line) => said,
                known => format!("{known}: {lines}"),
            }
        },
    )
}

fn escaped(text: &str, keeps_lines: bool) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in String::from_utf8_lossy(text.as_bytes()).chars() {
        let is_kept = keeps_lines && character == '\n';
        match !is_kept && (character.is_control() || reorders(character)) {
            true => shown.extend(character.escape_default()),
            false => shown.push(character),
        }
    }
    shown
}

/// Breaks a line, or makes text appear in another order than it is stored.
fn reorders(character: char) -> bool {
    matches!(character, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_but_text() {
        let cases = [
            ("plain é 漢字", "plain é 漢字"),
            ("\u{1b}[2Jgone\r\nforged", "\\u{1b}[2Jgone\\r\\nforged"),
            ("\u{9b}31m\u{202e}gnp.exe", "\\u{9b}31m\\u{202e}gnp.exe"),
        ];
        for (text, expected) in cases {
            assert_eq!(printable(text), expected);
        }
        assert_eq!(printable_lines("one\ntwo\u{7}"), "one\ntwo\\u{7}");
    }

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Failed(&'static str, #[source] Option<Box<Failed>>);

    #[test]
    fn a_cause_that_the_message_quotes_is_not_said_again() {
        let cause = Failed("no\u{7}", None);
        let quoted = Failed("outer\n- list", Some(Box::new(Failed("file: no\\u{7}", Some(Box::new(cause))))));
        assert_eq!(printable_chain(&quoted), "outer\n- list: file: no\\u{7}");
    }
}
