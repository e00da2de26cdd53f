//! Checked buffers → the structs of the Arrow C data interface → arrays.
//!
//! Invariants:
//! - Each struct owns what it points to through `private_data`; its release callback frees that once.
//! - Whatever gets here was checked: importing trusts its input, so nothing may be built from
//!   buffers that `columns` has not seen whole.
//!
//! The struct of the schema is not built: a schema crosses once, when it is registered, and parsing
//! it again for every batch would lose what the C format strings cannot say (a zero byte in a name).

use std::ffi::c_void;

use arrow::array::ArrayData;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use arrow::ffi::{FFI_ArrowArray, from_ffi_and_data_type};

use super::foreign::Foreign;

/// One array in the order of the C data interface.
pub(super) struct CArray {
    pub(super) length: usize,
    pub(super) null_count: usize,
    /// In rows; below 8, and zero for all but booleans.
    pub(super) offset: usize,
    /// Validity first, `None` if absent; not for types that have none.
    pub(super) buffers: Vec<Option<Foreign>>,
    pub(super) children: Vec<CArray>,
    pub(super) dictionary: Option<Box<CArray>>,
}

/// # Safety
/// `array` has the buffers and children that `data_type` asks for, each as long as the lengths say;
/// offsets ascend within what they point into.
pub(super) unsafe fn import(array: CArray, data_type: DataType) -> Result<ArrayData, ArrowError> {
    // SAFETY: the struct below agrees with the C data interface if its buffers agree with the type,
    // which the caller promises.
    unsafe { from_ffi_and_data_type(export(array), data_type) }
}

struct Private {
    /// What the pointers point to. A pin among them keeps JavaScript's memory in its place.
    _buffers: Vec<Option<Foreign>>,
    pointers: Box<[*const c_void]>,
    children: Box<[*mut FFI_ArrowArray]>,
    dictionary: *mut FFI_ArrowArray,
}

fn export(array: CArray) -> FFI_ArrowArray {
    let pointers = array
        .buffers
        .iter()
        .map(|buffer| match buffer {
            Some(buffer) => buffer.pointer().cast(),
            None => std::ptr::null(),
        })
        .collect();
    let children = array
        .children
        .into_iter()
        .map(|child| Box::into_raw(Box::new(export(child))))
        .collect();
    let dictionary = match array.dictionary {
        Some(values) => Box::into_raw(Box::new(export(*values))),
        None => std::ptr::null_mut(),
    };
    let mut private = Box::new(Private {
        _buffers: array.buffers,
        pointers,
        children,
        dictionary,
    });
    FFI_ArrowArray {
        length: array.length as i64,
        null_count: array.null_count as i64,
        offset: array.offset as i64,
        n_buffers: private.pointers.len() as i64,
        n_children: private.children.len() as i64,
        buffers: private.pointers.as_mut_ptr(),
        children: private.children.as_mut_ptr(),
        dictionary,
        release: Some(release),
        private_data: Box::into_raw(private).cast(),
    }
}

/// The release callback of the C data interface. It cannot unwind: dropping a pin catches what its
/// callback throws.
unsafe extern "C" fn release(array: *mut FFI_ArrowArray) {
    // SAFETY: the interface calls with the struct that carries this callback, once.
    let array = unsafe { &mut *array };
    // SAFETY: `private_data` came from `Box::into_raw` in `export`; clearing `release` below keeps it
    // from being taken twice.
    let private = unsafe { Box::from_raw(array.private_data.cast::<Private>()) };
    for child in private
        .children
        .iter()
        .chain(std::iter::once(&private.dictionary))
    {
        if !child.is_null() {
            // SAFETY: as above, and nobody but this parent holds the pointer; dropping the struct
            // calls its own release.
            drop(unsafe { Box::from_raw(*child) });
        }
    }
    array.private_data = std::ptr::null_mut();
    array.release = None;
}
