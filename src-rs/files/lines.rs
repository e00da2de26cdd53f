//! NDJSON, and arrays of JSON: where each row begins and ends.
//!
//! Invariants:
//! - Every byte is looked at a bounded number of times, however long a line is and in whatever pieces it comes.
//! - Of NDJSON, a line is a row: whatever is wrong with it ends with it.
//! - Lines are counted as they stand in the input, from 1.

use memchr::{memchr, memchr_iter};

use super::columns::Columns;
use super::input::{Filled, InputWindow, invalid, too_large};
use super::json::read_row;
use super::part::Part;
use super::refusal::{Misfit, ROW_TOO_LARGE};
use super::text::{Next, RowFinder};
use crate::error::Result;

pub struct Lines {
    drop_unknown: bool,
    scratch: String,
    line: u64,
    /// Of what is in the window, looked at without finding an end.
    seen: usize,
    /// A line that is too long is passed over.
    skipping: bool,
}

impl Lines {
    pub fn new(drop_unknown: bool) -> Lines {
        Lines {
            drop_unknown,
            scratch: String::new(),
            line: 1,
            seen: 0,
            skipping: false,
        }
    }
}

impl RowFinder for Lines {
    fn next(&mut self, window: &mut InputWindow, columns: &mut Columns, part: &mut Part) -> Result<Next> {
        let bytes = window.bytes();
        let end = memchr(b'\n', &bytes[self.seen..]).map(|at| self.seen + at);
        let (length, taken) = match end {
            Some(end) => (end, end + 1),
            None if bytes.len() > window.limits().max_record_bytes => {
                if !self.skipping {
                    self.skipping = true;
                    part.refuse(self.line, too_long(window));
                }
                window.take(window.bytes().len());
                self.seen = 0;
                return Ok(Next::Row);
            }
            None => {
                self.seen = bytes.len();
                match window.fill()? {
                    Filled::More => return Ok(Next::Row),
                    Filled::Pending => return Ok(Next::Pending),
                    Filled::Ended if window.bytes().is_empty() => return Ok(Next::Ended),
                    Filled::Ended => (window.bytes().len(), window.bytes().len()),
                }
            }
        };
        self.seen = 0;
        if !std::mem::take(&mut self.skipping) {
            let line = &window.bytes()[..length];
            if length > window.limits().max_record_bytes {
                part.refuse(self.line, too_long(window));
            } else if !line.iter().all(u8::is_ascii_whitespace) {
                match read_row(line, columns, self.drop_unknown, &mut self.scratch) {
                    Ok(()) => part.row(self.line),
                    Err(fault) => part.refuse(self.line, fault),
                }
            }
        }
        window.take(taken);
        self.line += 1;
        Ok(Next::Row)
    }
}

fn too_long(window: &InputWindow) -> Misfit {
    let most = window.limits().max_record_bytes;
    Misfit::new(
        ROW_TOO_LARGE,
        format!("the line is longer than {most} bytes (maxRecordBytes)"),
    )
}

/// The elements of one array.
pub struct Elements {
    drop_unknown: bool,
    scratch: String,
    line: u64,
    place: Place,
    /// Of what is in the window, looked at as part of the element under way.
    seen: usize,
    depth: usize,
    in_text: bool,
    escaped: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Place {
    BeforeArray,
    /// Behind the bracket: an element, or the end.
    First,
    /// Behind a comma.
    Element,
    /// Behind an element: a comma, or the end.
    Behind,
    AfterArray,
}

impl Elements {
    pub fn new(drop_unknown: bool) -> Elements {
        Elements {
            drop_unknown,
            scratch: String::new(),
            line: 1,
            place: Place::BeforeArray,
            seen: 0,
            depth: 0,
            in_text: false,
            escaped: false,
        }
    }

    /// Where the element at the beginning of the bytes ends, if they hold all of it.
    fn end_of(&mut self, bytes: &[u8]) -> Option<usize> {
        while let Some(&byte) = bytes.get(self.seen) {
            let mut over = false;
            if self.in_text {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => {
                        self.in_text = false;
                        over = self.depth == 0;
                    }
                    _ => {}
                }
            } else {
                match byte {
                    b'"' => self.in_text = true,
                    b'{' | b'[' => self.depth += 1,
                    // Of a number or a word, behind its end.
                    b',' | b']' | b'}' if self.depth == 0 => return Some(std::mem::take(&mut self.seen)),
                    b'}' | b']' => {
                        self.depth -= 1;
                        over = self.depth == 0;
                    }
                    _ => {}
                }
            }
            self.seen += 1;
            if over {
                return Some(std::mem::take(&mut self.seen));
            }
        }
        None
    }

    fn lost(&self, what: &str) -> crate::error::Error {
        invalid(format!(
            "the array of JSON is malformed at line {}: {what}",
            self.line
        ))
    }
}

impl RowFinder for Elements {
    fn next(&mut self, window: &mut InputWindow, columns: &mut Columns, part: &mut Part) -> Result<Next> {
        let bytes = window.bytes();
        if self.seen == 0 {
            let blanks = bytes.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            self.line += memchr_iter(b'\n', &bytes[..blanks]).count() as u64;
            window.take(blanks);
        }
        let bytes = window.bytes();
        let Some(&first) = bytes.first() else {
            return match window.fill()? {
                Filled::More => Ok(Next::Row),
                Filled::Pending => Ok(Next::Pending),
                Filled::Ended if self.place == Place::AfterArray => Ok(Next::Ended),
                Filled::Ended => Err(self.lost("the input ends before the array does")),
            };
        };
        match (self.place, first) {
            (Place::BeforeArray, b'[') => self.place = Place::First,
            (Place::Behind, b',') => self.place = Place::Element,
            (Place::First | Place::Behind, b']') => self.place = Place::AfterArray,
            (Place::First | Place::Element, _) => return self.element(window, columns, part),
            (Place::AfterArray, _) => return Err(self.lost("something follows the array")),
            _ => return Err(self.lost("a comma or the end of the array is wanted")),
        }
        window.take(1);
        Ok(Next::Row)
    }
}

impl Elements {
    fn element(&mut self, window: &mut InputWindow, columns: &mut Columns, part: &mut Part) -> Result<Next> {
        let most = window.limits().max_record_bytes;
        let Some(end) = self.end_of(window.bytes()) else {
            if window.bytes().len() > most {
                return Err(too_large(format!(
                    "the element at line {} is longer than {most} bytes (maxRecordBytes)",
                    self.line
                )));
            }
            return match window.fill()? {
                Filled::More => Ok(Next::Row),
                Filled::Pending => Ok(Next::Pending),
                Filled::Ended => Err(self.lost("the input ends before the array does")),
            };
        };
        let text = &window.bytes()[..end];
        match read_row(text, columns, self.drop_unknown, &mut self.scratch) {
            Ok(()) => part.row(self.line),
            Err(fault) => part.refuse(self.line, fault),
        }
        self.line += memchr_iter(b'\n', text).count() as u64;
        self.place = Place::Behind;
        window.take(end);
        Ok(Next::Row)
    }
}
