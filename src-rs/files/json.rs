//! The text of one JSON value → values of columns.
//!
//! Invariants:
//! - The grammar is that of RFC 8259, all of it and nothing else. A name that stands twice in an object is refused:
//!   one of its values would be lost.
//! - Numbers are taken by their text (`values.rs`): no integer and no decimal goes through a `f64`.
//! - Depth is bounded by the schema, and by [`MAX_DEPTH`] where values are passed over.
//!
//! It does not look for the ends of lines; `lines.rs` does.

use super::columns::{Columns, Members, TextColumn};
use super::refusal::{
    KEY_UNKNOWN, LINE_MALFORMED, Misfit, ROW_TYPE, VALUE_MALFORMED, VALUE_MISSING, VALUE_TYPE,
};

/// How deep values may be nested that no column takes.
const MAX_DEPTH: usize = 128;

/// Reads one object as a row. Nothing of it is in the columns if it is refused.
pub fn read_row(
    text: &[u8],
    columns: &mut Columns,
    drop_unknown: bool,
    scratch: &mut String,
) -> Result<(), Misfit> {
    let result = match std::str::from_utf8(text) {
        Ok(text) => Reader {
            text,
            at: 0,
            drop_unknown,
            scratch,
        }
        .row(columns),
        Err(_) => Err(Misfit::new(LINE_MALFORMED, "the line is no UTF-8")),
    };
    match result {
        Ok(()) => columns.row_done(),
        Err(_) => columns.undo(),
    }
    result
}

struct Reader<'a, 's> {
    text: &'a str,
    at: usize,
    drop_unknown: bool,
    /// Where text with escapes is put together.
    scratch: &'s mut String,
}

impl<'a> Reader<'a, '_> {
    fn row(&mut self, columns: &mut Columns) -> Result<(), Misfit> {
        self.blanks();
        if self.peek() != Some(b'{') {
            let given = self.kind();
            self.skip(0)?;
            self.end()?;
            return Err(Misfit::new(
                ROW_TYPE,
                format!("{given} was given; an object is wanted"),
            ));
        }
        let rows = columns.rows();
        self.object(&mut columns.members, rows)?;
        self.end()
    }

    fn end(&mut self) -> Result<(), Misfit> {
        self.blanks();
        match self.at == self.text.len() {
            true => Ok(()),
            false => Err(self.malformed("more follows the end of the value")),
        }
    }

    fn object(&mut self, members: &mut Members, rows: usize) -> Result<(), Misfit> {
        self.at += 1;
        let mut hint = 0;
        let mut filled = 0;
        self.blanks();
        if self.peek() == Some(b'}') {
            self.at += 1;
        } else {
            loop {
                if self.peek() != Some(b'"') {
                    return Err(self.malformed("a name in quotes is wanted"));
                }
                let (start, end, plain) = self.quoted()?;
                let position = match plain {
                    true => members.position(&self.text[start..end], hint),
                    false => {
                        self.unescaped(start, end)?;
                        members.position(self.scratch, hint)
                    }
                };
                self.colon()?;
                match position {
                    Some(index) => {
                        let column = &mut members.columns[index];
                        if column.rows() != rows {
                            let fault = Misfit::new(VALUE_MALFORMED, "the name stands twice in its object");
                            return Err(fault.within(&column.name));
                        }
                        self.value(column).map_err(|fault| within(fault, &column.name))?;
                        filled += 1;
                        hint = index + 1;
                    }
                    None if self.drop_unknown => self.skip(0)?,
                    None => {
                        let name = match plain {
                            true => self.text[start..end].to_owned(),
                            false => {
                                self.unescaped(start, end)?;
                                self.scratch.clone()
                            }
                        };
                        // What is no JSON is said to be none, whatever its names are.
                        self.skip(0)?;
                        let fault = Misfit::new(KEY_UNKNOWN, "the schema has no such name");
                        return Err(fault.within(&name));
                    }
                }
                self.blanks();
                match self.next() {
                    Some(b',') => self.blanks(),
                    Some(b'}') => break,
                    _ => return Err(self.malformed("a comma or the end of an object is wanted")),
                }
            }
        }
        if filled < members.columns.len() {
            for column in &mut members.columns {
                if column.rows() == rows {
                    column.null().map_err(|mut fault| {
                        if fault.code == VALUE_MISSING {
                            fault.message = fault.message.replacen("null was", "nothing was", 1);
                        }
                        fault.within(&column.name)
                    })?;
                }
            }
        }
        Ok(())
    }

    fn value(&mut self, column: &mut TextColumn) -> Result<(), Misfit> {
        match self.peek() {
            Some(b'"') => {
                let (start, end, plain) = self.quoted()?;
                if plain {
                    return column.text(&self.text[start..end]);
                }
                self.unescaped(start, end)?;
                column.text(self.scratch)
            }
            Some(b'-' | b'0'..=b'9') => {
                let number = self.number()?;
                column.number(number.as_bytes())
            }
            Some(b'n') => self.word("null").and_then(|()| column.null()),
            Some(b't') => self.word("true").and_then(|()| column.bool(true)),
            Some(b'f') => self.word("false").and_then(|()| column.bool(false)),
            Some(b'[') => self.array(column),
            Some(b'{') => self.nested(column),
            _ => Err(self.malformed("a value is wanted")),
        }
    }

    fn array(&mut self, column: &mut TextColumn) -> Result<(), Misfit> {
        if let Some((keys, values)) = column.entries() {
            self.list(|reader, _| reader.pair(keys, values))?;
            return column.close();
        }
        let Some((items, size)) = column.items() else {
            self.skip(0)?;
            return Err(column.wrong_type("an array"));
        };
        let from = items.rows();
        self.list(|reader, index| {
            if size.is_some_and(|size| items.rows() - from >= size) {
                // One too many is enough to say so, however many follow.
                return Err(Misfit::new(
                    super::refusal::VALUE_RANGE,
                    format!("an array of more than {} was given", size.unwrap_or(0)),
                ));
            }
            reader.value(items).map_err(|fault| match fault.code {
                LINE_MALFORMED => fault,
                _ => fault.at(index),
            })
        })?;
        column.close()
    }

    /// The items of an array, each read by `item`.
    fn list(&mut self, mut item: impl FnMut(&mut Self, usize) -> Result<(), Misfit>) -> Result<(), Misfit> {
        self.at += 1;
        self.blanks();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        for index in 0.. {
            item(self, index)?;
            self.blanks();
            match self.next() {
                Some(b',') => self.blanks(),
                Some(b']') => break,
                _ => return Err(self.malformed("a comma or the end of an array is wanted")),
            }
        }
        Ok(())
    }

    /// An entry of a map as `[key, value]`.
    fn pair(&mut self, keys: &mut TextColumn, values: &mut TextColumn) -> Result<(), Misfit> {
        let pair = || Misfit::new(VALUE_TYPE, "an entry of a map is an array of a key and a value");
        if self.peek() != Some(b'[') {
            self.skip(0)?;
            return Err(pair());
        }
        let mut count = 0;
        self.list(|reader, index| {
            count = index + 1;
            match index {
                0 => reader.value(keys).map_err(|fault| within(fault, "key")),
                1 => reader.value(values).map_err(|fault| within(fault, "value")),
                _ => Err(pair()),
            }
        })?;
        if count == 2 { Ok(()) } else { Err(pair()) }
    }

    fn nested(&mut self, column: &mut TextColumn) -> Result<(), Misfit> {
        let rows = column.rows();
        if let Some(members) = column.members() {
            self.object(members, rows)?;
            return column.close();
        }
        let Some((keys, values)) = column.entries() else {
            self.skip(0)?;
            return Err(column.wrong_type("an object"));
        };
        self.at += 1;
        self.blanks();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return column.close();
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(self.malformed("a name in quotes is wanted"));
            }
            let (start, end, plain) = self.quoted()?;
            let key = match plain {
                true => keys.text(&self.text[start..end]),
                false => {
                    self.unescaped(start, end)?;
                    keys.text(self.scratch)
                }
            };
            key.map_err(|fault| within(fault, "key"))?;
            self.colon()?;
            self.value(values).map_err(|fault| within(fault, "value"))?;
            self.blanks();
            match self.next() {
                Some(b',') => self.blanks(),
                Some(b'}') => return column.close(),
                _ => return Err(self.malformed("a comma or the end of an object is wanted")),
            }
        }
    }

    // ---- the grammar --------------------------------------------------------------------------

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    #[inline]
    fn next(&mut self) -> Option<u8> {
        let byte = self.peek();
        self.at += 1;
        byte
    }

    #[inline]
    fn blanks(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn colon(&mut self) -> Result<(), Misfit> {
        self.blanks();
        if self.next() != Some(b':') {
            return Err(self.malformed("a colon is wanted"));
        }
        self.blanks();
        Ok(())
    }

    fn word(&mut self, word: &str) -> Result<(), Misfit> {
        if !self.text[self.at..].starts_with(word) {
            return Err(self.malformed("a value is wanted"));
        }
        self.at += word.len();
        Ok(())
    }

    fn number(&mut self) -> Result<&'a str, Misfit> {
        let bytes = self.text.as_bytes();
        let from = self.at;
        let digits = |mut at: usize| {
            while bytes.get(at).is_some_and(u8::is_ascii_digit) {
                at += 1;
            }
            at
        };
        let start = from + usize::from(bytes[from] == b'-');
        let mut at = digits(start);
        let mut good = at > start && (at == start + 1 || bytes[start] != b'0');
        if bytes.get(at) == Some(&b'.') {
            let end = digits(at + 1);
            good &= end > at + 1;
            at = end;
        }
        if matches!(bytes.get(at), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(at + 1), Some(b'-' | b'+')));
            let end = digits(at + 1 + sign);
            good &= end > at + 1 + sign;
            at = end;
        }
        if !good {
            return Err(self.malformed("that is no number of JSON"));
        }
        self.at = at;
        Ok(&self.text[from..at])
    }

    /// Where a text is between its quotes, and whether it has no escapes.
    #[inline]
    fn quoted(&mut self) -> Result<(usize, usize, bool), Misfit> {
        let bytes = self.text.as_bytes();
        let start = self.at + 1;
        let mut at = start;
        let mut plain = true;
        loop {
            match bytes.get(at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    plain = false;
                    at += 2;
                }
                Some(0..=0x1f) => {
                    self.at = at;
                    return Err(self.malformed("a control character stands in a text as it is"));
                }
                Some(_) => at += 1,
                None => {
                    self.at = bytes.len();
                    return Err(self.malformed("a text has no end"));
                }
            }
        }
        self.at = at + 1;
        Ok((start, at, plain))
    }

    /// Puts text with escapes into the scratch.
    fn unescaped(&mut self, start: usize, end: usize) -> Result<(), Misfit> {
        let text = &self.text[start..end];
        let bytes = text.as_bytes();
        self.scratch.clear();
        let mut at = 0;
        while let Some(next) = memchr::memchr(b'\\', &bytes[at..]) {
            self.scratch.push_str(&text[at..at + next]);
            at += next + 2;
            let letter = match bytes[at - 1] {
                letter @ (b'"' | b'\\' | b'/') => char::from(letter),
                b'b' => '\u{8}',
                b'f' => '\u{c}',
                b'n' => '\n',
                b'r' => '\r',
                b't' => '\t',
                b'u' => {
                    let mut unit = hex(bytes, at).ok_or_else(|| self.malformed("that is no escape"))?;
                    at += 4;
                    if (0xd800..0xdc00).contains(&unit)
                        && bytes.get(at..at + 2) == Some(b"\\u")
                        && let Some(low) = hex(bytes, at + 2).filter(|low| (0xdc00..0xe000).contains(low))
                    {
                        unit = 0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
                        at += 6;
                    }
                    char::from_u32(unit).ok_or_else(|| {
                        Misfit::new(VALUE_MALFORMED, "a text has a surrogate that stands alone")
                    })?
                }
                _ => return Err(self.malformed("that is no escape")),
            };
            self.scratch.push(letter);
        }
        self.scratch.push_str(&text[at..]);
        Ok(())
    }

    /// Passes over a value that no column takes.
    fn skip(&mut self, depth: usize) -> Result<(), Misfit> {
        if depth > MAX_DEPTH {
            return Err(self.malformed("values are nested too deeply"));
        }
        match self.peek() {
            Some(b'"') => {
                let (start, end, plain) = self.quoted()?;
                if plain { Ok(()) } else { self.unescaped(start, end) }
            }
            Some(b'-' | b'0'..=b'9') => self.number().map(drop),
            Some(b'n') => self.word("null"),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'[') => self.list(|reader, _| reader.skip(depth + 1)),
            Some(b'{') => {
                self.at += 1;
                self.blanks();
                if self.peek() == Some(b'}') {
                    self.at += 1;
                    return Ok(());
                }
                loop {
                    if self.peek() != Some(b'"') {
                        return Err(self.malformed("a name in quotes is wanted"));
                    }
                    self.skip(depth)?;
                    self.colon()?;
                    self.skip(depth + 1)?;
                    self.blanks();
                    match self.next() {
                        Some(b',') => self.blanks(),
                        Some(b'}') => return Ok(()),
                        _ => return Err(self.malformed("a comma or the end of an object is wanted")),
                    }
                }
            }
            _ => Err(self.malformed("a value is wanted")),
        }
    }

    fn kind(&self) -> &'static str {
        match self.peek() {
            Some(b'"') => "text",
            Some(b'[') => "an array",
            Some(b'n') => "null",
            Some(b't' | b'f') => "a boolean",
            _ => "a number",
        }
    }

    #[cold]
    fn malformed(&self, what: &str) -> Misfit {
        let at = self.at.min(self.text.len());
        Misfit::new(
            LINE_MALFORMED,
            format!("no JSON: {what}, at byte {at} of the line"),
        )
    }
}

/// The place of a value; what is no JSON has none.
fn within(fault: Misfit, name: &str) -> Misfit {
    match fault.code {
        LINE_MALFORMED => fault,
        _ => fault.within(name),
    }
}

fn hex(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.iter().try_fold(0, |sum, byte| {
        char::from(*byte).to_digit(16).map(|digit| sum * 16 + digit)
    })
}
