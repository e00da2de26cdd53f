//! brotli without its compressor: `Cargo.toml` says why.

use std::io::{self, Write};
use std::marker::PhantomData;

pub use brotli_decompressor::Decompressor;

/// Takes nothing: every write is refused.
pub struct CompressorWriter<W>(PhantomData<W>);

impl<W: Write> CompressorWriter<W> {
    pub fn new(_: W, _buffer_size: usize, _quality: u32, _lgwin: u32) -> Self {
        Self(PhantomData)
    }
}

impl<W: Write> Write for CompressorWriter<W> {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        let message = "brotli is read here and not written; zstd, snappy and lz4 are written";
        Err(io::Error::new(io::ErrorKind::Unsupported, message))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
