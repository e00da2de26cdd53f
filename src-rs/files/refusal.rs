//! Why one line is refused.
//!
//! Invariant: a message says what kind of value was given and what was wanted. It holds no text of the input but
//! names of columns and keys, cut to a bounded length, and short numbers.

use std::fmt::Write;

use super::values::Wrong;

/// Of a name in a path.
const MAX_NAME: usize = 100;

/// One line, or one element of a JSON array, that is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineRejection {
    /// Physical, from 1: where it begins.
    pub line: u64,
    /// From 0, through all lines that hold a row, refused ones too.
    pub row: u64,
    /// As in `tags[2].name`; empty for the line itself.
    pub path: String,
    pub code: &'static str,
    pub message: String,
}

pub const LINE_MALFORMED: &str = "LINE_MALFORMED";
pub const ROW_TYPE: &str = "ROW_TYPE";
pub const ROW_TOO_LARGE: &str = "ROW_TOO_LARGE";
pub const KEY_UNKNOWN: &str = "KEY_UNKNOWN";
pub const VALUE_MISSING: &str = "VALUE_MISSING";
pub const VALUE_TYPE: &str = "VALUE_TYPE";
pub const VALUE_RANGE: &str = "VALUE_RANGE";
pub const VALUE_INEXACT: &str = "VALUE_INEXACT";
pub const VALUE_MALFORMED: &str = "VALUE_MALFORMED";

/// A refusal whose place is still being found, from the inside outwards.
#[derive(Debug)]
pub struct Misfit {
    pub code: &'static str,
    pub message: String,
    path: String,
}

impl Misfit {
    #[cold]
    pub fn new(code: &'static str, message: impl Into<String>) -> Misfit {
        Misfit {
            code,
            message: message.into(),
            path: String::new(),
        }
    }

    #[cold]
    pub fn wrong(wrong: Wrong, given: &str, wanted: &str) -> Misfit {
        let code = match wrong {
            Wrong::Malformed => VALUE_MALFORMED,
            Wrong::Inexact => VALUE_INEXACT,
            Wrong::Range => VALUE_RANGE,
        };
        Misfit::new(code, format!("{given} was given; {wanted} is wanted"))
    }

    /// Within a member of that name.
    #[cold]
    pub fn within(mut self, name: &str) -> Misfit {
        let is_plain = name
            .chars()
            .all(|letter| letter == '_' || letter == '$' || letter.is_alphanumeric())
            && !name.starts_with(|letter: char| letter.is_numeric())
            && !name.is_empty();
        let short: String = name.chars().take(MAX_NAME).collect();
        let mut path = match is_plain {
            true => short,
            false => format!("[{}]", serde_json::Value::String(short)),
        };
        if !self.path.is_empty() && !self.path.starts_with('[') {
            path.push('.');
        }
        path.push_str(&self.path);
        self.path = path;
        self
    }

    /// Within an item.
    #[cold]
    pub fn at(mut self, index: usize) -> Misfit {
        let mut path = String::new();
        let _ = write!(path, "[{index}]");
        if !self.path.is_empty() && !self.path.starts_with('[') {
            path.push('.');
        }
        path.push_str(&self.path);
        self.path = path;
        self
    }

    pub fn on(self, line: u64, row: u64) -> LineRejection {
        LineRejection {
            line,
            row,
            path: self.path,
            code: self.code,
            message: self.message,
        }
    }
}

/// What a number in a text is called: itself, unless it is long.
pub fn number_given(text: &[u8]) -> String {
    match std::str::from_utf8(text) {
        Ok(text) if text.len() <= 40 => format!("the number {text}"),
        _ => format!("a number of {} characters", text.len()),
    }
}

pub fn text_given(text: &str) -> String {
    format!("text of {} characters", text.chars().count())
}
