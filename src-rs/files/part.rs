//! What is known of the rows of one delivery to be: where they stood, and which lines were left out.

use super::refusal::{LineRejection, Misfit};

/// Of the rows since the last cut.
#[derive(Debug, Default)]
pub struct Part {
    rows: u64,
    next_line: u64,
    /// Row within the part, and the line where it began; those that follow stand on the lines that follow.
    runs: Vec<(u64, u64)>,
    rejections: Vec<LineRejection>,
    /// Rows of the input so far, refused ones too.
    given: u64,
}

impl Part {
    #[inline]
    pub fn row(&mut self, line: u64) {
        if self.rows == 0 || line != self.next_line {
            self.runs.push((self.rows, line));
        }
        self.rows += 1;
        self.given += 1;
        self.next_line = line + 1;
    }

    pub fn refuse(&mut self, line: u64, fault: Misfit) {
        self.rejections.push(fault.on(line, self.given));
        self.given += 1;
    }

    pub fn refused(&self) -> usize {
        self.rejections.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows == 0 && self.rejections.is_empty()
    }

    /// What was known, for good.
    pub fn cut(&mut self) -> (Vec<(u64, u64)>, Vec<LineRejection>) {
        self.rows = 0;
        (
            std::mem::take(&mut self.runs),
            std::mem::take(&mut self.rejections),
        )
    }
}
