//! Rows from text, batch by batch: what JSON and CSV share.
//!
//! Invariants:
//! - A batch ends at [`MAX_ROWS`] rows, at the bytes asked for, and at [`MAX_REJECTIONS`] refused lines.
//! - A step ends after [`STEP_BYTES`] of text, whatever it has found, so that no thread is held for long.
//! - What ends an input is told after all rows before it.

use super::columns::Columns;
use super::input::InputWindow;
use super::part::Part;
use super::{Decoded, Step};
use crate::error::{Error, Result};

const MAX_ROWS: usize = 65_536;
/// Their messages are read on the thread of JavaScript.
const MAX_REJECTIONS: usize = 1_000;
const STEP_BYTES: u64 = 4 << 20;
/// Rows between two looks at how many bytes there are.
const LOOK: usize = 64;

/// What came of looking for one more row.
pub enum Next {
    /// Something was done, and there may be more at once.
    Row,
    Pending,
    Ended,
}

/// Finds rows and puts their values into columns.
pub trait RowFinder: Send {
    /// # Errors
    /// What ends the input.
    fn next(&mut self, window: &mut InputWindow, columns: &mut Columns, part: &mut Part) -> Result<Next>;
}

pub struct TextDecoder {
    rows: Box<dyn RowFinder>,
    columns: Columns,
    part: Part,
    batch_bytes: usize,
    /// Told once everything before it was.
    end: Option<Result<(), Error>>,
}

impl TextDecoder {
    pub fn new(rows: Box<dyn RowFinder>, columns: Columns, batch_bytes: usize) -> TextDecoder {
        TextDecoder {
            rows,
            columns,
            part: Part::default(),
            batch_bytes,
            end: None,
        }
    }

    /// Goes on; with `cut`, what is there is given without waiting for more.
    pub fn step(&mut self, window: &mut InputWindow, cut: bool) -> Result<Step> {
        let limit = window.taken() + STEP_BYTES;
        let mut look = LOOK;
        while self.end.is_none() {
            match self.rows.next(window, &mut self.columns, &mut self.part) {
                Ok(Next::Row) => {}
                Ok(Next::Pending) if cut && !self.part.is_empty() => return self.cut(),
                Ok(Next::Pending) => {
                    return Ok(Step::Input {
                        rows: !self.part.is_empty(),
                    });
                }
                Ok(Next::Ended) => self.end = Some(Ok(())),
                Err(error) => self.end = Some(Err(error)),
            }
            look -= 1;
            if look == 0 {
                look = LOOK;
                let is_full = self.columns.rows() >= MAX_ROWS
                    || self.part.refused() >= MAX_REJECTIONS
                    || self.columns.bytes() >= self.batch_bytes;
                if is_full {
                    return self.cut();
                }
                if window.taken() >= limit {
                    return Ok(Step::Again);
                }
            }
        }
        if !self.part.is_empty() {
            return self.cut();
        }
        match self.end.take() {
            Some(Err(error)) => Err(error),
            _ => Ok(Step::Done),
        }
    }

    fn cut(&mut self) -> Result<Step> {
        let rows = self.columns.rows();
        let batches = self.columns.finish()?;
        let (runs, rejections) = self.part.cut();
        Ok(Step::Part(Decoded {
            schema: self.columns.schema().clone(),
            batches,
            rows,
            runs,
            rejections,
        }))
    }
}
