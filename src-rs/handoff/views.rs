//! Views: 16 bytes a row, either the value itself or where in which data buffer it is.
//!
//! Invariants: those of `structure`. The view of a null row is set to the empty value, since Arrow
//! lets it hold anything and readers follow it all the same.

use std::sync::Arc;

use arrow::array::ByteView;
use arrow::buffer::NullBuffer;

use super::fault::BatchFault;
use super::foreign::Foreign;
use super::pool::{Block, Pool};
use super::structure::{Rows, copy_values};
use super::text::Text;

/// Values up to this long are in the view itself.
const INLINE: u32 = 12;

pub(super) struct Views {
    block: Block,
    /// By data buffer: the part that is used, as (start, end); empty if none is.
    pub(super) used: Vec<(usize, usize)>,
}

/// Copies the views and checks every one that is not null against the lengths of the data buffers.
pub(super) fn views(
    buffer: Option<&Foreign>,
    rows: Rows,
    nulls: Option<&NullBuffer>,
    data: &[Option<Foreign>],
    pool: &Arc<Pool>,
) -> Result<Views, BatchFault> {
    let mut block = copy_values("views", buffer, rows, 0, 16, pool)?;
    let mut used = vec![(usize::MAX, 0); data.len()];
    for (row, raw) in block.numbers_mut::<u128>().iter_mut().enumerate() {
        if nulls.is_some_and(|nulls| nulls.is_null(row)) {
            *raw = 0;
            continue;
        }
        let length = *raw as u32;
        if length <= INLINE {
            // Equal values have equal views only if what follows them is zero; readers compare views.
            if length < INLINE && *raw >> (32 + 8 * length) != 0 {
                return Err(BatchFault::new("its view has bytes beyond the end of the value").at(row));
            }
            continue;
        }
        let view = ByteView::from(*raw);
        let index = view.buffer_index as usize;
        let Some(part) = used.get_mut(index) else {
            return Err(BatchFault::new(format!(
                "its view points into data buffer {index} of {}",
                data.len()
            ))
            .at(row));
        };
        let start = view.offset as usize;
        let available = data[index].as_ref().map_or(0, Foreign::len);
        match start.checked_add(length as usize) {
            Some(end) if end <= available => {
                *part = (part.0.min(start), part.1.max(end));
            }
            _ => {
                return Err(BatchFault::new(format!(
                    "its view points to {length} bytes from {start} on, in {available} bytes"
                ))
                .at(row));
            }
        }
    }
    for part in &mut used {
        part.0 = part.0.min(part.1);
    }
    Ok(Views { block, used })
}

impl Views {
    /// Points the views at `data`, of each buffer the part in `used`, and looks at what is there.
    pub(super) fn rebase(&mut self, data: &[Foreign], text: Option<Text>) -> Result<(), BatchFault> {
        for (row, raw) in self.block.numbers_mut::<u128>().iter_mut().enumerate() {
            let length = *raw as u32;
            if length <= INLINE {
                let bytes = raw.to_le_bytes();
                if text.is_some() && std::str::from_utf8(&bytes[4..4 + length as usize]).is_err() {
                    return Err(BatchFault::new("it is not UTF-8").at(row));
                }
                continue;
            }
            let mut view = ByteView::from(*raw);
            let index = view.buffer_index as usize;
            view.offset -= self.used[index].0 as u32;
            let start = view.offset as usize;
            let mut prefix = [0; 4];
            data[index].read(start, &mut prefix);
            if view.prefix != u32::from_le_bytes(prefix) {
                return Err(BatchFault::new("the prefix in its view is not that of the value").at(row));
            }
            if let Some(text) = text
                && text.check(&data[index], start, &[0, length as i64]).is_err()
            {
                return Err(BatchFault::new("it is not UTF-8").at(row));
            }
            *raw = view.as_u128();
        }
        Ok(())
    }

    pub(super) fn freeze(self) -> Foreign {
        Foreign::from_buffer(self.block.freeze())
    }
}
