//! CSV: where each field begins and ends, and what its text is.
//!
//! Invariants:
//! - A field that begins with a quote ends with one, and may hold delimiters, line ends and doubled quotes
//!   (RFC 4180). A quote anywhere else is a letter. What follows a closing quote refuses the record.
//! - A quote that is never closed ends the input with an error: nobody knows where the next record begins.
//! - Every byte is looked at a bounded number of times. Lines are counted as they stand in the input, from 1.

use memchr::{memchr, memchr_iter, memchr2};

use super::columns::{Columns, Kind, TextColumn};
use super::input::{Filled, InputWindow, invalid, too_large};
use super::part::Part;
use super::refusal::{LINE_MALFORMED, Misfit, ROW_TOO_LARGE, VALUE_MALFORMED, text_given};
use super::text::{Next, RowFinder};
use super::values::{is_number, short_whole};
use crate::error::{Code, Error, Result};

/// How CSV is written.
#[derive(Debug, Clone)]
pub struct CsvOptions {
    pub delimiter: u8,
    /// Whether the first record names the columns.
    pub header: bool,
    /// What stands for null where a column is nullable. A field in quotes is never null.
    pub nulls: Vec<String>,
}

impl Default for CsvOptions {
    fn default() -> Self {
        CsvOptions {
            delimiter: b',',
            header: true,
            nulls: vec![String::new()],
        }
    }
}

pub struct Csv {
    options: CsvOptions,
    drop_unknown: bool,
    line: u64,
    /// Of each field, its column; `None` where it is dropped.
    places: Vec<Option<usize>>,
    /// Columns that no field fills.
    absent: Vec<usize>,
    header_wanted: bool,
    fields: Vec<Span>,
    scratch: String,
    /// A record that is too long is passed over, up to the end of its line.
    skipping: bool,
}

/// A field within a record.
#[derive(Debug, Clone, Copy)]
struct Span {
    start: usize,
    end: usize,
    quoted: bool,
    /// Has doubled quotes.
    doubled: bool,
}

/// What stands at the beginning of some bytes.
enum Record {
    /// With its length, and that of its line end.
    Whole { end: usize, taken: usize },
    /// Refused, up to the end of the line in which that is known.
    Wrong { taken: usize },
    /// The bytes end first.
    Partial { in_quotes: bool },
}

impl Csv {
    pub fn new(options: CsvOptions, columns: &Columns, drop_unknown: bool) -> Csv {
        let count = columns.members.columns.len();
        Csv {
            header_wanted: options.header,
            options,
            drop_unknown,
            line: 1,
            places: (0..count).map(Some).collect(),
            absent: Vec::new(),
            fields: Vec::with_capacity(count),
            scratch: String::new(),
            skipping: false,
        }
    }

    /// Parts the record that the bytes begin with into `fields`.
    fn split(&mut self, bytes: &[u8], ended: bool) -> Record {
        self.fields.clear();
        let delimiter = self.options.delimiter;
        let mut at = 0;
        loop {
            let start = at;
            if bytes.get(at) == Some(&b'"') {
                let mut doubled = false;
                let mut from = at + 1;
                let end = loop {
                    let Some(quote) = memchr(b'"', &bytes[from..]) else {
                        return Record::Partial { in_quotes: true };
                    };
                    let quote = from + quote;
                    match bytes.get(quote + 1) {
                        Some(b'"') => {
                            doubled = true;
                            from = quote + 2;
                        }
                        None if !ended => return Record::Partial { in_quotes: true },
                        _ => break quote,
                    }
                };
                self.fields.push(Span {
                    start: start + 1,
                    end,
                    quoted: true,
                    doubled,
                });
                at = end + 1;
            } else {
                let end = match first_of(delimiter, b'\n', &bytes[at..]) {
                    Some(length) => at + length,
                    None if ended => bytes.len(),
                    None => return Record::Partial { in_quotes: false },
                };
                let last = bytes.get(end) != Some(&delimiter);
                let cut = usize::from(last && end > start && bytes[end - 1] == b'\r');
                self.fields.push(Span {
                    start,
                    end: end - cut,
                    quoted: false,
                    doubled: false,
                });
                at = end;
            }
            match bytes.get(at) {
                Some(byte) if *byte == delimiter => at += 1,
                Some(b'\n') => {
                    return Record::Whole {
                        end: at,
                        taken: at + 1,
                    };
                }
                Some(b'\r') if bytes.get(at + 1) == Some(&b'\n') => {
                    return Record::Whole {
                        end: at,
                        taken: at + 2,
                    };
                }
                Some(b'\r') if at + 1 == bytes.len() => match ended {
                    true => {
                        return Record::Whole {
                            end: at,
                            taken: at + 1,
                        };
                    }
                    false => return Record::Partial { in_quotes: false },
                },
                None if ended => return Record::Whole { end: at, taken: at },
                None => return Record::Partial { in_quotes: false },
                Some(_) => {
                    return match memchr(b'\n', &bytes[at..]) {
                        Some(length) => Record::Wrong {
                            taken: at + length + 1,
                        },
                        None if ended => Record::Wrong { taken: bytes.len() },
                        None => Record::Partial { in_quotes: false },
                    };
                }
            }
        }
    }

    /// Finds the column of each field.
    fn header(&mut self, record: &str, columns: &Columns) -> Result<()> {
        let members = &columns.members;
        self.places.clear();
        let mut taken = vec![false; members.columns.len()];
        for index in 0..self.fields.len() {
            let name = self.text(record, self.fields[index]).to_owned();
            let place = members.position(&name, index);
            match place {
                Some(place) if std::mem::replace(&mut taken[place], true) => {
                    return Err(wrong_header(format!("the header names column {name} twice")));
                }
                None if !self.drop_unknown => {
                    let short: String = name.chars().take(100).collect();
                    return Err(wrong_header(format!(
                        "the header names column {short}, which the schema does not have; \
                         with unknownKeys: \"drop\" its values are left out"
                    )));
                }
                _ => self.places.push(place),
            }
        }
        self.absent = (0..taken.len()).filter(|index| !taken[*index]).collect();
        for index in &self.absent {
            let column = &columns.schema().fields()[*index];
            if !column.is_nullable() {
                return Err(wrong_header(format!(
                    "the header does not name column {}, which is not nullable",
                    column.name()
                )));
            }
        }
        Ok(())
    }

    fn text<'a>(&'a mut self, record: &'a str, span: Span) -> &'a str {
        let text = &record[span.start..span.end];
        if !span.doubled {
            return text;
        }
        self.scratch.clear();
        self.scratch.push_str(&text.replace("\"\"", "\""));
        &self.scratch
    }

    fn read(&mut self, record: &[u8], columns: &mut Columns) -> Result<(), Misfit> {
        let record =
            std::str::from_utf8(record).map_err(|_| Misfit::new(LINE_MALFORMED, "the record is no UTF-8"))?;
        if self.fields.len() != self.places.len() {
            return Err(Misfit::new(
                LINE_MALFORMED,
                format!(
                    "the record has {} fields; {} are wanted",
                    self.fields.len(),
                    self.places.len()
                ),
            ));
        }
        for index in 0..self.places.len() {
            let Some(place) = self.places[index] else {
                continue;
            };
            let span = self.fields[index];
            let text = &record[span.start..span.end];
            let column = &mut columns.members.columns[place];
            let result = if !span.quoted && self.options.nulls.iter().any(|null| null == text) {
                null(column, text)
            } else {
                put(column, self.text(record, span))
            };
            result.map_err(|fault| fault.within(&column.name))?;
        }
        for place in &self.absent {
            let column = &mut columns.members.columns[*place];
            column.null().map_err(|fault| fault.within(&column.name))?;
        }
        Ok(())
    }
}

/// A field that stands for null.
fn null(column: &mut TextColumn, text: &str) -> Result<(), Misfit> {
    // An empty field of a column of text that cannot be null is an empty text.
    match column.null() {
        Err(_) if column.kind == Kind::Text => column.text(text),
        result => result,
    }
}

fn put(column: &mut TextColumn, text: &str) -> Result<(), Misfit> {
    match column.kind {
        Kind::Bool if text.eq_ignore_ascii_case("true") => column.bool(true),
        Kind::Bool if text.eq_ignore_ascii_case("false") => column.bool(false),
        Kind::Half | Kind::Single | Kind::Double => column.float(text, true),
        Kind::Whole { .. } => whole(column, text),
        Kind::Length { .. }
            if text.bytes().all(|byte| byte.is_ascii_digit()) && is_number(text.as_bytes()) =>
        {
            column.number(text.as_bytes())
        }
        _ => column.text(text),
    }
}

fn whole(column: &mut TextColumn, text: &str) -> Result<(), Misfit> {
    // What most whole numbers are, without a look at what else numbers may be.
    if let Some(value) = short_whole(text.as_bytes())
        && column.short_whole(value)
    {
        return Ok(());
    }
    if is_number(text.as_bytes()) {
        return column.number(text.as_bytes());
    }
    let fault = column.wrong_type(&text_given(text));
    Err(Misfit::new(VALUE_MALFORMED, fault.message))
}

/// Where one of two bytes stands first. Most fields are so short that a call to look for it takes longer than looking.
#[inline]
fn first_of(one: u8, other: u8, bytes: &[u8]) -> Option<usize> {
    const LOW: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    const NEAR: usize = 32;
    // The lowest bit that is set of a byte which is zero; above it there may be bits that say nothing.
    let zero = |word: u64| word.wrapping_sub(LOW) & !word & HIGH;
    let (ones, others) = (LOW * u64::from(one), LOW * u64::from(other));
    let mut at = 0;
    while at < NEAR
        && let Some((word, _)) = bytes.get(at..).and_then(<[u8]>::split_first_chunk)
    {
        let word = u64::from_le_bytes(*word);
        let found = zero(word ^ ones) | zero(word ^ others);
        if found != 0 {
            return Some(at + (found.trailing_zeros() / 8) as usize);
        }
        at += 8;
    }
    memchr2(one, other, &bytes[at..]).map(|length| at + length)
}

fn wrong_header(message: String) -> Error {
    Error::new(Code::SchemaMismatch, message).during("decode")
}

impl RowFinder for Csv {
    fn next(&mut self, window: &mut InputWindow, columns: &mut Columns, part: &mut Part) -> Result<Next> {
        if self.skipping {
            return self.skip(window);
        }
        let most = window.limits().max_record_bytes;
        let (end, taken) = match self.split(window.bytes(), window.ended()) {
            Record::Whole { end, taken } => (end, taken),
            Record::Wrong { taken } => {
                let fault = Misfit::new(LINE_MALFORMED, "something follows the quote that ends a field");
                part.refuse(self.line, fault);
                self.line += memchr_iter(b'\n', &window.bytes()[..taken]).count() as u64;
                window.take(taken);
                return Ok(Next::Row);
            }
            Record::Partial { in_quotes } => {
                let length = window.bytes().len();
                if length > most && in_quotes {
                    return Err(too_large(format!(
                        "the record at line {} is longer than {most} bytes (maxRecordBytes), in quotes that are \
                         perhaps never closed",
                        self.line
                    )));
                }
                if length > most {
                    part.refuse(self.line, too_long(most));
                    self.line += memchr_iter(b'\n', window.bytes()).count() as u64;
                    window.take(length);
                    self.skipping = true;
                    return Ok(Next::Row);
                }
                return match window.fill()? {
                    Filled::More => Ok(Next::Row),
                    Filled::Pending => Ok(Next::Pending),
                    Filled::Ended if window.bytes().is_empty() => self.ended(),
                    Filled::Ended if in_quotes && self.is_open(window.bytes()) => Err(invalid(format!(
                        "a quote of the record at line {} is never closed",
                        self.line
                    ))),
                    // The same bytes again, now that nothing follows them.
                    Filled::Ended => Ok(Next::Row),
                };
            }
        };
        if window.bytes().is_empty() {
            return self.ended();
        }
        let bytes = window.bytes();
        let record = &bytes[..end];
        let is_blank =
            self.fields.len() == 1 && !self.fields[0].quoted && self.fields[0].start == self.fields[0].end;
        if is_blank {
            // Nothing is said by it.
        } else if self.header_wanted {
            let names = std::str::from_utf8(record).map_err(|_| invalid("the header is no UTF-8"))?;
            // Copied: the window is looked at while the columns are found.
            let names = names.to_owned();
            self.header(&names, columns)?;
            self.header_wanted = false;
        } else if end > most {
            part.refuse(self.line, too_long(most));
        } else {
            match self.read(record, columns) {
                Ok(()) => {
                    columns.row_done();
                    part.row(self.line);
                }
                Err(fault) => {
                    columns.undo();
                    part.refuse(self.line, fault);
                }
            }
        }
        self.line += match self.fields.iter().any(|field| field.quoted) {
            true => memchr_iter(b'\n', &window.bytes()[..taken]).count() as u64,
            false => 1,
        };
        window.take(taken);
        Ok(Next::Row)
    }
}

impl Csv {
    /// Whether the record has a quote that nothing closes, although no byte follows.
    fn is_open(&mut self, bytes: &[u8]) -> bool {
        matches!(self.split(bytes, true), Record::Partial { .. })
    }

    fn ended(&self) -> Result<Next> {
        match self.header_wanted {
            true => Err(invalid("the input ends before the header of the CSV")),
            false => Ok(Next::Ended),
        }
    }

    fn skip(&mut self, window: &mut InputWindow) -> Result<Next> {
        if let Some(end) = memchr(b'\n', window.bytes()) {
            window.take(end + 1);
            self.line += 1;
            self.skipping = false;
            return Ok(Next::Row);
        }
        window.take(window.bytes().len());
        Ok(match window.fill()? {
            Filled::More => Next::Row,
            Filled::Pending => Next::Pending,
            Filled::Ended => Next::Ended,
        })
    }
}

fn too_long(most: usize) -> Misfit {
    Misfit::new(
        ROW_TOO_LARGE,
        format!("the record is longer than {most} bytes (maxRecordBytes)"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_two_bytes_is_found_wherever_it_stands() {
        for length in 0..70 {
            for place in 0..length {
                for byte in [b',', b'\n'] {
                    // Bytes around those that are looked for, and both again behind the first.
                    let mut bytes: Vec<u8> = (0..length)
                        .map(|at| [b'-', b'+', 0x0B, 0xAC, 0x8A][at % 5])
                        .collect();
                    bytes[place] = byte;
                    for after in bytes.iter_mut().skip(place + 1).step_by(3) {
                        *after = b',';
                    }
                    assert_eq!(first_of(b',', b'\n', &bytes), Some(place), "{length}");
                }
            }
            assert_eq!(first_of(b',', b'\n', &vec![b'x'; length]), None);
        }
    }
}
