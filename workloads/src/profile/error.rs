//! What is wrong with a profile: file, line, column, key, message, remedy, and the line with a caret beneath.
//!
//! Leaves out the exit code and colours: they are the command line's.

use std::fmt;
use std::ops::Range;

/// One fault in a profile. `Display` prints it over several lines, the excerpt included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileError {
    /// The file, or `--set KEY` when an override holds the fault.
    pub file: String,
    /// Line, from 1; 0 when the file itself could not be read.
    pub line: usize,
    /// Column in characters, from 1; 0 when the file itself could not be read.
    pub column: usize,
    /// The key that holds the fault, as a path (`groups.0.work.time`); empty when it is none in particular.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub remedy: String,
    /// The faulty line and what of it is at fault.
    pub excerpt: Box<Excerpt>,
}

/// The faulty line of a profile; empty when the file could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Excerpt {
    /// The line as written.
    pub text: String,
    /// How many characters are underlined, from the error's column on.
    pub width: usize,
}

impl ProfileError {
    /// A fault of the whole file: it is missing or cannot be read.
    pub(crate) fn whole(file: &str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line: 0,
            column: 0,
            key: String::new(),
            message: message.into(),
            remedy: remedy.into(),
            excerpt: Box::default(),
        }
    }

    /// A fault at `span` (in bytes) of `text`.
    pub(crate) fn at(
        file: &str,
        text: &str,
        span: Range<usize>,
        key: impl Into<String>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let start = floor_boundary(text, span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |i| i + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |i| start + i);
        let end = floor_boundary(text, span.end).clamp(start, line_end);
        let line = text[line_start..line_end].trim_end_matches('\r').to_owned();
        // A fault at the end of a line that ends in \r\n stands after the last character that is shown.
        let shown = start.min(line_start + line.len());
        let width = text[start..end].trim_end_matches('\r').chars().count().max(1);
        Self {
            file: file.to_owned(),
            line: text[..start].matches('\n').count() + 1,
            column: text[line_start..shown].chars().count() + 1,
            key: key.into(),
            message: message.into(),
            remedy: remedy.into(),
            excerpt: Box::new(Excerpt { text: line, width }),
        }
    }
}

fn floor_boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0)
}

impl fmt::Display for ProfileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            return write!(f, "{}: {}\n  remedy: {}", self.file, self.message, self.remedy);
        }
        write!(f, "{}:{}:{}: ", self.file, self.line, self.column)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        let gutter = self.line.to_string().len();
        // A tab before the fault is kept as a tab, so that the caret stands beneath it at any tab width.
        let indent: String =
            self.excerpt.text.chars().take(self.column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        writeln!(f, "{}", self.message)?;
        writeln!(f, "{:gutter$} |", "")?;
        writeln!(f, "{} | {}", self.line, self.excerpt.text)?;
        writeln!(f, "{:gutter$} | {indent}{}", "", "^".repeat(self.excerpt.width))?;
        write!(f, "{:gutter$} = remedy: {}", "", self.remedy)
    }
}

impl std::error::Error for ProfileError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_beneath_the_fault() {
        let text = "name = \"é\"\nséed = \"x\"\n";
        let at = text.find("\"x\"").unwrap();
        let error = ProfileError::at("a.toml", text, at..at + 3, "seed", "no number", "write one");
        assert_eq!((error.line, error.column, error.excerpt.width), (2, 8, 3));
        assert_eq!(
            error.to_string(),
            "a.toml:2:8: seed: no number\n  |\n2 | séed = \"x\"\n  |        ^^^\n  = remedy: write one"
        );
    }

    #[test]
    fn a_span_beyond_the_text_is_cut_to_it() {
        let error = ProfileError::at("a", "é", 1..99, "", "m", "r");
        assert_eq!((error.line, error.column, error.excerpt.width), (1, 1, 1));
        let error = ProfileError::at("a", "ab\ncd", 1..5, "", "m", "r");
        assert_eq!((error.line, error.column, error.excerpt.width), (1, 2, 1));
    }

    #[test]
    fn a_fault_at_the_end_of_a_line_stands_there_whatever_ends_the_line() {
        for text in ["ab\ncd", "ab\r\ncd"] {
            let error = ProfileError::at("a", text, text.find('\n').unwrap()..text.len(), "", "m", "r");
            assert_eq!((error.line, error.column, error.excerpt.width), (1, 3, 1), "{text:?}");
            assert_eq!(error.excerpt.text, "ab");
        }
    }
}
